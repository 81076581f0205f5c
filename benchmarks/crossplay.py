"""Teams that were trained apart play each other: the second part of ``make compare``.

``python benchmarks/crossplay.py NAME...`` runs the experiments of those names, all if none is given: it trains each
variant into ``runs/NAME/VARIANT``, lets all teams play each other and writes ``benchmarks/results/NAME.json``, the
picture ``docs/images/NAME.png`` and the tables between the marks in ``docs/comparisons.md``. A training that is
finished with the settings of now is not run again, nor an experiment whose result is there, so the command goes on
where it was stopped.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from compare import PICTURES, RESULTS, ROOT, command, fair, write_section

from comarl.experiments.config import RunConfig, to_json
from comarl.experiments.folder import load_config
from comarl.experiments.scores import short, show_score
from comarl.report.crossplay import draw_cross_play, show_middle, with_means


@dataclasses.dataclass(frozen=True)
class Meeting:
    """Who meets.

    Attributes:
        method: the name of a method.
        env: the name of an environment.
        settings: what all have in common, by flat names; the rest are the method's defaults.
        variants: what each has of its own, by name.
        seeds: seeds of each.
        episodes: of each pair of teams.
    """

    method: str
    env: str
    settings: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    seeds: int = 3
    episodes: int = 512

    def definition(self) -> dict[str, Any]:
        """What determines the result, with the commands that train the teams."""
        own = {name: self.settings | more for name, more in self.variants.items()}
        commands = [command(self.method, self.env, self.seeds, settings) for settings in own.values()]
        return dataclasses.asdict(self) | {"commands": commands}


MEETINGS = {
    # Lowe et al. 2017, §5.4: in predator-prey two sub-policies. Their batch is twice that of a single policy, which
    # has the larger one, too: what an ensemble is worth is what it gains over that.
    "cross-play-tag": Meeting(
        "maddpg",
        "mpe/simple_tag",
        {"steps": 648_960, "length": 26, "eval_every": 64_896},
        {
            "single": {"sub_policies": 1},
            "single-twice": {"sub_policies": 1, "batch_size": 80},
            "ensemble": {"sub_policies": 2},
        },
        seeds=10,
    ),
}


def main(names: list[str]) -> None:
    """Run what is missing."""
    os.chdir(ROOT)  # results name run folders as they are seen from there
    for name in names or MEETINGS:
        meeting = MEETINGS[name]
        path = RESULTS / f"{name}.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if any(known.get(key) != value for key, value in meeting.definition().items()):
            known = meeting.definition() | run(name, meeting)
            path.write_text(json.dumps(known, ensure_ascii=False) + "\n", encoding="utf-8")
        PICTURES.mkdir(exist_ok=True)
        draw_cross_play(known, PICTURES / f"{name}.png")
        write_section(name, section(name, meeting, known))


def run(name: str, meeting: Meeting) -> dict[str, Any]:
    """Train whom there is not yet, and let them meet."""
    from comarl.cli.output import showing_progress
    from comarl.experiments.crossplay import cross_play
    from comarl.experiments.runner import train

    folders = [Path("runs") / name / variant for variant in meeting.variants]
    for folder, more in zip(folders, meeting.variants.values(), strict=True):
        settings = meeting.settings | more | {"seeds": meeting.seeds, "run": folder, "overwrite": True}
        config = fair(meeting.method, meeting.env, settings)
        if not is_trained(config):
            print(f"{folder.name} on {meeting.env}", file=sys.stderr)
            with showing_progress() as progress:
                train(config, progress)
    with showing_progress() as progress:
        return with_means(cross_play(folders, meeting.episodes, progress=progress))


def is_trained(config: RunConfig) -> bool:
    """Whether the run folder holds this very run, finished."""
    return (config.folder / "summary.json").is_file() and to_json(load_config(config.folder)) == to_json(config)


def section(name: str, meeting: Meeting, result: dict[str, Any]) -> list[str]:
    """The picture, the score of each variant on each side, and that of each pair of variants."""
    variants, rows, columns = list(meeting.variants), result["rows"], result["columns"]
    lines = [f"![{short(result['score'])} of each side for every pair of teams](images/{name}.png)", ""]
    lines += ["| team | plays | with those trained with | with all others |", "|---|---|---|---|"]
    for row in result["means"]:
        scores = [show_middle(result, row[kind]) for kind in ("together", "apart")]
        lines.append(f"| {' | '.join([Path(row['run']).name, row['side'], *scores])} |")
    lines += ["", f"| {rows} of | " + " | ".join(f"{columns} of {variant}" for variant in variants) + " |"]
    lines.append("|---" * (len(variants) + 1) + "|")
    for variant in variants:
        met = [pair["scores"] for pair in result["by_run"] if Path(pair["rows"]).name == variant]
        cells = [" / ".join(show_score(result["score"], x) for x in scores) for scores in met]
        lines.append(f"| {' | '.join([variant, *cells])} |")
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
