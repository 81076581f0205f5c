"""The run folder: whose it is, and that nothing in it is lost unasked."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comarl.errors import ComarlError
from comarl.experiments.checks import check
from comarl.experiments.config import GROUPS, RunConfig, to_json, with_settings
from comarl.experiments.folder import claim_folder, load_config, read_json, write_json, written


def config(folder: Path, **settings: Any) -> RunConfig:
    """A configuration that writes there."""
    return with_settings(RunConfig(), {"run": folder, **settings})


def test_configuration_survives(tmp_path: Path) -> None:
    folder = claim_folder(config(tmp_path / "a" / "b", lr=0.125, cell="lstm", seeds=3))
    again = load_config(folder)
    assert to_json(again) == to_json(config(folder, lr=0.125, cell="lstm", seeds=3))
    assert (again.learner.lr, again.agent.cell, again.seeds) == (0.125, "lstm", 3)


def test_a_run_older_than_a_group_of_settings_has_its_defaults(tmp_path: Path) -> None:
    data = to_json(config(tmp_path, lr=0.125))
    del data["policy"]
    write_json(tmp_path / "config.json", data)
    assert to_json(load_config(tmp_path)) == to_json(config(tmp_path, lr=0.125))


def test_another_configuration_is_named_by_what_differs(tmp_path: Path) -> None:
    claim_folder(config(tmp_path, lr=0.125, seeds=3))
    with pytest.raises(ComarlError, match=r"another configuration \(seeds 3 there and 1 here, lr 0.125 there and 0.5"):
        claim_folder(config(tmp_path, lr=0.5))
    assert load_config(tmp_path).learner.lr == 0.125


def test_the_same_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    claim_folder(config(tmp_path))
    with pytest.raises(ComarlError, match=r"holds this very run: .* --overwrite"):
        claim_folder(config(tmp_path))


def test_where_and_how_it_is_written_makes_no_other_run(tmp_path: Path) -> None:
    claim_folder(config(tmp_path))
    with pytest.raises(ComarlError, match="this very run"):
        claim_folder(config(tmp_path, tensorboard=True))


def test_overwriting_removes_the_old_run_and_nothing_else(tmp_path: Path) -> None:
    claim_folder(config(tmp_path, lr=0.125))
    for name in ("metrics.jsonl", "summary.json", "learning_curve.png", "mine.txt"):
        (tmp_path / name).write_text("")
    for name in ("seed_0", "seed_1", "tensorboard", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    claim_folder(config(tmp_path, lr=0.5, overwrite=True))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "mine.txt", "mine"}
    assert load_config(tmp_path).learner.lr == 0.5


def test_written_names_what_is_there(tmp_path: Path) -> None:
    claim_folder(config(tmp_path))
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "seed_1").mkdir()
    (tmp_path / "mine.txt").write_text("")
    assert [path.name for path in written(tmp_path)] == ["config.json", "metrics.jsonl", "seed_1"]


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/run"])
def test_unwritable(folder: str) -> None:
    with pytest.raises(ComarlError, match=rf"cannot write the run folder {folder}: .* \(choose another with --run\)"):
        claim_folder(config(Path(folder)))


def test_json_has_no_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"x": float("nan")})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_whatever_stands_in_a_configuration_is_read_or_refused(data: st.DataObject) -> None:
    """And never anything but the one line."""
    spoilt = to_json(RunConfig())
    where = spoilt[data.draw(st.sampled_from(list(GROUPS)))] if data.draw(st.booleans()) else spoilt
    where[data.draw(st.sampled_from([*where, "run", "x"]))] = data.draw(JSON)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(spoilt))
        with contextlib.suppress(ComarlError):
            check(load_config(Path(folder)))


def test_json_is_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"ε": 1})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"ε": 1}


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """It would have no end."""
    os.mkfifo(tmp_path / "provenance.json")
    with pytest.raises(ComarlError, match=r"provenance\.json is no plain file"):
        read_json(tmp_path / "provenance.json")


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_json(tmp_path / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["provenance.json", "metrics.jsonl"])
@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.symlink_to(path)], ids=["folder", "link"])
def test_a_run_that_could_not_write_does_not_go_on(name: str, spoil: Callable[[Path], None], tmp_path: Path) -> None:
    """Found by fuzzing: its metrics had been cut before."""
    claim_folder(config(tmp_path))
    spoil(tmp_path / name)
    with pytest.raises(ComarlError, match=f"{name} is no plain file"):
        claim_folder(config(tmp_path, resume=True))
