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
# Qatten's weights multiply its steps: where payoffs differ most, a longer mean.
QATTEN = _budget(384, 4000, kept=400) | {"lr_decay": 3e-3}
# An unrestricted value is fitted without that noise too, but utilities follow it only as fast as it stands still.
CENTRAL = _budget(64, 2500, kept=20) | {"lr": 1e-3, "lr_decay": 0.1, "state_value": False, "nopt_weight": 1.0}
CENTRAL_METHODS = ("qtran-base", "qtran-alt", "cw-qmix", "ow-qmix")
# What made QPLEX work, and what did not, is in docs/methods/qplex.md.
QPLEX = _budget(64, 5000, kept=20) | {
    "batch_size": 5,
    "updates": 8,
    "optimiser": "rmsprop",
    "lr": 5e-3,
    "lr_decay": 1e-4,
    "kernels": 10,
    "kernel_layers": 3,
}
# Between two copies of the target network λ must catch up with the utilities: QPLEX copied every 10 updates diverges as
# VDN does. With γ .9 in place of .99 there are ten times fewer copies to make.
MMDP = _budget(64, 8000, kept=200) | {"gamma": 0.9, "target_interval": 100, "lr": 2e-3, "lr_decay": 0.01}
# A table that the method can represent is learned without that noise, and a rate that falls as far ends before it fits.
REPRESENTED = {"lr_decay": 0.05}
REPRESENTS = {"two-step": ("qmix", "qmix-ns", "joint")}
REPRESENTS_ALWAYS = ("joint",)

