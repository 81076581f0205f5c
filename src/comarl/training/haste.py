"""Compiling in haste what is run once, or seldom."""

from typing import Any

import jax
from jax.stages import Compiled, Lowered

TRIED = ((0, 10), (0, 12))
"""Oldest and newest version of JAX whose compiler is known to know the options that are set here and for a run."""

QUICK: dict[str, Any] = {
    # One kernel after the other by LLVM alone: two thirds of the time to compile. Evaluations are as fast, while
    # gradients take up to 40% longer.
    "xla_cpu_use_fusion_emitters": False,
}


def known() -> bool:
    """Is this a version of JAX that was tried?"""
    return TRIED[0] <= jax.__version_info__[:2] <= TRIED[1]


def compile_quickly(lowered: Lowered) -> Compiled:
    """The program, compiled in less time, for a CPU; it may take more to run."""
    return lowered.compile(QUICK if known() else None)
