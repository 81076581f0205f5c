"""The picture of who weighs whom over an episode: what it says, from results made by hand."""

from typing import Any

import numpy as np
import pytest

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.report.attention import figure_of, require_company

STEPS, AGENTS = 5, 3


def result(method: str, weights: np.ndarray, **changes: Any) -> dict[str, Any]:
    """An episode in which the agents took the actions 0, 4 and 9, and the last one had no choice."""
    return {
        "method": method,
        "env": "somewhere",
        "seed": 0,
        "episode": 0,
        "length": STEPS,
        "return": 1.0,
        "outcome": {},
        "weights": weights.tolist(),
        "rewards": [0.0] * STEPS,
        "actions": [[0, 4, 9]] * STEPS,
        "action_names": None,
        "forced": [[False, False, True]] * STEPS,
    } | changes


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def shares() -> np.ndarray:
    """Of a mixer with two heads ``[T, 1, heads, N]``."""
    return np.random.default_rng(0).dirichlet([1] * AGENTS, size=(STEPS, 1, 2))


@pytest.mark.parametrize(
    ("names", "expected"), [(None, ["action 0", "action 4"]), (list("stuvwxyzab"), ["0 s", "4 w"])]
)
def test_legend_names_the_chosen_actions(names: list[str] | None, expected: list[str]) -> None:
    said = legend(figure_of(result("qatten", shares(), action_names=names)))
    assert said == [*expected, "only one was available"]


def test_colours_of_shares_are_centred_on_equal_ones() -> None:
    figure = figure_of(result("qatten", shares()))
    for axes in figure.axes[:2]:
        low, high = axes.images[0].get_clim()
        assert (low + high) / 2 == pytest.approx(1 / AGENTS)
        assert low <= shares().min()
        assert high >= shares().max()
    assert "equal shares: 0.333" in figure.axes[-1].get_ylabel()


def test_equal_shares_are_one_colour() -> None:
    figure = figure_of(result("qatten", np.full((STEPS, 1, 2, AGENTS), 1 / AGENTS) + 1e-7))
    low, high = figure.axes[0].images[0].get_clim()
    assert high - low == pytest.approx(2e-3)


def critics_shares() -> np.ndarray:
    """Of a critic with two heads for each agent ``[T, N, heads, N]``, nothing to the agent itself."""
    weights = np.zeros((STEPS, AGENTS, 2, AGENTS))
    for i in range(AGENTS):
        others = [j for j in range(AGENTS) if j != i]
        weights[:, i, :, others] = np.random.default_rng(i).dirichlet([1, 1], size=(STEPS, 2)).transpose(2, 0, 1)
    return weights


def test_a_critics_attention_has_a_panel_for_each_agent_and_a_row_for_each_head_and_other() -> None:
    weights = critics_shares()
    figure = figure_of(result("maac", weights))
    panel = figure.axes[1]
    assert panel.get_ylabel() == "agent 2"
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "head 1 → agent 1",
        "head 1 → agent 3",
        "head 2 → agent 1",
        "head 2 → agent 3",
    ]
    np.testing.assert_array_equal(panel.images[0].get_array()[3], weights[:, 1, 1, 2])
    low, high = panel.images[0].get_clim()
    assert (low + high) / 2 == pytest.approx(1 / (AGENTS - 1))
    assert figure.axes[-1].get_ylim()[0] >= 0
    assert high <= 1  # the nothing that an agent gives itself is not in the scale
    assert "equal shares: 0.5" in figure.axes[-1].get_ylabel()


def test_a_critic_without_others_is_refused() -> None:
    lone = RunConfig(method="maac", env="somewhere")
    require_company(lone, 2)
    require_company(RunConfig(method="qatten"), 1)
    with pytest.raises(ComarlError, match="somewhere has a single agent, whose critic has nobody to attend to"):
        require_company(lone, 1)


def test_many_agents_are_drawn_lower_and_not_without_end() -> None:
    agents = 20
    weights = np.full((STEPS, agents, 4, agents), 1 / (agents - 1))
    weights[:, range(agents), :, range(agents)] = 0
    other = {"actions": [[0] * agents] * STEPS, "forced": [[False] * agents] * STEPS}
    assert figure_of(result("maac", weights, **other)).get_figheight() < 50


def test_colours_of_other_weights_reach_from_the_least_to_the_most() -> None:
    weights = np.linspace(0.5, 3, STEPS * AGENTS).reshape(STEPS, 1, 1, AGENTS)
    figure = figure_of(result("qplex", weights, forced=[[False] * AGENTS] * STEPS))
    assert figure.axes[0].images[0].get_clim() == (0.5, 3)
    assert "equal" not in figure.axes[-1].get_ylabel()
    assert legend(figure) == ["action 0", "action 4", "action 9"]


def test_an_action_has_the_colour_of_its_legend() -> None:
    figure = figure_of(result("qatten", shares()))
    image = figure.axes[3].images[0]
    for patch, action in zip(figure.legends[0].get_patches(), (0, 4), strict=False):
        np.testing.assert_allclose(image.cmap(image.norm(action)), patch.get_facecolor(), atol=0.01)
