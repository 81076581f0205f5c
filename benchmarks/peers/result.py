"""Time to a result beside JaxMARL's QMIX on simple_spread: ``python benchmarks/peers/result.py [ROUNDS]``.

``COMARL_JAXMARL`` names a checkout of its repository. In each round, a seed of its own, JaxMARL trains for 1M steps
with its own settings (``trained_jaxmarl.py``); then ours trains until a test of as many greedy episodes has that
return. Everything counts from the start of a process, with nothing compiled beforehand. Nothing else should run on the
machine meanwhile. Writes ``benchmarks/results/time-to-return.json`` and the section in ``docs/speed.md``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from run import HERE, PAGE, ROOT, python_of, write_between

from comarl.report.speed import machine, spread

RESULTS = ROOT / "benchmarks" / "results" / "time-to-return.json"
MARK = "time to a return: made by 'benchmarks/peers/result.py'"
SETTINGS: dict[str, Any] = {
    "cell": "mingru",
    "cpu_devices": os.cpu_count() or 1,
    "steps": 1_000_000,
    "eval_every": 20_000,
    "eval_episodes": 512,
}
"""Beside those of the preset."""


def main(rounds: int = 5) -> None:
    """Measure in turn; the JSON and the page after every round."""
    done: list[dict[str, Any]] = []
    for seed in range(rounds):
        theirs = timed([str(python_of("jaxmarl")), str(HERE / "trained_jaxmarl.py"), str(seed)])
        print(f"seed {seed}: JaxMARL {theirs}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as empty:
            ours = timed([sys.executable, __file__, "--until", str(theirs["return"]), str(seed)], XDG_CACHE_HOME=empty)
        print(f"seed {seed}: comarl {ours}", file=sys.stderr)
        done.append({"seed": seed, "jaxmarl": theirs, "comarl": ours})
        report = {"machine": machine(), "settings": SETTINGS, "rounds": done}
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_between(PAGE, MARK, table(done))
    print(table(done))


def timed(command: list[str], **more: str) -> dict[str, float]:
    """What a process prints as JSON, and the seconds from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | more)
    return json.loads(done.stdout.splitlines()[-1]) | {"all": time.perf_counter() - start}


def train_until(goal: float, seed: int) -> None:
    """Train until a test has the return ``goal``, and print what it took."""
    from comarl.experiments.backend import devices, prepare

    prepare()
    cores = devices(SETTINGS["cpu_devices"])
    from comarl.experiments.build import build_driver, build_env
    from comarl.experiments.presets import resolve
    from comarl.training.ondevice import OnDevice
    from comarl.training.seeds import Seeds

    config = resolve("qmix", "mpe/simple_spread", SETTINGS)
    driver = build_driver(config, build_env(config))
    assert isinstance(driver, OnDevice)
    seeds = Seeds(driver, [seed], devices=cores)
    start = time.perf_counter()
    for chunk in seeds.run(config.steps // config.eval_every):
        tested = float(np.asarray(chunk.log.evaluation.returns).sum(-1).mean())
        steps = (chunk.number + 1) * driver.iterations * driver.steps_per_iteration
        if tested >= goal:
            training = time.perf_counter() - start
            took = {"return": tested, "steps": steps, "compile": seeds.compile_seconds, "training": training}
            print(json.dumps(took))
            return
    raise SystemExit(f"error: seed {seed} did not come to {goal:.2f}")


def table(done: list[dict[str, Any]]) -> str:
    """The rounds in Markdown, and the middle of how many times sooner ours was."""
    lines = ["| seed | its return | JaxMARL: compiling, training, all | ours: compiling, training, all | sooner |"]
    lines.append("|---|---|---|---|---|")
    sooner = [x["jaxmarl"]["all"] / x["comarl"]["all"] for x in done]
    for x, times in zip(done, sooner, strict=True):
        cells = [
            " ".join(f"{x[who][part]:.0f} s" for part in ("compile", "training", "all")) for who in x if who != "seed"
        ]
        lines.append(f"| {x['seed']} | {x['jaxmarl']['return']:.1f} | {' | '.join(cells)} | {times:.1f}× |")
    middle = spread(sooner)
    lines += ["", f"Median: {middle['median']:.1f} times sooner [{middle['min']:.1f}, {middle['max']:.1f}]."]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--until"]:
        train_until(float(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
