"""JAX's random numbers on a CPU, in one piece: the same bits, sooner.

JAX draws them with Threefry-2x32 of 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
which for a CPU it writes as a loop over five times four rounds, to be compiled in little time. Compiled, that is a loop
over some twenty kernels and copies, while environments draw a few numbers for each of many keys: then a single kernel
of all rounds takes a third of the time to run, and half of the time to compile.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p
from jax.interpreters import mlir
from jaxtyping import Array, UInt32

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
"""Of the first four rounds, and of the next; then again."""

PARITY = 0x1BD11BDA
"""What the third key word is made with."""

Words = UInt32[Array, "..."]
Groups = tuple[tuple[Any, ...], ...]
"""The state's words, the key's, and the rotations of four rounds and the next four."""


def draw_in_one_piece() -> None:
    """From now on this process compiles JAX's random numbers for a CPU as :func:`threefry2x32` writes them."""
    rule = mlir.lower_fun(threefry2x32, multiple_results=True)
    mlir.register_lowering(threefry2x32_p, rule, platform="cpu", inline=False)  # one function for all of a shape


def threefry2x32(k0: Words, k1: Words, x0: Words, x1: Words) -> tuple[Words, Words]:
    """The two words of each counter, encrypted with the two words of its key.

    All are of one rank and broadcast: many counters, say, with each of many keys.
    Several keys in one piece, and a single one in a loop: the compiler would compute what a lone key is drawn from,
    and that from which it was drawn, anew for every number.
    """
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    rotations = tuple(np.array(r, np.uint32) for r in ROTATIONS)
    state: Groups = ((x0 + k0, x1 + k1), _turned(keys), rotations)
    if k0.size > 1:
        for i in range(5):
            state = _four_rounds(i, state)
    else:
        state = jax.lax.fori_loop(0, 5, _four_rounds, state)
    return state[0]


def _four_rounds(i: Array | int, state: Groups) -> Groups:
    (x0, x1), keys, rotations = state
    for rotation in rotations[0]:
        x0 = x0 + x1
        x1 = x0 ^ (x1 << rotation | x1 >> (32 - rotation))
    return (x0 + keys[0], x1 + keys[1] + jnp.uint32(i + 1)), _turned(keys), _turned(rotations)


def _turned(words: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*words[1:], words[0])
