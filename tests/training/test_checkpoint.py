"""States on disk."""

import asyncio
import gc
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.errors import ComarlError
from comarl.training import checkpoint
from comarl.training.checkpoint import Saved, Series


class State(NamedTuple):
    """Of all the kinds that a run's state has."""

    weights: Any
    count: Any
    flags: Any
    nothing: Any


def state(number: float = 1.5) -> State:
    return State({"w": jnp.full((2, 3), number), "b": (jnp.zeros(2),)}, jnp.asarray(7), jnp.array([True, False]), ())


def shapes(of: State) -> State:
    return jax.eval_shape(lambda: of)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "seed_0", state())
    loaded = checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert jax.tree.structure(loaded) == jax.tree.structure(state())
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(state()), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_saving_again_replaces(tmp_path: Path) -> None:
    for number in (1.0, 2.0):
        checkpoint.save(tmp_path / "seed_0", state(number))
    assert (checkpoint.load(tmp_path / "seed_0", shapes(state())).weights["w"] == 2).all()


def test_nothing_saved_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ComarlError, match="no saved state in") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert "\n" not in str(error.value)


WIDER = state()._replace(weights={"w": jnp.zeros((2, 4)), "b": (jnp.zeros(2),)})
WHOLE = state()._replace(weights={"w": jnp.zeros((2, 3), int), "b": (jnp.zeros(2),)})
FEWER = state()._replace(weights={"w": jnp.zeros((2, 3))})
RENAMED = state()._replace(weights={"v": jnp.zeros((2, 3)), "b": (jnp.zeros(2),)})


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (WIDER, r"weights\.w has the shape \(2, 3\) there and \(2, 4\) here"),
        (WHOLE, r"weights\.w is of float32 there and of int32 here"),
        (RENAMED, r"weights\.v is here and not there"),
        (FEWER, r"weights\.b\.0 is there and not here"),
    ],
    ids=["another shape", "another type", "another name", "fewer arrays"],
)
def test_a_state_of_something_else_is_one_line(tmp_path: Path, other: State, what: str) -> None:
    """And nothing else: Python must not complain later, which is an error in these tests."""
    checkpoint.save(tmp_path / "seed_0", state())
    with pytest.raises(ComarlError, match=f"does not fit this configuration: .*{what}") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(other))
    assert "\n" not in str(error.value)
    del error
    gc.collect()


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "seed_0").mkdir()
    with pytest.raises(ComarlError, match="no saved state in") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert "\n" not in str(error.value)


def test_an_incomplete_state_is_one_line(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "seed_0", state())
    (tmp_path / "seed_0" / "manifest.ocdbt").unlink()
    with pytest.raises(ComarlError, match="does not fit this configuration") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert "\n" not in str(error.value)


# A series of checkpoints.


def moving(step: int) -> State:
    """A state that tells steps apart, with a random key."""
    return state(float(step))._replace(nothing={"key": jax.random.key(step)})


def write(folder: Path, scores: dict[int, float], keep: int = 2) -> None:
    """Checkpoints of those steps with those scores."""
    series = Series(folder, keep)
    for step, score in scores.items():
        series.save(step, moving(step), score, {"of": step})
    series.close()


def written(series: Series, step: int) -> None:
    """One checkpoint, until it is on the disk."""
    series.save(step, moving(step), 0.0, {"of": step})
    series.wait()


def assert_is(saved: Saved | None, step: int) -> None:
    assert saved is not None
    assert (saved.step, saved.notes) == (step, {"of": step})
    assert checkpoint.digest(checkpoint._plain(saved.state)) == checkpoint.digest(checkpoint._plain(moving(step)))
    assert saved.state.nothing["key"].dtype == jax.random.key(0).dtype


def test_the_latest_and_the_best_are_kept(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.5, 20: 0.9, 30: 0.9, 40: float("nan"), 50: 0.1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "40", "50"]
    series = Series(tmp_path, 1)
    saved, problems = series.restore(shapes(moving(0)))
    assert problems == []
    assert_is(saved, 50)
    series.save(60, moving(60), 0.3, {"of": 60})
    series.close()
    assert series.steps() == [20, 60]  # the scores from before are remembered


def test_the_best_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.5, 20: 0.9, 30: 0.9, 40: float("nan"), 50: 0.1})
    (tmp_path / "60.orbax-checkpoint-tmp").mkdir()  # somebody is writing
    assert_is(Series(tmp_path, 2).best(shapes(moving(0))), 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "40", "50", "60.orbax-checkpoint-tmp"]
    spoil(tmp_path / "20" / "manifest.ocdbt", "torn")
    with pytest.raises(ComarlError, match="20 cannot be used"):
        Series(tmp_path, 2).best(shapes(moving(0)))


def test_without_a_score_there_is_no_best(tmp_path: Path) -> None:
    write(tmp_path, {10: float("nan")})
    with pytest.raises(ComarlError, match=r"no checkpoint in .* has a score"):
        Series(tmp_path, 2).best(shapes(moving(0)))


def test_whoever_only_reads_removes_nothing(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.9, 20: 0.1, 30: 0.2})
    Series(tmp_path, 1).close()
    assert Series(tmp_path, 1).steps() == [10, 20, 30]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert Series(tmp_path / "none", 2).restore(shapes(moving(0))) == (None, [])


