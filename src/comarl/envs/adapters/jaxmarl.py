"""JaxMARL's environments: SMAX (combat) and MPE (particle worlds).

JaxMARL is imported by the functions that need it: the package is optional.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.adapters import smax_units
from comarl.envs.adapters.jaxmarl_parts import import_part
from comarl.envs.base import ObservedEnv, make_timestep, select, strong
from comarl.types import Action, EnvSpec, TimeStep

MPE: dict[str, str] = {
    "simple_spread": "SimpleSpreadMPE",
    "simple_speaker_listener": "SimpleSpeakerListenerMPE",
    "simple_reference": "SimpleReferenceMPE",
    "simple_adversary": "SimpleAdversaryMPE",
    "simple_crypto": "SimpleCryptoMPE",
    "simple_push": "SimplePushMPE",
    "simple_tag": "SimpleTagMPE",
    "simple_world_comm": "SimpleWorldCommMPE",
}
"""JaxMARL's class of each ``mpe/<name>``, in the module of that name. In the first three every agent is on one team."""


def make_smax(variant: str) -> "Smax":
    """The scenario ``smax/<variant>``, looked up by its exact name.

    Raises:
        ComarlError: if JaxMARL is not installed.
        KeyError: if JaxMARL has no such scenario.
    """
    return Smax(f"smax/{variant}", import_part("smax.smax_env").MAP_NAME_TO_SCENARIO[variant])


def make_mpe(variant: str) -> "Mpe":
    """The particle world ``mpe/<variant>`` of :data:`MPE`, with discrete actions.

    Raises:
        ComarlError: if JaxMARL is not installed.
    """
    env = getattr(import_part(f"mpe.{variant}"), MPE[variant])(action_type="Discrete")
    return Mpe(f"mpe/{variant}", env)


def make_mpe_continuous(variant: str) -> "Mpe":
    """The particle world ``mpe-continuous/<variant>`` of :data:`MPE`, with continuous actions.

    Raises:
        ComarlError: if JaxMARL is not installed.
    """
    env = getattr(import_part(f"mpe.{variant}"), MPE[variant])(action_type="Continuous")
    return Mpe(f"mpe-continuous/{variant}", env)


class SmaxState(NamedTuple):
    """JaxMARL's state and the reward for arriving in it."""

    world: Any
    reward: Float[Array, ""]


class Smax(ObservedEnv):
    """Combat against JaxMARL's heuristic enemy (Rutherford et al. 2024).

    Observations are JaxMARL's; the global state is described at :func:`comarl.envs.adapters.smax_units.global_state`.
    The agents are the allies. The reward is the damage done, as a fraction of the enemies' health, and 1 for a
    victory. An episode terminates when a team is dead (``won`` if some ally lives), and is truncated after
    ``max_steps + 1`` transitions: JaxMARL compares its step counter before it counts the step.
    Dead agents have the action *stop* alone.

    Args:
        name: the name in the registry.
        scenario: an entry of JaxMARL's ``MAP_NAME_TO_SCENARIO``.
    """

    def __init__(self, name: str, scenario: Any):
        self._env: Any = import_part("smax.heuristic_enemy_smax_env").HeuristicEnemySMAX(scenario=scenario)
        self.units: Any = smax_units.speed_up(self._env._env)
        self._agents: list[str] = list(self._env.agents)
        allies = int(self._env.num_allies)
        # Where unit types are drawn anew in every episode, no agent keeps one.
        drawn = bool(scenario.smacv2_unit_type_generation)
        self.spec = EnvSpec(
            name=name,
            num_agents=allies,
            obs_dim=int(self._env.observation_spaces[self._agents[0]].shape[0]),
            state_dim=smax_units.state_size(self.units),
            num_actions=int(self._env.action_spaces[self._agents[0]].n),
            max_episode_steps=int(self._env.max_steps) + 1,
            agent_types=_numbered(allies * [0] if drawn else np.asarray(scenario.unit_types)[:allies].tolist()),
            units=smax_units.places(self.units, allies),
            outcomes=("won",),
            reward="shared by the team",
        )

    def begin(self, key: PRNGKeyArray) -> SmaxState:
        with jax.numpy_rank_promotion("allow"):
            return SmaxState(strong(self._env.reset(key)[1]), jnp.zeros(()))

    def advance(self, state: SmaxState, action: Int[Array, " N"], key: PRNGKeyArray) -> SmaxState:
        # The observations that come with it are not used, so the compiler drops them.
        with jax.numpy_rank_promotion("allow"):
            actions = dict(zip(self._agents, action, strict=True))
            _, world, reward, _, _ = self._env.step_env(key, state.world, actions)
            return SmaxState(strong(world), reward[self._agents[0]])

    def observe(self, state: SmaxState) -> TimeStep:
        world = state.world.state
        with jax.numpy_rank_promotion("allow"):
            obs = self._env.get_obs(state.world)
            avail = self._env.get_avail_actions(state.world)
            allies_dead, enemies_dead = self._dead(state)
            return make_timestep(
                jnp.stack([obs[agent] for agent in self._agents]),
                smax_units.global_state(self.units, world),
                avail=jnp.stack([avail[agent] for agent in self._agents]),
                reward=state.reward,
                terminated=allies_dead | enemies_dead,
                truncated=world.done,
                first=world.step == 0,
            )

    def outcome(self, state: SmaxState) -> dict[str, Float[Array, ""]]:
        allies_dead, enemies_dead = self._dead(state)
        return {"won": (enemies_dead & ~allies_dead).astype(jnp.float32)}

    def heuristics(self) -> dict[str, Any]:
        return {"heuristic": AttackNearest(self)}

    def _dead(self, state: SmaxState) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
        alive = state.world.state.unit_alive
        return ~alive[: self.spec.num_agents].any(), ~alive[self.spec.num_agents :].any()


