"""Several seeds: side by side or mapped together, each computes what it computes alone."""

import copy
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.training import seeds
from comarl.training.haste import compile_quickly
from comarl.training.ondevice import ChunkLog, OnDevice, RunState
from comarl.training.seeds import Chunk, Seeds, Then, finished_episodes
from tests.probes import Lottery, standard_driver


def from_the_beginning(programs: Seeds) -> Seeds:
    """With the same program, and nothing done."""
    anew = copy.copy(programs)
    anew.done = dict.fromkeys(programs.seeds, 0)
    return anew


def two_chunks(programs: Seeds) -> dict[int, list[ChunkLog]]:
    """Each seed's logs; its chunks come in order, whichever seed is ahead."""
    logs: dict[int, list[ChunkLog]] = {seed: [] for seed in programs.seeds}
    for chunk in programs.run(2):
        assert chunk.number == len(logs[chunk.seed])
        assert chunk.snapshot is None
        logs[chunk.seed].append(chunk.log)
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


def test_training_does_not_wait_for_the_evaluation_to_be_compiled(
    side_by_side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for the error of one that cannot be, which whoever takes the logs meets."""
    compiled, trained = [], threading.Event()

    def compile_late(lowered: Any) -> Any:
        if compiled:  # the first state's has been
            assert trained.wait(60)
        compiled.append(compile_quickly(lowered))
        return compiled[-1]

    monkeypatch.setattr(seeds, "compile_quickly", compile_late)
    programs = Seeds(standard_driver(Lottery()), [3])
    train = programs._train

    def and_tell(state: Any) -> Any:
        trained.set()
        return train(state)

    programs._train = cast(Any, and_tell)
    log = next(programs.run(1)).log
    assert len(compiled) == 2
    jax.tree.map(np.testing.assert_array_equal, log.evaluation, side_by_side[1][3][0].evaluation)

    def refuse(self: OnDevice, run: RunState) -> Any:
        raise ArithmeticError("no evaluation")

    monkeypatch.setattr(OnDevice, "evaluate", refuse)
    with pytest.raises(ArithmeticError, match="no evaluation"):
        next(Seeds(standard_driver(Lottery()), [3]).run(1))


ON_DEVICES = """
import math
import re
import sys
import jax
import numpy as np
from comarl.training.copies import Copies
from comarl.training.seeds import Seeds
from tests.probes import Lottery, standard_driver

seeds = [int(word) for word in sys.argv[2:]]
driver = standard_driver(Lottery())
first = Seeds(driver, seeds)
chunks = list(first.run(1))
programs = Seeds(driver, seeds, {seed: Copies().of(first.state(seed)) for seed in seeds})
chunks += programs.run(2)
devices = jax.local_device_count()
state, each = programs._states[0], devices // len(seeds)
leaves = jax.tree.leaves(state.learner)
assert all(len(leaf.sharding.device_set) == devices for leaf in leaves)
assert {shard.data.shape[0] for leaf in leaves for shard in leaf.addressable_shards} == {1}
for parts in (state.actors.ts.obs, state.memory.data.ts.obs):
    assert {shard.data.size for shard in parts.addressable_shards} == {parts.size // devices}
told = r"= (.*) (?:all-reduce|all-gather|collective-permute|all-to-all)(?:-start)?\\("
said = re.findall(told, programs._train.as_text())
sizes = [math.prod(map(int, shape.split(","))) for line in said for shape in re.findall(r"\\[([0-9,]+)\\]", line)]
# Seeds have nothing to say to each other; the devices of one seed meet once in an update, over a vector of the gradient
# and the metrics, and read their own sequences from their own part of the replay.
learned = sum(leaf.size for leaf in jax.tree.leaves(state.learner.online)) // len(seeds)
assert len(sizes) == (each > 1)
assert all(learned < size < learned + 20 for size in sizes)
logs = {(chunk.number, chunk.seed): chunk.log for chunk in chunks}
whole = [programs.state(seed) for seed in seeds]
np.savez(sys.argv[1], *jax.tree.leaves((whole, [logs[at] for at in sorted(logs)])))
print(devices)
"""


@pytest.mark.parametrize("devices", [8, pytest.param(2, marks=pytest.mark.paper)])
def test_on_several_devices_as_on_one(devices: int, side_by_side: Any, tmp_path: Path) -> None:
    """Two seeds, each with as many devices for its environments; broken off and gone on with."""
    programs, logs = side_by_side
    file = tmp_path / "leaves.npz"
    forced = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(file), "3", "4"],
        env=os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": forced, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{devices}\n"
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
    programs = from_the_beginning(side_by_side[0])

    def broken(state: Any) -> Any:
        raise RuntimeError("out of memory")

    programs._chunk = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        list(programs.run(1))


def test_breaking_off_stops_the_seeds(side_by_side: Any) -> None:
    """Whoever stops listening need not wait for chunks that nobody wants."""
    programs = from_the_beginning(side_by_side[0])
    calls: list[int] = []

    def counting(state: Any) -> Any:
        calls.append(1)
        return state, ()

    programs._chunk = counting
    results = programs.run(10**6)
    next(results)
    results.close()
    assert len(calls) < 10**6


# Snapshots, stopping, and going on.


def asked(programs: Seeds, chunks: int, then: dict[tuple[int, int], Then]) -> list[Chunk]:
    """The chunks of a run in which seed and number decide."""
    return list(programs.run(chunks, lambda seed, number: then.get((seed, number), Then.GO_ON)))


@pytest.fixture(scope="module", params=["side by side", "mapped"])
def broken_off(request: pytest.FixtureRequest) -> Any:
    """Two seeds of which one is told to stop after its first chunk; and the driver."""
    driver = standard_driver(Lottery())
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "mapped":
            patch.setattr(jax, "default_backend", lambda: "gpu")
        programs = Seeds(driver, [3, 4])
        chunks = asked(programs, 2, {(3, 0): Then.STOP, (4, 0): Then.SNAPSHOT})
        last = {chunk.seed: chunk for chunk in chunks}
        begin = {seed: jax.tree.map(jnp.array, chunk.snapshot) for seed, chunk in last.items() if chunk.snapshot}
        return request.param, programs, chunks, Seeds(driver, [3, 4], begin)


def test_a_seed_stops_when_it_is_told_to(broken_off: Any) -> None:
    how, programs, chunks, _ = broken_off
    done = {(chunk.seed, chunk.number): chunk.snapshot is not None for chunk in chunks}
    # Mapped seeds stop together.
    assert done == {(3, 0): True, (4, 0): True} | ({(4, 1): False} if how == "side by side" else {})
    assert programs.done == {3: 1, 4: 2 if how == "side by side" else 1}


def test_a_snapshot_is_the_state_of_its_moment_and_not_of_a_later_one(broken_off: Any) -> None:
    _, _, chunks, _ = broken_off
    assert [int(chunk.snapshot.iteration) for chunk in chunks if chunk.snapshot] == [3, 3]


def test_going_on_from_a_snapshot_is_going_on(broken_off: Any, side_by_side: Any) -> None:
    how, _, _, resumed = broken_off
    if how == "side by side":
        assert resumed.done == {3: 1, 4: 0}  # seed 4 had no snapshot at its end
    rest = list(resumed.run(2))
    assert {(chunk.seed, chunk.number) for chunk in rest} >= {(3, 1), (4, 1)}
    whole, logs = side_by_side
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    same = np.testing.assert_array_equal if how == "side by side" else close
    for seed in (3, 4):
        jax.tree.map(same, resumed.state(seed), whole.state(seed))
    jax.tree.map(same, next(chunk.log for chunk in rest if (chunk.seed, chunk.number) == (3, 1)), logs[3][1])
