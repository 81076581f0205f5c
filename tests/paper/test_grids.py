"""The VDN paper's gridworlds over ten seeds, with the presets as a user would run them (``make test-paper``)."""

from pathlib import Path

import pytest

from comarl import train

pytestmark = pytest.mark.paper

SEEDS = 10


@pytest.mark.parametrize(("env", "enough"), [("switch/2", 8.0), ("checkers", 80.0)])
def test_qmix_is_near_the_best_plan(env: str, enough: float, tmp_path: Path) -> None:
    """Returns summed over the agents; the best plans have 8.3 and 86.26."""
    summary = train("qmix", env=env, seeds=SEEDS, run=tmp_path / "run").summary
    print(f"\nqmix on {env}: {summary['return']['per_seed']}, best {summary['optimal']}, random {summary['random']}")
    assert summary["return"]["mean"] >= enough
