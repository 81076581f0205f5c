"""Settings by flat names, and what is refused."""

import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any

import pytest

from comarl.errors import ComarlError
from comarl.experiments.checks import check
from comarl.experiments.config import GROUPS, AgentConfig, RunConfig, from_json, setting_names, to_json, with_settings
from comarl.nets.cells import CELLS


def test_names_are_unique_over_all_groups() -> None:
    fields = [
        f.name for c in (RunConfig, *GROUPS.values()) for f in dataclasses.fields(c) if f.type not in GROUPS.values()
    ]
    assert len(fields) == len(set(fields)) == len(setting_names())


def test_settings_find_their_group() -> None:
    config = with_settings(RunConfig(), {"seeds": 3, "cell": "lstm", "embed": 8, "lr": 1e-3, "run": "somewhere"})
    assert config.seeds == 3
    assert config.agent.cell == "lstm"
    assert config.mixer.embed == 8
    assert config.learner.lr == 1e-3
    assert config.folder == Path("somewhere")
    assert config.learner.gamma == RunConfig().learner.gamma


def test_every_cell_can_be_named() -> None:
    """By the configuration, which is read without JAX and so cannot ask the networks for their names."""
    assert typing.get_args(typing.get_type_hints(AgentConfig)["cell"]) == tuple(CELLS)


