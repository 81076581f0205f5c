"""Agents: from each agent's own history to its utilities.

The DRQN agent of PyMARL (Hausknecht and Stone 2015; Rashid et al. 2018): Linear, ReLU, a recurrent cell, Linear.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from comarl.nets.cells import AbstractCell, CellKind, Gates, make_cell
from comarl.nets.layers import LayerNorm, Linear
from comarl.nets.sharing import Shared, Sharing
from comarl.types import Action, EnvSpec, TimeStep, action_features


class AgentCarry(NamedTuple):
    """What the agents bring from one step to the next.

    Attributes:
        memory: the cells' state, leaves ``[N, H]``.
        last_action: what each agent did before; meaningless on the first step of an episode.
    """

    memory: Any
    last_action: Action


class Utilities(NamedTuple):
    """What agents compute from their histories: values of their own actions and the hidden state behind them.

    Where agents have policies, ``q`` holds the numbers that these are made of.
    """

    q: Float[Array, "*batch N outputs"]
    hidden: Float[Array, "*batch N H"]


class Body(eqx.Module):
    """One agent's network: encoder, memory, head; leading axes are free.

    With ``layer_norm`` the encoder is normalised before its ReLU and the memory's output before the head, as PQN needs
    it in place of a target network (Gallici et al. 2024, §4). What the memory carries on is not normalised.
    """

    encoder: Linear
    cell: AbstractCell
    head: Linear
    norms: tuple[LayerNorm, LayerNorm] | None

    def __init__(
        self, inputs: int, hidden: int, outputs: int, kind: CellKind, layer_norm: bool = False, *, key: PRNGKeyArray
    ):
        e_key, c_key, h_key = jax.random.split(key, 3)
        self.encoder = Linear(inputs, hidden, key=e_key)
        self.cell = make_cell(kind, hidden, hidden, key=c_key)
        self.head = Linear(hidden, outputs, key=h_key)
        self.norms = (LayerNorm(hidden), LayerNorm(hidden)) if layer_norm else None

    def unroll(
        self, memory: Any, x: Float[Array, "T *batch inputs"], first: Bool[Array, "T *shorter"]
    ) -> tuple[Any, Utilities]:
        """Memory after and utilities at each of ``T`` steps."""
        memory, hidden = self.cell.scan(memory, self._gates(x), first)
        return memory, self._utilities(hidden)

    def step(self, memory: Any, x: Float[Array, "*batch inputs"]) -> tuple[Any, Utilities]:
        """The same for one step within an episode, without a loop over time."""
        memory, hidden = self.cell.step(memory, self._gates(x))
        return memory, self._utilities(hidden)

    def _gates(self, x: Float[Array, "*batch inputs"]) -> Gates:
        encoded = self.encoder(x)
        if self.norms is not None:
            encoded = self.norms[0](encoded)
        return self.cell.project(jax.nn.relu(encoded))

    def _utilities(self, hidden: Float[Array, "*batch H"]) -> Utilities:
        if self.norms is not None:
            hidden = self.norms[1](hidden)
        return Utilities(self.head(hidden), hidden)


class AbstractAgent(eqx.Module):
    """The agents of a team: from their histories to their utilities, however many networks are behind them."""

    @abc.abstractmethod
    def initial_carry(self) -> AgentCarry:
        """The carry before an episode, without batch axes."""

    @abc.abstractmethod
    def unroll(self, carry: AgentCarry, ts: TimeStep, action: Action) -> tuple[Any, Utilities]:
        """``T`` joint steps, as calling the agents ``T`` times but with their products batched.

        Batch axes are taken here and not by ``jax.vmap``: a mapped weight gradient is one product per batch entry.

        Args:
            carry: on entering ``ts[0]``.
            ts: the time steps ``[T, *batch, ...]``.
            action: what was done at ``ts[:-1]``, ``[T - 1, *batch, N]`` or, a vector each, ``[T - 1, *batch, N, A]``.

        Returns:
            The memory after the last step, the utilities ``[T, *batch, N, A]`` and hidden states ``[..., N, H]``.
        """

    def __call__(self, carry: AgentCarry, ts: TimeStep) -> tuple[Any, Utilities]:
        """One joint step: the new memory and the utilities ``[*batch, N, A]``."""
        one = jax.tree.map(lambda x: x[None], ts)
        memory, out = self.unroll(carry, one, jnp.zeros((0, *carry.last_action.shape), carry.last_action.dtype))
        return memory, jax.tree.map(lambda x: x[0], out)

    def seeded(self, carry: AgentCarry, key: PRNGKeyArray) -> AgentCarry:
        """The carry with what is drawn once for a run of episodes; nothing is, unless agents say so."""
        del key
        return carry

    def forgetful(self, carry: AgentCarry) -> AgentCarry:
        """The carry with an empty memory."""
        empty = lambda like, x: jnp.broadcast_to(x, like.shape)  # noqa: E731
        return carry._replace(memory=jax.tree.map(empty, carry.memory, self.initial_carry().memory))


class Agent(AbstractAgent):
    """The utilities Q_i(τ_i, ·) of all ``N`` agents of a team.

    Each agent sees its observation and, as options, its own last action (an index one-hot) and its index, one-hot.
    """

    body: Shared[Body]
    num_agents: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    action_form: jax.ShapeDtypeStruct = eqx.field(static=True)
    use_last_action: bool = eqx.field(static=True)
    use_agent_id: bool = eqx.field(static=True)

    def __init__(
        self,
        spec: EnvSpec,
        *,
        key: PRNGKeyArray,
        kind: CellKind = "gru",
        hidden: int = 64,
        last_action: bool = True,
        agent_id: bool = True,
        sharing: Sharing = "shared",
        layer_norm: bool = False,
        outputs_per_action: int = 1,
    ):
        outputs = outputs_per_action * spec.num_actions
        inputs = spec.obs_dim + last_action * spec.num_actions + agent_id * spec.num_agents
        make_body = lambda k: Body(inputs, hidden, outputs, kind, layer_norm, key=k)  # noqa: E731
        self.body = Shared(make_body, sharing, spec.types, key=key)
        self.num_agents, self.num_actions = spec.num_agents, spec.num_actions
        self.action_form = spec.action_form
        self.use_last_action, self.use_agent_id = last_action, agent_id

    def initial_carry(self) -> AgentCarry:
        """Nothing is remembered."""
        memory = self.body.module.cell.initial_state((self.num_agents,))
        return AgentCarry(memory, jnp.zeros(self.action_form.shape, self.action_form.dtype))

    def unroll(self, carry: AgentCarry, ts: TimeStep, action: Action) -> tuple[Any, Utilities]:
        """One pass of the body for all steps."""
        last_action = jnp.concatenate([carry.last_action[None], action])
        x = self._inputs(ts, last_action)
        agents = x.ndim - 2
        unroll = self.body.map(Body.unroll, in_axes=(agents - 1, agents, None), out_axes=(agents - 1, agents))
        return unroll(carry.memory, x, ts.first)

    def _inputs(self, ts: TimeStep, last_action: Action) -> Float[Array, "T *batch N inputs"]:
        parts = [ts.obs]
        if self.use_last_action:
            done = action_features(last_action, self.num_actions)
            parts.append(jnp.where(ts.first[..., None, None], 0.0, done))
        if self.use_agent_id:
            ids = jnp.eye(self.num_agents)
            parts.append(jnp.broadcast_to(ids, (*ts.obs.shape[:-1], self.num_agents)))
        return jnp.concatenate(parts, axis=-1)
