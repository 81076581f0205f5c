"""What an agent remembers: a GRU, an LSTM, a minGRU, or nothing.

A cell first maps its input for all time steps at once (``project``) and then runs through time with the small part
that cannot be hoisted (``scan``). Leading axes other than time are free. ``first`` marks the steps on which an
episode begins: the memory is cleared before them. Its axes are time and as many of the leading ones as it needs.
"""

import abc
import functools
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from comarl.nets.layers import Linear

CellKind = Literal["gru", "lstm", "mingru", "mlp"]


class AbstractCell(eqx.Module):
    """One layer of memory of width ``H``.

    Attributes:
        memory_names: what the parts of its state are called where each needs a name, in the order of the leaves.
    """

    memory_names: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def initial_state(self, batch: tuple[int, ...]) -> Any:
        """The memory at the start of an episode, with leading axes ``batch``."""

    @abc.abstractmethod
    def project(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch gates"]:
        """The part of the computation that needs no memory."""

    @abc.abstractmethod
    def step(self, state: Any, gates: Float[Array, "*batch gates"]) -> tuple[Any, Float[Array, "*batch H"]]:
        """One step within an episode: the new memory and the output."""

    @abc.abstractmethod
    def scan(
        self, state: Any, gates: Float[Array, "T *batch gates"], first: Bool[Array, "T *shorter"]
    ) -> tuple[Any, Float[Array, "T *batch H"]]:
        """Run through ``T`` steps: the last memory and the output of every step."""


class Feedforward(AbstractCell):
    """No memory: a second hidden layer in the memory's place."""

    memory_names: ClassVar = ()
    linear: Linear

    def __init__(self, inputs: int, hidden: int, *, key: PRNGKeyArray):
        self.linear = Linear(inputs, hidden, key=key)

    def initial_state(self, batch: tuple[int, ...]) -> tuple[()]:
        del batch
        return ()

    def project(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch gates"]:
        return jax.nn.relu(self.linear(x))

    def step(self, state: tuple[()], gates: Float[Array, "*batch gates"]) -> tuple[tuple[()], Float[Array, "*batch H"]]:
        return state, gates

    def scan(
        self, state: tuple[()], gates: Float[Array, "T *batch gates"], first: Bool[Array, "T *shorter"]
    ) -> tuple[tuple[()], Float[Array, "T *batch H"]]:
        del first
        return state, gates


class GRU(AbstractCell):
    """Gated recurrent unit (Cho et al. 2014) with PyTorch's gate order (r, z, n) and its bias inside r ⊙ (·)."""

    memory_names: ClassVar = ("memory",)
    input_map: Linear
    recurrent_weight: Float[Array, "H gates"]
    candidate_bias: Float[Array, " H"]

    def __init__(self, inputs: int, hidden: int, *, key: PRNGKeyArray):
        i_key, h_key, b_key = jax.random.split(key, 3)
        bound = hidden**-0.5
        wide = Linear(inputs, 3 * hidden, key=i_key)
        # PyTorch draws every GRU weight from the memory's width, not from the input's.
        self.input_map = jax.tree.map(lambda w: w * bound * inputs**0.5, wide)
        self.recurrent_weight = jax.random.uniform(h_key, (hidden, 3 * hidden), minval=-bound, maxval=bound)
        self.candidate_bias = jax.random.uniform(b_key, (hidden,), minval=-bound, maxval=bound)

    def initial_state(self, batch: tuple[int, ...]) -> Float[Array, "*batch H"]:
        return jnp.zeros((*batch, self.candidate_bias.shape[-1]))

    def project(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch gates"]:
        return self.input_map(x)

    def step(
        self, state: Float[Array, "*batch H"], gates: Float[Array, "*batch gates"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        h, _ = _gru_step(self.recurrent_weight, self.candidate_bias, state, *jnp.split(gates, 3, axis=-1))
        return h, h

    def scan(
        self, state: Float[Array, "*batch H"], gates: Float[Array, "T *batch gates"], first: Bool[Array, "T *shorter"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "T *batch H"]]:
        h = gru_scan(self.recurrent_weight, self.candidate_bias, state, gates, first)
        return h[-1], h


class LSTM(AbstractCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), gates in PyTorch's order (i, f, g, o)."""

    memory_names: ClassVar = ("hidden", "cell")
    input_map: Linear
    recurrent_weight: Float[Array, "H gates"]

    def __init__(self, inputs: int, hidden: int, *, key: PRNGKeyArray):
        i_key, h_key = jax.random.split(key)
        bound = hidden**-0.5
        wide = Linear(inputs, 4 * hidden, key=i_key)
        self.input_map = jax.tree.map(lambda w: w * bound * inputs**0.5, wide)
        self.recurrent_weight = jax.random.uniform(h_key, (hidden, 4 * hidden), minval=-bound, maxval=bound)

    def initial_state(self, batch: tuple[int, ...]) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        zeros = jnp.zeros((*batch, self.recurrent_weight.shape[-2]))
        return zeros, zeros

    def project(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch gates"]:
        return self.input_map(x)

    def step(
        self, state: tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]], gates: Float[Array, "*batch gates"]
    ) -> tuple[tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]], Float[Array, "*batch H"]]:
        h, c = state
        i, f, g, o = jnp.split(gates + h @ self.recurrent_weight, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def scan(
        self,
        state: tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]],
        gates: Float[Array, "T *batch gates"],
        first: Bool[Array, "T *shorter"],
    ) -> tuple[tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]], Float[Array, "T *batch H"]]:
        def step(
            state: tuple[Array, Array], x: tuple[Array, Array]
        ) -> tuple[tuple[Array, Array], Float[Array, "*batch H"]]:
            gates, first = x
            h, c = (_cleared(part, first) for part in state)
            return self.step((h, c), gates)

        return jax.lax.scan(step, state, (gates, first))


