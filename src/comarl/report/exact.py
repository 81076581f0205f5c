"""What each method must learn on a small game when every joint action is tried equally often (ε = 1).

Nothing here is learned, and no number is pasted: a method's table is the fixed point of its own regression, found
backwards from the end of the episode. In every state the target of a joint action is its reward plus γ times the
value of the method's *own* greedy action in the state that follows; the table is the best fit to these targets in
the class that the method can represent. A non-convex class has several fits that learning can end in.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Matrix = Float[np.ndarray, "A A"]
JointAction = tuple[int, int]
Kind = Literal["global", "local", "saddle"]

TIE = 1e-7
"""Exact values closer than this are equal: the solvers are right to about 1e-13."""


@dataclasses.dataclass(frozen=True)
class Game:
    """A deterministic game of two agents, written out state by state.

    Attributes:
        paths: for each state the joint actions that lead to it; the first state is where episodes begin.
        reward: for each state the team's reward of every joint action ``[A, A]``.
        successor: for each state and joint action the state that follows, None where the episode ends.
        limit: transitions after which an episode is cut; a cut ends no value.
    """

    paths: dict[str, tuple[JointAction, ...]]
    reward: dict[str, Matrix]
    successor: dict[str, dict[JointAction, str | None]]
    limit: int

    @property
    def returns_to_a_state(self) -> bool:
        """Whether a state can be visited twice in an episode."""
        order = list(self.paths)
        return any(
            after is not None and order.index(after) <= order.index(state)
            for state, to in self.successor.items()
            for after in to.values()
        )

    def play(self, choice: dict[str, JointAction]) -> float:
        """The undiscounted return of one joint action in every state."""
        state: str | None = next(iter(self.paths))
        total = 0.0
        for _ in range(self.limit):
            if state is None:
                break
            action = choice[state]
            total += float(self.reward[state][action])
            state = self.successor[state][action]
        return total


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fit in one state.

    Attributes:
        table: values of the joint actions ``[A, A]``, or of each agent's actions ``[2, A]``.
        value: what the state is worth to the step before: one number, or one per agent ``[2]``.
        greedy: the greedy joint actions, several where actions tie.
        mse: the mean squared error.
        kind: the best fit, the best near by, or one that only a special direction improves.
    """

    table: np.ndarray
    value: np.ndarray
    greedy: list[JointAction]
    mse: float
    kind: Kind = "global"


@dataclasses.dataclass(frozen=True)
class Optimum:
    """A fit in every state of a game.

    Attributes:
        name: its kind, numbered if there are several of it.
        tables: each state's table, ``[A, A]`` or ``[2, A]``.
        mse: the mean squared error, averaged over the states.
        returns: the returns that greedy play can have, whichever of tied actions it takes.
    """

    name: str
    tables: dict[str, np.ndarray]
    mse: float
    returns: list[float]

    def distance(self, tables: dict[str, np.ndarray]) -> float:
        """The largest difference to other tables of the same states."""
        return max(float(np.abs(tables[state] - table).max()) for state, table in self.tables.items())


Rule = Callable[[np.ndarray], list[Fit]]
"""From one state's targets, ``[A, A]`` or ``[A, A, 2]`` (one per agent), to the fits that learning can end in."""


def solve(game: Game, gamma: float, rule: Rule) -> list[Optimum]:
    """The fixed points of a method on a game: the best fits first, then local optima, then saddles.

    Where a state can be visited twice there is no last one to begin with: the best fits are then iterated from zero
    values. If they grow without end, or none of ``SWEEPS`` settles, there is no fixed point.
    """
    if game.returns_to_a_state:
        return _iterate(game, gamma, rule)
    solutions: list[dict[str, Fit]] = [{}]
    for state in reversed(game.paths):
        solutions = [{state: fit, **later} for later in solutions for fit in rule(_targets(game, gamma, state, later))]
    seen: Counter[Kind] = Counter()
    return [_optimum(game, solution, seen) for solution in sorted(solutions, key=_rank)]


SWEEPS = 5000
"""Of value iteration; with γ = .99 an error falls by 10²¹."""


