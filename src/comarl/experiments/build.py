"""From a configuration to the objects that run it."""

import dataclasses
import functools
import math
from typing import Any, TypeVar, overload

import jax
import optax
from jaxtyping import PRNGKeyArray

from comarl.algos.base import Algorithm
from comarl.algos.coma import COMA
from comarl.algos.inferring import Central, InferringMADDPG, apart
from comarl.algos.maac import MAAC
from comarl.algos.maddpg import MADDPG, AgentCritic
from comarl.algos.optimise import as_vector
from comarl.algos.ppo import PPO
from comarl.algos.qlearning import QLearning
from comarl.algos.relaxed import GumbelDraw, Relaxed, SoftDraw, Tanh
from comarl.envs.base import Env, Hosted
from comarl.envs.one_agent import HostedOneAgent, OneAgent
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.experiments.config import AgentConfig, LearnerConfig, MixerConfig, PolicyConfig, RunConfig
from comarl.experiments.methods import METHODS, require_actions, require_common_interest, require_others
from comarl.memory.base import Memory
from comarl.memory.onpolicy import make_onpolicy
from comarl.memory.replay import make_prioritised, make_replay
from comarl.mixers.base import AbstractMixer
from comarl.mixers.critic import FactoredCritic
from comarl.mixers.iql import IQL
from comarl.mixers.qatten import Qatten
from comarl.mixers.qmix import QMIX, QMIXNS, QMIXLin
from comarl.mixers.qplex import QPLEX
from comarl.mixers.qtran import QTRANAlt, QTRANBase
from comarl.mixers.vdn import VDN, VDNS
from comarl.mixers.wqmix import WeightedQMIX
from comarl.nets.agents import AbstractAgent, Agent
from comarl.nets.attention_critic import AttentionCritic
from comarl.nets.critics import ActionCritic, CounterfactualCritic, Critic, JointValue
from comarl.nets.distributions import Categorical, Gaussian
from comarl.nets.ensemble import Ensemble
from comarl.nets.inferred import InferredPolicies
from comarl.nets.layers import MLP
from comarl.returns import Returns, n_step, td_lambda
from comarl.training.host import HostDriver
from comarl.training.learner import Learner
from comarl.training.ondevice import OnDevice
from comarl.types import EnvSpec

Driver = OnDevice | HostDriver
_Mixer = TypeVar("_Mixer", bound=AbstractMixer)


def build_env(config: RunConfig) -> Env | Hosted:
    """The environment as the method sees it.

    Raises:
        ComarlError: if there is none of that name, or if the method cannot take its actions, its rewards or the number
            of its agents.
    """
    env = make_env(config.env, config.workers, config.actors)
    require_actions(config.method, env.spec.name, env.spec.continuous)
    require_common_interest(config.method, env.spec.name, env.spec.opposed, config.learner.team_reward)
    require_others(env.spec.name, env.spec.num_agents, config.policy.infer_policies)
    if config.method != "joint":
        return env
    if isinstance(env, Hosted):
        return HostedOneAgent(env, config.learner.team_reward)
    return OneAgent(env, config.learner.team_reward)


def build_mixer(config: RunConfig, spec: EnvSpec, key: PRNGKeyArray) -> AbstractMixer:
    """The mixer of the configured method, with its initial parameters times ``mixer_scale``."""
    return _scaled(_build_mixer(config, spec, key), config.mixer.mixer_scale)


def _scaled(mixer: _Mixer, by: float) -> _Mixer:
    return jax.tree.map(lambda x: by * x, mixer)