class MinGRU(AbstractCell):
    """minGRU (Feng et al. 2024, "Were RNNs All We Needed?", §3.1): h_t = (1 - z_t) ⊙ h_{t-1} + z_t ⊙ h̃_t.

    Gate and candidate depend on the input alone, z = σ(W_z x), h̃ = W_h x, so that all products are made for all steps
    at once and what is left is a linear recurrence. The paper's other variant keeps h̃ positive, because it multiplies
    in log-space. Nothing needs that here: both coefficients lie in [0, 1] and add up to 1, so that every h is a mean of
    candidates, and a product of coefficients can only fade to zero. A memory is cleared by a coefficient of 0.
    """

    memory_names: ClassVar = ("memory",)
    input_map: Linear

    def __init__(self, inputs: int, hidden: int, *, key: PRNGKeyArray):
        self.input_map = Linear(inputs, 2 * hidden, key=key)

    def initial_state(self, batch: tuple[int, ...]) -> Float[Array, "*batch H"]:
        return jnp.zeros((*batch, self.input_map.weight.shape[-1] // 2))

    def project(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch gates"]:
        return self.input_map(x)

    def step(
        self, state: Float[Array, "*batch H"], gates: Float[Array, "*batch gates"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        keep, write = _kept_and_written(gates)
        h = keep * state + write
        return h, h

    def scan(
        self, state: Float[Array, "*batch H"], gates: Float[Array, "T *batch gates"], first: Bool[Array, "T *shorter"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "T *batch H"]]:
        keep, write = _kept_and_written(gates)
        h = linear_recurrence(_cleared(keep, first), write, state)
        return h[-1], h


CELLS: dict[CellKind, type[GRU | LSTM | MinGRU | Feedforward]] = {
    "gru": GRU,
    "lstm": LSTM,
    "mingru": MinGRU,
    "mlp": Feedforward,
}


def make_cell(kind: CellKind, inputs: int, hidden: int, *, key: PRNGKeyArray) -> AbstractCell:
    """The cell of that name, ``inputs`` wide in and ``hidden`` wide out."""
    return CELLS[kind](inputs, hidden, key=key)


def kind_of(cell: AbstractCell) -> CellKind:
    """The name of a cell that ``make_cell`` made."""
    return next(kind for kind, made in CELLS.items() if type(cell) is made)


def _cleared(memory: Array, first: Array) -> Array:
    """``memory``, zero where an episode begins."""
    return jnp.where(first.reshape(first.shape + (1,) * (memory.ndim - first.ndim)), 0.0, memory)


@jax.custom_vjp
def gru_scan(
    weight: Float[Array, "H gates"],
    bias: Float[Array, " H"],
    h0: Float[Array, "*batch H"],
    gates: Float[Array, "T *batch gates"],
    first: Bool[Array, "T *shorter"],
) -> Float[Array, "T *batch H"]:
    """The GRU's recurrence on projected inputs; its output at every step.

    Its gradient is written by hand: the reverse pass only carries dL/dh, and the weight's gradient is one matrix
    product over all steps afterwards, where automatic differentiation does a small one in every step. The gates are
    split before the scan: XLA's CPU backend does not vectorise a slice of a slice (measured: 8.2 ms against 3.5 ms).
    """

    def step(h: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
        *gates, first = x
        new, _ = _gru_step(weight, bias, _cleared(h, first), *gates)
        return new, new

    return jax.lax.scan(step, h0, (*jnp.split(gates, 3, axis=-1), first))[1]


def _gru_step(
    weight: Array, bias: Array, h: Array, x_r: Array, x_z: Array, x_n: Array
) -> tuple[Array, tuple[Array, ...]]:
    """The new memory, and what its gradient needs."""
    h_r, h_z, h_n = jnp.split(h @ weight, 3, axis=-1)
    h_n = h_n + bias.reshape((1,) * (h_n.ndim - 1) + bias.shape)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * h_n)
    return n + z * (h - n), (h, r, z, n, h_n)


def _gru_forward(weight: Array, bias: Array, h0: Array, gates: Array, first: Array) -> tuple[Array, Any]:
    def step(h: Array, x: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        *gates, first = x
        new, saved = _gru_step(weight, bias, _cleared(h, first), *gates)
        return new, (new, *saved)

    _, (out, *saved) = jax.lax.scan(step, h0, (*jnp.split(gates, 3, axis=-1), first))
    return out, (weight, first, *saved)


def _gru_backward(saved: Any, d_out: Array) -> tuple[Array, Array, Array, Array, None]:
    weight, first, h, r, z, n, h_n = saved
    # dL/d(gate) = dL/dh · slope: the slopes need no dL/dh and are made for all steps at once.
    n_slope = (1 - z) * (1 - n * n)
    slopes = (n_slope * h_n * r * (1 - r), (h - n) * z * (1 - z), n_slope * r)
    weights = [w.T for w in jnp.split(weight, 3, axis=-1)]

    def step(d_h: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
        d_out, first, z, *slopes = x
        d_h = d_h + d_out
        d_prev = d_h * z + sum((d_h * slope) @ w for slope, w in zip(slopes, weights, strict=True))
        return _cleared(d_prev, first), d_h

    d_h0, d_h = jax.lax.scan(step, jnp.zeros_like(h[0]), (d_out, first, z, *slopes), reverse=True)
    d_r, d_z, d_hn = (d_h * slope for slope in slopes)
    h_rows, *d_rows = (x.reshape(-1, x.shape[-1]) for x in (h, d_r, d_z, d_hn))
    # Transposed once and kept so: XLA's CPU backend would pack it anew for each of the three products.
    h_columns = jax.lax.optimization_barrier(h_rows.T)
    d_weight = jnp.concatenate([h_columns @ d for d in d_rows], axis=-1)
    d_bias = d_rows[-1].sum(0)
    return d_weight, d_bias, d_h0, jnp.concatenate([d_r, d_z, d_h * n_slope], axis=-1), None


gru_scan.defvjp(_gru_forward, _gru_backward)


def _kept_and_written(gates: Array) -> tuple[Array, Array]:
    """The share of a minGRU's memory that stays, and what is added to it."""
    z, candidate = jnp.split(gates, 2, axis=-1)
    z = jax.nn.sigmoid(z)
    return 1 - z, z * candidate


@jax.custom_vjp
def linear_recurrence(
    a: Float[Array, "T *shape"], b: Float[Array, "T *shape"], h0: Float[Array, "*shape"]
) -> Float[Array, "T *shape"]:
    """h_t = a_t ⊙ h_{t-1} + b_t for all t: a step after the other on a CPU, elsewhere in O(log T) parallel ones.

    Its gradient is the same recurrence backwards, dL/db_t = dL/dh_t + a_{t+1} ⊙ dL/db_{t+1}, with dL/da_t =
    dL/db_t ⊙ h_{t-1}: the levels of the parallel form need not be kept. A CPU would work through each of these levels,
    which takes longer than the plain loop (measured: docs/tuning.md).
    """
    return _recur(a, b, h0)


def _recur(a: Array, b: Array, h0: Array, *, reverse: bool = False) -> Array:
    loop, parallel = (functools.partial(f, reverse=reverse) for f in (_one_by_one, _associative))
    return jax.lax.platform_dependent(a, b, h0, cpu=loop, default=parallel)


def _one_by_one(a: Array, b: Array, h0: Array, *, reverse: bool) -> Array:
    def step(h: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = x
        h = a * h + b
        return h, h

    return jax.lax.scan(step, h0, (a, b), reverse=reverse)[1]


def _associative(a: Array, b: Array, h0: Array, *, reverse: bool) -> Array:
    def after(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        (a1, b1), (a2, b2) = earlier, later
        return a2 * a1, a2 * b1 + b2

    start = -1 if reverse else 0
    return jax.lax.associative_scan(after, (a, b.at[start].add(a[start] * h0)), reverse=reverse)[1]


def _recurrence_forward(a: Array, b: Array, h0: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    h = _recur(a, b, h0)
    return h, (a, h0, h)


def _recurrence_backward(saved: tuple[Array, Array, Array], d_h: Array) -> tuple[Array, Array, Array]:
    a, h0, h = saved
    following = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    d_b = _recur(following, d_h, jnp.zeros_like(h0), reverse=True)
    before = jnp.concatenate([h0[None], h[:-1]])
    return d_b * before, d_b, a[0] * d_b[0]


linear_recurrence.defvjp(_recurrence_forward, _recurrence_backward)