def _iterate(game: Game, gamma: float, rule: Rule) -> list[Optimum]:
    """Value iteration, each state's value that of the best fit; nothing if it diverges."""
    nothing = Fit(np.zeros((0, 0)), np.zeros(()), [], 0.0)
    fits = dict.fromkeys(game.paths, nothing)
    for _ in range(SWEEPS):
        new = {s: min(rule(_targets(game, gamma, s, fits)), key=lambda fit: fit.mse) for s in game.paths}
        change = max(float(np.abs(new[s].value - fits[s].value).max()) for s in game.paths)
        fits = new
        if change < TIE / 100:
            return [_optimum(game, fits, Counter())]
        if change > DIVERGED:
            break
    return []


DIVERGED = 1e6
"""A change of a value in one sweep that no fixed point follows."""

KINDS: tuple[Kind, ...] = ("global", "local", "saddle")


def _rank(solution: dict[str, Fit]) -> tuple[int, float]:
    return KINDS.index(_kind(solution)), _mse(solution)


def _kind(solution: dict[str, Fit]) -> Kind:
    """That of the worst state."""
    return KINDS[max(KINDS.index(fit.kind) for fit in solution.values())]


def _mse(solution: dict[str, Fit]) -> float:
    return float(np.mean([fit.mse for fit in solution.values()]))


def _optimum(game: Game, solution: dict[str, Fit], seen: Counter[Kind]) -> Optimum:
    kind = _kind(solution)
    seen[kind] += 1
    choices = itertools.product(*(fit.greedy for fit in solution.values()))
    return Optimum(
        name=kind if seen[kind] == 1 else f"{kind} {seen[kind]}",
        tables={state: fit.table for state, fit in solution.items()},
        mse=_mse(solution),
        returns=sorted({game.play(dict(zip(solution, choice, strict=True))) for choice in choices}),
    )


def _targets(game: Game, gamma: float, state: str, later: dict[str, Fit]) -> np.ndarray:
    """r(u) + γ v(s'), from the states that follow."""
    reward = game.reward[state]
    values: list[np.ndarray] = []
    for action in np.ndindex(reward.shape):
        after = game.successor[state][action]
        values.append(np.zeros(()) if after is None else later[after].value)
    bootstrap = np.stack(np.broadcast_arrays(*values))
    bootstrap = bootstrap.reshape(*reward.shape, *bootstrap.shape[1:])
    return reward.reshape(*reward.shape, *(1,) * (bootstrap.ndim - 2)) + gamma * bootstrap


def full(target: Matrix) -> list[Fit]:
    """Every table can be represented: the full backup."""
    return [Fit(target, np.asarray(target.max()), _where(_is_max(target)), 0.0)]


def independent(target: Float[np.ndarray, "A A *agents"]) -> list[Fit]:
    """Each agent's mean over what the other may do, ``[2, A]``."""
    size = len(target)
    each = np.broadcast_to(target.reshape(size, size, -1), (size, size, 2))
    table = np.stack([each[..., 0].mean(1), each[..., 1].mean(0)])
    fitted = np.stack(np.broadcast_arrays(table[0][:, None], table[1][None]), axis=-1)
    greedy = _where(_is_max(table[0])[:, None] & _is_max(table[1])[None])
    return [Fit(table, table.max(-1), greedy, float(np.mean((fitted - each) ** 2)))]


def additive(target: Matrix) -> list[Fit]:
    """Least squares over Σ_i Q_i(u_i).

    A value of the state or a weight per agent adds nothing: both only shift or stretch utilities that are free in
    every state. VDN, VDN-S and QMIX-Lin therefore have one table.
    """
    size = len(target)
    action = np.indices(target.shape).reshape(2, -1)
    design = np.concatenate([np.eye(size)[action[0]], np.eye(size)[action[1]]], axis=1)
    utilities = np.linalg.lstsq(design, target.reshape(-1), rcond=None)[0]
    table = (design @ utilities).reshape(size, size)
    greedy = _where(_is_max(utilities[:size])[:, None] & _is_max(utilities[size:])[None])
    return [Fit(table, np.asarray(table.max()), greedy, float(np.mean((table - target) ** 2)))]


