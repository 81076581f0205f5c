"""Learning results of every preset, and the README's table of them: ``make results``.

Runs ``comarl train METHOD --env ENV --learner LEARNER --seeds 3`` for each combat, particle, foraging and grid preset,
one after the other. A result that is in ``benchmarks/results/learning.json`` with the same settings is not run again,
so that the command goes on where it was stopped. After every run the JSON and the table between the marks in
``README.md`` are written anew. Seconds are only comparable if nothing else ran beside it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_between

from comarl.experiments.methods import with_learner
from comarl.experiments.presets import PRESETS, resolve
from comarl.experiments.scores import short, show_score
from comarl.report.curves import Curve, read_curve, summarise

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "learning.json"
MARK = "results: made by 'make results'"
SEEDS = 3
FAMILIES = ("smax", "mpe", "mpe-continuous", "mpe2", "lbf", "lbforaging", "switch", "checkers")
SOLVED = 0.8
"""The win rate that ``seconds_to_solve`` is the time to."""


def main() -> None:
    """Run what is missing; the JSON and the table after every run."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    wanted = [preset for preset in PRESETS if preset[1].split("/")[0] in FAMILIES]
    done = {names(row): row for row in rows if names(row) in wanted and row["settings"] == PRESETS[names(row)].settings}
    for preset in wanted:
        done[preset] = done.get(preset) or run(*preset)
        write([done[preset] for preset in wanted if preset in done])
    print(f"wrote {RESULTS.relative_to(ROOT)} and the table in README.md")


def names(row: dict[str, Any]) -> tuple[str, str, str]:
    """The key of a row's preset."""
    return row["method"], row["env"], row["learner"]


def run(method: str, env: str, learner: str) -> dict[str, Any]:
    """Train; the summary with the middle over seeds, its 95% bootstrap interval, the settings and the curve."""
    from comarl import train
    from comarl.cli.output import showing_progress

    print(f"{method} on {env} ({learner})", file=sys.stderr)
    folder = ROOT / "runs" / "results" / resolve(method, env, {"learner": learner}).folder.name
    with showing_progress() as progress:
        summary = train(
            method, env=env, learner=learner, seeds=SEEDS, run=folder, overwrite=True, progress=progress
        ).summary
    curve = read_curve(folder)
    middle, low, high, kind = summarise(curve.scores)
    flag = with_learner(method, learner, " --learner ")
    return summary | {
        "settings": PRESETS[method, env, learner].settings,
        "middle": round(float(middle[-1]), 4),
        "interval": [round(float(low[-1]), 4), round(float(high[-1]), 4)],
        "kind": kind,
        "curve": {"env_steps": curve.steps.tolist(), "middle": middle.round(4).tolist()},
        "seconds_to_solve": seconds_to_solve(summary, curve, middle),
        "command": f"comarl train {method} --env {env}{flag} --seeds {SEEDS}",
    }


def seconds_to_solve(summary: dict[str, Any], curve: Curve, middle: np.ndarray) -> float | None:
    """Seconds to the first evaluation at which the middle of the seeds is :data:`SOLVED`, with compiling; or None."""
    if curve.score != "win rate" or middle.max() < SOLVED:
        return None
    steps = int(curve.steps[np.argmax(middle >= SOLVED)])
    return round(summary["compile_seconds"] + summary["train_seconds"] * steps / summary["env_steps"], 1)


def _with(row: dict[str, Any]) -> str:
    """The learner, where it is not the usual one."""
    name = with_learner(row["method"], row["learner"], "")
    return f" ({name})" if name else ""


def _script(row: dict[str, Any]) -> str:
    """The score of the scripted team, or of the best plan there is."""
    found = [(name, row[name]) for name in ("heuristic", "optimal") if name in row]
    return f"{show_score(row['score'], found[0][1])} ({found[0][0]})" if found else "–"


def write(rows: list[dict[str, Any]]) -> None:
    """The JSON, and the table between the marks in the README."""
    RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [
        "| method | environment | score | random | script | env steps | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        name = r["score"]
        low, high = (show_score(name, x) for x in r["interval"])
        lines.append(
            f"| {r['method']}{_with(r)} | {r['env']} | {short(name)} {show_score(name, r['middle'])} [{low}, {high}] | "
            f"{show_score(name, r['random'])} | {_script(r)} | {r['env_steps']:,} | {r['train_seconds']:.0f} s |"
        )
    write_between(ROOT / "README.md", MARK, "\n".join(lines))


if __name__ == "__main__":
    main()
