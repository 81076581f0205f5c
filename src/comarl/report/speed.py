"""Where the time of a method goes: its phases, one by one, beside the operations each needs and the machine's peak."""

import math
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import jaxprs_in_params
from jaxtyping import Array, PRNGKeyArray
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from comarl.algos.base import Algorithm, Policy
from comarl.algos.optimise import gradient_step
from comarl.algos.ppo import PPO
from comarl.algos.qlearning import QLearning, QState
from comarl.algos.sequences import acted_steps, unroll
from comarl.envs.base import require_jax
from comarl.envs.wrappers import AutoReset
from comarl.errors import ComarlError
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import RunConfig
from comarl.memory.base import Batch
from comarl.mixers.base import AbstractMixer, Joint
from comarl.nets.agents import Agent, Utilities
from comarl.training.awake import cores
from comarl.training.evaluate import evaluation_keys, play
from comarl.training.ondevice import Actors, OnDevice, RunState
from comarl.training.seeds import Seeds
from comarl.types import Action, Trajectory

PEAK_SIDE = 2048
"""Side of the square matrices whose product is the machine's peak."""
UPDATES = 8
"""How many updates one program makes where they are timed."""
SHORTEST = 0.02
"""Seconds that a phase is repeated for in every round, at least."""

MEANING = {
    "collect": "an iteration's steps of all environments",
    "environment": "of these, the environments alone",
    "act": "of these, the policies alone",
    "sample": "a batch from the memory",
    "update": "one whole update",
    "unroll": "the agents over a batch, once",
    "mixer": "the mixer's loss over a batch, once",
    "loss": "all that the loss takes, forwards",
    "backward": "what its gradient takes beyond that",
    "optimiser": "one step of the optimiser",
    "evaluation": "all episodes of one evaluation",
}
"""The phases. ``collect`` has the two below it as parts, ``update`` those from ``unroll`` to ``optimiser``."""
RATES = {
    "env_steps_alone": "environment steps/s, environments alone",
    "env_steps_acting": "environment steps/s, acting",
    "updates": "updates/s",
    "evaluation_episodes": "episodes/s in evaluation",
}
"""The rates and their units."""
WHOLE = ("collect", "sample", "update", "evaluation")
"""The phases that are no part of another."""


class Phase(NamedTuple):
    """A part of training, compiled and warm.

    Attributes:
        call: runs it ``turns`` times, which is mostly once, and waits for it.
        operations: multiplications and additions of the matrix products of a turn; None where a loop's length is not
            known beforehand.
        turns: how often a call runs it.
    """

    call: Callable[[], Any]
    operations: float | None
    turns: int = 1


