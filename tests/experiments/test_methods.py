"""Methods and presets by name."""

import pytest

from comarl.envs.registry import names
from comarl.errors import ComarlError
from comarl.experiments import presets
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig
from comarl.experiments.methods import (
    LEARNERS,
    METHODS,
    Method,
    require_actions,
    require_common_interest,
    require_learner,
    require_method,
    require_team_reward,
)
from comarl.experiments.presets import DEFAULTS, OF_METHOD, PRESETS, Preset, resolve


def test_methods_are_found_by_their_exact_names() -> None:
    assert require_method("qmix") is METHODS["qmix"]
    with pytest.raises(ComarlError, match="unknown method 'qmi': did you mean 'qmix'"):
        require_method("qmi")


@pytest.mark.parametrize("method", METHODS)
def test_rewards_per_agent_are_for_values_per_agent(method: str) -> None:
    require_team_reward(method, "mean")
    require_team_reward(method, "sum")
    if method in ("iql", "ippo", "mappo", "ia2c", "maa2c", "maddpg", "ddpg", "maac"):
        require_team_reward(method, "individual")
    else:
        with pytest.raises(ComarlError, match="--team-reward mean or sum, or a method of iql, ippo, mappo"):
            require_team_reward(method, "individual")


VECTORS = ("ippo", "mappo", "ia2c", "maa2c", "maddpg", "ddpg", "facmac")


@pytest.mark.parametrize("method", METHODS)
def test_vectors_are_for_policies_that_can_give_them(method: str) -> None:
    require_actions(method, "here", continuous=False)
    if method in VECTORS:
        require_actions(method, "here", continuous=True)
    else:
        with pytest.raises(ComarlError, match=f"'{method}' chooses among .* in here .* of {', '.join(VECTORS)}$"):
            require_actions(method, "here", continuous=True)


@pytest.mark.parametrize("method", METHODS)
def test_opponents_have_rewards_of_their_own(method: str) -> None:
    require_common_interest(method, "here", opposed=False, how="mean")
    if METHODS[method].team_value:
        with pytest.raises(ComarlError, match=f"'{method}' learns one value .* use a method of iql, ippo, mappo"):
            require_common_interest(method, "here", opposed=True, how="mean")
        return
    require_common_interest(method, "here", opposed=True, how="individual")
    for how in ("mean", "sum"):
        with pytest.raises(ComarlError, match=f"--team-reward {how} .* in here .* use --team-reward individual"):
            require_common_interest(method, "here", opposed=True, how=how)


def test_settings_go_over_the_preset_and_the_preset_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Preset({"lr": 0.25, "batch_size": 7}, "here", "nothing")
    monkeypatch.setitem(presets.PRESETS, ("vdn", "rware/tiny-2ag", "replay"), preset)
    config = resolve("vdn", "rware/tiny-2ag", {"batch_size": 9})
    assert (config.method, config.env) == ("vdn", "rware/tiny-2ag")
    assert (config.learner.lr, config.learner.batch_size) == (0.25, 9)
    assert config.learner.gamma == RunConfig().learner.gamma
    # Another method's preset is not taken.
    assert resolve("qmix", "rware/tiny-2ag", {}).learner.lr == RunConfig().learner.lr


def test_a_learner_brings_defaults_under_those_of_its_own_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(DEFAULTS) == set(LEARNERS)
    plain = resolve("vdn", "rware/tiny-2ag", {"learner": "pqn"})
    check(plain)
    assert (plain.learner.learner, plain.learner.target_update, plain.agent.layer_norm) == ("pqn", "none", True)
    preset = Preset({"num_envs": 16, "lr": 0.25}, "here", "nothing")
    monkeypatch.setitem(PRESETS, ("vdn", "rware/tiny-2ag", "pqn"), preset)
    config = resolve("vdn", "rware/tiny-2ag", {"learner": "pqn", "lr": 0.5})
    assert (config.num_envs, config.learner.lr, config.learner.optimiser) == (16, 0.5, "radam")
    # Each learner has presets of its own.
    assert resolve("vdn", "rware/tiny-2ag", {}) == RunConfig(method="vdn", env="rware/tiny-2ag")


