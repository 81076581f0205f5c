"""One number per episode, without importing JAX."""

from collections.abc import Container, Mapping

import numpy as np

from comarl.experiments.config import RunConfig


def episode_scores(config: RunConfig, returns: np.ndarray, outcome: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether each episode was won where the environment says so, else the team's return.

    Args:
        config: how the team's reward is formed; rewards learned from one by one are averaged.
        returns: undiscounted sums of each agent's rewards ``[E, N]``.
        outcome: what the environment reports, each ``[E]``.

    Returns:
        Scores ``[E]``.
    """
    if "won" in outcome:
        return np.asarray(outcome["won"])
    return returns.sum(-1) if config.learner.team_reward == "sum" else returns.mean(-1)


def score_key(outcomes: Container[str]) -> str:
    """What a score is called in ``summary.json``: ``win_rate`` or ``return``."""
    return "win_rate" if "won" in outcomes else "return"


def score_name(config: RunConfig, outcomes: Container[str]) -> str:
    """What a score is, in words."""
    if "won" in outcomes:
        return "win rate"
    how = "sum" if config.learner.team_reward == "sum" else "mean"
    return f"return ({how} over the agents, summed over the episode)"


def show_score(name: str, value: float) -> str:
    """A score as people read it.

    >>> show_score("win rate", 0.8125), show_score("return (mean over the agents)", -33.2149)
    ('81.2%', '-33.21')
    """
    return f"{value:.1%}" if name == "win rate" else f"{value:.2f}"


def short(score: str) -> str:
    """A score's name without what stands in brackets.

    >>> short("return (mean over the agents, summed over the episode)")
    'return'
    """
    return score.partition(" (")[0]
