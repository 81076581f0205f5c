"""Settings that are claimed to work, each with its source and what was measured with it."""

import dataclasses
from typing import Any

from comarl.experiments.config import RunConfig, with_settings


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings of one method on one environment.

    Attributes:
        settings: what differs from the defaults, by flat names.
        source: where the settings come from.
        measured: the result with exactly these settings, with seeds and budget; the command is
            ``comarl train METHOD --env ENV --seeds N``.
    """

    settings: dict[str, Any]
    source: str
    measured: str


SMAX = {
    "steps": 1_300_000,
    "length": 32,
    "epsilon_end": 0.02,
    "eval_episodes": 256,
}
SPREAD = {
    "steps": 600_000,
    "length": 26,
    "gamma": 0.9,
    "team_reward": "sum",
    "eval_every": 60_000,
}
HERE = "tuned for two CPU cores, docs/tuning.md"

PRESETS: dict[tuple[str, str], Preset] = {
    ("qmix", "smax/3m"): Preset(
        SMAX,
        HERE,
        "wins 82% of 256 battles (seeds 0-2: 82, 81, 83) after 1.3M steps, 326 s on two cores; heuristic 52, random 0",
    ),
    ("vdn", "mpe/simple_spread"): Preset(
        SPREAD, HERE, "team return -59.6 (seeds 0-2: -58.4, -60.6, -59.8) after 659k steps; random -83.1"
    ),
    ("qmix", "mpe/simple_spread"): Preset(
        SPREAD, HERE, "team return -62.0 (seeds 0-2: -64.7, -54.5, -66.7) after 659k steps; random -83.1"
    ),
}

# ---- Small games with known values ('comarl tables'): a table in place of a policy is wanted.
# Every joint action equally often, one-step targets, no memory; the learning rate falls, because the minibatches of a
# least-squares fit are noise that a constant one does not average out.
SMALL_GAME = {
    "num_envs": 192,
    "length": 6,
    "eval_every": 192 * 6 * 250,
    "eval_episodes": 1,
    "cell": "mlp",
    "hidden": 32,
    "last_action": False,
    "hyper_layers": 1,
    "lr": 4e-3,
    "lr_decay": 5e-3,
    "td_lambda": 0.0,
    "target_interval": 50,
    "epsilon_end": 1.0,
    "buffer_steps": 192 * 6 * 20,
    "batch_size": 192,
    "updates": 1,
    "learning_starts": 0,
}
TWO_STEP = SMALL_GAME | {"steps": 192 * 6 * 2000}
MATRIX = SMALL_GAME | {"steps": 192 * 6 * 2500}
# Seeds 0-9: the largest difference to the exact table; every greedy return is the exact one.
TWO_STEP_ERROR = {
    "iql": 0.061,
    "vdn": 0.037,
    "vdn-s": 0.039,
    "qmix": 0.012,
    "qmix-ns": 0.094,
    "qmix-lin": 0.037,
    "joint": 0.118,
}
GAMES_HERE = "uniform data as in the QMIX paper, §5; rates tuned here"
PRESETS.update(
    {
        (method, "two-step"): Preset(TWO_STEP, GAMES_HERE, f"exact table within {error}, 10 of 10 seeds return it")
        for method, error in TWO_STEP_ERROR.items()
    }
)
PRESETS.update(
    {
        (method, f"matrix/{game}"): Preset(MATRIX, GAMES_HERE, "see 'comarl tables'; not yet measured over ten seeds")
        for game in ("qtran", "qplex-1", "qplex-3")
        for method in TWO_STEP_ERROR
    }
)


def resolve(method: str, env: str, settings: dict[str, Any]) -> RunConfig:
    """Defaults, then the preset of method and environment if there is one, then ``settings``."""
    config = RunConfig(method=method, env=env)
    if (method, env) in PRESETS:
        config = with_settings(config, PRESETS[method, env].settings)
    return with_settings(config, settings)
