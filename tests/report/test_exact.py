"""Exact tables against numbers derived by hand in the comments; all on uniformly tried joint actions, γ = .99."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from comarl.envs.base import make_timestep
from comarl.mixers.base import Joint
from comarl.mixers.qmix import QMIX
from comarl.report.exact import RULES, Game, Optimum, convex_monotone, solve

QTRAN = np.array([[8.0, -12, -12], [-12, 0, 0], [-12, 0, 0]])
QPLEX_1 = np.array([[10.4, 0, 10], [0, 10, 10], [10, 10, 10]])
QPLEX_3 = np.array([[8.0, -12, -12], [-12, 6, 0], [-12, 0, 6]])
ENDS = dict.fromkeys(itertools.product(range(2), repeat=2))
TWO_STEP = Game(
    paths={"1": (), "2A": ((0, 0),), "2B": ((1, 0),)},
    reward={"1": np.zeros((2, 2)), "2A": np.full((2, 2), 7.0), "2B": np.array([[0.0, 1], [1, 8]])},
    successor={"1": {u: "2B" if u[0] else "2A" for u in ENDS}, "2A": ENDS, "2B": ENDS},
    limit=2,
)
MMDP = Game(
    paths={"1": (), "0": ((1, 1),)},
    reward={"1": np.array([[1.0, 0], [0, 0]]), "0": np.zeros((2, 2))},
    successor={"1": {u: "0" if u == (1, 1) else "1" for u in ENDS}, "0": dict.fromkeys(ENDS, "0")},
    limit=100,
)


def one_step(payoff: np.ndarray) -> Game:
    return Game({"1": ()}, {"1": payoff}, {"1": dict.fromkeys(np.ndindex(3, 3))}, limit=1)


def fits(method: str, game: Game) -> dict[str, Optimum]:
    return {optimum.name: optimum for optimum in solve(game, 0.99, RULES[method])}


def only(method: str, game: Game) -> Optimum:
    (optimum,) = fits(method, game).values()
    return optimum


@pytest.mark.parametrize("method", ["joint", "qmix", "qmix-ns"])
def test_two_step_game_backed_up_in_full(method: str) -> None:
    # 2A is worth 7 and 2B 8: state 1 has .99 · 7 = 6.93 and .99 · 8 = 7.92, whatever agent 2 does.
    best = fits(method, TWO_STEP)["global"]
    np.testing.assert_allclose(best.tables["1"], [[6.93, 6.93], [7.92, 7.92]], atol=1e-9)
    np.testing.assert_allclose(best.tables["2A"], 7, atol=1e-9)
    np.testing.assert_allclose(best.tables["2B"], [[0, 1], [1, 8]], atol=1e-9)
    assert best.returns == [8]
    assert best.mse < 1e-12


@pytest.mark.parametrize("method", ["vdn", "vdn-s", "qmix-lin"])
def test_two_step_game_of_additive_methods(method: str) -> None:
    # 2B: row means .5 and 4.5, column means the same, mean 2.5: the fit is row + column - mean. It is worth 6.5, so
    # state 1 has 6.93 and .99 · 6.5 = 6.435. Residuals of ±1.5 in 2B alone: (0 + 0 + 2.25) / 3.
    exact = only(method, TWO_STEP)
    np.testing.assert_allclose(exact.tables["1"], [[6.93, 6.93], [6.435, 6.435]])
    np.testing.assert_allclose(exact.tables["2A"], 7)
    np.testing.assert_allclose(exact.tables["2B"], [[-1.5, 2.5], [2.5, 6.5]])
    assert exact.returns == [7]
    assert exact.mse == pytest.approx(0.75)


def test_two_step_game_of_independent_learners() -> None:
    # In 2B each agent has the row means .5 and 4.5 and believes that 2B is worth 4.5: .99 · 4.5 = 4.455. Agent 2 cannot
    # tell in state 1 where agent 1 goes: (6.93 + 4.455) / 2 for both of its actions.
    exact = only("iql", TWO_STEP)
    np.testing.assert_allclose(exact.tables["1"], [[6.93, 4.455], [5.6925, 5.6925]])
    np.testing.assert_allclose(exact.tables["2A"], 7)
    np.testing.assert_allclose(exact.tables["2B"], [[0.5, 4.5], [0.5, 4.5]])
    assert exact.returns == [7]


@pytest.mark.parametrize("method", ["vdn", "vdn-s", "qmix-lin"])
def test_qtran_game_of_additive_methods(method: str) -> None:
    # Row means -16/3, -4, -4 and mean -40/9: AA = -32/3 + 40/9 = -56/9, AB = -28/3 + 40/9 = -44/9, BB = -8 + 40/9.
    exact = only(method, one_step(QTRAN))
    table = np.array([[-56, -44, -44], [-44, -32, -32], [-44, -32, -32]]) / 9
    np.testing.assert_allclose(exact.tables["1"], table)
    # Residuals 128/9 at AA, -64/9 in its row and column, 32/9 elsewhere: (128² + 4 · 64² + 4 · 32²) / 81 / 9.
    assert exact.mse == pytest.approx(36864 / 729)
    assert exact.mse == pytest.approx(50.568, abs=1e-3)
    assert exact.returns == [0]


def test_qtran_game_of_independent_learners() -> None:
    exact = only("iql", one_step(QTRAN))
    np.testing.assert_allclose(exact.tables["1"], [[-16 / 3, -4, -4]] * 2)
    assert exact.returns == [0]


def test_joint_learner_finds_every_payoff() -> None:
    for payoff, best in ((QTRAN, 8), (QPLEX_1, 10.4), (QPLEX_3, 8)):
        exact = only("joint", one_step(payoff))
        np.testing.assert_array_equal(exact.tables["1"], payoff)
        assert exact.returns == [best]


def test_qtran_game_has_two_famous_monotone_fits() -> None:
    optima = fits("qmix", one_step(QTRAN))
    # A above B and C: 8 at AA, else the mean (4 · -12 + 4 · 0) / 8 = -6, which is off by 6 in 8 of 9 cells.
    np.testing.assert_allclose(optima["global"].tables["1"], np.where(QTRAN == 8, 8, -6), atol=1e-9)
    assert optima["global"].mse == pytest.approx(8 * 36 / 9)
    assert optima["global"].returns == [8]
    # A below B and C: the mean (8 + 4 · -12) / 5 = -8 in its row and column, off by 16 and 4 · 4.
    np.testing.assert_allclose(optima["local"].tables["1"], np.where(QTRAN == 0, 0, -8), atol=1e-9)
    assert optima["local"].mse == pytest.approx((16**2 + 4 * 4**2) / 9)
    assert optima["local"].returns == [0]


def test_qplex_3_has_two_best_monotone_fits_and_a_saddle_between() -> None:
    optima = fits("qmix", one_step(QPLEX_3))
    # Row and column A as in the QTRAN game (256 + 64); of the block [[6, 0], [0, 6]] one 6 is kept and the mean of the
    # rest is 2 (16 + 4 + 4). B and C may change places.
    for name in ("global", "global 2"):
        assert optima[name].mse == pytest.approx((320 + 24) / 9)
        assert optima[name].returns == [6]
    corners = {tuple(np.argwhere(optima[name].tables["1"] > 5).ravel()) for name in ("global", "global 2")}
    assert corners == {(1, 1), (2, 2)}
    assert "global 3" not in optima
    # With B and C alike the block is its mean 3, off by 3 in four cells.
    np.testing.assert_allclose(optima["saddle"].tables["1"], np.where(QPLEX_3 > -1, np.where(QPLEX_3 == 8, -8, 3), -8))
    assert optima["saddle"].mse == pytest.approx((320 + 4 * 9) / 9)


def test_a_mixing_network_without_kinks_is_vdn() -> None:
    vdn = only("vdn", one_step(QPLEX_1))
    saddles = [o for o in fits("qmix", one_step(QPLEX_1)).values() if o.name.startswith("saddle")]
    assert min(vdn.distance(saddle.tables) for saddle in saddles) < 1e-9


def test_best_fit_is_what_a_general_solver_finds() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 3, 3):
        target = rng.normal(size=(size, size))
        best = min(fit.mse for fit in convex_monotone(target))
        found = min(
            _solve_in_order(target[np.ix_(rows, columns)])
            for rows, columns in itertools.product(itertools.permutations(range(size)), repeat=2)
        )
        assert best == pytest.approx(found, abs=1e-6)


def _solve_in_order(target: np.ndarray) -> float:
    def slack(flat: np.ndarray) -> np.ndarray:
        table = flat.reshape(target.shape)
        down = np.diff(table, axis=0)
        return np.concatenate([x.ravel() for x in (down, np.diff(table, axis=1), np.diff(down, axis=1))])

    solution = minimize(
        lambda flat: np.mean((flat - target.ravel()) ** 2),
        np.zeros(target.size),
        constraints={"type": "ineq", "fun": slack},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return float(solution.fun)


@pytest.mark.parametrize("seed", range(5))
def test_tables_of_the_mixing_network_lie_in_the_derived_class(seed: int) -> None:
    mixer_key, q_key, state_key = jax.random.split(jax.random.key(seed), 3)
    mixer = QMIX(2, 4, key=mixer_key)
    q = jnp.sort(5 * jax.random.normal(q_key, (2, 3)))  # actions in the order of their utilities
    state = jax.random.normal(state_key, (4,))
    ts = make_timestep(jnp.zeros((2, 1)), state, num_actions=3)
    actions = jnp.asarray(list(np.ndindex(3, 3)), jnp.int32)
    values = jax.vmap(lambda action: mixer(Joint(q, action, jnp.zeros((2, 1)), ts)))(actions)
    table = np.asarray(values, np.float64).reshape(3, 3)
    best = min(fit.mse for fit in convex_monotone(table))
    assert best < 1e-9 * table.var()


def test_ties_leave_the_return_open() -> None:
    # Utilities of IQL and VDN tie between B and C: two of the four pairs pay 6.
    for method in ("iql", "vdn"):
        assert only(method, one_step(QPLEX_3)).returns == [0, 6]


@pytest.mark.parametrize("method", ["joint", "qplex", "qtran-base", "ow-qmix"])
def test_mmdp_of_methods_that_represent_it(method: str) -> None:
    # (0, 0) gives 1 for ever: 1 / (1 - .99) = 100. With one agent aside it is a step later, with both never.
    (exact,) = solve(MMDP, 0.99, RULES[method])
    np.testing.assert_allclose(exact.tables["1"], [[100, 99], [99, 0]], atol=1e-6)
    np.testing.assert_allclose(exact.tables["0"], 0)
    assert exact.returns == [100]


def test_mmdp_of_independent_learners() -> None:
    # Q(0) = 1/2 + γ V and V = Q(0), so V = 50; Q(1) = γ V / 2.
    (exact,) = solve(MMDP, 0.99, RULES["iql"])
    np.testing.assert_allclose(exact.tables["1"], [[50, 24.75]] * 2, atol=1e-6)
    assert exact.returns == [100]


def test_on_mmdp_additive_values_grow_without_end() -> None:
    """Targets 1 + γV, γV, γV, 0 have the best additive fit 3/4 + 5/4 γV at (0, 0), and V is that: no end if γ > 4/5."""
    (exact,) = solve(MMDP, 0.5, RULES["vdn"])
    assert exact.tables["1"][0, 0] == pytest.approx(0.75 / (1 - 1.25 * 0.5))
    for method in ("vdn", "qatten", "qmix"):  # a monotone fit has no kink here: the targets are submodular
        assert solve(MMDP, 0.99, RULES[method]) == []
    assert solve(MMDP, 0.79, RULES["qmix"])[0].tables["1"][0, 0] == pytest.approx(0.75 / (1 - 1.25 * 0.79))
