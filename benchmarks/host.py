"""Speed of environments that Python steps: alone, in workers, and in training: ``make bench``.

Every figure is a median with its range over alternating rounds. Nothing else should run on the machine meanwhile.
Writes ``benchmarks/results/host.json``.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from comarl.envs.processes import PythonEnvs
from comarl.envs.registry import make_env, make_python
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_driver
from comarl.experiments.config import RunConfig, with_settings

ROUNDS, SECONDS = 7, 3.0
WORKERS, ENVS = 2, 32
NAMES = ("mpe2/simple_spread_v3", "lbforaging/Foraging-8x8-2p-2f-coop-v3")
RESULTS = Path(__file__).parent / "results" / "host.json"


def main() -> None:
    """Measure every environment, print a table and write the JSON."""
    prepare()
    report = {
        "cores": os.cpu_count(),
        "workers": WORKERS,
        "environments": ENVS,
        "cases": {n: measure(n) for n in NAMES},
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    for name, case in report["cases"].items():
        print(name)
        for what, x in case.items():
            print(f"  {what:<28}{x['median']:>10,.0f}  [{x['least']:,.0f}, {x['most']:,.0f}] environment steps/s")
    print(f"wrote {RESULTS}")


def measure(name: str) -> dict[str, dict[str, float]]:
    """Environment steps per second."""
    envs = make_env(name, WORKERS)
    assert isinstance(envs, PythonEnvs)
    env = make_python(name)
    running = envs.start(ENVS)
    chunk = {"steps": 4 * ENVS * 64, "eval_every": ENVS * 64, "eval_episodes": 1, "length": 64}
    settings = {"num_envs": ENVS, "updates": 1, "learning_starts": 0}
    driver = build_driver(with_settings(RunConfig(method="qmix", env=name), settings | chunk), envs)
    state = driver.init(0)
    rng = np.random.default_rng(0)
    seeds = lambda: rng.integers(0, 2**32, (ENVS, 2), dtype=np.uint32)  # noqa: E731
    ts = running.reset(seeds())

    def alone() -> int:
        """One environment in this process, with random available actions, a seed for each episode."""
        percept, steps = env.reset(0), 0
        while steps < 500:
            over = percept.terminated or percept.truncated
            percept = env.reset(steps) if over else env.step(_random(percept.avail, rng))
            steps += not over
        return steps

    def workers() -> int:
        """All of them in workers, nothing learned."""
        nonlocal ts
        for _ in range(50):
            ts = running.step(_random(np.asarray(ts.avail), rng), seeds())
        return 50 * ENVS

    def training() -> int:
        """A chunk of QMIX: an iteration in which its network acts, one update, and an episode of evaluation."""
        nonlocal state
        state, _ = driver.chunk(state)
        return driver.iterations * driver.steps_per_iteration

    calls = {"one process": alone, f"{WORKERS} workers": workers, "training": training}
    for call in calls.values():
        call()  # compiles
    rates: dict[str, list[float]] = {what: [] for what in calls}
    for _ in range(ROUNDS):
        for what, call in calls.items():
            rates[what].append(_rate(call))
    running.close()
    driver.close()
    return {w: {"median": statistics.median(r), "least": min(r), "most": max(r)} for w, r in rates.items()}


def _random(avail: Any, rng: np.random.Generator) -> np.ndarray:
    return np.where(avail, rng.random(avail.shape), -1.0).argmax(-1).astype(np.int32)


def _rate(call: Callable[[], int]) -> float:
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        steps += call()
    return steps / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
