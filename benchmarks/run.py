"""Speed of the main parts, each beside the machine's own measured peak: ``make bench``.

Every figure is a median with its range over alternating rounds in one process; start-up and memory are those of
whole processes. Nothing else should run on the machine meanwhile. Writes ``benchmarks/results/speed.json``.
"""

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from comarl.envs.base import Env
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import RunConfig, with_settings
from comarl.experiments.presets import resolve
from comarl.training.ondevice import OnDevice, RunState

ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "speed.json"
# The settings of the public reference point (about 83 updates/s on two cores).
SPREAD = {"num_envs": 8, "length": 26, "batch_size": 32, "hidden": 64, "embed": 32, "hyper_hidden": 128}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "QMIX, simple_spread": ("qmix", "mpe/simple_spread", {**SPREAD, "updates": 1, "team_reward": "sum"}),
    "QMIX, smax/3m (preset)": ("qmix", "smax/3m", {}),
    "MAPPO, smax/3m (preset)": ("mappo", "smax/3m", {}),
    "MADDPG, simple_spread (the paper's settings)": ("maddpg", "mpe/simple_spread", {}),
}
"""Method, environment and settings."""


def main() -> None:
    """Measure every case, print a table and write the JSON."""
    report: dict[str, Any] = {"machine": machine(), "rounds": ROUNDS, "cases": {}}
    for name, (method, env, settings) in CASES.items():
        print(f"measuring {name} …", file=sys.stderr)
        # Settings of its own stand on the plain defaults: the public reference point has no preset.
        own = with_settings(RunConfig(method=method, env=env), settings)
        report["cases"][name] = measure(own if settings else resolve(method, env, {})) | start_up(method, env, settings)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    for name, case in report["cases"].items():
        print(f"\n{name}")
        for figure, value in case.items():
            print(f"  {figure:<34}{show(value)}")
    print(f"\nwrote {RESULTS}")


def measure(config: RunConfig) -> dict[str, Any]:
    """Rates of collecting and learning, and the share of the matrix-product peak that an update reaches."""
    env = build_env(config)
    driver = build_driver(config, env)
    algorithm, memory = driver.learner.algorithm, driver.learner.memory
    run: RunState = jax.jit(driver.init)(0)
    start = time.perf_counter()
    jax.jit(driver.chunk).lower(run).compile()
    compile_seconds = time.perf_counter() - start
    key, iteration = jax.random.key(0), jnp.asarray(0)
    batch = jax.jit(memory.sample)(run.memory, iteration, iteration, key)
    side = jnp.ones((2048, 2048))
    calls: dict[str, Callable[[], Any]] = {
        "env": jitted(random_steps(driver, env), run.actors.env, key),
        "collect": jitted(lambda r, k: driver.collect(algorithm.policy(r.learner, 0), r.actors, k), run, key),
        "sample": jitted(memory.sample, run.memory, iteration, iteration, key),
        "update": jitted(algorithm.update, run.learner, batch, key),
        "matmul": jitted(lambda a: a @ a, side),
    }
    seconds = alternate(calls)
    flops = products(jax.make_jaxpr(algorithm.update)(run.learner, batch, key).jaxpr)
    peak = [2 * 2048**3 / s for s in seconds["matmul"]]
    steps = driver.steps_per_iteration
    return {
        "compile (s)": compile_seconds,
        "env steps/s, environment alone": spread([steps / s for s in seconds["env"]]),
        "env steps/s, acting": spread([steps / s for s in seconds["collect"]]),
        "sampling a batch (ms)": spread([1e3 * s for s in seconds["sample"]]),
        "updates/s": spread([1 / s for s in seconds["update"]]),
        "matrix-product peak (GFLOP/s)": spread([p / 1e9 for p in peak]),
        "products in one update (GFLOP)": flops / 1e9,
        "share of peak": spread([flops / s / p for s, p in zip(seconds["update"], peak, strict=True)]),
    }


def random_steps(driver: OnDevice, env: Env) -> Callable[..., Any]:
    """As many environment steps as one iteration makes, with a constant last action (often: wait)."""
    from comarl.envs.wrappers import AutoReset

    auto, action = AutoReset(env), jnp.full((driver.num_envs, env.spec.num_agents), 4, jnp.int32)

    def steps(state: Any, key: Any) -> Any:
        def one(state: Any, key: Any) -> tuple[Any, None]:
            return jax.vmap(auto.step)(state, action, jax.random.split(key, driver.num_envs))[0], None

        return jax.lax.scan(one, state, jax.random.split(key, driver.length))[0]

    return steps


def jitted(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """``f(*args)``, compiled and run once already."""
    compiled = jax.jit(f).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    return lambda: jax.block_until_ready(compiled(*args))


def alternate(calls: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of each call, round by round, so that a drift of the machine meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            repeat = 5
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds[name].append((time.perf_counter() - start) / repeat)
    return seconds


def products(jaxpr: Any) -> float:
    """Multiplications and additions in the matrix products of a traced function, loops counted as often as they run.

    >>> scanned = lambda a: jax.lax.scan(lambda x, _: (x @ x, None), a, length=5)[0]
    >>> products(jax.make_jaxpr(scanned)(jnp.ones((3, 3))).jaxpr)  # 5 products of 3³ multiplications and additions
    270.0
    """
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, result = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * math.prod(result) * math.prod(left[axis] for axis in contracted)
        inner = sum(products(sub) for sub in jaxprs_in_params(equation.params))
        total += inner * equation.params.get("length", 1)
    return total


def start_up(method: str, env: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the command to the end of a tiny training with a warm cache, and the process's peak memory."""
    flags = [x for k, v in settings.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "comarl", "train", method, "--env", env, *flags]
        command += ["--steps", "20000", "--eval-every", "20000", "--overwrite", "--run", f"{folder}/run", "--json"]
        walls = [wall(command)[0] for _ in range(3)]
        summary = json.loads(wall(command)[1])
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    first = [w - summary["train_seconds"] for w in walls[1:]]  # the first start fills the cache
    return {
        "start-up, cold cache or not (s)": walls[0],
        "start-up, warm (s)": spread(first),
        "peak memory (GB)": memory,
    }


def wall(command: list[str]) -> tuple[float, str]:
    """Seconds and standard output of a process."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, done.stdout


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(value: float | dict[str, float]) -> str:
    """A figure for people."""
    if isinstance(value, dict):
        return f"{value['median']:>12,.3g}   ({value['min']:,.3g} – {value['max']:,.3g})"
    return f"{value:>12,.3g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "backend": jax.default_backend(),
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    main()
