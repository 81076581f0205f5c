"""Settings for the small games with known values ('comarl tables'): a table in place of a policy is wanted."""

from typing import Any

LENGTH = 6


def _budget(envs: int, iterations: int, kept: int) -> dict[str, Any]:
    """As many sequences in a batch as are collected in an iteration; the replay keeps so many iterations."""
    per_iteration = envs * LENGTH
    return {
        "num_envs": envs,
        "batch_size": envs,
        "steps": per_iteration * iterations,
        "eval_every": per_iteration * 250,
        "buffer_steps": per_iteration * kept,
    }


# Every joint action equally often, one-step targets, no memory. The learning rate falls, because the minibatches of a
# least-squares fit are noise that a constant one does not average out.
FITTED: dict[str, Any] = {
    "length": LENGTH,
    "eval_episodes": 1,
    "cell": "mlp",
    "hidden": 32,
    "last_action": False,
    "hyper_layers": 1,
    "lr": 4e-3,
    "td_lambda": 0.0,
    "target_interval": 50,
    "epsilon_end": 1.0,
    "updates": 1,
    "learning_starts": 0,
}
TWO_STEP = _budget(192, 2000, kept=20) | {"lr_decay": 5e-3}
# Payoffs differ more, so that a mean needs more of them.
MATRIX = _budget(384, 2500, kept=250) | {"lr_decay": 3e-3}
# A table that the method can represent is learned without that noise, and a rate that falls as far ends before it fits.
REPRESENTED = {"lr_decay": 0.05}
REPRESENTS = {"two-step": ("qmix", "qmix-ns", "joint")}
REPRESENTS_ALWAYS = ("joint",)

MEASURED: dict[str, dict[str, str]] = {
    "two-step": {
        method: f"exact table within {error}, 10 of 10 seeds return it"
        for method, error in {
            "iql": 0.061,
            "vdn": 0.037,
            "vdn-s": 0.039,
            "qmix": 0.012,
            "qmix-ns": 0.001,
            "qmix-lin": 0.037,
            "joint": 0.001,
        }.items()
    },
    **{
        f"matrix/{game}": dict.fromkeys(("iql", "vdn", "vdn-s", "qmix", "qmix-ns", "qmix-lin", "joint"), "")
        for game in ("qtran", "qplex-1", "qplex-3")
    },
}
"""By environment and method, over seeds 0-9: the largest difference to the exact table, and where greedy play ends."""


def settings_of(method: str, env: str) -> dict[str, Any]:
    """What a method needs on a small game."""
    settings = FITTED | (TWO_STEP if env == "two-step" else MATRIX)
    if method in REPRESENTS.get(env, REPRESENTS_ALWAYS):
        settings |= REPRESENTED
    return settings