def _build_mixer(config: RunConfig, spec: EnvSpec, key: PRNGKeyArray) -> AbstractMixer:
    n, s, mixer = spec.num_agents, spec.state_dim, config.mixer
    match config.method:
        case "iql" | "joint":
            return IQL()
        case "vdn":
            return VDN()
        case "vdn-s":
            return VDNS(s, embed=mixer.embed, key=key)
        case "qmix":
            return _build_qmix(mixer, spec, key)
        case "qmix-ns":
            return QMIXNS(n, embed=mixer.embed, key=key)
        case "qmix-lin":
            return QMIXLin(
                n, s, embed=mixer.embed, hyper_layers=mixer.hyper_layers, hyper_hidden=mixer.hyper_hidden, key=key
            )
        case "qplex":
            return QPLEX(
                n,
                spec.num_actions,
                s,
                kernels=mixer.kernels,
                kernel_layers=mixer.kernel_layers,
                hidden=mixer.hyper_hidden,
                stop_gradient=mixer.stop_gradient,
                key=key,
            )
        case "qatten":
            return Qatten(
                spec,
                heads=mixer.heads,
                embed=mixer.embed,
                hyper_hidden=mixer.hyper_hidden,
                weighted_heads=mixer.weighted_heads,
                nonlinear_keys=mixer.nonlinear_keys,
                mask_dead=mixer.mask_dead,
                logit_penalty=mixer.logit_penalty,
                key=key,
            )
        case "qtran-base" | "qtran-alt":
            value_key, v_key = jax.random.split(key)
            return (QTRANBase if config.method == "qtran-base" else QTRANAlt)(
                _build_joint_value(config, spec, value_key),
                MLP((s, mixer.joint_hidden, 1), key=v_key) if mixer.state_value else None,
                mixer.opt_weight,
                mixer.nopt_weight,
            )
        case "cw-qmix" | "ow-qmix":
            monotone_key, value_key = jax.random.split(key)
            return WeightedQMIX(
                _build_qmix(mixer, spec, monotone_key),
                _build_joint_value(config, spec, value_key),
                mixer.alpha,
                optimistic=config.method == "ow-qmix",
            )
        case _:
            raise ValueError(config.method)


def _build_qmix(config: MixerConfig, spec: EnvSpec, key: PRNGKeyArray) -> QMIX:
    return QMIX(
        spec.num_agents,
        spec.state_dim,
        embed=config.embed,
        hyper_layers=config.hyper_layers,
        hyper_hidden=config.hyper_hidden,
        key=key,
    )


def _build_joint_value(config: RunConfig, spec: EnvSpec, key: PRNGKeyArray) -> JointValue:
    return JointValue(
        spec.num_agents,
        spec.num_actions,
        spec.state_dim,
        config.agent.hidden,
        hidden=config.mixer.joint_hidden,
        key=key,
    )


def build_optimiser(config: LearnerConfig, updates: int = 1) -> optax.GradientTransformation:
    """Clipping by global norm, then the optimiser, whose learning rate falls over so many updates."""
    lr = build_lr(config, updates)
    rules = {
        "adam": optax.adam(lr),
        "radam": optax.radam(lr),
        "rmsprop": optax.rmsprop(lr, decay=0.99, eps=1e-5, eps_in_sqrt=False),  # PyTorch's: ε outside the root
    }
    return as_vector(optax.chain(optax.clip_by_global_norm(config.grad_clip), rules[config.optimiser]))


def build_lr(config: LearnerConfig, updates: int) -> optax.ScalarOrSchedule:
    """The learning rate, or what it is after a number of updates of so many."""
    if config.lr_decay == 1:
        return config.lr
    if config.lr_schedule == "linear":
        return optax.linear_schedule(config.lr, config.lr_decay * config.lr, transition_steps=updates)
    return optax.exponential_decay(config.lr, transition_steps=updates, decay_rate=config.lr_decay)


def updates_per_iteration(config: RunConfig) -> int:
    """Updates after each collection."""
    learner = config.learner
    return learner.updates if learner.learner == "replay" else learner.epochs * learner.minibatches