def convex_monotone(target: Matrix) -> list[Fit]:
    """Least squares over f(Q_1(u_1), Q_2(u_2)) for QMIX's mixing network f, of any width.

    Its weights are not negative and ELU is convex, so f is not only monotone: its units are convex functions of
    non-negative combinations, and so raising one utility pays more where the other is higher. With each agent's
    actions in the order of their utilities, the tables are therefore those with

    * no step down along a row or a column, and
    * no step of a row that is smaller than the same step of the row before (supermodular).

    Each of them is a limit of such networks: it is a sum, with weights that are not negative, of a constant, of
    steps [i ≥ a] and [j ≥ b] and of kinks [i ≥ a][j ≥ b], and if utilities are spread like -1, -M, -M² a saturating
    unit comes as close to each as one likes.

    For a pair of orders the tables form a convex cone, and the best one is found by non-negative least squares. A
    table is a local optimum if it is the best of every cone that holds it. Saddles are the best tables of fewer
    kinks: where all units are in ELU's linear part, f is additive, and no gradient tells them to make a kink. With
    no kink at all the table is VDN's.
    """
    size = len(target)
    permutations = list(itertools.permutations(range(size)))
    orders: list[Orders] = list(itertools.product(permutations, permutations))
    best = {order: _mean_square(_fit_in_order(target, order, None) - target) for order in orders}
    tables: dict[bytes, Matrix] = {}
    for order, kinks in itertools.product(orders, _subsets((size - 1) ** 2)):
        table = _fit_in_order(target, order, kinks)
        tables.setdefault((np.round(table, 6) + 0.0).tobytes(), table)
    fits: list[Fit] = []
    for table in tables.values():
        mse = _mean_square(table - target)
        cones = [order for order in orders if _lies_in_cone(table[np.ix_(*order)])]
        is_local = all(best[order] > mse - TIE for order in cones)
        kind = "saddle" if not is_local else "global" if mse < min(best.values()) + TIE else "local"
        greedy = sorted({(rows[-1], columns[-1]) for rows, columns in cones})
        fits.append(Fit(table, np.asarray(table.max()), greedy, mse, kind))
    return fits


Orders = tuple[tuple[int, ...], tuple[int, ...]]
"""Each agent's actions from the lowest utility to the highest."""


def _fit_in_order(target: Matrix, order: Orders, kinks: Bool[np.ndarray, " K"] | None) -> Matrix:
    """The best table of one cone, with some of the kinks left out."""
    from scipy.optimize import nnls  # a second that the command line's quick answers do not wait for

    design = _steps_and_kinks(len(target), kinks)
    index = np.ix_(*order)
    table = np.empty_like(target)
    table[index] = (design @ nnls(design, target[index].reshape(-1))[0]).reshape(target.shape)
    return table


def _steps_and_kinks(size: int, kinks: Bool[np.ndarray, " K"] | None) -> Float[np.ndarray, "cells parts"]:
    """The tables whose non-negative sums make up a cone, flat, one per column."""
    i, j = np.indices((size, size)).reshape(2, -1, 1)
    rows, columns = i >= np.arange(1, size), j >= np.arange(1, size)
    both = (rows[:, :, None] & columns[:, None, :]).reshape(size * size, -1)
    constant = np.ones((size * size, 1))
    # The constant may be negative.
    return np.concatenate([constant, -constant, rows, columns, both if kinks is None else both[:, kinks]], axis=1)


def _lies_in_cone(table: Matrix) -> bool:
    down, right = np.diff(table, axis=0), np.diff(table, axis=1)
    steps = (down.min(), right.min(), np.diff(down, axis=1).min())
    return bool(min(steps) > -TIE)


def _subsets(size: int) -> Iterator[Bool[np.ndarray, " size"]]:
    return (np.array(chosen) for chosen in itertools.product([True, False], repeat=size))


def _mean_square(x: np.ndarray) -> float:
    return float(np.mean(x**2))


def _is_max(values: np.ndarray) -> np.ndarray:
    return values > values.max() - TIE


def _where(chosen: Bool[np.ndarray, "A A"]) -> list[JointAction]:
    return [(int(row), int(column)) for row, column in np.argwhere(chosen)]


RULES: dict[str, Rule] = {
    "iql": independent,
    "vdn": additive,
    "vdn-s": additive,
    "qmix": convex_monotone,
    "qmix-ns": convex_monotone,  # in games of several states: if one mixing network suits them all
    "qmix-lin": additive,
    "qatten": additive,  # utilities weighted by the state: in every state a weighted VDN
    "qplex": full,  # every table with one best joint action
    "qtran-base": full,
    "qtran-alt": full,
    "cw-qmix": full,
    "ow-qmix": full,
    "joint": full,
}
"""The methods whose fits are known; a method that is not here has no exact table. Those of QTRAN and weighted QMIX are
of the unrestricted value; what Q_tot becomes beside it is not one table but any that keeps to their conditions."""
