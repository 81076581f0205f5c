"""Methods with policies on the two-step game, over ten seeds (``make test-paper``)."""

from pathlib import Path

import pytest

from comarl import train

pytestmark = pytest.mark.paper

SEEDS = 10
OPTIMUM = 8.0  # the risky branch, which methods with additive values do not take


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ippo", {}),
        ("mappo", {}),
        ("ia2c", {"num_envs": 16, "length": 8, "lr": 5e-3}),
        # The preset's steps: while the floor of the policies is high, the risky branch is worth less than the safe 7.
        ("coma", {"steps": 199_680, "eval_every": 19_968}),
    ],
)
def test_two_step_game(method: str, settings: dict[str, float], tmp_path: Path) -> None:
    common = {"steps": 60_000, "eval_every": 20_000, "cell": "mlp", "run": tmp_path / "run"}
    summary = train(method, env="two-step", seeds=SEEDS, **(common | settings)).summary
    print(f"\n{method} on two-step: greedy {summary['return']['per_seed']}, sampled {summary['sampled']['mean']}")
    assert summary["return"]["per_seed"] == [OPTIMUM] * SEEDS
