"""Which settings cannot work, alone or together."""

import math

from comarl.errors import ComarlError
from comarl.experiments.config import MAX_COUNT, RunConfig, seconds_of
from comarl.experiments.methods import METHODS


def check(config: RunConfig) -> None:
    """Refuse settings that cannot work.

    Raises:
        ComarlError: naming the setting and its range.
    """
    learner = config.learner
    positive = {
        n: getattr(config, n) for n in ("seeds", "steps", "num_envs", "length", "eval_every", "eval_episodes", "keep")
    }
    positive |= {"cpu_devices": config.cpu_devices}
    positive |= {n: getattr(learner, n) for n in ("lr", "grad_clip", "target_interval", "epsilon_steps")}
    positive |= {
        n: getattr(learner, n) for n in ("n_step", "buffer_steps", "batch_size", "updates", "epochs", "minibatches")
    }
    positive |= {"hidden": config.agent.hidden, "joint_hidden": config.mixer.joint_hidden}
    positive |= {n: getattr(config.mixer, n) for n in ("embed", "hyper_hidden", "mixer_scale", "kernels", "heads")}
    positive |= {n: getattr(config.policy, n) for n in ("clip", "gumbel_temperature", "critic_hidden", "critic_heads")}
    positive |= {"sub_policies": config.policy.sub_policies}
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ComarlError(f"{name}={value}: must be positive")
    if config.cpu_devices > config.seeds * config.num_envs:
        raise ComarlError(
            f"cpu_devices={config.cpu_devices}: seeds={config.seeds} with num_envs={config.num_envs} have work for "
            f"{config.seeds * config.num_envs} at most"
        )
    if not 0 <= learner.lr_decay <= 1:
        raise ComarlError(f"lr_decay={learner.lr_decay}: must lie between 0 and 1")
    if learner.lr_decay == 0 and learner.lr_schedule == "exponential":
        raise ComarlError("lr_decay=0.0: an exponential never comes to nothing (use --lr-schedule linear)")
    shares = ("gamma", "td_lambda", "target_tau", "epsilon_start", "epsilon_end", "priority_alpha", "priority_beta")
    for name in shares:
        if not 0 <= getattr(learner, name) <= 1:
            raise ComarlError(f"{name}={getattr(learner, name)}: must lie between 0 and 1")
    weights = {n: getattr(config.mixer, n) for n in ("logit_penalty", "opt_weight", "nopt_weight")}
    weights |= {n: getattr(config.policy, n) for n in ("value_clip", "entropy_weight", "value_weight", "logit_weight")}
    weights |= {n: getattr(config.policy, n) for n in ("attention_penalty", "entropy_temperature", "exploration_noise")}
    weights |= {"guess_entropy": config.policy.guess_entropy}
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            raise ComarlError(f"{name}={value}: must not be negative, and finite")
    if not 0 <= config.mixer.alpha <= 1:
        raise ComarlError(f"alpha={config.mixer.alpha}: must lie between 0 and 1")
    if not 0 <= config.checkpoint_every < math.inf:
        raise ComarlError(f"checkpoint_every={config.checkpoint_every}: must not be negative, and finite")
    if config.overwrite and config.resume:
        raise ComarlError("overwrite=True, resume=True: a run is replaced or goes on, choose one")
    seconds_of(config.max_time)
    counted = {"seed": config.seed, "learning_starts": learner.learning_starts, "burn_in": learner.burn_in}
    counted |= {"replay_part": learner.replay_part, "workers": config.workers}
    for name, value in counted.items():
        if value < 0:
            raise ComarlError(f"{name}={value}: must not be negative")
    # Counters are 32 bits wide: beyond them ε would start anew and seeds would not fit.
    limit = MAX_COUNT - min(config.seeds, MAX_COUNT // 2)
    for name, value in (positive | counted).items():
        if isinstance(value, int) and value >= limit:
            raise ComarlError(f"{name}={value}: must be below {limit}")
    if learner.learning_starts >= config.steps:
        raise ComarlError(
            f"learning_starts={learner.learning_starts} is not below steps={config.steps}: nothing would be learned"
        )
    if config.actors and not config.workers:
        raise ComarlError(f"actors='{config.actors}' with workers=0: the environments need at least one worker there")
    if config.asynchronous and learner.learner != "replay":
        raise ComarlError(
            f"asynchronous=True: {learner.learner} learns from what its latest policy did, which would lag behind "
            "(use --learner replay or --no-asynchronous)"
        )
    _check_onpolicy(config)
    _check_part(config)
    _check_policies(config)
    if learner.burn_in >= config.length:
        raise ComarlError(f"burn_in={learner.burn_in} is not below length={config.length}: nothing would be learned")
    if learner.burn_in and config.agent.cell == "mlp":
        raise ComarlError(f"burn_in={learner.burn_in} warms a memory up, and cell='mlp' has none: use --burn-in 0")


def _check_policies(config: RunConfig) -> None:
    policy, method = config.policy, config.method
    if policy.sub_policies > 1 and not METHODS[method].off_policy:
        able = ", ".join(name for name, known in METHODS.items() if known.off_policy)
        raise ComarlError(
            f"sub_policies={policy.sub_policies}: '{method}' has no policies that learn from replay "
            f"(use a method of {able}, or --sub-policies 1)"
        )
    if policy.sub_policies > 1 and config.learner.replay_part:
        raise ComarlError(
            f"sub_policies={policy.sub_policies}: which of them acted is known from the beginning of a sequence on "
            "(use --replay-part 0)"
        )
    if policy.infer_policies and method != "maddpg":
        raise ComarlError(
            f"infer_policies=True: '{method}' has no targets in which an agent's critic is asked about the "
            "others' policies (use maddpg, or --no-infer-policies)"
        )
    if method == "maac" and policy.critic_hidden % policy.critic_heads:
        raise ComarlError(
            f"critic_heads={policy.critic_heads} does not divide critic_hidden={policy.critic_hidden}: "
            "each head has an equal part of it"
        )


def _check_part(config: RunConfig) -> None:
    learner, agent = config.learner, config.agent
    if not learner.replay_part:
        return
    if learner.replay_part > config.length:
        raise ComarlError(f"replay_part={learner.replay_part} is above length={config.length}: there is no more")
    if (learner.learner, learner.replay) != ("replay", "uniform"):
        raise ComarlError(
            f"replay_part={learner.replay_part} needs --learner replay --replay uniform: elsewhere sequences are whole"
        )
    if agent.cell != "mlp" or agent.last_action:
        raise ComarlError(
            f"replay_part={learner.replay_part} begins where what came before is unknown: "
            "use --cell mlp --no-last-action, or --replay-part 0"
        )


def _check_onpolicy(config: RunConfig) -> None:
    learner = config.learner
    if learner.learner == "replay":
        return
    if learner.replay != "uniform":
        raise ComarlError(
            f"replay='{learner.replay}' needs --learner replay: {learner.learner} learns from what was just collected"
        )
    if config.num_envs % learner.minibatches:
        raise ComarlError(
            f"minibatches={learner.minibatches} does not divide num_envs={config.num_envs}: "
            "a minibatch is made of whole sequences, one per environment"
        )
    if learner.learner != "pqn" and (learner.burn_in or not learner.stored_state):
        raise ComarlError(
            f"burn_in={learner.burn_in}, stored_state={learner.stored_state}: with {learner.learner} sequences begin "
            "with the memory that they were collected with (use --burn-in 0 and --stored-state)"
        )
    if learner.learner == "a2c" and learner.epochs * learner.minibatches > 1:
        raise ComarlError(
            f"epochs={learner.epochs}, minibatches={learner.minibatches}: a2c makes one update on what was just "
            "collected, use --epochs 1 --minibatches 1"
        )