def test_a_method_has_a_usual_learner() -> None:
    assert resolve("mappo", "two-step", {}).learner.learner == "ppo"
    a2c = resolve("maa2c", "two-step", {})
    assert (a2c.learner.learner, a2c.learner.epochs, a2c.learner.minibatches) == ("a2c", 1, 1)
    assert (str(a2c.folder), str(resolve("qmix", "two-step", {"learner": "pqn"}).folder)) == (
        "runs/maa2c-two-step",
        "runs/qmix-pqn-two-step",
    )


def test_off_policy_methods_have_defaults_of_their_own() -> None:
    maddpg = resolve("maddpg", "two-step", {"gamma": 0.5})
    check(maddpg)
    assert (maddpg.learner.learner, maddpg.learner.team_reward) == ("replay", "individual")
    assert (maddpg.agent.sharing, maddpg.learner.gamma) == ("agent", 0.5)
    assert maddpg.learner.buffer_steps == RunConfig().learner.buffer_steps
    maac = resolve("maac", "two-step", {})
    check(maac)
    assert (maac.learner.lr, maac.learner.target_tau, maac.learner.gamma, maac.agent.hidden) == (1e-3, 1e-3, 0.99, 128)
    # Four updates on a thousand transitions for each hundred steps.
    assert maac.learner.updates * 100 / (maac.num_envs * maac.length) == 4
    assert maac.learner.batch_size * maac.length == 1000


def test_who_acts_by_values_and_who_by_a_policy() -> None:
    policies = {name for name, method in METHODS.items() if not method.values}
    assert policies == {"ippo", "mappo", "ia2c", "maa2c", "coma", "maddpg", "ddpg", "facmac", "maac"}
    assert {METHODS[name].rule for name in policies} == {"ppo", "coma", "maddpg", "maac"}


def test_a_method_has_defaults_over_those_of_its_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    coma, a2c = resolve("coma", "rware/tiny-2ag", {}), resolve("maa2c", "rware/tiny-2ag", {})
    check(coma)
    assert (coma.learner.learner, coma.num_envs, coma.learner.epochs) == ("a2c", a2c.num_envs, 1)
    assert (coma.learner.td_lambda, coma.learner.epsilon_start, coma.policy.entropy_weight) == (0.8, 0.5, 0.0)
    assert (a2c.learner.td_lambda, a2c.policy.entropy_weight) == (0.95, 0.01)
    monkeypatch.setitem(PRESETS, ("coma", "rware/tiny-2ag", "a2c"), Preset({"td_lambda": 0.5}, "here", "nothing"))
    config = resolve("coma", "rware/tiny-2ag", {"epsilon_start": 0.25})
    assert (config.learner.td_lambda, config.learner.epsilon_start) == (0.5, 0.25)
    assert set(OF_METHOD) <= set(METHODS)


def test_learners_that_make_no_sense_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("qmix", "joint"):
        require_learner(method, "replay")
        require_learner(method, "pqn")
        with pytest.raises(ComarlError, match=r"no policy whose gradient .* \(use --learner replay or pqn\)"):
            require_learner(method, "ppo")
    require_learner("mappo", "ppo")
    for learner in ("replay", "pqn", "a2c"):
        with pytest.raises(ComarlError, match=r"that of the policy which took the steps.* \(use --learner ppo\)"):
            require_learner("mappo", learner)
    require_learner("maddpg", "replay")
    for learner in ("pqn", "ppo", "a2c"):
        with pytest.raises(ComarlError, match=r"on steps that earlier policies took \(use --learner replay\)"):
            require_learner("ddpg", learner)
    monkeypatch.setitem(METHODS, "odd", Method("x", "y", refuses={"pqn": "it needs a replay"}))
    assert METHODS["odd"].learners == ["replay", "ppo", "a2c"]
    require_learner("odd", "replay")
    with pytest.raises(ComarlError, match="'odd' does not learn with pqn: it needs a replay"):
        require_learner("odd", "pqn")


def test_every_preset_can_be_run_and_says_where_it_is_from() -> None:
    for (method, env, learner), preset in PRESETS.items():
        require_method(method)
        assert env in names()
        config = resolve(method, env, {"learner": learner})
        assert config.learner.learner == learner
        require_learner(method, learner)
        check(config)
        require_team_reward(method, config.learner.team_reward)
        assert preset.source
        assert preset.measured
