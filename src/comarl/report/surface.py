"""``comarl surface``: Q_tot over the utilities of two agents, fitted to a matrix game.

Nothing is imported here that imports JAX: a mistyped name is answered at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from comarl.envs.registry import FAMILIES
from comarl.errors import ComarlError, unknown_name
from comarl.experiments.methods import METHODS, require_method
from comarl.report.figures import COLOURS, new_figure, save_figure

if TYPE_CHECKING:
    from comarl.experiments.progress import Progress
    from comarl.report.fits import Fitted

GAMES = FAMILIES["matrix"].variants
FACTORED = tuple(name for name, method in METHODS.items() if method.values and method.team_value and name != "joint")
"""The methods that make one value of several utilities."""
DEFAULT_METHODS = ("vdn", "qmix", "qplex")

STEPS, RESTARTS, SEED = 10_000, 16, 0
POINTS = 61
"""Of the grid, along each utility."""
MARGIN = 0.05
"""How far the grid reaches below the utilities, as a share of their range."""
NARROWEST = 1e-3
"""The least such range, where all utilities of an agent are equal."""
ACTIONS = "ABCDEFGHIJ"


def require_names(game: str, methods: tuple[str, ...]) -> None:
    """Refuse what cannot be drawn, before anything is loaded.

    Raises:
        ComarlError: for an unknown game or method, or for a method without a value made of utilities.
    """
    if game not in GAMES:
        raise unknown_name("matrix game", game, GAMES, f"one of {', '.join(GAMES)}")
    for name in methods:
        require_method(name)
        if name not in FACTORED:
            raise ComarlError(f"'{name}' makes no Q_tot of the agents' utilities: choose among {', '.join(FACTORED)}")


def run_surface(game: str, methods: tuple[str, ...], progress: "Progress") -> dict[str, Any]:
    """Fit each method to the payoffs of ``matrix/<game>`` and follow its Q_tot over the two utilities.

    Returns:
        The object that ``comarl surface --json`` prints, without ``file``.

    Raises:
        ComarlError: see :func:`require_names`.
    """
    methods = tuple(dict.fromkeys(methods)) or DEFAULT_METHODS
    require_names(game, methods)
    import jax.numpy as jnp

    from comarl.envs.games.matrix import PAYOFFS
    from comarl.experiments.backend import prepare
    from comarl.report.fits import fit_best, fit_settings, only

    prepare()
    payoff = jnp.asarray(PAYOFFS[game], jnp.float32)
    fits: list[dict[str, Any]] = []
    for method in methods:
        progress.say(f"fitting {method} to matrix/{game} …")
        fitted = fit_best(fit_settings(method), payoff[None], steps=STEPS, restarts=RESTARTS, seed=SEED)
        fits.append({"method": method, **_described(only(fitted), np.asarray(payoff))})
    return {"game": game, "payoffs": PAYOFFS[game], "restarts": RESTARTS, "seed": SEED, "fits": fits}


def _described(fitted: "Fitted", payoff: np.ndarray) -> dict[str, Any]:
    q1, q2, q_tot = surface_of(fitted)
    return {
        "mse": round(float(np.mean((np.asarray(fitted.table) - payoff) ** 2)), 6),
        "greedy": np.asarray(fitted.joint.action).tolist(),
        "greedy_payoff": round(float(fitted.greedy_payoff), 6),
        "utilities": _rounded(fitted.joint.q),
        "table": _rounded(fitted.table),
        "surface": {"q1": _rounded(q1), "q2": _rounded(q2), "q_tot": _rounded(q_tot)},
    }


def _rounded(x: Any) -> list[Any]:
    return (np.asarray(x, np.float64).round(6) + 0.0).tolist()


def surface_of(fitted: "Fitted", points: int = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q_tot over a grid of the two agents' utilities.

    At each point of the grid each agent takes the action whose fitted utility is nearest, and that utility is moved
    to the point, while its best utility V_i stays. For VDN and QMIX it does not matter which action that is. QPLEX
    weighs the advantages Q_i - V_i by the joint action: its surface has a piece for each, and through the fitted
    utilities it passes exactly.

    Args:
        fitted: of one game of two agents.
        points: P, of the grid along each utility.

    Returns:
        Utilities of the first agent ``[P]`` and of the second ``[P]``, and Q_tot ``[P, P]``, the first agent's
        utility the row.
    """
    import jax
    import jax.numpy as jnp

    joint = fitted.joint
    low, high = joint.q.min(-1), joint.q.max(-1)
    margin = MARGIN * jnp.maximum(high - low, NARROWEST)
    q1, q2 = (jnp.linspace(low[i] - margin[i], high[i], points) for i in range(2))
    agents = jnp.arange(2)

    def q_tot(x: Any, y: Any) -> Any:
        moved = jnp.stack([x, y])
        action = jnp.abs(joint.q - moved[:, None]).argmin(-1).astype(jnp.int32)
        another = (action + 1) % joint.q.shape[-1]  # stands in for the best action where that is the one moved
        q = joint.q.at[agents, another].set(high).at[agents, action].set(moved)
        return fitted.mixer(joint._replace(q=q, action=action))

    over_grid = jax.jit(jax.vmap(jax.vmap(q_tot, in_axes=(None, 0)), in_axes=(0, None)))
    return np.asarray(q1), np.asarray(q2), np.asarray(over_grid(q1, q2))


