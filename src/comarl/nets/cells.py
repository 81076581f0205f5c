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

from comarl.nets.layers import Linear, products, weight_gradients

Gates = tuple[Float[Array, "*batch H"], ...]
"""What a cell makes of its input, an array for each gate: XLA's CPU backend is slow where a scan's step has to cut them
out of a wider one (8.2 ms in place of 3.5)."""
GatesOverTime = tuple[Float[Array, "T *batch H"], ...]

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
    def project(self, x: Float[Array, "*batch inputs"]) -> Gates:
        """What needs no memory: an array of width ``H`` for each gate."""

    @abc.abstractmethod
    def step(self, state: Any, gates: Gates) -> tuple[Any, Float[Array, "*batch H"]]:
        """One step within an episode: the new memory and the output."""

    @abc.abstractmethod
    def scan(
        self, state: Any, gates: GatesOverTime, first: Bool[Array, "T *shorter"]
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

    def project(self, x: Float[Array, "*batch inputs"]) -> Gates:
        return (jax.nn.relu(self.linear(x)),)

    def step(self, state: tuple[()], gates: Gates) -> tuple[tuple[()], Float[Array, "*batch H"]]:
        return state, gates[0]

    def scan(
        self, state: tuple[()], gates: GatesOverTime, first: Bool[Array, "T *shorter"]
    ) -> tuple[tuple[()], Float[Array, "T *batch H"]]:
        del first
        return state, gates[0]


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

    def project(self, x: Float[Array, "*batch inputs"]) -> Gates:
        return products(x, tuple(jnp.split(self.input_map.weight, 3, axis=-1)))

    def step(
        self, state: Float[Array, "*batch H"], gates: Gates
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        h, _ = _gru_step(self.recurrent_weight, self._biases(), state, *gates)
        return h, h

    def scan(
        self, state: Float[Array, "*batch H"], gates: GatesOverTime, first: Bool[Array, "T *shorter"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "T *batch H"]]:
        h = gru_scan(self.recurrent_weight, self._biases(), state, gates, first)
        return h[-1], h

    def _biases(self) -> Float[Array, "4 H"]:
        """Of r, z, n and of h_n, which is inside r ⊙ (·)."""
        assert self.input_map.bias is not None
        return jnp.stack([*jnp.split(self.input_map.bias, 3), self.candidate_bias])


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

    def project(self, x: Float[Array, "*batch inputs"]) -> Gates:
        return self.input_map.split(x, 4)

    def step(
        self, state: tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]], gates: Gates
    ) -> tuple[tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]], Float[Array, "*batch H"]]:
        h, c = state
        of_memory = jnp.split(h @ self.recurrent_weight, 4, axis=-1)
        i, f, g, o = (x + of_h for x, of_h in zip(gates, of_memory, strict=True))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def scan(
        self,
        state: tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]],
        gates: GatesOverTime,
        first: Bool[Array, "T *shorter"],
    ) -> tuple[tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]], Float[Array, "T *batch H"]]:
        def step(
            state: tuple[Array, Array], x: tuple[Gates, Array]
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

    def project(self, x: Float[Array, "*batch inputs"]) -> Gates:
        return self.input_map.split(x, 2)

    def step(
        self, state: Float[Array, "*batch H"], gates: Gates
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        keep, write = _kept_and_written(*gates)
        h = keep * state + write
        return h, h

    def scan(
        self, state: Float[Array, "*batch H"], gates: GatesOverTime, first: Bool[Array, "T *shorter"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "T *batch H"]]:
        keep, write = _kept_and_written(*gates)
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
    biases: Float[Array, "4 H"],
    h0: Float[Array, "*batch H"],
    gates: GatesOverTime,
    first: Bool[Array, "T *shorter"],
) -> Float[Array, "T *batch H"]:
    """The GRU's recurrence on projected inputs; its output at every step. The biases are those of r, z, n and h_n.

    Its gradient is written by hand: the reverse pass only carries dL/dh, and the weight's gradient is one matrix
    product over all steps afterwards, where automatic differentiation does a small one in every step.
    """

    def step(h: Array, x: tuple[Gates, Array]) -> tuple[Array, Array]:
        gates, first = x
        new, _ = _gru_step(weight, biases, _cleared(h, first), *gates)
        return new, new

    return jax.lax.scan(step, h0, (gates, first))[1]


def _gru_step(
    weight: Array, biases: Array, h: Array, x_r: Array, x_z: Array, x_n: Array
) -> tuple[Array, tuple[Array, ...]]:
    """The new memory, and what its gradient needs: the old one, z, and the slopes dh'/d(·) of r, z, h_n and n."""
    h_r, h_z, h_n = jnp.split(h @ weight, 3, axis=-1)
    b_r, b_z, b_n, b_hn = (b.reshape((1,) * (h.ndim - 1) + b.shape) for b in biases)
    h_n = h_n + b_hn
    r, z = jax.nn.sigmoid(x_r + h_r + b_r), jax.nn.sigmoid(x_z + h_z + b_z)
    n = jnp.tanh(x_n + b_n + r * h_n)
    n_slope = (1 - z) * (1 - n * n)
    slopes = (n_slope * h_n * r * (1 - r), (h - n) * z * (1 - z), n_slope * r, n_slope)
    return n + z * (h - n), (h, z, *slopes)


def _gru_forward(weight: Array, biases: Array, h0: Array, gates: GatesOverTime, first: Array) -> tuple[Array, Any]:
    def step(h: Array, x: tuple[Gates, Array]) -> tuple[Array, tuple[Array, ...]]:
        gates, first = x
        new, saved = _gru_step(weight, biases, _cleared(h, first), *gates)
        return new, (new, *saved)

    _, (out, *saved) = jax.lax.scan(step, h0, (gates, first))
    return out, (weight, first, *saved)


def _gru_backward(saved: Any, d_out: Array) -> tuple[Array, Array, Array, GatesOverTime, None]:
    weight, first, h, z, *slopes = saved
    weights = [w.T for w in jnp.split(weight, 3, axis=-1)]

    def step(d_h: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
        d_out, first, z, *slopes = x
        d_h = d_h + d_out
        d_prev = d_h * z + sum((d_h * slope) @ w for slope, w in zip(slopes, weights, strict=True))
        return _cleared(d_prev, first), d_h

    d_h0, d_h = jax.lax.scan(step, jnp.zeros_like(h[0]), (d_out, first, z, *slopes[:3]), reverse=True)
    d_r, d_z, d_hn, d_n = (d_h * slope for slope in slopes)
    d_weight = jnp.concatenate(weight_gradients(h, (d_r, d_z, d_hn)), axis=-1)
    d_biases = jnp.stack([d.reshape(-1, d.shape[-1]).sum(0) for d in (d_r, d_z, d_n, d_hn)])
    return d_weight, d_biases, d_h0, (d_r, d_z, d_n), None


gru_scan.defvjp(_gru_forward, _gru_backward)


def _kept_and_written(z: Array, candidate: Array) -> tuple[Array, Array]:
    """The share of a minGRU's memory that stays, and what is added to it."""
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
