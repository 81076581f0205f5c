"""The benchmark's figures: what is counted, in which order it is measured, and which phases a method has."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig, with_settings
from comarl.report import speed
from comarl.report.speed import MEANING, alternate, figures, measure, phase, products

TINY: dict[str, Any] = {"num_envs": 2, "length": 4, "hidden": 8, "steps": 8, "eval_every": 8, "eval_episodes": 2}


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


@pytest.mark.parametrize(
    ("method", "without"),
    [("qmix", set()), ("mappo", {"unroll", "mixer"})],
)
def test_phases(method: str, without: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "PEAK_SIDE", 8)
    monkeypatch.setattr(speed, "SHORTEST", 0.0)
    learner = {"learner": "ppo"} if method == "mappo" else {"batch_size": 2, "updates": 1, "learning_starts": 0}
    config = with_settings(RunConfig(method=method, env="two-step"), TINY | learner)
    result = measure(config, rounds=2)
    phases = result["phases"]
    assert list(phases) == [name for name in MEANING if name not in without]
    # A gradient takes about twice what its loss does, and an update a loss and its gradient.
    assert phases["backward"]["gflop"] > phases["loss"]["gflop"]
    assert phases["update"]["gflop"] == pytest.approx(phases["loss"]["gflop"] + phases["backward"]["gflop"])
    assert phases["optimiser"]["gflop"] == 0
    assert phases["evaluation"]["gflop"] is None
    steps = 2 * 4 / phases["environment"]["seconds"]["median"]
    assert result["rates"]["env_steps_alone"]["max"] >= steps >= result["rates"]["env_steps_alone"]["min"]


def test_an_environment_that_python_steps_is_refused() -> None:
    with pytest.raises(ComarlError, match="Python steps"):
        measure(RunConfig(method="qmix", env="tests.envs.python_envs:Diary"), rounds=1)
