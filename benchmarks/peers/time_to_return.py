"""Time to a return beside JaxMARL's QMIX on simple_spread: ``make bench-return``.

``COMARL_JAXMARL`` names a checkout of its repository. In each round, a seed of its own, JaxMARL trains for 1M steps
with its own settings (``trained_jaxmarl.py``), then ours with the preset (``trained_comarl.py``). The return to come to
is the median of JaxMARL's last tests; a test is 512 greedy episodes. Everything counts from the start of a process
with nothing compiled beforehand. Nothing else should run on the machine meanwhile. Writes
``benchmarks/results/time-to-return.json`` and the section in ``docs/speed.md``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from run import HERE, PAGE, ROOT, python_of, write_between

from comarl.report.speed import machine, spread

RESULTS = ROOT / "benchmarks" / "results" / "time-to-return.json"
MARK = "time to a return: made by 'make bench-return'"
ROUNDS = 5


def main() -> None:
    """Measure in turn; the JSON and the page when all rounds are done."""
    if "COMARL_JAXMARL" not in os.environ:
        raise SystemExit("error: COMARL_JAXMARL has to name a checkout of JaxMARL's repository")
    rounds: list[dict[str, Any]] = []
    for seed in range(ROUNDS):
        round_ = {"seed": seed, "jaxmarl": trained("jaxmarl", seed), "comarl": trained("comarl", seed)}
        print(f"round {seed + 1} of {ROUNDS}: {show(round_)}", file=sys.stderr)
        rounds.append(round_)
    RESULTS.write_text(json.dumps({"machine": machine(), "rounds": rounds}, indent=1) + "\n", encoding="utf-8")
    write_between(PAGE, MARK, table(rounds))
    print(table(rounds))


def trained(name: str, seed: int) -> dict[str, Any]:
    """What a training prints as JSON, and its process's seconds from start to end (``all``)."""
    python = Path(sys.executable) if name == "comarl" else python_of(name)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [str(python), str(HERE / f"trained_{name}.py"), str(seed), str(start)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {"XDG_CACHE_HOME": empty},
        )
    return json.loads(done.stdout.splitlines()[-1]) | {"all": time.monotonic() - start}


def reached(run: dict[str, Any], goal: float) -> dict[str, float] | None:
    """The first test of ours that is as good; None if none is."""
    return next((test for test in run["tests"] if test["return"] >= goal), None)


def show(round_: dict[str, Any]) -> str:
    """One round in a line."""
    theirs, ours = round_["jaxmarl"], round_["comarl"]
    ends = ((theirs["return"], theirs["all"]), (ours["tests"][-1]["return"], ours["all"]))
    return ", ".join(f"{score:.1f} after {seconds:.0f} s" for score, seconds in ends)


def table(rounds: list[dict[str, Any]]) -> str:
    """The rounds in Markdown, and the median of how many times sooner ours was (0 where it never came there)."""
    goal = float(np.median([x["jaxmarl"]["return"] for x in rounds]))
    lines = [
        f"The return to come to, the median of JaxMARL's: {goal:.1f}.",
        "",
        "| seed | JaxMARL: return after 1M steps | compiling | in all "
        "| ours: as good after | compiling | in all | sooner | return in the end |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    sooner = []
    for x in rounds:
        theirs, ours, test = x["jaxmarl"], x["comarl"], reached(x["comarl"], goal)
        sooner.append(theirs["all"] / test["seconds"] if test else 0.0)
        cells = [f"{x['seed']}", f"{theirs['return']:.1f}", f"{theirs['compile']:.0f} s", f"{theirs['all']:.0f} s"]
        if test:
            cells += [f"{test['steps']:,} steps", f"{ours['compile']:.1f} s", f"{test['seconds']:.1f} s"]
        else:
            cells += ["never", f"{ours['compile']:.1f} s", ""]
        cells += [f"{sooner[-1]:.1f}×", f"{ours['tests'][-1]['return']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    middle, met = spread(sooner)["median"], sum(map(bool, sooner))
    return "\n".join([*lines, "", f"As good in {met} of {len(rounds)} seeds, in the median {middle:.1f} times sooner."])


if __name__ == "__main__":
    main()