def test_whole_numbers_are_welcome_where_fractions_are() -> None:
    lr = with_settings(RunConfig(), {"lr": 1}).learner.lr
    assert lr == 1.0
    assert isinstance(lr, float)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lrr": 1.0}, "unknown setting 'lrr': did you mean 'lr'?"),
        ({"seeds": 1.5}, "seeds=1.5: expected int"),
        ({"seeds": True}, "seeds=True: expected int"),
        ({"lr": "fast"}, "lr='fast': expected float"),
        ({"lr": True}, "lr=True: expected float"),
        ({"last_action": 1}, "last_action=1: expected bool"),
        ({"run": 3}, "run=3: expected a path"),
        ({"cell": "rnn"}, "cell='rnn': choose one of gru, lstm, mingru, mlp"),
        ({"hyper_layers": 3}, "hyper_layers=3: choose one of 1, 2"),
    ],
)
def test_wrong_names_and_types_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ComarlError) as error:
        with_settings(RunConfig(), settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_defaults_are_accepted() -> None:
    check(RunConfig())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *[
            ({name: 0}, f"{name}=0: must be positive")
            for name in (
                "seeds", "steps", "num_envs", "length", "eval_every", "eval_episodes", "target_interval",
                "epsilon_steps", "buffer_steps", "batch_size", "updates", "n_step", "epochs", "minibatches",
                "hidden", "embed", "hyper_hidden", "kernels", "heads", "joint_hidden", "critic_hidden", "critic_heads",
                "sub_policies",
            )
        ],
        ({"mixer_scale": 0.0}, "mixer_scale=0.0: must be positive"),
        ({"lr": -1.0}, "lr=-1.0: must be positive"),
        ({"lr": math.nan}, "lr=nan: must be positive"),
        ({"lr": math.inf}, "lr=inf: must be positive"),
        ({"grad_clip": 0.0}, "grad_clip=0.0: must be positive"),
        ({"gamma": 1.01}, "gamma=1.01: must lie between 0 and 1"),
        ({"gamma": math.nan}, "gamma=nan: must lie between 0 and 1"),
        ({"td_lambda": -0.1}, "td_lambda=-0.1: must lie between 0 and 1"),
        ({"target_tau": 2.0}, "target_tau=2.0: must lie between 0 and 1"),
        ({"epsilon_start": 1.5}, "epsilon_start=1.5: must lie between 0 and 1"),
        ({"epsilon_end": -1.0}, "epsilon_end=-1.0: must lie between 0 and 1"),
        ({"seed": -1}, "seed=-1: must not be negative"),
        ({"seed": 2**31 - 1}, "seed=2147483647: must be below 2147483647"),
        ({"seed": 2**31 - 3, "seeds": 4}, "seed=2147483645: must be below 2147483644"),
        ({"seeds": 10**11}, "seeds=100000000000: must be below 1073741824"),
        ({"steps": 2**31}, "steps=2147483648: must be below 2147483647"),
        ({"learning_starts": -1}, "learning_starts=-1: must not be negative"),
        ({"priority_alpha": 1.1}, "priority_alpha=1.1: must lie between 0 and 1"),
        ({"priority_beta": -0.1}, "priority_beta=-0.1: must lie between 0 and 1"),
        ({"learner": "pqn", "replay": "prioritised"}, "replay='prioritised' needs --learner replay: pqn learns from"),
        ({"learner": "pqn", "num_envs": 12, "minibatches": 8}, "minibatches=8 does not divide num_envs=12: a"),
        ({"learner": "a2c", "epochs": 2, "minibatches": 1}, "epochs=2, minibatches=1: a2c makes one update on what"),
        ({"learner": "a2c", "epochs": 1, "minibatches": 2}, "epochs=1, minibatches=2: a2c makes one update on what"),
        ({"learner": "ppo", "burn_in": 2}, "burn_in=2, stored_state=True: with ppo sequences begin with the memory"),
        ({"learner": "a2c", "stored_state": False}, "burn_in=0, stored_state=False: with a2c sequences begin"),
        ({"clip": 0.0}, "clip=0.0: must be positive"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature=0.0: must be positive"),
        ({"entropy_temperature": -0.1}, "entropy_temperature=-0.1: must not be negative"),
        ({"attention_penalty": -1.0}, "attention_penalty=-1.0: must not be negative"),
        ({"method": "maac", "critic_heads": 3}, "critic_heads=3 does not divide critic_hidden=128: each head has an"),
        ({"sub_policies": 2}, "sub_policies=2: 'qmix' has no policies that learn from replay (use a method of"),
        ({"guess_entropy": -1.0}, "guess_entropy=-1.0: must not be negative, and finite"),
        ({"method": "facmac", "infer_policies": True}, "infer_policies=True: 'facmac' has no targets in"),
        ({"logit_weight": -1.0}, "logit_weight=-1.0: must not be negative, and finite"),
        ({"value_clip": -0.1}, "value_clip=-0.1: must not be negative, and finite"),
        ({"burn_in": -1}, "burn_in=-1: must not be negative"),
        ({"burn_in": 64}, "burn_in=64 is not below length=64: nothing would be learned"),
        ({"burn_in": 2, "cell": "mlp"}, "burn_in=2 warms a memory up, and cell='mlp' has none"),
        (
            {"method": "maddpg", "replay_part": 1, "sub_policies": 2, "cell": "mlp", "last_action": False},
            "sub_policies=2: which of them acted is known from the beginning of a sequence on (use --replay-part 0)",
        ),
        ({"replay_part": -1}, "replay_part=-1: must not be negative"),
        ({"replay_part": 65, "cell": "mlp"}, "replay_part=65 is above length=64: there is no more"),
        ({"replay_part": 1}, "replay_part=1 begins where what came before is unknown: use --cell mlp --no-last-action"),
        ({"replay_part": 1, "learner": "pqn"}, "replay_part=1 needs --learner replay --replay uniform"),
        ({"replay_part": 1, "replay": "prioritised"}, "replay_part=1 needs --learner replay --replay uniform"),
        ({"alpha": 2.0}, "alpha=2.0: must lie between 0 and 1"),
        ({"alpha": -0.1}, "alpha=-0.1: must lie between 0 and 1"),
        ({"logit_penalty": -1e-3}, "logit_penalty=-0.001: must not be negative, and finite"),
        ({"opt_weight": math.inf}, "opt_weight=inf: must not be negative, and finite"),
        ({"nopt_weight": -1.0}, "nopt_weight=-1.0: must not be negative, and finite"),
        ({"lr_decay": 0.0}, "lr_decay=0.0: an exponential never comes to nothing (use --lr-schedule linear)"),
        ({"lr_decay": 1.5}, "lr_decay=1.5: must lie between 0 and 1"),
        ({"lr_decay": -0.1, "lr_schedule": "linear"}, "lr_decay=-0.1: must lie between 0 and 1"),
        ({"steps": 5000}, "learning_starts=5000 is not below steps=5000: nothing would be learned"),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ComarlError) as error:
        check(with_settings(RunConfig(), settings))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


NUMBERS = {
    field.name: kind
    for c in (RunConfig, *GROUPS.values())
    for field in dataclasses.fields(c)
    if (kind := typing.get_type_hints(c)[field.name]) in (int, float)
}


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_goes_unchecked(name: str) -> None:
    """Nothing negative has a meaning anywhere, nor what is no number; and a count must fit the compiled program."""
    for value in (-1, 2**31) if NUMBERS[name] is int else (-1.0, math.nan, math.inf):
        with pytest.raises(ComarlError, match=f"^{name}="):
            check(with_settings(RunConfig(), {name: value}))


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 0.0, "logit_penalty": 0.0, "opt_weight": 0.0, "nopt_weight": 0.0},
        {"alpha": 1.0, "kernels": 1, "heads": 1, "lr_decay": 1.0},
        {"priority_alpha": 0.0, "priority_beta": 1.0, "replay": "prioritised"},
        {"burn_in": 63},
        {"burn_in": 0, "cell": "mlp"},
        {"returns": "n_step", "n_step": 1000},  # cut at the end of the sequence
        {"learner": "pqn", "num_envs": 12, "minibatches": 12},
        {"learner": "a2c", "epochs": 1, "minibatches": 1},
        {"learner": "replay", "num_envs": 12, "minibatches": 8},  # of no concern to replay
    ],
    ids=str,
)
def test_values_at_the_edge_work(settings: dict[str, Any]) -> None:
    check(with_settings(RunConfig(), settings))


