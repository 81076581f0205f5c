"""Speed of environments that Python steps: alone, in workers, and in training with its parts: ``make bench``.

Every figure is a median with its range over alternating rounds. Nothing else should run on the machine meanwhile.
Writes ``benchmarks/results/host.json``.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from comarl.envs.processes import PythonEnvs
from comarl.envs.registry import make_env, make_python
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_driver
from comarl.experiments.config import RunConfig, with_settings
from comarl.training.host import HostDriver
from comarl.training.players import HostPlayer

ROUNDS, SECONDS = 7, 3.0
WORKERS, ENVS, LENGTH, ITERATIONS = 2, 32, 64, 4
NAMES = ("mpe2/simple_spread_v3", "lbforaging/Foraging-8x8-2p-2f-coop-v3")
RESULTS = Path(__file__).parent / "results" / "host.json"

PARTS = ("workers", "acting", "learning", "evaluation")
"""What a training is made of; what it takes beyond them is the driver's."""


def main() -> None:
    """Measure every environment, print a table and write the JSON."""
    prepare()
    report = {
        "cores": os.cpu_count(),
        "workers": WORKERS,
        "environments": ENVS,
        "steps": LENGTH,
        "iterations": ITERATIONS,
        "cases": {n: measure(n) for n in NAMES},
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    for name, case in report["cases"].items():
        print(name)
        for what, x in case["rates"].items():
            print(f"  {what:<28}{x['median']:>10,.0f}  [{x['least']:,.0f}, {x['most']:,.0f}] environment steps/s")
        for what, x in case["shares"].items():
            print(f"  {what:<28}{x['median']:>10.1%}  [{x['least']:.1%}, {x['most']:.1%}] of a training's time")
    print(f"wrote {RESULTS}")


def measure(name: str) -> dict[str, Any]:
    """Environment steps per second of each call in :func:`_calls`, and the shares of a training's time."""
    envs = make_env(name, WORKERS)
    assert isinstance(envs, PythonEnvs)
    # The machine's own limit: processes that share nothing and wait for nobody.
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool, contextlib.ExitStack() as stack:
        apart = lambda: sum(pool.map(_alone, [name] * WORKERS))  # noqa: E731
        calls = {"one process": lambda: _alone(name), f"{WORKERS} apart": apart, **_calls(envs, stack)}
        for call in calls.values():
            call()  # compiles
        rounds = [{what: _rate(call) for what, call in calls.items()} for _ in range(ROUNDS)]
    shares = [{what: rates["training"] / rates[what] for what in PARTS} for rates in rounds]
    for share in shares:
        share["driver"] = 1.0 - sum(share.values())
    return {"rates": _spread(rounds), "shares": _spread(shares)}


def _alone(name: str) -> int:
    """One environment in this process, with random available actions, a seed for each episode."""
    env, rng = _env(name), np.random.default_rng(0)
    percept = env.reset(0)
    for seed in range(1, 1000):
        over = percept.terminated or percept.truncated
        percept = env.reset(seed) if over else env.step(_random(percept.avail, rng))
    return 1000


_env = functools.cache(make_python)


def _calls(envs: PythonEnvs, stack: contextlib.ExitStack) -> dict[str, Callable[[], int]]:
    """What is measured of QMIX; each returns how many environment steps it is for. ``stack`` frees what they use."""
    iteration = ENVS * LENGTH
    drivers = {asynchronous: _driver(envs, asynchronous) for asynchronous in (False, True)}
    runs = {asynchronous: driver.init(0) for asynchronous, driver in drivers.items()}
    driver, run = drivers[False], jax.tree.map(jnp.array, runs[False])
    running, player, rng = envs.start(ENVS), HostPlayer(envs, 1), np.random.default_rng(0)
    for used in (*drivers.values(), running, player):
        stack.enter_context(contextlib.closing(used))
    seeds = lambda: rng.integers(0, 2**32, (LENGTH, ENVS, 2), dtype=np.uint32)  # noqa: E731
    ts = running.reset(seeds()[0])
    keys = jax.random.split(jax.random.key(0), (LENGTH, ENVS))
    now_keys = keys[0]
    policy = jax.jit(driver.learner.algorithm.policy)(run.learner, 0)
    _, trajectory, _ = driver.collect(policy, run.actors, running, keys, seeds())
    act = jax.jit(jax.vmap(lambda policy, c, ts, key: policy.act(c, ts, key, True), in_axes=(None, 0, 0, 0)))
    learn = jax.jit(driver.learner.step, donate_argnums=(0, 1))
    learned: Any = run.learner, run.memory

    def workers() -> int:
        """All of them in workers, nothing learned."""
        nonlocal ts
        for words in seeds():
            ts = running.step(_random(np.asarray(ts.avail), rng), words)
        return iteration

    def acting() -> int:
        carry, now = run.actors.carry, jax.device_get(run.actors.ts)
        for _ in range(LENGTH):
            carry, action = act(policy, carry, now, now_keys)
            np.asarray(action)
        return iteration

    def learning() -> int:
        nonlocal learned
        *learned, metrics = learn(*learned, trajectory, run.iteration, keys[0, 0])
        jax.block_until_ready(metrics)
        return iteration

    def evaluation() -> int:
        player(policy)
        return ITERATIONS * iteration

    def training(asynchronous: bool) -> int:
        runs[asynchronous], _ = drivers[asynchronous].chunk(runs[asynchronous])
        return ITERATIONS * iteration

    return {
        "workers": workers,
        "acting": acting,
        "learning": learning,
        "evaluation": evaluation,
        "training": lambda: training(False),
        "training, asynchronous": lambda: training(True),
    }


def _driver(envs: PythonEnvs, asynchronous: bool) -> HostDriver:
    """One update after each iteration, an episode of evaluation after some."""
    chunk = ITERATIONS * ENVS * LENGTH
    settings = {"num_envs": ENVS, "length": LENGTH, "updates": 1, "learning_starts": 0, "asynchronous": asynchronous}
    settings |= {"steps": 100 * chunk, "eval_every": chunk, "eval_episodes": 1}
    driver = build_driver(with_settings(RunConfig(method="qmix", env=envs.name), settings), envs)
    assert isinstance(driver, HostDriver)
    return driver


def _random(avail: Any, rng: np.random.Generator) -> np.ndarray:
    return np.where(avail, rng.random(avail.shape), -1.0).argmax(-1).astype(np.int32)


def _rate(call: Callable[[], int]) -> float:
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        steps += call()
    return steps / (time.perf_counter() - start)


def _spread(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The median and the range of each figure."""
    columns = {what: [figures[what] for figures in rounds] for what in rounds[0]}
    return {w: {"median": statistics.median(x), "least": min(x), "most": max(x)} for w, x in columns.items()}


if __name__ == "__main__":
    main()
