"""What checkpoints cost, and what going on from one takes: part of ``make bench``.

QMIX on smax/3m with its preset and a replay of 500 MB that is full of what it has collected. The same chunks of
training are timed with a checkpoint begun in the first of them and written before the last has ended, and without, in
turn. Nothing else should run on the machine meanwhile, and 2 GB must be free where temporary files are. Writes
``benchmarks/results/checkpoints.json``.
"""

import contextlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from run import RESULTS

from comarl.experiments.backend import prepare
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import with_settings
from comarl.experiments.presets import resolve
from comarl.report.speed import machine, show, spread
from comarl.training.checkpoint import Series, quiet
from comarl.training.copies import Copies
from comarl.training.ondevice import OnDevice, RunState
from comarl.training.seeds import Seeds, Then

ROUNDS = 5
REPLAY_BYTES = 500e6
EVERY = 60.0
"""Seconds between two checkpoints, by default."""
CHUNK = 5
"""Iterations of a chunk: short ones, so that little is trained after the checkpoint is written."""
FILLING = 8
"""Chunks that are collected before the first measurement."""


def main() -> None:
    """Measure, print a table and write the JSON."""
    prepare()
    driver = driver_with_replay()
    programs = Seeds(driver, [0], {0: full(driver)})
    with tempfile.TemporaryDirectory() as folder, quiet():
        costs = measure(programs, Path(folder))
        resuming = [restore(driver, Path(folder)) for _ in range(3)]
    figures = {
        "state (MB)": size(programs.state(0)) / 1e6,
        **costs,
        "reading and verifying it again (s)": spread(resuming),
    }
    report = {"machine": machine(), "rounds": ROUNDS, "figures": figures}
    path = RESULTS.with_name("checkpoints.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name:<46}{show(value)}")
    print(f"\nwrote {path}")


def driver_with_replay() -> OnDevice:
    """The preset, with as many blocks as make up the bytes."""
    config = resolve("qmix", "smax/3m", {"eval_episodes": 32})
    block = config.num_envs * config.length

    def of(blocks: int) -> OnDevice:
        own = {"buffer_steps": blocks * block, "eval_every": CHUNK * block}
        driver = build_driver(with_settings(config, own), build_env(config))
        assert isinstance(driver, OnDevice)
        return driver

    one, two = (size(of(blocks).shapes().memory) for blocks in (100, 101))
    return of(math.ceil(REPLAY_BYTES / (two - one)))


def size(state: Any) -> int:
    """Bytes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def full(driver: OnDevice) -> RunState:
    """A state whose replay holds what the first chunks collected, again and again: zeros would be packed tightly."""
    run, chunk = jax.jit(driver.init)(0), jax.jit(driver.chunk, donate_argnums=0)
    for _ in range(FILLING):
        run, _ = chunk(run)
    again = lambda x: jnp.take(x, jnp.arange(len(x)) % (FILLING * CHUNK), axis=0)  # noqa: E731
    return run._replace(memory=run.memory._replace(data=jax.tree.map(again, run.memory.data)))


def measure(programs: Seeds, folder: Path) -> dict[str, Any]:
    """Seconds that a checkpoint adds to the chunks in which it is written."""
    with contextlib.closing(Series(folder, keep=1)) as series:
        chunk = min(seconds(programs, series, 1, saves=False) for _ in range(3))
        chunks = 1 + math.ceil(1.5 * seconds(programs, series, 1, saves=True) / chunk)
        print(f"a chunk takes {chunk:.2f} s, a round {2 * chunks} of them …", file=sys.stderr)
        rounds = [[seconds(programs, series, chunks, saves=saves) for saves in (True, False)] for _ in range(ROUNDS)]
        on_disk = sum(path.stat().st_size for path in series.path(series.steps()[-1]).rglob("*") if path.is_file())
        copies = Copies()
        alone = [writing(programs, series, copies) for _ in range(4)][1:]
    extra = [with_it - without for with_it, without in rounds]
    return {
        "on the disk (MB)": on_disk / 1e6,
        "writing one, nothing else going on (s)": spread(alone),
        "training that lasted (s)": spread([without for _, without in rounds]),
        "lasts longer with one by (s)": spread(extra),
        "training slowed at one a minute (%)": spread([100 * more / EVERY for more in extra]),
    }


def seconds(programs: Seeds, series: Series, chunks: int, *, saves: bool) -> float:
    """Of so many chunks, with a checkpoint after the first of them or without, until all is written."""
    first = programs.done[0]

    def decide(_: int, number: int) -> Then:
        return Then.SNAPSHOT if saves and number == first else Then.GO_ON

    begun = time.perf_counter()
    for chunk in programs.run(first + chunks, decide):
        if chunk.snapshot is not None:
            series.save(first + 1, chunk.snapshot, math.nan, {})
    series.wait()
    return time.perf_counter() - begun


def writing(programs: Seeds, series: Series, copies: Copies) -> float:
    """Seconds of one checkpoint while nothing is trained."""
    begun = time.perf_counter()
    series.save(series.steps()[-1] + 1, copies.of(programs.state(0)), math.nan, {})
    series.wait()
    return time.perf_counter() - begun


def restore(driver: OnDevice, folder: Path) -> float:
    """Seconds in which the latest one is read and found whole."""
    begun = time.perf_counter()
    with contextlib.closing(Series(folder, keep=1)) as series:
        saved, _ = series.restore(driver.shapes())
    assert saved is not None
    jax.block_until_ready(saved.state)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
