"""``comarl regret``: how often a mixer's greedy joint action is the best one, on random payoffs.

Nothing is imported here that imports JAX: a mistyped name is answered at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from comarl.errors import ComarlError
from comarl.experiments.methods import require_method
from comarl.report.curves import CONFIDENCE, RESAMPLES
from comarl.report.figures import COLOURS, new_figure, save_figure

if TYPE_CHECKING:
    from comarl.experiments.progress import Progress

DEFAULT_METHODS = ("iql", "vdn", "qmix", "qplex", "qatten", "qtran-base", "qtran-alt", "cw-qmix", "ow-qmix", "joint")
STEPS, RESTARTS = 4000, 4
MAX_JOINT_ACTIONS = 1024
"""Every step of a fit takes all of them, for all games side by side."""
MOST_EXACT = 3
"""Actions up to which best fits are searched for: QMIX's takes 576 regressions for three, and 295,000 for four."""
WEIGHTED = ("cw-qmix", "ow-qmix")
MAX_GAMES = 10_000
"""The fits of all games are in memory at once."""

Payoffs = Literal["uniform", "normal"]


def require_sizes(games: int, agents: int, actions: int, seed: int) -> None:
    """Refuse what cannot be fitted.

    Raises:
        ComarlError: naming the setting and its range.
    """
    for name, value in {"games": games, "agents": agents, "actions": actions}.items():
        if value < 1:
            raise ComarlError(f"{name}={value}: must be positive")
    if seed < 0:
        raise ComarlError(f"seed={seed}: must not be negative")
    if games > MAX_GAMES:
        raise ComarlError(f"games={games}: at most {MAX_GAMES}")
    if actions**agents > MAX_JOINT_ACTIONS:
        raise ComarlError(
            f"{actions} actions of {agents} agents are {actions**agents} joint actions (limit {MAX_JOINT_ACTIONS}): "
            "ask for fewer --actions or --agents"
        )


def draw_payoffs(kind: Payoffs, games: int, agents: int, actions: int, seed: int) -> Float[np.ndarray, "G *actions"]:
    """Payoffs of ``G`` games, each drawn by itself: uniform in [0, 1], or standard normal."""
    draw = np.random.default_rng(seed)
    sizes = (games, *(actions,) * agents)
    return (draw.uniform(size=sizes) if kind == "uniform" else draw.normal(size=sizes)).astype(np.float32)


def run_regret(
    methods: tuple[str, ...],
    progress: "Progress",
    *,
    games: int = 100,
    agents: int = 2,
    actions: int = 3,
    payoffs: Payoffs = "uniform",
    seed: int = 0,
) -> dict[str, Any]:
    """Fit each method to the same random games.

    Args:
        methods: by name; ``DEFAULT_METHODS`` if there is none.
        progress: who is told.
        games: G, how many are drawn.
        agents: N.
        actions: A, of each agent.
        payoffs: their distribution.
        seed: of the payoffs and of the initial parameters.

    Returns:
        The object that ``comarl regret --json`` prints, without ``file``.

    Raises:
        ComarlError: for an unknown method or a size that cannot be.
    """
    methods = tuple(dict.fromkeys(methods)) or DEFAULT_METHODS
    for method in methods:
        require_method(method)
    require_sizes(games, agents, actions, seed)
    drawn = draw_payoffs(payoffs, games, agents, actions, seed)
    rows: list[dict[str, Any]] = []
    for method in methods:
        progress.say(f"fitting {method} to {games} games …")
        measured = described(regrets_of(method, drawn, seed))
        rows.append({"method": method, **measured, "best_fit_optimal": best_fit_optimal(method, drawn)})
    flat = drawn.reshape(games, -1)
    return {
        "games": games,
        "agents": agents,
        "actions": actions,
        "payoffs": payoffs,
        "seed": seed,
        "steps": STEPS,
        "restarts": RESTARTS,
        "random": {
            "optimal": round(1 / flat.shape[1], 6),
            "mean_regret": round(float((flat.max(1) - flat.mean(1)).mean()), 6),
        },
        "rows": rows,
    }


def regrets_of(method: str, payoffs: Float[np.ndarray, "G *actions"], seed: int) -> Float[np.ndarray, " G"]:
    """The best payoff of each game less that of the fitted mixer's greedy joint action."""
    import jax.numpy as jnp

    from comarl.experiments.backend import prepare
    from comarl.report.fits import fit_best, fit_settings

    prepare()
    fitted = fit_best(fit_settings(method), jnp.asarray(payoffs), steps=STEPS, restarts=RESTARTS, seed=seed)
    return payoffs.reshape(len(payoffs), -1).max(1) - np.asarray(fitted.greedy_payoff)