def test_what_a_killed_process_left_half_done_is_cleared_away(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.0})
    for name in ("20.orbax-checkpoint-tmp", "5.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    saved, problems = Series(tmp_path, 2).restore(shapes(moving(0)))
    assert_is(saved, 10)
    assert problems == []
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


def spoil(path: Path, how: str) -> None:
    """Damage one file."""
    raw = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "torn":
        path.write_bytes(raw[: len(raw) // 2])
    else:
        raw[len(raw) // 2] ^= 0xFF
        path.write_bytes(raw)


@pytest.mark.parametrize("how", ["gone", "torn", "altered"])
def test_whatever_file_is_damaged_the_state_is_right(tmp_path: Path, how: str) -> None:
    """Either the damage does not matter, or the checkpoint before is taken and the damage is named."""
    write(tmp_path / "good", {10: 0.0, 20: 0.0})
    files = sorted(path for path in (tmp_path / "good" / "20").rglob("*") if path.is_file())
    fell_back = 0
    for file in files:
        folder = Path(shutil.copytree(tmp_path / "good", tmp_path / "bad"))
        spoil(folder / file.relative_to(tmp_path / "good"), how)
        saved, problems = Series(folder, 2).restore(shapes(moving(0)))
        assert_is(saved, 10 if problems else 20)
        if problems:
            (problem,) = problems
            assert problem.startswith(f"{folder / '20'} cannot be used: ")
            assert "\n" not in problem
            assert [path.name for path in folder.iterdir()] == ["10"]
            fell_back += 1
        shutil.rmtree(folder)
    assert fell_back >= 3


def test_nothing_is_read_in_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax reads all arrays in one: of a damaged one it gives up, and the others complain that the loop is closed."""
    write(tmp_path, {10: 0.0, 20: 0.0})
    series = Series(tmp_path, 2)

    def run(coroutine: Coroutine[Any, Any, Any]) -> None:
        coroutine.close()
        pytest.fail("an event loop")

    monkeypatch.setattr(asyncio, "run", run)
    saved, problems = series.restore(shapes(moving(0)))
    assert_is(saved, 20)
    assert problems == []


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "link"])
@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt"])
def test_what_is_no_plain_file_is_not_read(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """It would have no end."""
    write(tmp_path, {10: 0.0, 20: 0.0})
    (tmp_path / "20" / name).unlink()
    make(tmp_path / "20" / name)
    saved, problems = Series(tmp_path, 2).restore(shapes(moving(0)))
    assert_is(saved, 10)
    assert problems == [f"{tmp_path / '20'} cannot be used: {name} is no plain file"]


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.touch, lambda path: path.symlink_to(".")], ids=["pipe", "file", "link"]
)
def test_what_is_no_folder_is_no_checkpoint(tmp_path: Path, make: Callable[[Path], None]) -> None:
    write(tmp_path, {10: 0.0})
    make(tmp_path / "20")
    saved, problems = Series(tmp_path, 2).restore(shapes(moving(0)))
    assert_is(saved, 10)
    assert len(problems) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


def test_what_others_keep_beside_the_checkpoints_stays(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.0})
    others = ["010", "10.good", "notes", "٢٠"]
    for name in others:
        shutil.copytree(tmp_path / "10", tmp_path / name)
    series = Series(tmp_path, 1)
    assert series.steps() == [10]
    series.restore(shapes(moving(0)))
    written(series, 20)
    series.close()
    assert {path.name for path in tmp_path.iterdir()} == {"10", "20", *others}  # 10 is as good as 20


def test_whoever_has_nothing_to_write_does_not_wait_for_orbax(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import comarl.experiments.runner; "
        "from comarl.training.checkpoint import Series; series = Series(Path(sys.argv[1]), 1); "
        "assert series.restore(None) == (None, []); series.wait(); series.close(); assert 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_arrays_that_were_altered_are_found_out(tmp_path: Path) -> None:
    """Orbax would read them without a word."""
    write(tmp_path, {10: 0.0, 20: 0.0})
    about = Series(tmp_path, 2)._about(20)
    with checkpoint._checkpointer() as orbax:
        orbax.save((tmp_path / "20").absolute(), checkpoint._plain(moving(21)), force=True, custom_metadata=about)
    saved, problems = Series(tmp_path, 2).restore(shapes(moving(0)))
    assert_is(saved, 10)
    assert problems == [f"{tmp_path / '20'} cannot be used: its arrays are not those that were saved (SHA-256)"]


def test_if_none_can_be_used_nothing_is_removed(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.0, 20: 0.0})
    with pytest.raises(ComarlError, match=r"^no checkpoint can be used, train anew with --overwrite: .*/20 .*/10 "):
        Series(tmp_path, 2).restore(shapes(moving(0)._replace(weights=WIDER.weights)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "20"]


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {10: 0.0})
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT", 2)
        series = Series(tmp_path, 2)
        series.save(20, moving(20), 0.0, {})
        series.close()
    with pytest.raises(
        ComarlError, match=r"20 was written by a newer version of comarl \(format 2, and this one reads 1"
    ):
        Series(tmp_path, 2).restore(shapes(moving(0)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "20"]


def test_a_disk_that_is_full_is_one_line_and_the_one_before_stays(tmp_path: Path) -> None:
    series = Series(tmp_path, 2)
    written(series, 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        # What is logged would go to a file of pytest's, which may not grow either.
        full = rf"^cannot write a checkpoint into {tmp_path}: File too large$"
        with checkpoint.quiet(), pytest.raises(ComarlError, match=full):
            written(series, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    saved, problems = Series(tmp_path, 2).restore(shapes(moving(0)))
    assert_is(saved, 10)
    assert problems == []
