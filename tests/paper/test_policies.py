"""Policies on the small games over ten seeds, with the presets as a user would run them (``make test-paper``)."""

from pathlib import Path

import pytest

from comarl import train

pytestmark = pytest.mark.paper

SEEDS = 10


@pytest.mark.parametrize("method", ["coma"])
def test_two_step_game(method: str, tmp_path: Path) -> None:
    """The risky branch pays 8 and, while the floor of the policies is high, less than the safe one's 7."""
    summary = train(method, env="two-step", seeds=SEEDS, run=tmp_path / "run").summary
    print(f"\n{method} on two-step: {summary['return']['per_seed']}, random {summary['random']}")
    assert summary["return"]["per_seed"] == [8] * SEEDS
