"""A run that is broken off goes on bit for bit; what cannot go on says why and loses nothing."""

import dataclasses
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from comarl.errors import ComarlError, Stopped
from comarl.experiments import evaluating, runner
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import RunConfig, to_json, with_settings
from comarl.experiments.folder import load_config, read_json
from comarl.experiments.lock import FolderLock
from comarl.experiments.progress import Silent
from comarl.experiments.reproduce import first_difference, reproduce
from comarl.experiments.saving import Checkpoints
from comarl.training.logging import read_metrics
from comarl.training.ondevice import OnDevice
from tests.probes import SMALL

CHUNK = 72
"""Environment steps between two evaluations."""
CHUNKS = 4


def config(folder: Path, method: str = "qmix", **settings: Any) -> RunConfig:
    """A run on an environment in which everything is random, four chunks, with a checkpoint after each."""
    own = {"env": "tests.probes:Lottery", "run": folder, "steps": CHUNKS * CHUNK, "checkpoint_every": 0.0}
    return with_settings(RunConfig(method=method), SMALL | own | settings)


class Hears(Silent):
    """Remembers what is said, and does something after so many chunks, when their rows are written."""

    def __init__(self, after: int = 0, do: Callable[[], Any] = lambda: None):
        self.said: list[str] = []
        self.begun: dict[int, int] = {}
        self._left, self._do = after, do

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, begun: Mapping[int, int], steps: int, score: str) -> None:
        self.begun = dict(begun)

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        self._left -= 1
        if self._left == 0:
            self._do()


class Crash(Exception):  # noqa: N818 -- it stands for a signal
    """In place of SIGKILL."""


def crash() -> None:
    """Break off, after the rows of a chunk were written and before its checkpoint."""
    raise Crash


class Outcome(NamedTuple):
    """What must be the same.

    Attributes:
        rows: of each seed and kind, in order.
        states: each seed's whole state at the end.
        learners: each seed's finished learner.
        summary: without times.
    """

    rows: dict[Any, list[Any]]
    states: dict[int, Any]
    learners: dict[int, Any]
    summary: dict[str, Any]


def outcome(folder: Path) -> Outcome:
    rows: dict[Any, list[Any]] = {}
    for row in read_metrics(folder):
        rows.setdefault((row.get("seed"), row["kind"]), []).append(row)
    of = dataclasses.replace(load_config(folder), workers=0)
    env = build_env(of)
    found, _ = Checkpoints(folder, of, runner.build_driver(of, env)).restore()
    summary = {k: v for k, v in read_json(folder / "summary.json").items() if not k.endswith("_seconds")}
    return Outcome(rows, {s: x.state for s, x in found.items()}, evaluating.load_states(folder, of, env), summary)


def assert_same(a: Outcome, b: Outcome) -> None:
    assert a.rows == b.rows
    assert a.summary == b.summary
    for x, y in ((a.states, b.states), (a.learners, b.learners)):
        assert jax.tree.structure(x) == jax.tree.structure(y)
        for one, other in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """Runs of one configuration share a driver that is traced once, as that takes most of their time."""
    drivers: dict[str, Any] = {}

    def shared(of: RunConfig, env: Any) -> Any:
        key = json.dumps(to_json(dataclasses.replace(of, seed=0, seeds=1)))
        if key not in drivers:
            drivers[key] = build_driver(of, env)
            if isinstance(drivers[key], OnDevice):
                for name in ("init", "chunk"):
                    object.__setattr__(drivers[key], name, jax.jit(getattr(drivers[key], name)))
        return drivers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "build_driver", shared)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 3 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    runner.train(config(folder, seeds=2, seed=3))
    return folder


@pytest.fixture(scope="module")
def expected(unbroken: Path) -> Outcome:
    return outcome(unbroken)


