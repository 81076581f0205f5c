"""Whatever a run's files hold, a command ends with a status and one line, and leaves what it does not understand."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from comarl.execution.manifest import MANIFEST
from comarl.experiments.folder import load_config
from comarl.policies import load_policy
from comarl.training.logging import cut_metrics
from tests.fuzzing.spoiling import ANY, documents, garbled, lines
from tests.fuzzing.verdict import CASES, command, contents, fuzz, refused_or_done, some


def copied(run: Path, to: Path, *without: str) -> Path:
    """A folder's copy, to be spoilt."""
    return Path(shutil.copytree(run, to, ignore=shutil.ignore_patterns(*without)))


READERS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "resume": lambda run: ("resume", run),
    "plot": lambda run: ("plot", run, "--out", run.parent / "curve.nothing"),
    "render": lambda run: ("render", run, "--policy", "nobody"),
    "export": lambda run: ("export", run, "--seed", 2**40),
    "attention": lambda run: ("attention", run),
    "cross-play": lambda run: ("cross-play", run, run.parent / "other"),
}
"""Commands that read a configuration, and end before anything is compiled."""


def test_there_are_ten_thousand_cases() -> None:
    assert sum(CASES.values()) >= 10_000


@some("configurations", 40)
def test_configurations(run: Path, tmp_path: Path, number: int, reading_alone: None) -> None:
    folder = copied(run, tmp_path / "run", "checkpoints", "seed_*")
    other = copied(run, tmp_path / "other", "checkpoints", "seed_*") / "config.json"
    good = json.loads((run / "config.json").read_text())
    other.write_text(json.dumps({**good, "env": "switch/2"}))
    expected = contents(tmp_path)

    def configuration(data: bytes, reader: str) -> None:
        (folder / "config.json").write_bytes(data)
        said = command(*READERS[reader](folder))
        assert reader == "resume" or said.status == 2
        if said.status == 0:  # a finished run, whose curve is drawn
            (folder / "learning_curve.png").unlink(missing_ok=True)
        assert contents(tmp_path) == {**expected, "run/config.json": data}

    fuzz(number, configuration, data=documents(good), reader=st.sampled_from(sorted(READERS)))


@some("metrics", 40)
def test_metrics(run: Path, tmp_path: Path, number: int) -> None:
    folder = copied(run, tmp_path / "run", "checkpoints", "seed_*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    config = load_config(run)
    reached = dict.fromkeys(range(config.seed, config.seed + config.seeds), 72)

    def metrics(data: bytes) -> None:
        (folder / "metrics.jsonl").write_bytes(data)
        expected = contents(tmp_path)
        assert command("plot", folder, "--out", tmp_path / "curve.nothing").status == 2
        assert contents(tmp_path) == expected
        with refused_or_done():
            cut_metrics(folder, reached, dict)
            kept = (folder / "metrics.jsonl").read_bytes()
            assert set(kept.splitlines(keepends=True)) <= set(data.splitlines(keepends=True))
            return
        assert contents(tmp_path) == expected

    fuzz(number, metrics, data=lines(rows))


@some("folders", 6)
def test_folders(run: Path, tmp_path: Path, number: int, reading_alone: None) -> None:
    """Up to three files or folders of a run that was broken off are not what they were."""
    whole = copied(run, tmp_path / "whole", "summary.json")
    names = sorted(
        path.relative_to(whole).as_posix()
        for path in whole.rglob("*")
        if "/seed_" in f"/{path.relative_to(whole)}" or path.is_file()
    )
    spoilt = st.lists(st.tuples(st.sampled_from(names), st.sampled_from(sorted(ANY))), min_size=1, max_size=3)

    def folder(changes: list[tuple[str, str]]) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        broken = copied(whole, tmp_path / "run")
        for name, how in changes:
            if (broken / name).exists() and not (broken / name).is_symlink():
                ANY[how](broken / name)
        before = contents(broken)
        said = command("resume", broken)
        assert said.status == 2
        after = contents(broken)
        if "training would begin" not in said.error:
            assert after == before
            return
        for name, data in before.items():
            if name.startswith(("config.json", "seed_")):
                assert after[name] == data

    fuzz(number, folder, changes=spoilt)


@some("exported teams", 40)
def test_exported_teams(team: Path, tmp_path: Path, number: int) -> None:
    """A manifest that was altered, or a policy for which its manifest vouches."""
    folder = copied(team, tmp_path / "team")
    manifest = json.loads((team / MANIFEST).read_text())
    (name,) = manifest["files"]
    weights = (team / name).read_bytes()

    def exported_team(file: str, data: Any) -> None:
        vouched = {**manifest, "files": {name: {"sha256": hashlib.sha256(data).hexdigest()}}}
        is_manifest = file == "manifest"
        (folder / MANIFEST).write_bytes(data if is_manifest else json.dumps(vouched).encode())
        (folder / name).write_bytes(weights if is_manifest else data)
        before = contents(tmp_path)
        with refused_or_done():
            load_policy(folder)
        assert contents(tmp_path) == before

    spoilt = st.tuples(st.just("manifest"), documents(manifest)) | st.tuples(st.just("weights"), garbled(weights))
    fuzz(number, lambda case: exported_team(*case), case=spoilt)
