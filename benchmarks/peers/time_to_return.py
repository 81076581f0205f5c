"""Time to a return beside JaxMARL's QMIX on simple_spread: ``make bench-return``.

``COMARL_JAXMARL`` names a checkout of its repository. In each round, a seed of its own, JaxMARL trains for 1M steps
with its own settings (``trained_jaxmarl.py``), then ours with the presets of QMIX and VDN (``trained_comarl.py``). The
return to come to is the median of JaxMARL's last tests; a test is 512 greedy episodes. Everything counts from the start
of a process with nothing compiled beforehand. Nothing else should run on the machine meanwhile. Writes
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
METHODS = {"qmix": "QMIX", "vdn": "VDN"}
"""Ours."""


def main() -> None:
    """Measure in turn; the JSON and the page when all rounds are done."""
    if "COMARL_JAXMARL" not in os.environ:
        raise SystemExit("error: COMARL_JAXMARL has to name a checkout of JaxMARL's repository")
    rounds: list[dict[str, Any]] = []
    for seed in range(ROUNDS):
        theirs = timed(python_of("jaxmarl"), "trained_jaxmarl.py", str(seed))
        ours = {
            method: timed(Path(sys.executable), "trained_comarl.py", method, str(seed), str(time.monotonic()))
            for method in METHODS
        }
        rounds.append({"seed": seed, "jaxmarl": theirs} | ours)
        print(f"round {seed + 1} of {ROUNDS}: JaxMARL's {theirs['return']:.1f}", file=sys.stderr)
    RESULTS.write_text(json.dumps({"machine": machine(), "rounds": rounds}, indent=1) + "\n", encoding="utf-8")
    write_between(PAGE, MARK, table(rounds))
    print(table(rounds))


def timed(python: Path, script: str, *arguments: str) -> dict[str, Any]:
    """What a training prints as JSON, and its process's seconds from start to end (``all``)."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as empty:
        command = [str(python), str(HERE / script), *arguments]
        environment = os.environ | {"XDG_CACHE_HOME": empty}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1]) | {"all": time.monotonic() - start}


def table(rounds: list[dict[str, Any]]) -> str:
    """The rounds in Markdown, and the medians of how many times sooner ours were (0 where they never came there)."""
    goal = float(np.median([x["jaxmarl"]["return"] for x in rounds]))
    heads = [f"ours, {name}: as good after | sooner | return in the end" for name in METHODS.values()]
    lines = [
        f"The return to come to, the median of JaxMARL's: {goal:.1f}.",
        "",
        f"| seed | JaxMARL's QMIX: return after 1M steps | seconds, of which compiling | {' | '.join(heads)} |",
        "|---" * (3 + 3 * len(METHODS)) + "|",
    ]
    sooner: dict[str, list[float]] = {method: [] for method in METHODS}
    for x in rounds:
        theirs = x["jaxmarl"]
        cells = [f"{x['seed']}", f"{theirs['return']:.1f}", f"{theirs['all']:.0f}, {theirs['compile']:.0f}"]
        for method, times in sooner.items():
            tests = x[method]["tests"]
            test = next((test for test in tests if test["return"] >= goal), None)
            times.append(theirs["all"] / test["seconds"] if test else 0.0)
            took, times_sooner = "never", "–"
            if test:
                compiling = x[method]["compile"]
                took = f"{test['steps']:,} steps, {test['seconds']:.1f} s, of which compiling {compiling:.1f}"
                times_sooner = f"{times[-1]:.1f}×"
            cells += [took, times_sooner, f"{tests[-1]['return']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    found = [
        f"{name} is as good in {sum(map(bool, sooner[method]))} of {len(rounds)} seeds, in the median "
        f"{spread(sooner[method])['median']:.1f} times sooner."
        for method, name in METHODS.items()
    ]
    return "\n".join([*lines, "", *found])


if __name__ == "__main__":
    main()