def measure(config: RunConfig, rounds: int) -> dict[str, Any]:
    """Every phase of ``config``'s training, measured in turn ``rounds`` times.

    Returns:
        ``phases``: by name seconds (median, least, most), products in GFLOP and their share of the machine's peak;
        ``rates``: steps, updates and episodes per second; ``peak`` in GFLOP/s; ``compile_seconds`` of the
        training; ``peak_memory_gb`` of this process.

    Raises:
        ComarlError: if there is no such method or environment, or if Python steps the environment.
    """
    driver = on_device(config)
    programs = Seeds(driver, [0], devices=jax.local_devices()[:1])
    run = programs.state(0)
    phases = training_phases(driver, run)
    side = jnp.ones((PEAK_SIDE, PEAK_SIDE))
    calls = {name: part.call for name, part in phases.items()}
    seconds = alternate(calls | {"peak": jitted(lambda a: a @ a, side)}, rounds)
    peak = [2 * PEAK_SIDE**3 / s for s in seconds.pop("peak")]
    seconds = {name: [s / phases[name].turns for s in took] for name, took in seconds.items()}
    operations = {name: part.operations for name, part in phases.items()}
    if "loss" in phases:  # the gradient was timed, which holds the loss
        seconds["backward"] = [b - a for a, b in zip(seconds["loss"], seconds["backward"], strict=True)]
        operations["backward"] = (operations["backward"] or 0.0) - (operations["loss"] or 0.0)
    return {
        "phases": {name: figures(seconds[name], operations[name], peak) for name in MEANING if name in seconds},
        "rates": _rates(driver, seconds),
        "peak": spread([p / 1e9 for p in peak]),
        "compile_seconds": programs.compile_seconds,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _rates(driver: OnDevice, seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """What is done in a second, by the names of :data:`RATES`."""
    steps = driver.steps_per_iteration
    counts = {
        "env_steps_alone": (steps, "environment"),
        "env_steps_acting": (steps, "collect"),
        "updates": (1, "update"),
        "evaluation_episodes": (driver.episodes, "evaluation"),
    }
    return {name: spread([count / s for s in seconds[part]]) for name, (count, part) in counts.items()}


def on_device(config: RunConfig) -> OnDevice:
    """The driver of a training that JAX runs from end to end.

    Raises:
        ComarlError: if there is no such method or environment, if Python steps the environment, or if it shall be on
            several devices.
    """
    if config.cpu_devices > 1:
        raise ComarlError(f"cpu_devices={config.cpu_devices}: phases are measured on one device (leave it out)")
    driver = build_driver(config, require_jax(build_env(config)))
    assert isinstance(driver, OnDevice)
    return driver


def training_phases(driver: OnDevice, run: RunState) -> dict[str, Phase]:
    """The phases of :data:`MEANING` that a training has, from its state before the first iteration.

    ``backward`` is still the loss and its gradient together.
    """
    algorithm, memory = driver.learner.algorithm, driver.learner.memory
    key, now = jax.random.key(0), jnp.asarray(0)

    def collect(state: Any, actors: Actors, key: PRNGKeyArray) -> Any:
        return driver.collect(algorithm.policy(state, 0), actors, key)

    def act(state: Any, actors: Actors, key: PRNGKeyArray) -> Any:
        return _act(algorithm.policy(state, 0), actors, driver.length, key)

    def evaluate(state: Any) -> Any:
        return play(driver.env, algorithm.policy(state, 0), evaluation_keys(driver.episodes))

    def updates(state: Any, batch: Batch, key: PRNGKeyArray) -> Any:
        def one(state: Any, _: None) -> tuple[Any, Any]:
            update = algorithm.update(state, batch, key)
            return update.state, (update.metrics, update.error)

        return jax.lax.scan(one, state, length=UPDATES)

    def environment(state: Any, action: Array, key: PRNGKeyArray) -> Any:
        return _steps(AutoReset(driver.env), state, action, key)

    _, trajectory, _ = jax.jit(collect)(run.learner, run.actors, key)
    trajectory = jax.jit(algorithm.annotate)(run.learner, trajectory, now, key)
    stored = jax.jit(memory.add)(run.memory, trajectory, now, key)
    batch = jax.jit(memory.sample)(stored, now, now, key)
    return {
        "collect": phase(collect, run.learner, run.actors, key),
        "environment": phase(environment, run.actors.env, trajectory.action, key),
        "act": phase(act, run.learner, run.actors, key),
        "sample": phase(memory.sample, stored, now, now, key),
        # Several in a program, as in training: each program has to find memory for what it computes in between.
        "update": phase(updates, run.learner, batch, key, turns=UPDATES),
        **learning_phases(algorithm, run.learner, batch),
        # It ends with its last episode: nobody knows beforehand how often its loop runs.
        "evaluation": phase(evaluate, run.learner)._replace(operations=None),
    }


def _steps(env: AutoReset, state: Any, action: Action, key: PRNGKeyArray) -> Any:
    """The environments alone, doing what was done in a trajectory ``[T, B, N]``."""

    def one(state: Any, x: tuple[Action, PRNGKeyArray]) -> tuple[Any, Any]:
        action, key = x
        return jax.vmap(env.step)(state, action, jax.random.split(key, action.shape[0]))

    return jax.lax.scan(one, state, (action, jax.random.split(key, action.shape[0])))


def _act(policy: Policy, actors: Actors, length: int, key: PRNGKeyArray) -> Any:
    """The policies alone, as often as in an iteration and always at the same moment."""

    def one(carry: Any, key: PRNGKeyArray) -> tuple[Any, Action]:
        act = jax.vmap(lambda c, ts, k: policy.act(c, ts, k, True))
        return act(carry, actors.ts, jax.random.split(key, actors.length.shape[0]))

    return jax.lax.scan(one, actors.carry, jax.random.split(key, length))


def learning_phases(algorithm: Algorithm, state: Any, batch: Batch) -> dict[str, Phase]:
    """The parts of an update, for the learning rules whose update is one loss's."""
    if isinstance(algorithm, QLearning):
        return _value_phases(algorithm, state, batch) | _loss_phases(
            lambda online, target, batch: algorithm.loss(online, target, batch)[0],
            (state.online, state.target, batch),
            algorithm.optimiser,
            state.optimiser,
        )
    if isinstance(algorithm, PPO):
        return _loss_phases(
            lambda networks, scale, batch: algorithm.loss(networks, scale, batch.trajectory)[0],
            (state.networks, state.scale, batch),
            algorithm.optimiser,
            state.optimiser,
        )
    return {}


def _value_phases(algorithm: QLearning, state: QState, batch: Batch) -> dict[str, Phase]:
    """The agents and the mixer over a batch."""

    def agents(agent: Agent, trajectory: Trajectory) -> Utilities:
        return unroll(agent, trajectory, stored_state=algorithm.stored_state, burn_in=algorithm.burn_in)

    out = jax.jit(agents)(state.online.agent, batch.trajectory)
    ts, action = acted_steps(batch.trajectory, algorithm.burn_in)
    joint = Joint(out.q[:-1], action, out.hidden[:-1], ts)
    y = jax.jit(jax.vmap(jax.vmap(state.online.mixer.bootstrap)))(joint)

    def mixer(mixer: AbstractMixer, joint: Joint, y: Array) -> Any:
        return jax.vmap(jax.vmap(mixer.loss))(joint, y)

    return {
        "unroll": phase(agents, state.online.agent, batch.trajectory),
        "mixer": phase(mixer, state.online.mixer, joint, y),
    }


def _loss_phases(
    loss: Callable[..., Array], args: tuple[Any, ...], optimiser: optax.GradientTransformation, state: optax.OptState
) -> dict[str, Phase]:
    """A loss of its first argument, its gradient, and a step of the optimiser along it."""

    def step(gradient: Any, state: optax.OptState, params: Any) -> Any:
        return gradient_step(optimiser, gradient, state, params)

    gradient = jax.jit(jax.grad(loss))(*args)
    return {
        "loss": phase(loss, *args),
        "backward": phase(jax.value_and_grad(loss), *args),
        "optimiser": phase(step, gradient, state, args[0]),
    }


def phase(f: Callable[..., Any], *args: Any, turns: int = 1) -> Phase:
    """``f(*args)``, compiled and warm, and the products that it counts; it is so many turns of what is timed."""
    return Phase(jitted(f, *args), products(jax.make_jaxpr(f)(*args).jaxpr) / turns, turns)


def jitted(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """``f(*args)``, compiled and run once already."""
    compiled = jax.jit(f).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    return lambda: jax.block_until_ready(compiled(*args))


def alternate(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, round by round, so that a drift of the machine meets all alike.

    In a round a call is repeated for :data:`SHORTEST` seconds or longer, and the mean taken.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            repeats, start = 0, time.perf_counter()
            while (took := time.perf_counter() - start) < SHORTEST or not repeats:
                call()
                repeats += 1
            seconds[name].append(took / repeats)
    return seconds


def products(jaxpr: Any) -> float:
    """Multiplications and additions in the matrix products of a traced function, loops counted as often as they run.

    The body of a loop of unknown length counts once.

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


def figures(seconds: list[float], operations: float | None, peak: list[float]) -> dict[str, Any]:
    """A phase's seconds, its products in GFLOP and the share of the peak that it reaches, round by round.

    The share is None where there are no products, and where the phase is a difference that noise made negative.
    """
    if not operations or min(seconds) <= 0:
        return {"seconds": spread(seconds), "gflop": operations and operations / 1e9, "share": None}
    share = spread([operations / s / p for s, p in zip(seconds, peak, strict=True)])
    return {"seconds": spread(seconds), "gflop": operations / 1e9, "share": share}


def spread(values: list[float]) -> dict[str, float]:
    """Median and range.

    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(value: float | dict[str, float]) -> str:
    """A figure for people.

    >>> show({"median": 1234.5, "min": 1200.0, "max": 1300.0})
    '1,230   (1,200 – 1,300)'
    """
    if isinstance(value, dict):
        return f"{short(value['median'])}   ({short(value['min'])} – {short(value['max'])})"
    return short(value)


def short(value: float) -> str:
    """Three digits.

    >>> [short(x) for x in (283224.8, 98.56, 0.01234)]
    ['283,000', '98.6', '0.0123']
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def machine() -> dict[str, Any]:
    """What the figures were measured on; cores are those that this process may use."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": cores(),
        "backend": jax.default_backend(),
        "jax": jax.__version__,
    }


def phase_table(title: str, result: dict[str, Any]) -> RenderableType:
    """A row for each phase, and the rates below."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("phase", "ms", "range", "GFLOP", "share of peak"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    table.add_column("what")
    for name, row in result["phases"].items():
        seconds, share = row["seconds"], row["share"]
        within = "" if name in WHOLE else "  "
        table.add_row(
            within + name,
            short(1e3 * seconds["median"]),
            f"{short(1e3 * seconds['min'])} – {short(1e3 * seconds['max'])}",
            short(row["gflop"]) if row["gflop"] else "–",
            f"{share['median']:.1%}" if share else "–",
            MEANING[name],
        )
    rates = [f"{RATES[name]}: {show(value)}" for name, value in result["rates"].items()]
    costs = (
        f"peak: {show(result['peak'])} GFLOP/s in the product of two {PEAK_SIDE} × {PEAK_SIDE} matrices\n"
        f"compiling the training: {result['compile_seconds']:.1f} s, memory at most: {result['peak_memory_gb']:.2f} GB"
    )
    return Group(Text(title, style="italic"), table, Text("\n".join([*rates, costs])))
