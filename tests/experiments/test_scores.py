"""One number per episode."""

import numpy as np
import pytest

from comarl.experiments.config import RunConfig, with_settings
from comarl.experiments.scores import episode_scores, score_key, score_name, short

RETURNS = np.array([[1.0, 3.0], [5.0, 9.0]])


@pytest.mark.parametrize(
    ("team_reward", "scores", "name"),
    [
        ("mean", [2.0, 7.0], "return (mean over the agents, summed over the episode)"),
        ("individual", [2.0, 7.0], "return (mean over the agents, summed over the episode)"),
        ("sum", [4.0, 14.0], "return (sum over the agents, summed over the episode)"),
    ],
)
def test_return_is_formed_as_it_is_learned_and_says_so(team_reward: str, scores: list[float], name: str) -> None:
    config = with_settings(RunConfig(), {"team_reward": team_reward})
    assert episode_scores(config, RETURNS, {"steps": np.ones(2)}).tolist() == scores
    assert score_name(config, ["steps"]) == name
    assert score_key(["steps"]) == short(name) == "return"


def test_an_episode_that_can_be_won_is_scored_by_that() -> None:
    outcome = {"steps": np.ones(2), "won": np.array([0.0, 1.0])}
    config = with_settings(RunConfig(), {"team_reward": "sum"})
    assert episode_scores(config, RETURNS, outcome).tolist() == [0.0, 1.0]
    assert score_name(config, outcome) == short("win rate") == "win rate"
    assert score_key(outcome) == "win_rate"