class AttackNearest:
    """JaxMARL's scripted team: attack the nearest enemy in range until it is dead, else walk towards the enemies.

    Each unit acts on its own observation. It is the very policy that SMAX's enemies follow, and the baseline of the
    QMIX paper's combat curves (:class:`comarl.algos.base.Policy`).
    """

    def __init__(self, env: Smax):
        script = import_part("smax.heuristic_enemy")
        self._agents = env.spec.num_agents
        self._unit_policy: Any = script.create_heuristic_policy(env.units, team=0, shoot=True, attack_mode="closest")
        self._unit_state: Any = script.get_heuristic_policy_initial_state()

    def initial_carry(self) -> Any:
        """Each unit's target and last attacked enemy, none yet."""
        return strong(jax.tree.map(lambda x: jnp.broadcast_to(x, (self._agents, *jnp.shape(x))), self._unit_state))

    def act(self, carry: Any, ts: TimeStep, key: PRNGKeyArray, explore: bool = False) -> tuple[Any, Int[Array, " N"]]:
        """The team's actions ``[N]``, each of them available; exploring or not makes no difference."""
        del explore
        carry = select(ts.first, self.initial_carry(), carry)
        with jax.numpy_rank_promotion("allow"):
            choice, carry = jax.vmap(self._unit_policy)(jax.random.split(key, self._agents), carry, ts.obs)
        # The script moves the dead, too: they have one available action.
        allowed = ts.avail[jnp.arange(self._agents), choice]
        return carry, jnp.where(allowed, choice, jnp.argmax(ts.avail, axis=-1)).astype(jnp.int32)


