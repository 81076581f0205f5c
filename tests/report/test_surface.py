"""Q_tot as a surface: it passes through the fitted values, and VDN's is a plane."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.games.matrix import PAYOFFS
from comarl.errors import ComarlError
from comarl.experiments.progress import Silent
from comarl.report import surface
from comarl.report.fits import Fitted, fit_best, fit_settings, only
from comarl.report.surface import figure_of, fit_table, run_surface, surface_of


def fitted(method: str, game: str = "qtran") -> Fitted:
    """A few steps: what a surface is does not depend on how good the fit is."""
    return only(fit_best(fit_settings(method), jnp.asarray(PAYOFFS[game], jnp.float32)[None], steps=50))


def test_vdns_surface_is_the_plane_of_sums() -> None:
    q1, q2, q_tot = surface_of(fitted("vdn"), points=9)
    np.testing.assert_allclose(q_tot, q1[:, None] + q2[None], atol=1e-5)


@pytest.mark.parametrize("method", ["qmix-ns", pytest.param("qplex", marks=pytest.mark.paper)])
def test_passes_through_the_fitted_values(method: str) -> None:
    """The grid's last point is each agent's best utility: Q_tot there is the table's greatest entry."""
    fit = fitted(method)
    q1, q2, q_tot = surface_of(fit, points=9)
    assert q1[-1] == fit.joint.q[0].max()
    assert q2[-1] == fit.joint.q[1].max()
    np.testing.assert_allclose(q_tot[-1, -1], fit.table.max(), rtol=1e-5)
    np.testing.assert_allclose(q_tot.max(), fit.table.max(), rtol=1e-5)


def test_monotone() -> None:
    q_tot = surface_of(fitted("qmix-ns"), points=9)[2]
    assert (np.diff(q_tot, axis=0) >= 0).all()
    assert (np.diff(q_tot, axis=1) >= 0).all()


@pytest.fixture(scope="module", name="result")
def _result() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface, "STEPS", 2000)
        patch.setattr(surface, "RESTARTS", 2)
        patch.setattr(surface, "POINTS", 7)
        return run_surface("qtran", ("vdn", "vdn-s", "vdn"), Silent())


def test_result(result: dict[str, Any]) -> None:
    assert [fit["method"] for fit in result["fits"]] == ["vdn", "vdn-s"]
    payoff = np.array(result["payoffs"])
    additive = payoff.mean(1, keepdims=True) + payoff.mean(0, keepdims=True) - payoff.mean()
    for fit in result["fits"]:
        np.testing.assert_allclose(fit["table"], additive, atol=0.01)
        assert fit["mse"] == pytest.approx(((additive - payoff) ** 2).mean(), abs=0.01)
        assert fit["greedy_payoff"] == payoff[tuple(fit["greedy"])] == 0
    assert list(fit_table(result).columns[0].cells) == ["vdn", "vdn-s"]


def test_titles_of_panels_stand_below_the_figures(result: dict[str, Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = figure_of(result | {"fits": result["fits"] * 2})  # two rows
    renderer = FigureCanvasAgg(figure).get_renderer()
    title = figure._suptitle.get_window_extent(renderer)
    panels = [axes.title.get_window_extent(renderer) for axes in figure.axes]
    assert len(panels) == 4
    assert title.y0 > max(panel.y1 for panel in panels)
    for i, one in enumerate(panels):
        assert not any(one.overlaps(other) for other in panels[i + 1 :])


@pytest.mark.parametrize(
    ("game", "method", "line"),
    [
        ("qtram", "vdn", "unknown matrix game 'qtram': did you mean 'qtran'"),
        ("qtran", "qmx", "unknown method 'qmx'"),
        ("qtran", "joint", "'joint' makes no Q_tot of the agents' utilities: choose among vdn"),
        ("qtran", "iql", "'iql' makes no Q_tot"),
    ],
)
def test_mistakes(game: str, method: str, line: str) -> None:
    with pytest.raises(ComarlError, match=line):
        run_surface(game, (method,), Silent())
