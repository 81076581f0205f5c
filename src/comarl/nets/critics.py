"""Central values: networks that only training sees."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.nets.agents import Body
from comarl.nets.cells import CellKind
from comarl.nets.layers import MLP, Linear
from comarl.nets.sharing import Shared, Sharing
from comarl.types import EnvSpec, TimeStep


class JointValue(eqx.Module):
    """An unrestricted value of the joint action, from the state and each agent's memory and action.

    Q(s, h, u) = head(relu(state(s) + Σ_i pool(relu(memory(h_i) + e_{i,u_i})))).

    The sizes grow with the number of agents and not with the number of joint actions. The actions' embeddings e are
    drawn from ±1 and not small: where they hardly move a ReLU across its kink, the network is additive in the
    actions, that is a saddle of the fit, and learning stays there.
    """

    action: Float[Array, "N A E"]
    memory: Linear
    pool: Linear
    state: Linear
    head: MLP

    def __init__(
        self, num_agents: int, num_actions: int, state_dim: int, memory_dim: int, *, hidden: int, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, 5)
        self.action = jax.random.rademacher(keys[0], (num_agents, num_actions, hidden), jnp.float32)
        self.memory = Linear(memory_dim, hidden, key=keys[1])
        self.pool = Linear(hidden, hidden, key=keys[2], use_bias=False)
        self.state = Linear(state_dim, hidden, key=keys[3])
        self.head = MLP((hidden, hidden, 1), key=keys[4])

    def __call__(
        self, state: Float[Array, " S"], memory: Float[Array, "N H"], action: Int[Array, " N"]
    ) -> Float[Array, ""]:
        """The value of one joint action."""
        chosen = self.action[jnp.arange(action.size), action]
        return self._value(state, self._features(memory, chosen).sum(0))

    def alternatives(
        self, state: Float[Array, " S"], memory: Float[Array, "N H"], action: Int[Array, " N"]
    ) -> Float[Array, "N A"]:
        """The value with agent i's action replaced by each of its actions, the others keeping theirs."""
        features = self._features(memory[:, None], self.action)
        chosen = features[jnp.arange(action.size), action]
        others = chosen.sum(0)[None] - chosen
        return self._value(state, others[:, None] + features)

    def _features(
        self, memory: Float[Array, "N *one H"], action: Float[Array, "N *actions E"]
    ) -> Float[Array, "N *actions E"]:
        return self.pool(jax.nn.relu(self.memory(memory) + action))

    def _value(self, state: Float[Array, " S"], pooled: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
        seen = self.state(state).reshape((1,) * (pooled.ndim - 1) + (-1,))
        return self.head(jax.nn.relu(seen + pooled))[..., 0]


Sees = Literal["state", "observation"]


class Critic(eqx.Module):
    """The values V_i of all ``N`` agents, each from what the critic sees and the agent's index.

    It sees the global state (the central critic of MAPPO, Yu et al. 2022) or the agent's own observation (IPPO, de Witt
    et al. 2020), has a memory of its own like an agent's, and values are per agent because rewards may be.
    """

    body: Shared[Body]
    num_agents: int = eqx.field(static=True)
    sees: Sees = eqx.field(static=True)

    def __init__(
        self,
        spec: EnvSpec,
        *,
        key: PRNGKeyArray,
        sees: Sees,
        kind: CellKind = "gru",
        hidden: int = 64,
        sharing: Sharing = "shared",
        layer_norm: bool = False,
    ):
        inputs = (spec.state_dim if sees == "state" else spec.obs_dim) + spec.num_agents
        make_body = lambda k: Body(inputs, hidden, 1, kind, layer_norm, key=k)  # noqa: E731
        self.body = Shared(make_body, sharing, spec.types, key=key)
        self.num_agents, self.sees = spec.num_agents, sees

    def initial_memory(self) -> Any:
        """The memory before an episode, leaves ``[N, H]``."""
        return self.body.module.cell.initial_state((self.num_agents,))

    def __call__(self, memory: Any, ts: TimeStep) -> tuple[Any, Float[Array, "*batch N"]]:
        """One joint step: the new memory and the values."""
        memory, value = self.unroll(memory, jax.tree.map(lambda x: x[None], ts))
        return memory, value[0]

    def unroll(self, memory: Any, ts: TimeStep) -> tuple[Any, Float[Array, "T *batch N"]]:
        """``T`` joint steps: the memory after the last one and the values of each."""
        seen = _for_each(ts.state, self.num_agents) if self.sees == "state" else ts.obs
        x = jnp.concatenate([seen, indices(ts)], axis=-1)
        agents = x.ndim - 2
        unroll = self.body.map(Body.unroll, in_axes=(agents - 1, agents, None), out_axes=(agents - 1, agents))
        memory, out = unroll(memory, x, ts.first)
        return memory, out.q[..., 0]


class CounterfactualCritic(eqx.Module):
    """Q_i(s, (u_i, u_-i)) of every action of every agent, the others keeping theirs (COMA, Foerster et al. 2018, §4).

    Each agent's row is one pass of a feed-forward network: its own current action is what the outputs are over, so that
    it is no input.
    """

    net: Shared[MLP]
    num_agents: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, *, key: PRNGKeyArray, hidden: int = 128, sharing: Sharing = "shared"):
        n, a = spec.num_agents, spec.num_actions
        inputs = spec.state_dim + spec.obs_dim + 2 * n * a + n
        self.net = Shared(lambda k: MLP((inputs, hidden, hidden, a), key=k), sharing, spec.types, key=key)
        self.num_agents, self.num_actions = n, a

    def __call__(
        self, ts: TimeStep, last_action: Int[Array, "*batch N"], action: Int[Array, "*batch N"]
    ) -> Float[Array, "*batch N A"]:
        """The values of joint steps.

        Args:
            ts: what was perceived.
            last_action: what each agent did before; meaningless on the first step of an episode, and not seen there.
            action: what each agent does now. Agent i's row does not depend on ``action[..., i]``.
        """
        before = jnp.where(ts.first[..., None, None], 0.0, self._one_hot(last_action))
        others = ~jnp.eye(self.num_agents, dtype=bool)[..., None]
        now = jnp.where(others, self._one_hot(action)[..., None, :, :], 0.0)
        *batch, _ = action.shape
        everyone = jnp.concatenate([ts.state, before.reshape(*batch, -1)], axis=-1)
        x = jnp.concatenate(
            [
                _for_each(everyone, self.num_agents),
                ts.obs,
                now.reshape(*action.shape, -1),
                indices(ts),
            ],
            axis=-1,
        )
        agents = len(batch)
        return self.net.map(MLP.__call__, in_axes=(agents,), out_axes=agents)(x)

    def _one_hot(self, action: Int[Array, "*batch N"]) -> Float[Array, "*batch N A"]:
        return jax.nn.one_hot(action, self.num_actions)