class Mpe(ObservedEnv):
    """A particle world of JaxMARL's MPE (Lowe et al. 2017; Rutherford et al. 2024).

    Actions are discrete (nothing, left, right, down, up; or words), or continuous: from -1, not at all, to 1 for each
    of the same movements and words, to which JaxMARL's [0, 1] is stretched. A component at 1 and the others at -1 does
    what the discrete action does. Opposite movements cancel out, *nothing* adds nothing, and several things can be done
    at once. Where agents move and speak (``simple_reference``, the leader of ``simple_world_comm``), a discrete action
    is a pair of a movement and a word, and a continuous one has the components of both, movements first.

    Agents that observe or can do less than others are padded: observations with zeros, actions with masked ones.
    The global state is the joined observations, without the padding. Agents differ in type if they differ in
    observation size, action size or JaxMARL's class of agents. Rewards are each agent's own; where there are
    adversaries, these are agents like the others and their rewards oppose the others'. Episodes never terminate:
    they are truncated after ``max_steps + 1`` transitions, because JaxMARL compares its step counter before it counts
    the step. Where there is a listener, the outcome says whether it ends on its landmark (``reached``: their circles
    meet) and how far from its middle (``distance``); table 1 of Lowe et al. 2017 does not say how near is enough.

    Args:
        name: the name in the registry.
        env: JaxMARL's environment.
    """

    def __init__(self, name: str, env: Any):
        self._env = env
        self._agents: list[str] = list(env.agents)
        obs_sizes = [int(env.observation_spaces[agent].shape[0]) for agent in self._agents]
        continuous = not hasattr(env.action_spaces[self._agents[0]], "n")
        self._action_sizes = [_size(env.action_spaces[agent]) for agent in self._agents]
        classes = [_class_of(agent, env.classes) for agent in self._agents]
        self._avail = np.arange(max(self._action_sizes)) < np.array(self._action_sizes)[:, None]
        self._listens = "listener_0" in self._agents
        self.spec = EnvSpec(
            name=name,
            num_agents=len(self._agents),
            obs_dim=max(obs_sizes),
            state_dim=sum(obs_sizes),
            num_actions=max(self._action_sizes),
            max_episode_steps=int(env.max_steps) + 1,
            agent_types=_numbered(list(zip(obs_sizes, self._action_sizes, classes, strict=True))),
            outcomes=("reached", "distance") if self._listens else (),
            reward="per agent",
            continuous=continuous,
            opposed="adversaries" in classes,
            sides=_sides(classes),
        )

    def begin(self, key: PRNGKeyArray) -> Any:
        with jax.numpy_rank_promotion("allow"):
            return strong(self._env.reset(key)[1])

    def advance(self, state: Any, action: Action, key: PRNGKeyArray) -> Any:
        actions = list(action)
        if self.spec.continuous:
            share = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
            actions = [share[i, :size] for i, size in enumerate(self._action_sizes)]
        with jax.numpy_rank_promotion("allow"):
            return strong(self._env.step_env(key, state, dict(zip(self._agents, actions, strict=True)))[1])

    def observe(self, state: Any) -> TimeStep:
        with jax.numpy_rank_promotion("allow"):
            by_agent = self._env.get_obs(state)
            rewards = self._env.rewards(state)
        obs = [by_agent[agent] for agent in self._agents]
        reward = jnp.stack([rewards[agent].astype(jnp.float32) for agent in self._agents])
        first = state.step == 0
        return make_timestep(
            jnp.stack([jnp.pad(x, (0, self.spec.obs_dim - x.shape[0])) for x in obs]),
            jnp.concatenate(obs),
            avail=jnp.asarray(self._avail),
            reward=jnp.where(first, 0.0, reward),
            truncated=state.done,
            first=first,
        )

    def outcome(self, state: Any) -> dict[str, Float[Array, ""]]:
        if not self._listens:
            return {}
        listener, goal = self._env.num_agents - 1, self._env.num_agents + state.goal
        distance = jnp.linalg.norm(state.p_pos[listener] - state.p_pos[goal])
        reached = distance < self._env.rad[listener] + self._env.rad[goal]
        return {"reached": reached.astype(jnp.float32), "distance": distance}


def _size(space: Any) -> int:
    """How many actions there are, or components of one."""
    return int(space.n if hasattr(space, "n") else space.shape[0])


def _numbered(kinds: list[Any]) -> tuple[int, ...]:
    """Equal things get equal numbers, counted in order of appearance."""
    distinct = list(dict.fromkeys(kinds))
    return tuple(distinct.index(kind) for kind in kinds)


def _sides(classes: list[str]) -> tuple[str, ...]:
    """Adversaries, among them the one that leads, against the other agents; nothing where there are none."""
    if "adversaries" not in classes:
        return ()
    return tuple("agents" if name == "agents" else "adversaries" for name in classes)


def _class_of(agent: str, classes: dict[str, list[str] | str]) -> str:
    # JaxMARL names a class's members in a list, or its only member by a string.
    return next(name for name, members in classes.items() if agent == members or agent in list(members))