@pytest.mark.parametrize("time", ["2", "h", "1.5h", "30m1h", "-5s", "1h 30m", "٣s", "9" * 30 + "s"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    with pytest.raises(ComarlError, match=r"^max_time='.*': write hours, minutes and seconds, such as 2h"):
        check(with_settings(RunConfig(), {"max_time": time}))


def test_settings_of_checkpoints() -> None:
    check(with_settings(RunConfig(), {"checkpoint_every": 0.0, "keep": 1, "max_time": "0s", "resume": True}))
    for settings, line in (
        ({"checkpoint_every": -1.0}, "checkpoint_every=-1.0: must not be negative"),
        ({"checkpoint_every": math.nan}, "checkpoint_every=nan: must not be negative"),
        ({"keep": 0}, "keep=0: must be positive"),
        ({"resume": True, "overwrite": True}, "a run is replaced or goes on, choose one"),
    ):
        with pytest.raises(ComarlError, match=line):
            check(with_settings(RunConfig(), settings))


def test_a_configuration_survives_json() -> None:
    changed = {"seeds": 3, "cell": "mlp", "hyper_layers": 1, "lr": 1e-3, "team_reward": "sum", "env": "smax/8m"}
    config = with_settings(RunConfig(method="vdn"), changed)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_where_results_go_is_no_part_of_what_determines_them() -> None:
    elsewhere = dataclasses.replace(RunConfig(), run=Path("elsewhere"), overwrite=True, tensorboard=True, workers=7)
    assert to_json(elsewhere) == to_json(RunConfig())
    assert not {"run", "overwrite", "tensorboard", "workers"} & to_json(RunConfig()).keys()


def test_a_configuration_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ComarlError, match="unknown setting 'speed'"):
        from_json(to_json(RunConfig()) | {"speed": 1})


def test_folder_names_the_method_and_the_environment() -> None:
    assert RunConfig(method="vdn", env="smax/3m").folder == Path("runs/vdn-smax-3m")
    assert RunConfig(method="vdn", env="mine:make").folder == Path("runs/vdn-mine-make")
    pqn = with_settings(RunConfig(method="vdn"), {"learner": "pqn"})
    assert pqn.folder == Path("runs/vdn-pqn-smax-3m")
