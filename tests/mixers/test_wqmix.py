"""Weighted QMIX: its weights case by case, and what is a constant in its loss."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from comarl.mixers.base import Joint
from comarl.mixers.qmix import QMIX
from comarl.mixers.wqmix import WeightedQMIX
from comarl.nets.critics import JointValue
from tests.by_hand import KEY, joint_value, random_joint, tabled
from tests.probes import random_parameters

N, A, S, H = 2, 3, 4, 5
ALPHA = 0.1
both_weightings = pytest.mark.parametrize("optimistic", [True, False], ids=["OW", "CW"])


def make(seed: int = 0, *, optimistic: bool) -> Any:
    def build() -> WeightedQMIX:
        central = JointValue(N, A, S, H, hidden=6, key=KEY)
        return WeightedQMIX(QMIX(N, S, embed=5, hyper_hidden=6, key=KEY), central, ALPHA, optimistic)

    return random_parameters(build, seed)


def case(seed: int) -> Joint:
    return random_joint(seed, agents=N, actions=A, state=S, hidden=H)


def test_values_of_a_joint_action() -> None:
    """Q_tot is QMIX, which is executed; the target is made of Q̂*."""
    mixer, joint = make(1, optimistic=True), case(1)
    by_hand = joint_value(
        mixer.joint_value, np.asarray(joint.ts.state), np.asarray(joint.hidden), joint.action.tolist()
    )
    np.testing.assert_array_equal(mixer(joint), mixer.monotone(joint))
    np.testing.assert_allclose(mixer.bootstrap(joint), by_hand, rtol=1e-4)
    np.testing.assert_array_equal(mixer.bootstrap(joint), mixer.central(joint))


# Constants for Q_tot and a table for Q̂*: ū = (0, 0), where Q̂* is 5; elsewhere it is 3.
TABLE = np.array([[5.0, 3, 3], [3, 3, 3], [3, 3, 3]])
GREEDY, OTHER = (0, 0), (1, 2)
CASES = [
    # optimistic, Q_tot, y, action, does it count in full?
    (True, 1.0, 2.0, OTHER, True),
    (True, 2.0, 2.0, OTHER, False),  # not below y
    (True, 3.0, 2.0, OTHER, False),
    (True, 1.0, 2.0, GREEDY, True),
    (True, 3.0, 2.0, GREEDY, False),  # that it is greedy does not help
    (False, 1.0, 6.0, OTHER, True),  # above Q̂*(s, ū)
    (False, 1.0, 5.0, OTHER, False),  # just as good
    (False, 1.0, 4.0, OTHER, False),  # above Q̂*(s, u) alone
    (False, 9.0, 4.0, OTHER, False),
    (False, 1.0, 4.0, GREEDY, True),
    (False, 9.0, 4.0, GREEDY, True),
    (False, 9.0, 6.0, GREEDY, True),
    (False, 1.0, 4.0, (0, 2), False),  # one agent of two takes its greedy action
]


@jax.jit
def loss_of(mixer: WeightedQMIX, joint: Joint, y: jax.Array) -> Any:
    return mixer.loss(joint, y)


@pytest.mark.parametrize(("optimistic", "q_tot", "y", "action", "counts"), CASES)
def test_weights(optimistic: bool, q_tot: float, y: float, action: tuple[int, int], counts: bool) -> None:
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape), jax.eval_shape(lambda: QMIX(N, S, key=KEY)))
    monotone = eqx.tree_at(lambda m: m.v.layers[-1].bias, zero, jnp.array([q_tot]))
    mixer = WeightedQMIX(monotone, tabled(TABLE, S, H), ALPHA, optimistic)
    joint = random_joint(0, agents=N, actions=A, state=S, hidden=H, all_available=True)
    joint = joint._replace(q=jnp.array([[2.0, 1.0, 0.0]] * N), action=jnp.array(action))
    loss, metrics = loss_of(mixer, joint, jnp.asarray(y))
    weight = 1 if counts else ALPHA
    np.testing.assert_allclose(metrics["weight"], weight, rtol=1e-6)
    np.testing.assert_allclose(loss, weight * (q_tot - y) ** 2 + (TABLE[action] - y) ** 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["q_tot"], q_tot, rtol=1e-6)
    np.testing.assert_allclose(metrics["td_error"], abs(q_tot - y), rtol=1e-6)
    np.testing.assert_allclose(metrics["central_error"], abs(TABLE[action] - y), rtol=1e-5, atol=1e-6)


def test_the_greedy_joint_action_is_an_available_one() -> None:
    mixer = make(3, optimistic=False)
    joint = next(j for j in map(case, range(20)) if not j.ts.avail.all())
    greedy = joint._replace(action=joint.greedy)
    assert joint.ts.avail[np.arange(N), joint.greedy].all()
    _, metrics = loss_of(mixer, greedy, jnp.asarray(-99.0))
    assert metrics["weight"] == 1


@both_weightings
def test_weights_and_targets_are_constants(optimistic: bool) -> None:
    """The slopes are those of w (Q_tot - y)² and (Q̂*(u) - y)², each by its own parameters; Q̂*(ū) has none."""
    separately = jax.jit(
        jax.grad(lambda m, joint, y: (m.monotone(joint) - y) ** 2 + (m.central(joint) - y) ** 2, argnums=0)
    )
    together = jax.jit(jax.grad(lambda m, joint, y: m.loss(joint, y)[0], argnums=(0, 2)))
    weights = set()
    for seed in range(6):
        mixer, joint, y = make(seed, optimistic=optimistic), case(seed), jnp.asarray(0.5)
        weight = float(loss_of(mixer, joint, y)[1]["weight"])
        by_mixer, by_y = together(mixer, joint, y)
        expected = separately(mixer, joint, y)
        assert by_y == 0
        for ours, theirs, scale in (
            (by_mixer.monotone, expected.monotone, weight),
            (by_mixer.joint_value, expected.joint_value, 1.0),
        ):
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(a, scale * b, rtol=1e-3, atol=1e-5)
        weights.add(round(weight, 3))
    assert weights == {1.0, ALPHA}


@both_weightings
def test_utilities_learn_from_the_weighted_error_alone(optimistic: bool) -> None:
    """What Q̂* is wrong by reaches the agents by way of their hidden states."""
    mixer, joint, y = make(1, optimistic=optimistic), case(1), jnp.asarray(0.5)
    loss = lambda m, q, hidden: m.loss(joint._replace(q=q, hidden=hidden), y)[0]  # noqa: E731
    slopes = jax.jit(jax.grad(loss, argnums=(1, 2)))
    blank = jax.tree.map(jnp.zeros_like, mixer)
    of_q, of_hidden = slopes(eqx.tree_at(lambda m: m.joint_value, mixer, blank.joint_value), joint.q, joint.hidden)
    np.testing.assert_array_equal(of_q != 0, joint.taken)
    assert not of_hidden.any()
    of_q, of_hidden = slopes(eqx.tree_at(lambda m: m.monotone, mixer, blank.monotone), joint.q, joint.hidden)
    assert not of_q.any()
    assert of_hidden.any()


@pytest.mark.parametrize("alpha", [1.0, 0.1, 1e-4])
def test_the_best_optimistic_fit_of_qmixs_class_may_miss_the_best_joint_action(alpha: float) -> None:
    """The example of docs/methods/wqmix.md: whatever α is, the second row comes first, and its .9 is taken for the 1.

    With rows and columns in the order of their utilities a table of QMIX's class is a constant, steps of the rows and
    of the columns, and their kink, all but the first not negative.
    """
    payoff = np.array([[1.0, 0.0], [0.9, 0.9]])
    parts = np.array([[1, -1, 0, 0, 0], [1, -1, 0, 1, 0], [1, -1, 1, 0, 0], [1, -1, 1, 1, 1]], float)
    losses: dict[tuple[int, int], float] = {}
    for row, column in np.ndindex(2, 2):  # the greedy ones
        y = payoff[[1 - row, row]][:, [1 - column, column]].reshape(-1)
        fit = np.zeros(4)
        for _ in range(100):  # least squares, weighted anew until the weights stand still
            root = np.sqrt(np.where(fit < y, 1.0, alpha))
            fit = parts @ nnls(parts * root[:, None], y * root)[0]
        losses[row, column] = float((np.where(fit < y, 1.0, alpha) * (fit - y) ** 2).sum())
    assert min(losses, key=losses.__getitem__) == (1, 0)
    assert losses[1, 0] < 0.99 * losses[0, 0]
