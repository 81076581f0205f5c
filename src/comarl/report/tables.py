"""``comarl tables``: what methods learn on small games, beside what they must learn.

Nothing is imported here that imports JAX: a mistyped name is answered at once.
"""

import dataclasses
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from comarl.errors import ComarlError, unknown_name
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig
from comarl.experiments.methods import METHODS, require_method
from comarl.experiments.presets import resolve
from comarl.experiments.scores import episode_scores
from comarl.report.exact import RULES, Optimum, solve

if TYPE_CHECKING:
    from comarl.experiments.progress import Progress
    from comarl.training.ondevice import OnDevice
    from comarl.training.seeds import Seeds

DEFAULT_METHODS = ["iql", "vdn", "vdn-s", "qmix", "qmix-ns", "qmix-lin", "joint"]


@dataclasses.dataclass(frozen=True)
class SmallGame:
    """A game of two agents that is small enough to be known exactly.

    Attributes:
        env: its name as an environment.
        states: what its states are called, in the order in which they are found.
    """

    env: str
    states: tuple[str, ...]

    @property
    def one_step(self) -> bool:
        """Whether an episode is a single joint action, so that its return is a payoff."""
        return len(self.states) == 1


GAMES = {
    "two-step": SmallGame("two-step", ("1", "2A", "2B")),
    "qtran": SmallGame("matrix/qtran", ("1",)),
    "qplex-1": SmallGame("matrix/qplex-1", ("1",)),
    "qplex-3": SmallGame("matrix/qplex-3", ("1",)),
    "mmdp": SmallGame("mmdp/game-1", ("1", "0")),
}


def unknown_game(name: str) -> ComarlError:
    """The error for a game without tables, which lists those that have them."""
    return unknown_name("game", name, GAMES, f"one of {', '.join(GAMES)}")


def run_tables(game: str, methods: list[str], seeds: int, progress: "Progress") -> dict[str, Any]:
    """Train each method with its preset on a game of :data:`GAMES` and read its tables off the trained networks.

    Returns:
        The object that ``comarl tables GAME --json`` prints: ``game``, ``gamma``, ``rows`` and ``exact``.

        A row has ``method``, ``seed``, the ``greedy_return`` of an episode, and its ``tables`` by state: Q_tot, the
        mixer's value, of the joint actions ``[A, A]``, the first agent's action the row, or for IQL each agent's
        utilities ``[2, A]``. ``central`` has the unrestricted value's tables where a method learns one beside Q_tot
        (QTRAN, weighted QMIX), else null. ``greedy_payoff`` is what the greedy joint action pays in a game of one
        step, else null.
        ``optimum`` names the exact fit that is nearest and ``max_abs_error`` is the largest difference to it, of
        ``central`` where there is one; both are null for a method without an exact table.

        ``exact`` has for each method, by name, the global fits and those that a seed is nearest to: the ``mse``,
        the ``returns`` that greedy play can have (several if actions tie) and the ``tables``.

    Raises:
        ComarlError: for an unknown game or method, or if there is no seed.
    """
    if game not in GAMES:
        raise unknown_game(game)
    methods = list(dict.fromkeys(methods)) or DEFAULT_METHODS
    for method in methods:
        if not require_method(method).values:
            able = ", ".join(name for name, other in METHODS.items() if other.values)
            raise ComarlError(f"'{method}' has a policy and no table of values: use a method of {able}")
    configs = [resolve(method, GAMES[game].env, {"seeds": seeds}) for method in methods]
    for config in configs:
        check(config)
    rows: list[dict[str, Any]] = []
    exact: dict[str, dict[str, Any]] = {}
    for config in configs:
        optima, learned = _learn(config, GAMES[game], progress)
        near = [min(optima, key=lambda o: o.distance(row.fitted), default=None) for row in learned]
        pairs = zip(learned, near, strict=True)
        rows += [_row(config.method, GAMES[game], row, optimum) for row, optimum in pairs]
        exact[config.method] = {o.name: _plain(o) for o in optima if o.name.startswith("global") or o in near}
    return {"game": game, "gamma": configs[0].learner.gamma, "rows": rows, "exact": exact}


