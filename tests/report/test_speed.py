"""The benchmark's figures: what is counted, in which order it is measured, and which phases a method has."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig, with_settings
from comarl.report import speed
from comarl.report.speed import MEANING, alternate, figures, jitted, measure, phase, products

TINY: dict[str, Any] = {
    "num_envs": 2,
    "length": 4,
    "cell": "mlp",
    "hidden": 8,
    "steps": 8,
    "eval_every": 8,
    "eval_episodes": 2,
}


def test_products_of_a_batch_in_a_loop() -> None:
    def f(x: jax.Array, w: jax.Array) -> jax.Array:
        step = lambda x, _: (jax.vmap(lambda row: jnp.tanh(w @ row))(x), None)  # noqa: E731
        return jax.lax.scan(step, x, length=7)[0]

    # In each of 7 steps 5 rows, each the product of a 3 × 3 matrix with a vector: 9 multiplications and 9 additions.
    assert products(jax.make_jaxpr(f)(jnp.ones((5, 3)), jnp.ones((3, 3))).jaxpr) == 7 * 5 * 2 * 9


def test_the_gradient_of_a_product_takes_two_more() -> None:
    loss = lambda w, x: (x @ w).sum()  # noqa: E731
    args = (jnp.ones((3, 4)), jnp.ones((5, 3)))
    forward = phase(loss, *args).operations
    assert forward == 2 * 5 * 3 * 4
    assert phase(jax.grad(loss, argnums=(0, 1)), *args).operations == 3 * forward
    assert phase(loss, *args, turns=2).operations == forward / 2


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SHORTEST", 0.0)
    called: list[str] = []
    seconds = alternate({name: lambda name=name: called.append(name) for name in "abc"}, rounds=2)
    assert called == list("abcabc")
    assert {name: len(s) for name, s in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_share_is_of_the_same_rounds_peak() -> None:
    # 2 operations in 1 s and 0.5 s, beside a peak of 4/s and 16/s.
    share = figures([1.0, 0.5], 2.0, [4.0, 16.0])["share"]
    assert (share["min"], share["max"]) == (0.25, 0.5)
    assert figures([1.0, -0.1], 2.0, [4.0, 4.0])["share"] is None
    assert figures([1.0, 1.0], 0.0, [4.0, 4.0])["share"] is None


REPLAYED = {"batch_size": 2, "updates": 1, "learning_starts": 0}


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen programs need not be compiled to be counted."""
    monkeypatch.setattr(speed, "SHORTEST", 0.0)
    monkeypatch.setattr(speed, "jitted", lambda f, *args: lambda: None)


@pytest.mark.usefixtures("quick")
def test_phases() -> None:
    result = measure(with_settings(RunConfig(method="vdn", env="two-step"), TINY | REPLAYED), rounds=3)
    phases = result["phases"]
    assert list(phases) == list(MEANING)
    # An update is a loss, its gradient, and what has no matrix products.
    assert phases["backward"]["gflop"] > phases["loss"]["gflop"] / 2 > 0
    assert phases["update"]["gflop"] == pytest.approx(phases["loss"]["gflop"] + phases["backward"]["gflop"])
    # Either holds all products of what it consists of.
    assert phases["collect"]["gflop"] == pytest.approx(phases["act"]["gflop"])
    assert phases["environment"]["gflop"] == phases["optimiser"]["gflop"] == 0
    assert phases["evaluation"]["gflop"] is None
    assert result["rates"]["updates"]["median"] == pytest.approx(1 / phases["update"]["seconds"]["median"])
    assert result["rates"]["env_steps_alone"]["median"] == pytest.approx(8 / phases["environment"]["seconds"]["median"])


@pytest.mark.usefixtures("quick")
def test_an_update_is_one_of_those_that_a_program_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "alternate", lambda calls, rounds: {name: [1.0] * rounds for name in calls})
    config = with_settings(RunConfig(method="vdn", env="two-step"), TINY | REPLAYED)
    result = measure(config, rounds=2)
    phases = result["phases"]
    assert phases["sample"]["seconds"]["median"] == 1
    assert phases["update"]["seconds"]["median"] == 1 / speed.UPDATES
    assert result["rates"]["updates"]["median"] == speed.UPDATES


@pytest.mark.usefixtures("quick")
def test_phases_of_policy_gradients() -> None:
    ppo = TINY | {"learner": "ppo", "minibatches": 1}
    driver = speed.on_device(with_settings(RunConfig(method="mappo", env="two-step"), ppo))
    phases = speed.training_phases(driver, jax.jit(driver.init)(0))
    assert set(phases) == set(MEANING) - {"unroll", "mixer"}
    # Here the loss and its gradient are still one, and the update has no other products.
    assert phases["update"].operations == phases["backward"].operations


def test_a_jitted_call_runs_the_function() -> None:
    assert jitted(lambda x: x + 1, jnp.ones(2))().tolist() == [2, 2]


def test_an_environment_that_python_steps_is_refused() -> None:
    with pytest.raises(ComarlError, match="Python steps"):
        measure(RunConfig(method="qmix", env="tests.envs.python_envs:Diary"), rounds=1)


def test_several_devices_are_refused() -> None:
    with pytest.raises(ComarlError, match=r"cpu_devices=2: phases are measured on one device \(leave it out\)"):
        measure(RunConfig(method="qmix", env="mpe/simple_spread", cpu_devices=2), rounds=1)
