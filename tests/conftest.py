"""Settings of every test; the type-checking import hook and the strict warnings are in pyproject.toml."""

import os
import signal
from pathlib import Path

# Compiled programs outlast the run, so that the next one starts quickly. Set in the environment and before JAX is
# imported: the programs that a test starts use them too.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import hypothesis
import jax

# What is started in the background ignores interrupts, and so would the runs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No array of ours grows an axis by accident. Code of others that relies on it is called under
# jax.numpy_rank_promotion("allow").
jax.config.update("jax_numpy_rank_promotion", "raise")

# Looking for doctests would import these packages under the names of those that they stand in for.
collect_ignore = ["envs/stand_ins"]

# An example that compiles is slow without being wrong, and what fails here fails everywhere.
hypothesis.settings.register_profile("comarl", deadline=None, derandomize=True)
hypothesis.settings.load_profile("comarl")
