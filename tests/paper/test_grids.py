"""The VDN paper's gridworlds over ten seeds, with the presets as a user would run them (``make test-paper``)."""

from pathlib import Path

import pytest

from comarl import train

pytestmark = pytest.mark.paper

SEEDS = 10


@pytest.mark.parametrize(("method", "env", "enough"), [("qatten", "switch/2", 8.0), ("qmix", "checkers", 80.0)])
def test_every_seed_is_near_the_best_plan(method: str, env: str, enough: float, tmp_path: Path) -> None:
    """Returns summed over the agents; the best plans have 8.3 and 86.26. What other methods do: docs/comparisons.md."""
    summary = train(method, env=env, seeds=SEEDS, run=tmp_path / "run").summary
    print(
        f"\n{method} on {env}: {summary['return']['per_seed']}, best {summary['optimal']}, random {summary['random']}"
    )
    assert min(summary["return"]["per_seed"]) >= enough