def total_updates(config: RunConfig) -> int:
    """Updates in the whole training of a seed, at least 1."""
    steps = max(0, config.steps - config.learner.learning_starts)
    return max(1, steps // (config.num_envs * config.length) * updates_per_iteration(config))


def build_returns(config: LearnerConfig) -> Returns:
    """The targets' rule."""
    if config.returns == "n_step":
        return functools.partial(n_step, n=config.n_step)
    return functools.partial(td_lambda, lambda_=config.td_lambda)


def build_epsilon(config: LearnerConfig) -> optax.Schedule:
    """ε over environment steps."""
    return optax.linear_schedule(config.epsilon_start, config.epsilon_end, config.epsilon_steps)


def build_memory(config: RunConfig) -> Memory:
    """Where trajectories go and batches come from."""
    learner, per_iteration = config.learner, config.num_envs * config.length
    if learner.learner != "replay":
        return make_onpolicy(learner.epochs, learner.minibatches)
    blocks = max(1, learner.buffer_steps // per_iteration)
    # Each sub-policy learns from its own steps alone: of so many sequences it has taken as many as a single policy has.
    batch_size = learner.batch_size * config.policy.sub_policies
    if learner.replay == "uniform":
        return make_replay(blocks, batch_size, learner.replay_part)
    beta = optax.linear_schedule(learner.priority_beta, 1.0, max(1, config.steps // per_iteration))
    return make_prioritised(blocks, batch_size, learner.priority_alpha, beta)


def build_agent(config: AgentConfig, spec: EnvSpec, key: PRNGKeyArray, outputs_per_action: int = 1) -> Agent:
    """The agents' network."""
    return Agent(
        spec,
        key=key,
        kind=config.cell,
        hidden=config.hidden,
        last_action=config.last_action,
        agent_id=config.agent_id,
        sharing=config.sharing,
        layer_norm=config.layer_norm,
        outputs_per_action=outputs_per_action,
    )


def build_algorithm(config: RunConfig, spec: EnvSpec) -> Algorithm:
    """The learning rule with its networks."""
    match METHODS[config.method].rule:
        case "qlearning":
            return build_qlearning(config, spec)
        case "ppo":
            return build_ppo(config, spec)
        case "coma":
            return build_coma(config, spec)
        case "maddpg":
            return build_maddpg(config, spec)
        case "maac":
            return build_maac(config, spec)


def build_coma(config: RunConfig, spec: EnvSpec) -> COMA:
    """COMA; actor and critic have the same optimiser each, and the critic learns once for each time step."""
    agent, learner, policy = config.agent, config.learner, config.policy
    return COMA(
        make_actor=lambda key: build_agent(agent, spec, key),
        make_critic=lambda key: CounterfactualCritic(spec, key=key, hidden=policy.critic_hidden, sharing=agent.sharing),
        actor_optimiser=build_optimiser(learner, total_updates(config)),
        critic_optimiser=build_optimiser(learner, total_updates(config) * config.length),
        epsilon=build_epsilon(learner),
        returns=build_returns(learner),
        gamma=learner.gamma,
        team_reward=learner.team_reward,
        entropy_weight=policy.entropy_weight,
        target_update=learner.target_update,
        target_interval=learner.target_interval,
        target_tau=learner.target_tau,
    )


def build_ppo(config: RunConfig, spec: EnvSpec) -> PPO:
    """IPPO, MAPPO and their A2C: the name says what the critic sees."""
    agent, learner, policy = config.agent, config.learner, config.policy
    return PPO(
        make_actor=lambda key: build_agent(agent, spec, key, outputs_per_action=1 + spec.continuous),
        make_critic=lambda key: Critic(
            spec,
            key=key,
            sees="state" if config.method in ("mappo", "maa2c") else "observation",
            kind=agent.cell,
            hidden=agent.hidden,
            sharing=agent.sharing,
            layer_norm=agent.layer_norm,
        ),
        optimiser=build_optimiser(learner, total_updates(config)),
        returns=build_returns(learner),
        distribution=Gaussian.of if spec.continuous else Categorical.of,
        gamma=learner.gamma,
        team_reward=learner.team_reward,
        clip=policy.clip,
        value_clip=policy.value_clip,
        entropy_weight=policy.entropy_weight,
        value_weight=policy.value_weight,
        value_norm=policy.value_norm,
    )


def build_maddpg(config: RunConfig, spec: EnvSpec) -> MADDPG:
    """MADDPG, DDPG and FACMAC: the name says what the critics see, and whether they are mixed."""
    agent, policy, facmac = config.agent, config.policy, config.method == "facmac"
    optimiser = build_optimiser(config.learner, total_updates(config))
    actions = _build_relaxed(policy, spec)

    def make_critic(key: PRNGKeyArray) -> AgentCritic:
        critic_key, mixer_key = jax.random.split(key)
        sees = policy.critic_sees if config.method == "maddpg" else "own"
        critic = ActionCritic(spec, key=critic_key, sees=sees, hidden=agent.hidden, sharing=agent.sharing)
        if not facmac:
            return critic
        return FactoredCritic(critic, _scaled(_build_qmix(config.mixer, spec, mixer_key), config.mixer.mixer_scale))

    def make_critics(key: PRNGKeyArray) -> tuple[Any, ...]:
        return tuple(map(make_critic, jax.random.split(key, 1 + policy.twin)))

    def make_central(key: PRNGKeyArray) -> Central:
        critic_key, guess_key = jax.random.split(key)
        return Central(make_critics(critic_key), InferredPolicies(spec, key=guess_key, hidden=agent.hidden))

    if policy.infer_policies:
        return InferringMADDPG(
            **_offpolicy(config, spec, apart(optimiser)),
            make_critic=make_central,
            actions=actions,
            guess_entropy=policy.guess_entropy,
        )
    return MADDPG(**_offpolicy(config, spec, optimiser), make_critic=make_critics, actions=actions)


def _offpolicy(config: RunConfig, spec: EnvSpec, optimiser: optax.GradientTransformation) -> dict[str, Any]:
    """What all actor-critics that learn from replay take."""
    learner = config.learner
    return {
        "make_actor": lambda key: _build_actor(config, spec, key),
        "optimiser": optimiser,
        "returns": build_returns(learner),
        "gamma": learner.gamma,
        "team_reward": learner.team_reward,
        "logit_weight": config.policy.logit_weight,
        "stored_state": learner.stored_state,
        "burn_in": learner.burn_in,
        "target_update": learner.target_update,
        "target_interval": learner.target_interval,
        "target_tau": learner.target_tau,
    }


def _build_actor(config: RunConfig, spec: EnvSpec, key: PRNGKeyArray) -> AbstractAgent:
    """One policy for each agent, or several."""
    policies = config.policy.sub_policies
    if policies == 1:
        return build_agent(config.agent, spec, key)
    return Ensemble(lambda k: build_agent(config.agent, spec, k), policies, key=key)


def _build_relaxed(config: PolicyConfig, spec: EnvSpec) -> Relaxed:
    if not spec.continuous:
        return GumbelDraw(config.gumbel_temperature, config.straight_through)
    if config.vector_policy == "softmax":
        return SoftDraw(config.gumbel_temperature)
    return Tanh(config.exploration_noise)


def build_maac(config: RunConfig, spec: EnvSpec) -> MAAC:
    """MAAC; its losses are sums over the agents, so that the clipping is for each of them."""
    learner, policy = config.learner, config.policy
    clipped = dataclasses.replace(learner, grad_clip=learner.grad_clip * spec.num_agents)
    return MAAC(
        **_offpolicy(config, spec, build_optimiser(clipped, total_updates(config))),
        make_critic=lambda key: AttentionCritic(
            spec,
            key=key,
            heads=policy.critic_heads,
            hidden=policy.critic_hidden,
            uniform=policy.uniform_attention,
            sharing=config.agent.sharing,
        ),
        entropy_temperature=policy.entropy_temperature,
        attention_penalty=policy.attention_penalty,
    )


def build_qlearning(config: RunConfig, spec: EnvSpec) -> QLearning:
    """Q-learning with the configured mixer."""
    agent, learner = config.agent, config.learner
    return QLearning(
        make_agent=lambda key: build_agent(agent, spec, key),
        make_mixer=lambda key: build_mixer(config, spec, key),
        optimiser=build_optimiser(learner, total_updates(config)),
        epsilon=build_epsilon(learner),
        returns=build_returns(learner),
        gamma=learner.gamma,
        team_reward=learner.team_reward,
        stored_state=learner.stored_state,
        burn_in=learner.burn_in,
        target_update=learner.target_update,
        target_interval=learner.target_interval,
        target_tau=learner.target_tau,
    )


def _chunk(steps: int, eval_every: int, per_iteration: int) -> int:
    """Iterations between evaluations; a run is made of whole chunks.

    One that is not longer than ``eval_every`` is a single chunk of all its steps: a chunk that is rounded down would
    be trained twice.
    """
    if steps <= eval_every:
        return math.ceil(steps / per_iteration)
    return max(1, round(eval_every / per_iteration))


@overload
def build_driver(config: RunConfig, env: Env) -> OnDevice: ...


@overload
def build_driver(config: RunConfig, env: Hosted) -> HostDriver: ...


@overload
def build_driver(config: RunConfig, env: Env | Hosted) -> Driver: ...


def build_driver(config: RunConfig, env: Env | Hosted) -> Driver:
    """The compiled loop for that environment, or the loop of one that Python steps."""
    per_iteration = config.num_envs * config.length
    learner = Learner(
        build_algorithm(config, env.spec),
        build_memory(config),
        updates=updates_per_iteration(config),
        # The iteration whose own steps complete learning_starts is the first that learns.
        starts=max(0, math.ceil(config.learner.learning_starts / per_iteration) - 1),
    )
    sizes = {
        "num_envs": config.num_envs,
        "length": config.length,
        "iterations": _chunk(config.steps, config.eval_every, per_iteration),
        "episodes": config.eval_episodes,
    }
    if isinstance(env, Hosted):
        if config.cpu_devices > 1:
            raise ComarlError(
                f"cpu_devices={config.cpu_devices}: of {env.spec.name} the environments alone are shared out, among "
                "--workers (leave it out)"
            )
        return HostDriver(env, learner, **sizes, asynchronous=config.asynchronous)
    if config.asynchronous:
        raise ComarlError(f"asynchronous=True: {env.spec.name} is compiled together with the learner (leave it out)")
    return OnDevice(env, learner, **sizes)