def fit_table(result: dict[str, Any]) -> Table:
    """A line per method: its error and its greedy joint action."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("method", "mean squared error", "greedy joint action", "payoff"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for fit in result["fits"]:
        table.add_row(fit["method"], f"{fit['mse']:.3f}", _letters(fit["greedy"]), f"{fit['greedy_payoff']:g}")
    return table


def _letters(action: list[int]) -> str:
    return "".join(ACTIONS[a] for a in action)


COLUMNS = 3
PANEL = (4.3, 4.2)
HEADER, FOOTER = 0.55, 0.4
"""Inches: of a panel, of the figure's title above all panels and of the legend below them."""


def draw_surface(result: dict[str, Any], out: Path) -> None:
    """Draw what :func:`run_surface` returned.

    Raises:
        ComarlError: if matplotlib is missing or the file cannot be written.
    """
    save_figure(figure_of(result), out)


def figure_of(result: dict[str, Any]) -> Any:
    """The matplotlib figure: a panel per method, all with the same vertical axis."""
    fits = result["fits"]
    columns = min(COLUMNS, len(fits))
    rows = -(-len(fits) // columns)
    width, height = columns * PANEL[0], rows * PANEL[1] + HEADER + FOOTER
    figure = new_figure(width, height, layout=None)
    figure.suptitle(f"$Q_{{tot}}$ fitted to the payoffs of matrix/{result['game']}", y=1 - 0.18 / height, va="top")
    panels = [
        figure.add_subplot(rows, columns, i + 1, projection="3d", computed_zorder=False) for i in range(len(fits))
    ]
    figure.subplots_adjust(
        left=0.045,
        right=0.99,
        top=1 - (HEADER + 0.45) / height,
        bottom=(FOOTER + 0.1) / height,
        wspace=0.1,
        hspace=0.25,
    )
    for axes, fit in zip(panels, fits, strict=True):
        _draw_panel(axes, fit, np.array(result["payoffs"]), _limits(result))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _best(payoff: np.ndarray) -> tuple[int, int]:
    """The joint action that pays most: it is named beside the greedy one, which is another where the fit fails."""
    row, column = np.unravel_index(int(payoff.argmax()), payoff.shape)
    return int(row), int(column)


def _limits(result: dict[str, Any]) -> tuple[float, float]:
    """The common vertical axis: all payoffs and all fitted values."""
    values = np.concatenate([np.ravel(result["payoffs"]), *(np.ravel(fit["table"]) for fit in result["fits"])])
    margin = MARGIN * (values.max() - values.min())
    return float(values.min() - margin), float(values.max() + margin)


def _draw_panel(axes: Any, fit: dict[str, Any], payoff: np.ndarray, limits: tuple[float, float]) -> None:
    """The surface, and each payoff above or below the value that was fitted to it."""
    grid = fit["surface"]
    q1, q2 = np.meshgrid(grid["q1"], grid["q2"], indexing="ij")
    q_tot = np.clip(grid["q_tot"], *limits)
    axes.plot_surface(
        q1,
        q2,
        q_tot,
        cmap="viridis",
        vmin=limits[0],
        vmax=limits[1],
        alpha=0.7,
        linewidth=0,
        rcount=POINTS,
        ccount=POINTS,
    )
    x, y = np.meshgrid(*fit["utilities"], indexing="ij")
    for at, pay, value in zip(zip(x.flat, y.flat, strict=True), payoff.flat, np.ravel(fit["table"]), strict=True):
        axes.plot([at[0]] * 2, [at[1]] * 2, [value, pay], color="0.25", linewidth=0.8, zorder=2)
    axes.scatter(x, y, payoff, color=COLOURS[1], depthshade=False, s=22, zorder=3, label="payoff of a joint action")
    row, column = fit["greedy"]
    greedy = (x[row, column], y[row, column], payoff[row, column])
    axes.scatter(
        *greedy, facecolor="none", edgecolor="black", s=90, depthshade=False, zorder=4, label="the greedy joint action"
    )
    for named in {(row, column), _best(payoff)}:
        axes.text(x[named], y[named], payoff[named], f"   {_letters(list(named))}", zorder=5, fontsize=9)
    axes.set_title(
        f"{fit['method']}\nmean squared error {fit['mse']:.2f}, greedy payoff {fit['greedy_payoff']:g}", fontsize=9
    )
    axes.set(xlabel="$Q_1$", ylabel="$Q_2$", zlim=limits)
    axes.set_zlabel("$Q_{tot}$")
    axes.tick_params(labelsize=7, pad=1)
    axes.view_init(elev=22, azim=-125)
    axes.set_box_aspect(None, zoom=1.03)
