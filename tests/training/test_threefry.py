"""Tests of comarl.training.threefry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comarl.training.threefry import draw_in_one_piece, threefry2x32

KNOWN = [  # of the authors' library Random123, for 20 rounds: key, counter, what comes out
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]

word = st.integers(0, 2**32 - 1)


def by_hand(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Section 3 of Salmon et al. 2011, round by round, in Python's integers."""
    rotations, mask = (13, 15, 26, 6, 17, 29, 16, 24), 2**32 - 1
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x0, x1 = (counter[0] + keys[0]) & mask, (counter[1] + keys[1]) & mask
    for number in range(20):
        turn = rotations[number % 8]
        x0 = (x0 + x1) & mask
        x1 = x0 ^ ((x1 << turn | x1 >> (32 - turn)) & mask)
        if number % 4 == 3:
            injection = number // 4 + 1
            x0 = (x0 + keys[injection % 3]) & mask
            x1 = (x1 + keys[(injection + 1) % 3] + injection) & mask
    return x0, x1


def words(*rows: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    first, second = np.array(rows, np.uint32).T
    return jnp.asarray(first), jnp.asarray(second)


@pytest.mark.parametrize("known", [KNOWN, KNOWN[1:2], KNOWN[2:]])
def test_known_answers_of_many_keys_and_of_one(known: list) -> None:
    keys, counters, answers = zip(*known, strict=True)
    assert [by_hand(k, c) for k, c in zip(keys, counters, strict=True)] == list(answers)
    np.testing.assert_array_equal(threefry2x32(*words(*keys), *words(*counters)), words(*answers))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(word, word), min_size=1, max_size=3), st.lists(st.tuples(word, word), min_size=2, max_size=2))
def test_each_key_meets_each_counter(keys: list[tuple[int, int]], counters: list[tuple[int, int]]) -> None:
    k0, k1 = (x[:, None] for x in words(*keys))
    x0, x1 = (x[None] for x in words(*counters))
    expected = np.array([[by_hand(key, counter) for counter in counters] for key in keys], np.uint32)
    np.testing.assert_array_equal(threefry2x32(k0, k1, x0, x1), np.moveaxis(expected, -1, 0))


def test_what_jax_draws_stays_and_many_keys_need_no_loop() -> None:
    def draw(keys: jax.Array) -> tuple[jax.Array, ...]:
        def of(key: jax.Array) -> tuple[jax.Array, ...]:
            first, second = jax.random.split(jax.random.fold_in(key, 3))
            return jax.random.normal(first, (2, 3)), jax.random.randint(second, (), 0, jnp.arange(4)[2] + 5)

        return jax.vmap(of)(keys)

    keys = jax.random.split(jax.random.key(7), 5)
    one_by_one = [jax.tree.map(lambda x: x[0], draw(keys[i : i + 1])) for i in range(5)]  # in a loop
    draw_in_one_piece()
    compiled = jax.jit(draw).lower(keys).compile()
    assert " while(" not in compiled.as_text()
    jax.tree.map(np.testing.assert_array_equal, compiled(keys), jax.tree.map(lambda *x: jnp.stack(x), *one_by_one))