MEASURED = {
    "two-step": {
        "iql": "7 on 10 of 10 seeds, as exact; utilities within .061",
        "vdn": "7 on 10 of 10 seeds, as exact; table within .037",
        "vdn-s": "7 on 10 of 10 seeds, as exact; table within .039",
        "qmix": "8 on 10 of 10 seeds, as exact; table within .001",
        "qmix-ns": "8 on 10 of 10 seeds, as exact; table within .001",
        "qmix-lin": "7 on 10 of 10 seeds, as exact; table within .037",
        "joint": "8 on 10 of 10 seeds, as exact; table within .001",
        "qplex": "8 on 10 of 10 seeds, as exact; table within .001",
        "qatten": "7 on 10 of 10 seeds, as exact; table within .048",
        "qtran-base": "8 on 10 of 10 seeds, as exact; Q_jt within .009",
        "qtran-alt": "8 on 10 of 10 seeds, as exact; Q_jt within .006",
        "cw-qmix": "8 on 10 of 10 seeds, as exact; unrestricted value within .005",
        "ow-qmix": "8 on 10 of 10 seeds, as exact; unrestricted value within .010",
    },
    "matrix/qtran": {
        "iql": "0 on 10 of 10 seeds, as exact; utilities within .046",
        "vdn": "0 on 10 of 10 seeds, as exact; table within .055",
        "vdn-s": "0 on 10 of 10 seeds, as exact; table within .054",
        "qmix": "0 on 10 of 10 seeds: the usual local fit (error 35.6, best 32.0), within .093",
        "qmix-ns": "0 on 10 of 10 seeds: the usual local fit (error 35.6, best 32.0), within .028",
        "qmix-lin": "0 on 10 of 10 seeds, as exact; table within .058",
        "joint": "8 on 10 of 10 seeds, as exact; table within .001",
        "qplex": "8 on 10 of 10 seeds, as exact; table within .101",
        "qatten": "0 on 10 of 10 seeds, as exact; table within .045",
        "qtran-base": "8 on 10 of 10 seeds, as exact; Q_jt within .001",
        "qtran-alt": "8 on 10 of 10 seeds, as exact; Q_jt within .001",
        "cw-qmix": "8 on 10 of 10 seeds, as exact; unrestricted value within .001",
        "ow-qmix": "8 on 10 of 10 seeds, as exact; unrestricted value within .001",
    },
    "matrix/qplex-1": {
        "iql": "10 on 10 of 10 seeds, as exact; utilities within .030",
        "vdn": "10 on 10 of 10 seeds, as exact; table within .039",
        "vdn-s": "10 on 10 of 10 seeds, as exact; table within .036",
        "qmix": "10 on 10 of 10 seeds: at a saddle short of the best fit, within .058",
        "qmix-ns": "10 on 10 of 10 seeds: at a saddle short of the best fit, within .039",
        "qmix-lin": "10 on 10 of 10 seeds, as exact; table within .033",
        "joint": "10.4 on 10 of 10 seeds, as exact; table within .001",
        "qplex": "10.4 on 10 of 10 seeds, as exact; table within .006",
        "qatten": "10 on 10 of 10 seeds, as exact; table within .045",
        "qtran-base": "10.4 on 10 of 10 seeds, as exact; Q_jt within .001",
        "qtran-alt": "10.4 on 10 of 10 seeds, as exact; Q_jt within .001",
        "cw-qmix": "10 on 10 of 10 seeds: Q_tot misses the best by .4; unrestricted value within .023",
        "ow-qmix": "10 on 10 of 10 seeds: Q_tot misses the best by .4; unrestricted value within .005",
    },
    "matrix/qplex-3": {
        "iql": "6 on 8 and 0 on 2 of 10 seeds (B and C tie exactly); utilities within .046",
        "vdn": "6 on 9 and 0 on 1 of 10 seeds (B and C tie exactly); table within .063",
        "vdn-s": "6 on 9 and 0 on 1 of 10 seeds (B and C tie exactly); table within .065",
        "qmix": "6 on 9 and 0 on 1 of 10 seeds: at the saddle where B and C tie, within .093",
        "qmix-ns": "6 on 10 of 10 seeds: at the saddle where B and C tie, within .078",
        "qmix-lin": "6 on 7 and 0 on 3 of 10 seeds (B and C tie exactly); table within .073",
        "joint": "8 on 10 of 10 seeds, as exact; table within .001",
        "qplex": "8 on 9 of 10 seeds (48 of 50), as exact, and 6 on 1, whose utilities tie; table within .015 where 8",
        "qatten": "6 on 8 of 10 seeds and 0 on 2, which tie exactly; table within .045",
        "qtran-base": "8 on 10 of 10 seeds, as exact; Q_jt within .001",
        "qtran-alt": "8 on 10 of 10 seeds, as exact; Q_jt within .001",
        "cw-qmix": "8 on 10 of 10 seeds, as exact; unrestricted value within .001",
        "ow-qmix": "8 on 10 of 10 seeds, as exact; unrestricted value within .004",
    },
    "mmdp/game-1": {
        "iql": "100 on 10 of 10 seeds, as exact; utilities within .085",
        "vdn": "100 on 10 of 10 seeds; values diverge (864 to 1260; the best policy's is 10)",
        "vdn-s": "100 on 10 of 10 seeds; values diverge (780 to 1315; the best policy's is 10)",
        "qmix": "100 on 10 of 10 seeds; values diverge (4661 to 8208; the best policy's is 10)",
        "qmix-ns": "100 on 10 of 10 seeds; values diverge (3566 to 5637; the best policy's is 10)",
        "qmix-lin": "100 on 10 of 10 seeds; values diverge (1404 to 2204; the best policy's is 10)",
        "joint": "100 on 10 of 10 seeds, as exact; table within .003",
        "qplex": "100 on 10 of 10 seeds, as exact; table within .038",
        "qatten": "100 on 10 of 10 seeds; values diverge (5302 to 8208; the best policy's is 10)",
        "qtran-base": "100 on 10 of 10 seeds, as exact; Q_jt within .003",
        "qtran-alt": "100 on 10 of 10 seeds, as exact; Q_jt within .003",
        "cw-qmix": "100 on 10 of 10 seeds, as exact; unrestricted value within .007",
        "ow-qmix": "100 on 10 of 10 seeds, as exact; unrestricted value within .011",
    },
}
"""By environment and method, seeds 0-9: greedy returns, and the largest difference to the exact fit."""


def settings_of(method: str, env: str) -> dict[str, Any]:
    """What a method needs on a small game."""
    if env == "mmdp/game-1":
        return FITTED | MMDP
    if method == "qplex":
        return FITTED | QPLEX
    if method in CENTRAL_METHODS:
        return FITTED | CENTRAL
    if method == "qatten" and env in ("matrix/qtran", "matrix/qplex-3"):
        return FITTED | QATTEN
    settings = FITTED | (TWO_STEP if env == "two-step" else MATRIX)
    if method in REPRESENTS.get(env, REPRESENTS_ALWAYS):
        settings |= REPRESENTED
    return settings