SeesActing = Literal["observations", "state", "own"]


class ActionCritic(eqx.Module):
    """The values Q_i(x, u) of all ``N`` agents, differentiable in the actions: one-hot, a mixture of them, or vectors.

    x are all observations or the state, and u is the joint action (the central critics of MADDPG, Lowe et al. 2017);
    or a critic sees ``own``, the agent's observation and action alone (DDPG). Beside it the agent's index, which tells
    agents apart that share parameters. It has no memory.
    """

    net: Shared[MLP]
    num_agents: int = eqx.field(static=True)
    sees: SeesActing = eqx.field(static=True)

    def __init__(
        self, spec: EnvSpec, *, key: PRNGKeyArray, sees: SeesActing, hidden: int = 64, sharing: Sharing = "agent"
    ):
        n = spec.num_agents
        seen = {"own": spec.obs_dim, "observations": n * spec.obs_dim, "state": spec.state_dim}[sees]
        acting = 1 if sees == "own" else n
        sizes = (seen + acting * spec.num_actions + n, hidden, hidden, 1)
        self.net = Shared(lambda k: MLP(sizes, key=k), sharing, spec.types, key=key)
        self.num_agents, self.sees = n, sees

    def __call__(
        self, ts: TimeStep, action: Float[Array, "*batch N A"], own: Float[Array, "*batch N A"] | None = None
    ) -> Float[Array, "*batch N"]:
        """The values of one joint action, or of one in which agent i, for its own value alone, does ``own[i]``."""
        own = action if own is None else own
        if self.sees == "own":
            return self._values(ts, ts.obs, own)
        itself = jnp.eye(self.num_agents, dtype=bool).reshape((1,) * (own.ndim - 2) + (self.num_agents,) * 2 + (1,))
        return self.believed(ts, jnp.where(itself, own[..., None, :, :], action[..., None, :, :]))

    def believed(self, ts: TimeStep, joint: Float[Array, "*batch N N A"]) -> Float[Array, "*batch N"]:
        """The values where each agent has a joint action of its own in mind, ``joint[i]``; not with ``own``."""
        agents = ts.obs.shape[:-1]
        world = ts.state if self.sees == "state" else ts.obs.reshape(*agents[:-1], -1)
        return self._values(ts, _for_each(world, self.num_agents), joint.reshape(*agents, -1))

    def _values(self, ts: TimeStep, *seen: Float[Array, "*batch N _"]) -> Float[Array, "*batch N"]:
        x = jnp.concatenate([*seen, indices(ts)], axis=-1)
        agents = x.ndim - 2
        return self.net.map(MLP.__call__, in_axes=(agents,), out_axes=agents)(x)[..., 0]


def _for_each(x: Float[Array, "*batch features"], agents: int) -> Float[Array, "*batch N features"]:
    """The same for every agent."""
    return jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], agents, x.shape[-1]))


def indices(ts: TimeStep) -> Float[Array, "*batch N N"]:
    """Every agent's index, one-hot."""
    *batch, agents, _ = ts.obs.shape
    return jnp.broadcast_to(jnp.eye(agents), (*batch, agents, agents))