@dataclasses.dataclass(frozen=True)
class Learned:
    """What one seed learned.

    Attributes:
        seed: its number.
        greedy_return: the return of a greedy episode.
        tables: by state, Q_tot of the joint actions, or utilities where there is none.
        central: by state, the unrestricted value of the joint actions, of a method that learns one beside Q_tot.
    """

    seed: int
    greedy_return: float
    tables: dict[str, np.ndarray]
    central: dict[str, np.ndarray] | None = None

    @property
    def fitted(self) -> dict[str, np.ndarray]:
        """The tables that are regressed on the targets, and that the exact ones are of."""
        return self.central or self.tables


def _learn(config: RunConfig, game: SmallGame, progress: "Progress") -> tuple[list[Optimum], list[Learned]]:
    """The exact fits of a method, and what each seed learned."""
    from comarl.envs.base import require_jax
    from comarl.envs.registry import make_env
    from comarl.experiments.backend import prepare
    from comarl.experiments.build import build_driver, build_env
    from comarl.report.learned import read_tables, tabulate
    from comarl.training.seeds import Seeds

    prepare()
    written_out = tabulate(require_jax(make_env(game.env)), game.states)
    optima = solve(written_out, config.learner.gamma, RULES[config.method]) if config.method in RULES else []
    env = require_jax(build_env(config))
    driver = build_driver(config, env)
    progress.say(f"compiling {config.method} on {config.env} …")
    programs = Seeds(driver, list(range(config.seed, config.seed + config.seeds)))
    returns = _train(config, driver, programs, progress)
    return optima, [
        Learned(seed, returns[seed], *read_tables(env, programs.state(seed).learner.online, written_out))
        for seed in programs.seeds
    ]


def _train(config: RunConfig, driver: "OnDevice", programs: "Seeds", progress: "Progress") -> dict[int, float]:
    """Train all seeds to the end; the return of each one's last greedy episode."""
    chunk_steps = driver.iterations * driver.steps_per_iteration
    chunks = math.ceil(config.steps / chunk_steps)
    returns: dict[int, float] = {}
    progress.start(dict.fromkeys(programs.seeds, 0), chunks * chunk_steps, f"return of {config.method}")
    for chunk in programs.run(chunks):
        steps = (chunk.number + 1) * chunk_steps
        returns[chunk.seed] = float(episode_scores(config, np.asarray(chunk.log.evaluation.returns), {}).mean())
        row = {"loss": float(chunk.log.metrics["loss"][-1]), "score": returns[chunk.seed]}
        progress.update(chunk.seed, steps, driver.learner.algorithm.schedules(steps) | row)
    progress.stop()
    return returns


def _row(method: str, game: SmallGame, learned: Learned, optimum: Optimum | None) -> dict[str, Any]:
    greedy_return = round(learned.greedy_return, 6)
    return {
        "method": method,
        "seed": learned.seed,
        "greedy_return": greedy_return,
        "greedy_payoff": greedy_return if game.one_step else None,
        "max_abs_error": round(optimum.distance(learned.fitted), 6) if optimum else None,
        "optimum": optimum.name if optimum else None,
        "tables": _lists(learned.tables),
        "central": learned.central and _lists(learned.central),
    }


def _plain(optimum: Optimum) -> dict[str, Any]:
    returns = [round(r, 6) for r in optimum.returns]
    return {"mse": round(optimum.mse, 6), "returns": returns, "tables": _lists(optimum.tables)}


def _lists(tables: dict[str, np.ndarray]) -> dict[str, list[list[float]]]:
    return {state: (table.round(6) + 0.0).tolist() for state, table in tables.items()}


