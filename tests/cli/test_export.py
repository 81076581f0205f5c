"""``comarl export``, and the Python function of that name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import comarl
from tests.cli.conftest import RunCli, Trained, error_line
from tests.cli.test_docs import check

SEES = np.eye(3, dtype=np.float32)
"""What probe/delayed shows each agent, by time."""


def episode(team: "comarl.TeamPolicy | comarl.ExportedTeam") -> list[list[int]]:
    team.reset()
    return [team.act(np.stack([SEES[t]] * 2)).tolist() for t in range(3)]


def test_an_exported_run_acts_as_the_run_does(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "team"
    status, printed, said = run_cli("export", trained.folder, "--format", "jax", "--seed", 6, "--out", out, "--json")
    assert status == 0
    result = json.loads(printed)
    check("export", result)
    assert (result["method"], result["env"], result["seed"]) == ("qmix", "tests.probes:Delayed", 6)
    assert [row["agents"] for row in result["files"]] == [[0], [1]]
    assert [row["bytes"] for row in result["files"]] == [(out / f"agent_{i}.stablehlo").stat().st_size for i in (0, 1)]
    assert f"wrote {out / 'manifest.json'}" in said
    assert episode(comarl.load_policy(out)) == episode(comarl.load_policy(trained.folder, seed=6))


def test_the_table(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    status, out, _ = run_cli("export", folder, "--format", "safetensors")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    made = folder / "exported" / "safetensors-seed-5"
    assert lines[0] == "qmix on tests.probes:Delayed, seed 5: greedy policies as safetensors"
    assert "team.safetensors 0, 1 " in "\n".join(lines)
    assert lines[-3:] == [
        "each takes memory float32[B, 4], last_action float32[B, 2], observation float32[B, 3], mask bool[B, 2]",
        "gives next_memory float32[B, 4], next_last_action float32[B, 2], action int32[B], values float32[B, 2]",
        f"wrote {made / 'manifest.json'}",
    ]


def test_export_from_python(trained: Trained, tmp_path: Path) -> None:
    folder = comarl.export(trained.folder, "safetensors", seed=6, out=tmp_path / "team")
    assert folder == tmp_path / "team"
    assert episode(comarl.load_policy(folder)) == episode(comarl.load_policy(str(trained.folder), 6))


def test_a_seed_that_the_run_has_not(run_cli: RunCli, trained: Trained) -> None:
    assert error_line(run_cli("export", trained.folder, "--seed", 9)).endswith("has the seeds 5, 6, not 9")


def test_a_team_that_does_not_act_apart(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    config = json.loads((trained.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"method": "joint"}))
    line = error_line(run_cli("export", tmp_path))
    assert line == "'joint' chooses one joint action from all observations: it has no agents that act apart"
    with pytest.raises(comarl.ComarlError, match="no agents that act apart"):
        comarl.export(tmp_path)


def test_a_folder_in_use(run_cli: RunCli, trained: Trained) -> None:
    line = error_line(run_cli("export", trained.folder, "--format", "safetensors", "--out", trained.folder))
    assert line.endswith("which is not an exported team's: choose another with --out")


def test_an_unknown_format(run_cli: RunCli, trained: Trained) -> None:
    assert "--format" in error_line(run_cli("export", trained.folder, "--format", "pickle"))


def test_one_game_at_a_time_for_a_run(trained: Trained) -> None:
    team = comarl.load_policy(trained.folder)
    with pytest.raises(comarl.ComarlError, match="plays one game at a time"):
        team.act(np.zeros((4, 2, 3)))
