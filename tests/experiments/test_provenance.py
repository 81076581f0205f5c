"""Where a run comes from, and whether it comes out again."""

import json
import os
import subprocess
from pathlib import Path

import jax
import pytest

import comarl
from comarl.errors import ComarlError
from comarl.experiments import provenance
from comarl.experiments.config import RunConfig
from comarl.experiments.reproduce import reproduce

CONFIG = RunConfig()


def sessions(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "provenance.json").read_text())["sessions"]


def test_a_session_says_what_was_run_by_what_and_where(tmp_path: Path) -> None:
    provenance.note_session(tmp_path, CONFIG, {0: 0})
    (session,) = sessions(tmp_path)
    assert session["seeds"] == [0]
    assert session["versions"] == provenance.versions()
    assert provenance.versions()["jax"] == jax.__version__
    assert provenance.versions()["comarl"] == comarl.__version__
    assert session["hardware"]["cores"] == os.cpu_count()  # type: ignore[index]
    assert {"started", "command", "folder", "git", "environment"} <= session.keys()


def test_going_on_adds_a_session_and_beginning_anew_does_not(tmp_path: Path) -> None:
    provenance.note_session(tmp_path, CONFIG, {0: 0})
    provenance.note_session(tmp_path, CONFIG, {0: 96})
    assert [session["from_env_steps"] for session in sessions(tmp_path)] == [{"0": 0}, {"0": 96}]
    provenance.note_session(tmp_path, CONFIG, {0: 0})
    assert len(sessions(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "[", "[]", '{"sessions": 3}'])
def test_a_spoilt_file_does_not_stop_a_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text)
    provenance.note_session(tmp_path, CONFIG, {0: 96})
    assert len(sessions(tmp_path)) == 1


def test_the_commit_and_what_was_changed_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True, env={**os.environ, **who})

    git("init")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-m", "x")
    (tmp_path / "a.py").write_text("2")
    monkeypatch.setattr(comarl, "__file__", str(tmp_path / "__init__.py"))
    state = provenance.git_state()
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["changed"] == ["a.py"]


def test_the_hash_of_the_sources_knows_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comarl, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "a.py").write_text("1")
    before = provenance.source_hash()
    assert provenance.source_hash() == before
    (tmp_path / "a.py").write_text("2")
    assert provenance.source_hash() != before


def test_what_has_not_finished_cannot_be_compared(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"agent": {}, "mixer": {}, "learner": {}}')
    with pytest.raises(ComarlError, match="has not finished: there is nothing to compare with"):
        reproduce(tmp_path)