def print_tables(result: dict[str, Any], console: Console) -> None:
    """Learned beside exact for each method, and a line per method at the end.

    Args:
        result: what :func:`run_tables` returned.
        console: 100 columns are enough.
    """
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        rows_of.setdefault(row["method"], []).append(row)
    for method, rows in rows_of.items():
        for optimum in sorted({row["optimum"] for row in rows}, key=str):
            near = [row for row in rows if row["optimum"] == optimum]
            console.print(f"[bold]{method}[/]: {_about(near, len(rows), result['exact'][method].get(optimum))}")
            if rows[0]["central"]:
                console.print("[italic]unrestricted value[/]")
                console.print(_beside(near, result["exact"][method].get(optimum), "central"))
                console.print("[italic]Q_tot, the factorised value beside it[/]")
                console.print(_beside(near, None))
            else:
                console.print(_beside(near, result["exact"][method].get(optimum)))
    console.print(_summary(rows_of, result["exact"]))
    if any(row["optimum"] not in (None, "global") for row in result["rows"]):
        console.print(NOT_GLOBAL, style="italic")


NOT_GLOBAL = (
    "QMIX's class of tables is not convex. global: its best fit. local: no table near by fits better. saddle: better "
    "ones are near, but only units that bend between two actions lead there, and there are none yet."
)


def _about(near: list[dict[str, Any]], seeds: int, exact: dict[str, Any] | None) -> str:
    if exact is None:
        return f"{seeds} seeds, no exact table"
    error = max(row["max_abs_error"] for row in near)
    fit = f"{near[0]['optimum']} fit (mean squared error {exact['mse']:.3f})"
    return f"{len(near)} of {seeds} seeds nearest to the {fit}; largest difference {error:.3f}"


def _beside(rows: list[dict[str, Any]], exact: dict[str, Any] | None, which: str = "tables") -> Table:
    """Each state's exact table, and the learned one as mean over the seeds ± largest deviation from the mean."""
    states: dict[str, Any] = rows[0][which]
    actions = "ABCDEFGHIJ"[: len(next(iter(states.values()))[0])]
    per_agent = rows[0]["method"] in PER_AGENT
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("state")
    table.add_column("agent" if per_agent else "1 \\ 2")
    for name in (*([f"exact {a}" for a in actions] if exact else []), *(f"learned {a}" for a in actions)):
        table.add_column(name, justify="right", no_wrap=True)
    for state in states:
        learned = np.array([row[which][state] for row in rows])
        mean, spread = learned.mean(0), np.abs(learned - learned.mean(0)).max(0)
        for i, values in enumerate(mean):
            left = [_number(x) for x in exact["tables"][state][i]] if exact else []
            right = [f"{_number(m)} ±{d:.2f}" for m, d in zip(values, spread[i], strict=True)]
            last = i == len(mean) - 1
            name = str(i + 1) if per_agent else actions[i]
            table.add_row("" if i else state, name, *left, *right, end_section=last)
    return table


PER_AGENT = {name for name, method in METHODS.items() if not method.team_value}
"""Methods without a value of the team: their tables are of utilities."""


def _summary(rows_of: dict[str, list[dict[str, Any]]], exact: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("method", "greedy return", "exact", "seeds there", "largest error", "nearest fit"):
        table.add_column(name, justify="left" if name in ("method", "nearest fit") else "right")
    for method, rows in rows_of.items():
        returns = Counter(row["greedy_return"] for row in rows)
        if not exact[method]:
            table.add_row(method, _counts(returns), "–", "–", "–", "–")
            continue
        best = exact[method]["global"]["returns"]
        there = sum(row["greedy_return"] in best for row in rows)
        error = max(row["max_abs_error"] for row in rows)
        fits = _counts(Counter(row["optimum"] for row in rows))
        expected = " or ".join(f"{r:g}" for r in best)
        table.add_row(method, _counts(returns), expected, f"{there} of {len(rows)}", f"{error:.3f}", fits)
    return table


def _counts(counter: Counter[Any]) -> str:
    """``8`` if all agree, else ``8 ×7, 0 ×3``.

    >>> _counts(Counter([8.0, 0.0, 8.0])), _counts(Counter(["global"]))
    ('8 ×2, 0 ×1', 'global')
    """
    names = [(x if isinstance(x, str) else f"{x:g}", n) for x, n in counter.most_common()]
    return names[0][0] if len(names) == 1 else ", ".join(f"{x} ×{n}" for x, n in names)


def _number(x: float) -> str:
    return f"{round(x, 2) + 0.0:.2f}"
