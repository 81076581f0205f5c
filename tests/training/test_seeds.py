"""Several seeds: side by side or mapped together, each computes what it computes alone."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from comarl.training.ondevice import ChunkLog
from comarl.training.seeds import Seeds, finished_episodes
from tests.probes import Lottery, standard_driver


def two_chunks(programs: Seeds) -> dict[int, list[ChunkLog]]:
    """Each seed's logs; its chunks come in order, whichever seed is ahead."""
    logs: dict[int, list[ChunkLog]] = {seed: [] for seed in programs.seeds}
    for seed, chunk, log in programs.run(2):
        assert chunk == len(logs[seed])
        logs[seed].append(log)
    return logs


@pytest.fixture(scope="module")
def side_by_side() -> Any:
    programs = Seeds(standard_driver(Lottery()), [3, 4])
    return programs, two_chunks(programs)


def test_mapped_seeds_are_the_seeds_side_by_side(side_by_side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, logs = side_by_side
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where seeds are mapped
    mapped = Seeds(standard_driver(Lottery()), [3, 4])
    mapped_logs = two_chunks(mapped)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    for seed in (3, 4):
        jax.tree.map(close, mapped.state(seed), programs.state(seed))
        jax.tree.map(close, mapped_logs[seed], logs[seed])
        assert mapped.state(seed).seed == seed
        assert mapped.state(seed).iteration == 6


EIGHT_DEVICES = """
import sys
import jax
import numpy as np
from comarl.training.seeds import Seeds
from tests.probes import Lottery, standard_driver

seeds = [int(word) for word in sys.argv[2:]]
programs = Seeds(standard_driver(Lottery()), seeds)
logs = {(chunk, seed): log for seed, chunk, log in programs.run(2)}
state = programs._states[0]
leaves = jax.tree.leaves(state.learner)
assert all(len(leaf.sharding.device_set) == len(seeds) for leaf in leaves)
assert {shard.data.shape[0] for leaf in leaves for shard in leaf.addressable_shards} == {1}
program = programs._chunk.as_text()
assert not any(word in program for word in ("all-reduce(", "all-gather(", "collective-permute(", "all-to-all("))
whole = [programs.state(seed) for seed in seeds]
np.savez(sys.argv[1], *jax.tree.leaves((whole, [logs[at] for at in sorted(logs)])))
print(jax.local_device_count())
"""


def test_on_eight_devices_as_on_one(side_by_side: Any, tmp_path: Path) -> None:
    """Two seeds among eight devices: two of these have one each, and neither waits for the other."""
    programs, logs = side_by_side
    file = tmp_path / "leaves.npz"
    forced = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES, str(file), "3", "4"],
        env=os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": forced, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8\n"
    with np.load(file) as saved:
        sharded = [saved[name] for name in saved.files]
    alone = jax.tree.leaves(([programs.state(s) for s in (3, 4)], [logs[s][chunk] for chunk in (0, 1) for s in (3, 4)]))
    assert len(sharded) == len(alone)
    for x, y in zip(sharded, alone, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_seeds_differ(side_by_side: Any) -> None:
    programs, logs = side_by_side
    one, other = (jax.tree.leaves(programs.state(seed).learner.online) for seed in (3, 4))
    assert all((a != b).all() for a, b in zip(one, other, strict=True))
    assert (logs[3][0].finished.ended != logs[4][0].finished.ended).any()


def test_finished_episodes_are_those_that_ended(side_by_side: Any) -> None:
    log = side_by_side[1][3][1]
    episodes = finished_episodes(log)
    ended = log.finished.ended  # [iterations, T, B]
    assert set(episodes) == {"returns", "length", "odd", "steps"}
    assert {len(x) for x in episodes.values()} == {ended.sum()}
    order = [tuple(index) for index in np.argwhere(ended)]  # iteration, then time
    np.testing.assert_array_equal(episodes["length"], [log.finished.length[i] for i in order])
    np.testing.assert_array_equal(episodes["returns"], [log.finished.returns[i] for i in order])


def test_an_error_in_a_thread_reaches_the_caller(side_by_side: Any) -> None:
    programs = copy.copy(side_by_side[0])

    def broken(state: Any) -> Any:
        raise RuntimeError("out of memory")

    programs._chunk = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        list(programs.run(1))


def test_breaking_off_stops_the_seeds(side_by_side: Any) -> None:
    """Whoever stops listening need not wait for chunks that nobody wants."""
    programs = copy.copy(side_by_side[0])
    calls: list[int] = []

    def counting(state: Any) -> Any:
        calls.append(1)
        return state, ()

    programs._chunk = counting
    results = programs.run(10**6)
    next(results)
    results.close()
    assert len(calls) < 10**6
