"""Learning results of every preset, and the README's table of them: ``make results``.

Runs ``comarl train METHOD --env ENV --seeds N`` for each combat, particle and foraging preset, one after the other. A
run that is finished in ``runs/results`` is not run again, so that the command goes on where it was stopped. Writes
``benchmarks/results/learning.json`` and the table between the marks in ``README.md``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from comarl.experiments.presets import PRESETS, resolve
from comarl.experiments.scores import short, show_score
from comarl.report.curves import summarise

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "learning.json"
BEGIN, END = "<!-- results: made by 'make results' -->", "<!-- end of results -->"
SEEDS = 3
FAMILIES = ("smax", "mpe", "lbf")


def main() -> None:
    """Run what is missing, then write the JSON and the table."""
    from comarl import train
    from comarl.cli.output import showing_progress

    rows: list[dict[str, Any]] = []
    for method, env, learner in PRESETS:
        if env.split("/")[0] not in FAMILIES:
            continue
        folder = ROOT / "runs" / "results" / resolve(method, env, {"learner": learner}).folder.name
        if not (folder / "summary.json").is_file():
            print(f"{method} on {env}", file=sys.stderr)
            with showing_progress() as progress:
                train(method, env=env, learner=learner, seeds=SEEDS, run=folder, overwrite=True, progress=progress)
        rows.append(row(json.loads((folder / "summary.json").read_text(encoding="utf-8"))))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_table(rows)
    print(f"wrote {RESULTS.relative_to(ROOT)} and the table in README.md")


def row(summary: dict[str, Any]) -> dict[str, Any]:
    """One result with the interquartile mean over seeds and its 95% bootstrap interval."""
    per_seed = np.array((summary.get("win_rate") or summary["return"])["per_seed"])
    middle, low, high, kind = summarise(per_seed[:, None])
    learner = f" --learner {summary['learner']}" if summary.get("learner", "replay") != "replay" else ""
    command = f"comarl train {summary['method']} --env {summary['env']}{learner} --seeds {len(per_seed)}"
    return summary | {
        "middle": round(float(middle[0]), 4),
        "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "kind": kind,
        "command": command,
    }


def _with(row: dict[str, Any]) -> str:
    """The learner, where it is not the usual one."""
    learner = row.get("learner", "replay")
    return "" if learner == "replay" else f" ({learner})"


def write_table(rows: list[dict[str, Any]]) -> None:
    """Put the results between the marks in the README."""
    lines = [
        "| method | environment | score | random | heuristic | env steps | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        name = r["score"]
        low, high = (show_score(name, x) for x in r["interval"])
        heuristic = show_score(name, r["heuristic"]) if "heuristic" in r else "–"
        lines.append(
            f"| {r['method']}{_with(r)} | {r['env']} | {short(name)} {show_score(name, r['middle'])} [{low}, {high}] | "
            f"{show_score(name, r['random'])} | {heuristic} | {r['env_steps']:,} | {r['train_seconds']:.0f} s |"
        )
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
