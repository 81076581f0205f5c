"""How JAX is set up for a run."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

from comarl.errors import ComarlError
from comarl.training.haste import known
from comarl.training.threefry import draw_in_one_piece

XLA_FLAGS = {
    # XLA's CPU scheduler spreads independent operations over threads and pays for it in memory traffic: an update of
    # QMIX on smax/3m takes 38 ms of one core without it and 60 ms of two with it. An option of one program has no
    # effect.
    "--xla_cpu_enable_concurrency_optimized_scheduler": "false",
    # LLVM's -O3 takes a fifth to a half longer to compile than -O2, for programs that are no faster: their time goes
    # into products, which come from libraries.
    "--xla_backend_optimization_level": "2",
}


def prepare() -> None:
    """Set XLA's flags, how a CPU draws, and JAX's persistent compilation cache; whatever the user has set stays.

    The flags have an effect only before JAX's first computation in the process.
    """
    if known():  # XLA aborts the process on a flag it does not know
        flags = os.environ.get("XLA_FLAGS", "")
        ours = [f"{flag}={value}" for flag, value in XLA_FLAGS.items() if flag not in flags]
        os.environ["XLA_FLAGS"] = " ".join([flags, *ours]).strip()
        draw_in_one_piece()
    _use_compilation_cache()


def devices(cpu_devices: int = 1) -> list[Any]:
    """What a run computes with: all accelerators of this process, or so many devices that its CPU is seen as.

    Raises:
        ComarlError: if there is an accelerator, or if JAX has begun with fewer.
    """
    if cpu_devices > 1:
        # It has begun already: what there is has to do.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cpu_devices)
    there = jax.local_devices()
    if there[0].platform != "cpu":
        if cpu_devices > 1:
            raise ComarlError(
                f"cpu_devices={cpu_devices}: JAX computes on {there[0].platform} here (leave it out, or set "
                "JAX_PLATFORMS=cpu)"
            )
        return there
    if len(there) < cpu_devices:
        raise ComarlError(
            f"cpu_devices={cpu_devices}: in this process JAX has begun with {len(there)} (train in a process of its "
            f"own, or begin with jax.config.update('jax_num_cpu_devices', {cpu_devices}))"
        )
    return there[:cpu_devices]


def _use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, for a quick second start; not if it cannot be written."""
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue] -- JAX adds it at run time
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "comarl" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small ones too: some thirty operations of a start are programs of their own, half a second altogether.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