@pytest.fixture
def again(unbroken: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


def test_the_unbroken_run_is_whole(expected: Outcome) -> None:
    steps = [row["env_steps"] for row in expected.rows[3, "evaluation"]]
    assert steps == [CHUNK * (k + 1) for k in range(CHUNKS)]
    assert {seed: int(x.iteration) for seed, x in expected.states.items()} == {3: 12, 4: 12}
    assert expected.rows[3, "evaluation"] != [{**row, "seed": 3} for row in expected.rows[4, "evaluation"]]


def test_a_signal_and_then_a_crash_change_nothing(tmp_path: Path, expected: Outcome) -> None:
    """The crash comes after the rows of a chunk were written, and before its checkpoint."""
    folder, number = tmp_path / "run", signal.SIGTERM
    before = signal.getsignal(number)
    hears = Hears(1, lambda: os.kill(os.getpid(), number))
    with pytest.raises(
        Stopped, match=rf"^by SIGTERM and saved at environment steps? .* 'comarl resume {folder}'"
    ) as stop:
        runner.train(config(folder, seeds=2, seed=3, checkpoint_every=1e6), hears)
    assert stop.value.status == 143
    assert signal.getsignal(number) is before
    assert len(list(folder.glob("checkpoints/seed_*/*"))) == 2
    assert not (folder / "summary.json").exists()

    with pytest.raises(Crash):
        # Each seed has one chunk left, or more: how far they are ahead when the signal comes is the scheduler's affair.
        runner.resume(folder, Hears(2, crash), checkpoint_every=0.0)
    saved = sum(max(int(path.name) for path in seed.iterdir()) for seed in folder.glob("checkpoints/*"))
    rows = [row for row in read_metrics(folder) if row["kind"] == "evaluation"]
    assert len(rows) == saved // CHUNK + 1
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "evalua')  # which a killed process may leave

    hears = Hears()
    runner.train(config(folder, seeds=2, seed=3, resume=True), hears)
    assert sum(hears.begun.values()) == saved
    assert_same(outcome(folder), expected)


def test_a_run_of_a_python_environment_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Broken off in the middle of episodes; each run starts environments of its own."""
    settings = {"method": "vdn", "env": "tests.envs.python_envs:Diary", "cell": "mlp", "workers": 0}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    runner.train(config(whole, **settings))
    with pytest.raises(Crash):
        runner.train(config(broken, **settings), Hears(3, crash))
    hears = Hears()
    runner.resume(broken, hears, workers=0)
    assert hears.begun == {0: 2 * CHUNK}
    expected = outcome(whole)
    assert_same(outcome(broken), expected)
    assert (expected.states[0].actors.length > 0).any()


def test_time_that_is_up_saves_and_more_steps_are_those_of_a_longer_run(tmp_path: Path, expected: Outcome) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Stopped, match=r"^by --max-time and saved at environment step 72: ") as stop:
        runner.train(config(folder, seeds=2, seed=3, steps=2 * CHUNK, max_time="1s", checkpoint_every=1e6))
    assert stop.value.status == 75
    assert {path.name for path in folder.glob("checkpoints/seed_*/*")} == {"72"}
    runner.resume(folder, steps=CHUNKS * CHUNK)
    assert_same(outcome(folder), expected)
    assert load_config(folder).steps == CHUNKS * CHUNK


def test_a_finished_run_says_so(again: Path) -> None:
    before = {path: path.read_bytes() for path in again.rglob("*") if path.is_file()}
    hears = Hears()
    run = runner.resume(again, hears)
    assert hears.said == [f"{again} has finished, nothing is left to do (more --steps go on from its end)"]
    assert run.summary == read_json(again / "summary.json")
    assert {path: path.read_bytes() for path in again.rglob("*") if path.is_file()} == before


def test_the_best_checkpoint_is_played_without_an_end(again: Path, expected: Outcome) -> None:
    (again / "summary.json").unlink()
    for path in again.glob("seed_*"):
        shutil.rmtree(path)
    scores = {
        seed: max(np.mean(np.asarray(row["returns"], np.float32).mean(-1)) for row in expected.rows[seed, "evaluation"])
        for seed in (3, 4)
    }
    played = evaluating.evaluate(again, SMALL["eval_episodes"], best=True)
    assert played["return"]["per_seed"] == [round(float(scores[seed]), 4) for seed in (3, 4)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"lr_decay": 0.5}, "lr_decay=0.5 spreads over all steps"),
        ({"replay": "prioritised"}, "priority_beta=0.4 grows over all steps"),
        ({"eval_every": 300}, "its 288 steps are a single chunk"),
    ],
)
def test_more_steps_are_refused_where_they_change_the_ones_before(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        runner.train(config(folder, **settings), _CrashEarly())
    with pytest.raises(ComarlError, match=f"cannot go on to 1000 steps as if it had been asked for them: {reason}"):
        runner.resume(folder, steps=1000)
    assert load_config(folder).steps == CHUNKS * CHUNK


class _CrashEarly(Hears):
    def say(self, text: str) -> None:
        raise Crash


def test_another_configuration_is_refused_field_by_field(again: Path) -> None:
    line = r"holds another configuration \(seeds 2 there and 1 here, lr 0.0005 there and 0.25 here\)"
    with pytest.raises(ComarlError, match=line):
        runner.train(config(again, seed=3, lr=0.25, resume=True))
    with pytest.raises(ComarlError, match=r"steps 288 there and 72 here"):
        runner.resume(again, steps=CHUNK)
    assert (again / "summary.json").exists()


def test_a_torn_checkpoint_falls_back_to_the_one_before(again: Path, expected: Outcome) -> None:
    """And the other seed, which was killed at its very end, has only that to do again."""
    (again / "summary.json").unlink()
    shutil.rmtree(again / "seed_4")
    torn = again / "checkpoints" / "seed_3" / str(CHUNKS * CHUNK)
    (torn / "manifest.ocdbt").unlink()
    hears = Hears()
    runner.resume(again, hears)
    assert hears.begun == {3: 3 * CHUNK, 4: 4 * CHUNK}
    assert hears.said[0].startswith(f"{torn} cannot be used: ")
    assert hears.said[1] == f"seed 3: going on from the one before, of environment step {3 * CHUNK}"
    assert_same(outcome(again), expected)


def test_a_checkpoint_of_another_run_is_refused(again: Path, tmp_path: Path) -> None:
    (again / "summary.json").unlink()
    series = again / "checkpoints"
    shutil.rmtree(series / "seed_4")
    shutil.copytree(series / "seed_3", series / "seed_4")
    with pytest.raises(ComarlError, match=r"seed_4/288 is of seed 3 at environment step 288"):
        runner.resume(again)


def test_metrics_that_lack_rows_are_refused(again: Path) -> None:
    (again / "summary.json").unlink()
    lines = (again / "metrics.jsonl").read_text().splitlines(keepends=True)
    (again / "metrics.jsonl").write_text("".join(lines[3:]))
    with pytest.raises(ComarlError, match=r"metrics\.jsonl does not hold each evaluation of seed \d until"):
        runner.resume(again)


def test_two_processes_do_not_write_one_folder(again: Path) -> None:
    with FolderLock(again), pytest.raises(ComarlError, match=rf"is being written by process {os.getpid()} on "):
        runner.resume(again)


def test_a_folder_that_vanishes_stops_the_run_and_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    hears = Hears(1, lambda: folder.rename(tmp_path / "elsewhere"))
    with pytest.raises(ComarlError, match="has vanished or been replaced while it was being written"):
        runner.train(config(folder, checkpoint_every=1e6), hears)
    assert not folder.exists()


def test_a_full_disk_stops_the_run_which_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """No file may grow any more, which the system says as it says that the disk is full."""
    folder = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # noqa: E731
    try:
        with pytest.raises(ComarlError, match=r"cannot write .*: File too large"):
            runner.train(config(folder), Hears(3, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    hears = Hears()
    runner.resume(folder, hears)
    assert hears.begun[0] in (CHUNK, 2 * CHUNK)
    assert [row["env_steps"] for row in read_metrics(folder) if row["kind"] == "evaluation"] == [72, 144, 216, 288]


def test_a_run_comes_out_again_and_a_difference_is_named(again: Path) -> None:
    folder, beside = again, again.with_name("run-again")
    assert reproduce(folder) == {
        "run": str(folder),
        "again": str(beside),
        "equal": True,
        "difference": None,
        "versions": [],
    }
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    number, row = next((i, row) for i, row in enumerate(map(json.loads, lines)) if row["kind"] == "train")
    changed = json.dumps({**row, "loss": row["loss"] + 1e-7}) + "\n"
    where = f"train of seed {row['seed']}"
    (folder / "metrics.jsonl").write_text("".join([*lines[:number], changed, *lines[number + 1 :]]))
    assert first_difference(folder, beside) == f"{where} at environment step 72: loss is not the same"
    (folder / "metrics.jsonl").write_text("".join([*lines, changed]))
    assert first_difference(folder, beside) == f"{where}: 5 rows in {folder} and 4 in {beside}"
