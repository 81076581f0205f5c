"""Which agents have which parameters."""

import functools
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

M = TypeVar("M", bound=eqx.Module)
Sharing = Literal["shared", "agent", "type"]


class Shared(eqx.Module, Generic[M]):
    """A module for each of ``N`` agents: one for all, one per agent, or one per type of agent.

    With one for all the agents are a batch axis of plain matrix products; otherwise the module's arrays have a
    leading axis and the call is mapped over it.

    Attributes:
        module: the module, its arrays stacked unless ``owner`` is None.
        owner: for each agent the index of its module in the stack, or None with one for all.
    """

    module: M
    owner: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self, make: Callable[[PRNGKeyArray], M], sharing: Sharing, types: tuple[int, ...], *, key: PRNGKeyArray
    ):
        match sharing:
            case "shared":
                self.owner, self.module = None, make(key)
                return
            case "agent":
                self.owner = tuple(range(len(types)))
            case "type":
                self.owner = tuple(int(i) for i in np.unique(types, return_inverse=True)[1])
        self.module = jax.vmap(make)(jax.random.split(key, max(self.owner) + 1))

    def map(self, f: Callable[..., Any], in_axes: Any, out_axes: Any) -> Callable[..., Any]:
        """``f(module, ...)`` as a function of the other arguments, for all agents at once.

        Args:
            f: takes the module first; the agents' axis must be one it treats as a free leading axis, for with
                one module for all it stays in place, while a mapped call sees each agent without it.
            in_axes: where the agents stand in the other arguments, as for :func:`jax.vmap`.
            out_axes: where they stand in the results.
        """
        if self.owner is None:
            return functools.partial(f, self.module)
        owner = jnp.asarray(self.owner)
        stacked = jax.tree.map(lambda w: w[owner], self.module)
        return functools.partial(jax.vmap(f, in_axes=(0, *in_axes), out_axes=out_axes), stacked)

    def of(self, agent: int) -> M:
        """One agent's own module, as if it were alone."""
        if self.owner is None:
            return self.module
        owner = self.owner[agent]
        return jax.tree.map(lambda w: w[owner], self.module)
