"""Methods and presets by name."""

import pytest

from comarl.envs.registry import names
from comarl.errors import ComarlError
from comarl.experiments import presets
from comarl.experiments.config import RunConfig, check
from comarl.experiments.methods import METHODS, require_method, require_team_reward
from comarl.experiments.presets import PRESETS, Preset, resolve


def test_methods_are_found_by_their_exact_names() -> None:
    assert require_method("qmix") is METHODS["qmix"]
    with pytest.raises(ComarlError, match="unknown method 'qmi': did you mean 'qmix'"):
        require_method("qmi")


@pytest.mark.parametrize("method", METHODS)
def test_rewards_per_agent_are_for_values_per_agent(method: str) -> None:
    require_team_reward(method, "mean")
    require_team_reward(method, "sum")
    if method == "iql":
        require_team_reward(method, "individual")
    else:
        with pytest.raises(ComarlError, match="--team-reward mean or sum, or a method of iql"):
            require_team_reward(method, "individual")


def test_settings_go_over_the_preset_and_the_preset_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Preset({"lr": 0.25, "batch_size": 7}, "here", "nothing")
    monkeypatch.setitem(presets.PRESETS, ("vdn", "mmdp/game-1"), preset)
    config = resolve("vdn", "mmdp/game-1", {"batch_size": 9})
    assert (config.method, config.env) == ("vdn", "mmdp/game-1")
    assert (config.learner.lr, config.learner.batch_size) == (0.25, 9)
    assert config.learner.gamma == RunConfig().learner.gamma
    # Another method's preset is not taken.
    assert resolve("qmix", "mmdp/game-1", {}).learner.lr == RunConfig().learner.lr


def test_every_preset_can_be_run_and_says_where_it_is_from() -> None:
    for (method, env), preset in PRESETS.items():
        require_method(method)
        assert env in names()
        config = resolve(method, env, {})
        check(config)
        require_team_reward(method, config.learner.team_reward)
        assert preset.source
        assert preset.measured
