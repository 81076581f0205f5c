"""MADDPG's cooperative communication (Lowe et al. 2017, table 1), with the presets as a user would run them."""

from pathlib import Path

import numpy as np
import pytest

from comarl import evaluate, train

pytestmark = pytest.mark.paper

SEEDS, EPISODES = 10, 1000
PUBLISHED = {"maddpg": (84.0, 0.133), "ddpg": (32.0, 0.456)}
"""The share of episodes that reach the target, in percent, and the mean distance from it."""


def test_the_listener_reaches_its_target_with_critics_of_all_and_not_without(tmp_path: Path) -> None:
    """Episodes that nobody was trained on; the paper does not say how near is near enough, here circles must meet."""
    reached: dict[str, np.ndarray] = {}
    for method, (share, distance) in PUBLISHED.items():
        run = train(method, env="mpe/simple_speaker_listener", seeds=SEEDS, run=tmp_path / method)
        outcomes = evaluate(run.folder, episodes=EPISODES)["outcomes"]
        reached[method] = np.array(outcomes["reached"]["per_seed"])
        ours = [
            f"{x:.1%} ({d:.3f})"
            for x, d in zip(*(outcomes[k]["per_seed"] for k in ("reached", "distance")), strict=True)
        ]
        print(f"\n{method}: target reached (distance) {', '.join(ours)}; published {share}% ({distance})")
    assert reached["maddpg"].mean() >= 0.8
    assert reached["ddpg"].max() < 0.32