def best_fit_optimal(method: str, payoffs: Float[np.ndarray, "G *actions"]) -> float | None:
    """The share of games whose best joint action is the greedy one of the best fit that the method can represent.

    Where the fits by gradient say less, they stopped short of it. Tied greedy joint actions count by their share.

    Returns:
        None where the best fit is not known: for weighted QMIX, whose loss is another one, and for other games than
        those of two agents with at most ``MOST_EXACT`` actions.
    """
    if method in WEIGHTED or payoffs.ndim != 3 or payoffs.shape[1] > MOST_EXACT:
        return None
    from comarl.report.exact import RULES

    shares: list[float] = []
    for payoff in payoffs.astype(np.float64):
        fits = [fit for fit in RULES[method](payoff) if fit.kind == "global"]
        shares.append(float(np.mean([payoff[action] == payoff.max() for fit in fits for action in fit.greedy])))
    return round(float(np.mean(shares)), 6)


def described(regrets: Float[np.ndarray, " G"]) -> dict[str, Any]:
    """The share of games without regret, and the mean regret with its bootstrap interval over games."""
    low, high = _interval(regrets)
    return {
        "optimal": round(float((regrets == 0).mean()), 6),
        "mean_regret": round(float(regrets.mean()), 6),
        "regret_interval": [round(low, 6), round(high, 6)],
        "regrets": [round(float(r), 6) for r in regrets],
    }


def _interval(values: Float[np.ndarray, " G"]) -> tuple[float, float]:
    """The 95% interval of the mean between percentiles of resamples; a single value is both of its ends."""
    if len(values) == 1:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap

    interval = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0
    ).confidence_interval
    return float(interval.low), float(interval.high)


def print_regret(result: dict[str, Any], console: Console) -> None:
    """A line per method, and one of random play."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("method", "greedy is best", "of the best fit", "mean regret", f"{CONFIDENCE:.0%} interval"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in result["rows"]:
        low, high = row["regret_interval"]
        best = row["best_fit_optimal"]
        shares = f"{row['optimal']:.0%}", "–" if best is None else f"{best:.0%}"
        table.add_row(row["method"], *shares, f"{row['mean_regret']:.3f}", f"[{low:.3f}, {high:.3f}]")
    table.add_section()
    random = result["random"]
    table.add_row("random play", f"{random['optimal']:.0%}", "", f"{random['mean_regret']:.3f}", "")
    console.print(Group(Text(f"{_title(result)}\n{_how(result)}", style="italic"), table))


def _title(result: dict[str, Any]) -> str:
    agents = "1 agent" if result["agents"] == 1 else f"{result['agents']} agents"
    how = "uniform in [0, 1]" if result["payoffs"] == "uniform" else "standard normal"
    return f"{result['games']} games of {agents} with {result['actions']} actions, payoffs {how}, seed {result['seed']}"


def _how(result: dict[str, Any]) -> str:
    """What was measured: gradient descent, not what the method could represent."""
    return f"each fitted {result['restarts']} times by {result['steps']} steps of gradient, the fit of least loss kept"


def draw_regret(result: dict[str, Any], out: Path) -> None:
    """Draw what :func:`run_regret` returned.

    Raises:
        ComarlError: if matplotlib is missing or the file cannot be written.
    """
    save_figure(figure_of(result), out)


def figure_of(result: dict[str, Any]) -> Any:
    """The matplotlib figure: the shares beside the mean regrets, a bar per method."""
    from matplotlib.ticker import PercentFormatter

    rows = result["rows"]
    names = [row["method"] for row in rows]
    figure = new_figure(7.6, 1.5 + 0.32 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(names, [row["optimal"] for row in rows], color=COLOURS[0])
    known = [(row["best_fit_optimal"], i) for i, row in enumerate(rows) if row["best_fit_optimal"] is not None]
    if known:
        left.plot(*zip(*known, strict=True), "|", color="black", markersize=11, markeredgewidth=2, label="best fit")
    left.set(xlabel="games whose best joint action is the greedy one", xlim=(0, 1))
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    mean = np.array([row["mean_regret"] for row in rows])
    ends = np.array([row["regret_interval"] for row in rows])
    # Rounding may put the mean of equal values a hair outside.
    around = np.maximum(0, [mean - ends[:, 0], ends[:, 1] - mean])
    right.barh(names, mean, xerr=around, color=COLOURS[0], ecolor="0.25", capsize=3)
    right.set_xlabel(f"mean regret, {CONFIDENCE:.0%} bootstrap interval")
    for axes, value in ((left, result["random"]["optimal"]), (right, result["random"]["mean_regret"])):
        axes.axvline(value, color="0.35", linestyle=":", linewidth=1.3, label="random play")
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    left.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(f"{_title(result)}\n{_how(result)}", fontsize=9)
    return figure
