"""The recurrent cells against Equinox's and plain loops, gradients that are written by hand against autodiff."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import Array

from comarl.nets.cells import (
    CELLS,
    GRU,
    LSTM,
    AbstractCell,
    CellKind,
    Feedforward,
    Gates,
    MinGRU,
    _associative,
    _one_by_one,
    gru_scan,
    kind_of,
    linear_recurrence,
    make_cell,
)

T, B, IN, H = 5, 3, 4, 6
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (T, B, IN))
RESETS = jnp.array([False, False, True, True, False])
KINDS: list[CellKind] = ["gru", "lstm", "mingru", "mlp"]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + jnp.exp(-x))


def naive_gru(weight: Array, biases: Array, h: Array, gates: Gates, first: Array) -> Array:
    """Cho et al. 2014 as PyTorch writes it, step by step in Python, for autodiff to go through."""
    out = []
    n = weight.shape[0]
    b_r, b_z, b_n, b_hn = biases[:, None]
    for x_r, x_z, x_n, reset in zip(*gates, first, strict=True):
        h = jnp.where(reset.reshape(-1, 1), 0.0, h)
        r = sigmoid(x_r + b_r + h @ weight[:, :n])
        z = sigmoid(x_z + b_z + h @ weight[:, n : 2 * n])
        c = jnp.tanh(x_n + b_n + r * (h @ weight[:, 2 * n :] + b_hn))
        h = (1 - z) * c + z * h
        out.append(h)
    return jnp.stack(out)


def random_arguments(key: Array) -> tuple[Array, Array, Array, Gates]:
    shapes = ((H, 3 * H), (4, H), (B, H), *[(T, B, H)] * 3)
    keys = jax.random.split(key, len(shapes))
    weight, biases, h0, *gates = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))
    return weight, biases, h0, tuple(gates)


def test_gru_equals_equinox_with_the_same_weights() -> None:
    cell = GRU(IN, H, key=KEY)
    other = eqx.nn.GRUCell(IN, H, key=KEY)
    # Equinox stores its matrices transposed.
    other = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n),
        other,
        (cell.input_map.weight.T, cell.recurrent_weight.T, cell.input_map.bias, cell.candidate_bias),
    )
    h = jax.random.normal(KEY, (B, H))
    step = jax.jit(jax.vmap(other))
    _, got = cell.scan(h, cell.project(X), jnp.zeros(T, bool))
    for t in range(T):
        h = step(X[t], h)
        np.testing.assert_allclose(got[t], h, rtol=1e-4, atol=1e-6)


def test_lstm_equals_equinox_with_the_same_weights() -> None:
    cell = LSTM(IN, H, key=KEY)
    other = eqx.nn.LSTMCell(IN, H, key=KEY)
    other = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias),
        other,
        (cell.input_map.weight.T, cell.recurrent_weight.T, cell.input_map.bias),
    )
    h, c = jax.random.normal(KEY, (2, B, H))
    step = jax.jit(jax.vmap(other))
    end, got = cell.scan((h, c), cell.project(X), jnp.zeros(T, bool))
    for t in range(T):
        h, c = step(X[t], (h, c))
        np.testing.assert_allclose(got[t], h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(end, (h, c), rtol=1e-4, atol=1e-6)


def value_and_gradient(f: Any) -> Any:
    """Of a function with a different cotangent at every output."""

    def total(*a: Any) -> tuple[Array, Array]:
        h = f(*a)
        return (jnp.cos(jnp.arange(h.size)).reshape(h.shape) * jnp.sin(h)).sum(), h

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True))


WRITTEN, AUTODIFF = value_and_gradient(gru_scan), value_and_gradient(naive_gru)


# Resets of all sequences together [T], or of each by itself [T, B].
FIRSTS = {
    "never": jnp.zeros(T, bool),
    "some": RESETS,
    "always": jnp.ones(T, bool),
    "each": jnp.stack([RESETS, ~RESETS, jnp.zeros(T, bool)], axis=1),
}


@pytest.mark.parametrize("first", FIRSTS.values(), ids=FIRSTS)
def test_gru_scan_and_its_gradient_equal_the_loop_and_autodiff(first: Array) -> None:
    arguments = random_arguments(jax.random.key(2))
    ((_, got), got_gradient), ((_, want), want_gradient) = WRITTEN(*arguments, first), AUTODIFF(*arguments, first)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    names = ("weight", "biases", "h0", "x_r", "x_z", "x_n")
    for name, g, w in zip(names, *map(jax.tree.leaves, (got_gradient, want_gradient)), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-5, err_msg=name)
    flows = np.asarray(got_gradient[2]).any(-1)  # a reset on the first step cuts off h0
    np.testing.assert_array_equal(flows, np.broadcast_to(~first[0], B))


def test_gru_scan_gradient_holds_under_vmap() -> None:
    """Over the weights too: that is how agents with parameters of their own and several seeds are mapped."""
    stacked = jax.vmap(random_arguments)(jax.random.split(jax.random.key(5), 3))
    firsts = jnp.stack([RESETS, ~RESETS, jnp.zeros(T, bool)])
    _, got = jax.vmap(WRITTEN)(*stacked, firsts)
    for i in range(3):
        _, want = AUTODIFF(*jax.tree.map(lambda x, i=i: x[i], stacked), firsts[i])
        for g, w in zip(*map(jax.tree.leaves, (got, want)), strict=True):
            np.testing.assert_allclose(g[i], w, rtol=1e-3, atol=1e-5)


def test_gru_scan_takes_any_leading_axes() -> None:
    weight, biases, h0, gates = random_arguments(jax.random.key(6))
    one_more = tuple(x[:, :, None] for x in gates)
    split = gru_scan(weight, biases, h0[:, None], one_more, RESETS)
    np.testing.assert_allclose(split[:, :, 0], gru_scan(weight, biases, h0, gates, RESETS), rtol=1e-5, atol=1e-6)


def test_lstm_clears_both_halves_of_its_memory() -> None:
    cell = LSTM(IN, H, key=KEY)
    gates = cell.project(X)
    dirty = (jnp.full((B, H), 3.0), jnp.full((B, H), -3.0))
    fresh = cell.initial_state((B,))
    at_once = jnp.array([True] + [False] * (T - 1))
    np.testing.assert_array_equal(cell.scan(dirty, gates, at_once)[1], cell.scan(fresh, gates, at_once * False)[1])


def state_of(cell: AbstractCell, fill: float) -> Any:
    return jax.tree.map(lambda x: jnp.full_like(x, fill), cell.initial_state((B,)))


def at(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_in_the_middle_is_a_new_beginning(kind: CellKind) -> None:
    cell = make_cell(kind, IN, H, key=KEY)
    gates = cell.project(X)
    _, whole = cell.scan(state_of(cell, 2.0), gates, jnp.arange(T) == 3)
    _, tail = cell.scan(cell.initial_state((B,)), at(gates, slice(3, None)), jnp.zeros(T - 3, bool))
    np.testing.assert_allclose(whole[3:], tail, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_each_sequence_has_its_own_resets(kind: CellKind) -> None:
    cell = make_cell(kind, IN, H, key=KEY)
    gates, start, first = cell.project(X), state_of(cell, 0.5), FIRSTS["each"]
    end, whole = cell.scan(start, gates, first)
    for b in range(B):
        alone = cell.scan(at(start, b), at(gates, (slice(None), b)), first[:, b])
        together = (at(end, b), whole[:, b])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), together, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_one_scan_equals_two_halves(kind: CellKind) -> None:
    cell = make_cell(kind, IN, H, key=KEY)
    gates, start = cell.project(X), state_of(cell, 0.5)
    end, whole = cell.scan(start, gates, RESETS)
    middle, head = cell.scan(start, at(gates, slice(2)), RESETS[:2])
    end_of_halves, tail = cell.scan(middle, at(gates, slice(2, None)), RESETS[2:])
    np.testing.assert_allclose(whole, jnp.concatenate([head, tail]), rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), end, end_of_halves)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_weights_are_drawn_from_the_width_of_the_memory(kind: CellKind) -> None:
    # PyTorch: uniform within ±1/√H for every weight, whatever the number of inputs.
    cell = make_cell(kind, 50, 100, key=KEY)
    for leaf in jax.tree.leaves(cell):
        assert 0.09 < jnp.abs(leaf).max() <= 0.1 + 1e-6


def test_names_of_the_kinds() -> None:
    made = [make_cell(kind, 1, 1, key=KEY) for kind in KINDS]
    assert [type(cell) for cell in made] == [GRU, LSTM, MinGRU, Feedforward]
    assert [kind_of(cell) for cell in made] == KINDS == list(CELLS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_the_memory_has_a_name(kind: CellKind) -> None:
    cell = eqx.filter_eval_shape(lambda: make_cell(kind, IN, H, key=KEY))
    assert len(set(cell.memory_names)) == len(cell.memory_names) == len(jax.tree.leaves(cell.initial_state((B,))))


@pytest.mark.parametrize("kind", KINDS)
def test_scanning_is_stepping_where_no_episode_begins(kind: CellKind) -> None:
    cell = make_cell(kind, IN, H, key=KEY)
    gates, state = cell.project(X), state_of(cell, 0.3)
    end, want = cell.scan(state, gates, jnp.zeros(T, bool))
    for t in range(T):
        state, got = cell.step(state, at(gates, t))
        np.testing.assert_allclose(got, want[t], rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# minGRU: more steps than the others have, and not a power of 2.
LONG = 11
GATES, CUT = (LONG, B, 2 * H), (LONG, B)


def naive_mingru(h: Array, gates: Array, first: Array) -> Array:
    """Feng et al. 2024, §3.1, step by step in Python, for autodiff to go through."""
    out = []
    for now, reset in zip(gates, first, strict=True):
        h = jnp.where(reset[:, None], 0.0, h)
        z = jax.nn.sigmoid(now[:, :H])  # whose gradient is a number however far a gate is open
        h = (1 - z) * h + z * now[:, H:]
        out.append(h)
    return jnp.stack(out)


def mingru_scan(h: Array, gates: Array, first: Array) -> Array:
    return make_cell("mingru", IN, H, key=KEY).scan(h, tuple(jnp.split(gates, 2, axis=-1)), first)[1]


def with_gradient(scan: Any) -> Any:
    """Its outputs, and the gradient with a different cotangent at each of them, to the memory and to the gates."""

    def total(h: Array, gates: Array, first: Array) -> tuple[Array, Array]:
        out = scan(h, gates, first)
        return (jnp.cos(jnp.arange(out.size)).reshape(out.shape) * jnp.sin(out)).sum(), out

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))


OURS, NAIVE = with_gradient(mingru_scan), with_gradient(naive_mingru)


@settings(max_examples=25, deadline=None)
@given(first=arrays(bool, CUT), seed=st.integers(0, 2**16), scale=st.sampled_from([0.1, 1.0, 60.0]))
def test_mingru_and_its_gradient_equal_the_loop_and_autodiff(first: np.ndarray, seed: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    h, gates = (draw.normal(size=shape).astype(np.float32) for shape in ((B, H), GATES))
    gates[..., :H] *= scale  # up to gates that are shut and open for good
    ((_, got), got_gradient), ((_, want), want_gradient) = OURS(h, gates, first), NAIVE(h, gates, first)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    for name, g, w in zip(("memory", "gates"), got_gradient, want_gradient, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(np.asarray(got_gradient[0]).any(-1) & first[0], False)
    assert np.abs(got).max() <= 1.000001 * max(np.abs(h).max(), np.abs(gates[..., H:]).max())  # a mean, never more


FORMS = {f.__name__: jax.jit(f, static_argnames="reverse") for f in (_one_by_one, _associative)}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=10, deadline=None)
@given(cut=arrays(bool, CUT), seed=st.integers(0, 2**16), reverse=st.booleans())
def test_each_form_of_the_recurrence_is_the_loop(form: str, cut: np.ndarray, seed: int, reverse: bool) -> None:
    """Of which a machine uses one alone: the other is tested here too."""
    draw = np.random.default_rng(seed)
    a, b, h = draw.uniform(size=(LONG, B, H)), draw.normal(size=(LONG, B, H)), draw.normal(size=(B, H))
    a[cut] = 0
    got = FORMS[form](*(x.astype(np.float32) for x in (a, b, h)), reverse=reverse)
    for t in range(LONG)[:: -1 if reverse else 1]:
        h = a[t] * h + b[t]
        np.testing.assert_allclose(got[t], h, rtol=1e-4, atol=1e-5)


def test_there_is_no_loop_on_an_accelerator() -> None:
    """Forwards and backwards."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((B, H), GATES)]
    traced = OURS.trace(*shapes, jax.ShapeDtypeStruct(CUT, bool))
    loops = {p: traced.lower(lowering_platforms=(p,)).as_text().count("stablehlo.while") for p in ("cpu", "cuda")}
    assert loops == {"cpu": 2, "cuda": 0}


def test_linear_recurrence_under_vmap() -> None:
    """As agents with parameters of their own and several seeds are mapped, gradients too."""
    draw = np.random.default_rng(0)
    a, b, h = (jnp.asarray(draw.uniform(size=shape), jnp.float32) for shape in ((3, T, H), (3, T, H), (3, H)))
    total = lambda *x: (linear_recurrence(*x) ** 2).sum()  # noqa: E731
    gradient = jax.grad(total, argnums=(0, 1, 2))
    got = jax.jit(jax.vmap(gradient))(a, b, h)
    for i in range(3):
        for g, w in zip(got, gradient(a[i], b[i], h[i]), strict=True):
            np.testing.assert_allclose(g[i], w, rtol=1e-4, atol=1e-6)
