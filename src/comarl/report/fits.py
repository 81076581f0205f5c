"""A mixer fitted directly to the payoffs of a one-step game: what its class and its loss come to, without any data.

Utilities are free parameters, the state is a constant, and every joint action counts alike at every step. What comes
out depends on the method's own loss, the optimiser and the initial parameters alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from comarl.envs.games.matrix import MatrixGame
from comarl.experiments.build import build_mixer
from comarl.experiments.config import RunConfig, with_settings
from comarl.mixers.base import AbstractMixer, Joint, mask_unavailable

LEARNING_RATE = 1e-2
GRAD_CLIP = 10.0

SETTINGS: dict[str, Any] = {
    # A constant state needs no deep hypernetwork.
    "hyper_layers": 1,
    "hyper_hidden": 32,
    # λ(s, u) must tell joint actions apart, which a product of sums over the agents cannot for all of them.
    "kernel_layers": 2,
    "joint_hidden": 32,
    # QTRAN on a fully observed matrix game (Son et al. 2019): V = 0, and both conditions count as much as the fit.
    "state_value": False,
    "opt_weight": 1.0,
    "nopt_weight": 1.0,
}
"""What differs from the general defaults; the state is one number, and hundreds of mixers are fitted side by side."""


class Fitted(NamedTuple):
    """A mixer and the utilities that belong to it.

    Attributes:
        mixer: with its fitted parameters.
        joint: the fitted utilities ``[N, A]`` with the greedy joint action.
        table: the mixer's value of every joint action ``[A_1, ..., A_N]``; a last axis ``[N]`` if it is one per agent.
        greedy_payoff: what the greedy joint action pays.
        loss: the method's own, at the end.
    """

    mixer: AbstractMixer
    joint: Joint
    table: Float[Array, "..."]
    greedy_payoff: Float[Array, "*batch"]
    loss: Float[Array, "*batch"]


def fit_settings(method: str) -> RunConfig:
    """The configuration that ``method`` is fitted with."""
    return with_settings(RunConfig(method=method, env="matrix"), SETTINGS)


def fit(
    config: RunConfig,
    payoff: Float[Array, "*actions"],
    key: PRNGKeyArray,
    *,
    optimiser: optax.GradientTransformation,
    steps: int,
) -> Fitted:
    """Fit the configured method's mixer and utilities to one game.

    Args:
        config: names the method and sizes its mixer.
        payoff: one axis per agent.
        key: for the initial parameters.
        optimiser: takes a step on the mean of the mixer's loss over all joint actions.
        steps: how many.
    """
    seen = payoff.reshape(-1) if config.method == "joint" else payoff
    step = _step_of(seen.shape, config.agent.hidden)
    actions = jnp.asarray(list(np.ndindex(seen.shape)), jnp.int32)
    spec = MatrixGame("matrix", np.zeros(seen.shape)).spec
    q_key, mixer_key = jax.random.split(key)
    q = 0.1 * jax.random.normal(q_key, step.q.shape)
    params: Any = (q, build_mixer(config, spec, mixer_key))

    def joint_of(q: Float[Array, "N A"], action: Int[Array, " N"]) -> Joint:
        return step._replace(q=mask_unavailable(q, step.ts), action=action)

    def loss(params: Any) -> Float[Array, ""]:
        q, mixer = params

        def one(action: Int[Array, " N"], y: Float[Array, ""]) -> Float[Array, ""]:
            joint = joint_of(q, action)
            return mixer.loss(joint, jnp.broadcast_to(y, jax.eval_shape(mixer, joint).shape))[0]

        return jax.vmap(one)(actions, seen.reshape(-1)).mean()

    def descend(now: tuple[Any, optax.OptState], _: None) -> tuple[tuple[Any, optax.OptState], None]:
        params, state = now
        change, state = optimiser.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, change), state), None

    (params, _), _ = jax.lax.scan(descend, (params, optimiser.init(params)), length=steps)
    q, mixer = params
    joint = joint_of(q, actions[0])
    greedy = joint.greedy
    values = jax.vmap(lambda action: mixer(joint_of(q, action)))(actions)
    per_agent = () if config.method == "joint" else values.shape[1:]
    return Fitted(
        mixer,
        joint._replace(action=greedy),
        values.reshape(*payoff.shape, *per_agent),
        seen[tuple(greedy)],
        loss(params),
    )


def fit_optimiser(steps: int) -> optax.GradientTransformation:
    """RMSprop after clipping, as the methods are trained; its rate falls to nothing, as there is no noise to average.

    Adam without clipping drives QPLEX's λ and w up at once, and three fits of four end where they saturate.
    """
    rate = optax.cosine_decay_schedule(LEARNING_RATE, steps)
    rmsprop = optax.rmsprop(rate, decay=0.99, eps=1e-5, eps_in_sqrt=False)
    return optax.chain(optax.clip_by_global_norm(GRAD_CLIP), rmsprop)


def fit_best(
    config: RunConfig,
    payoffs: Float[Array, "G *actions"],
    *,
    steps: int,
    restarts: int = 1,
    seed: int = 0,
    optimiser: optax.GradientTransformation | None = None,
) -> Fitted:
    """Fit ``G`` games side by side, each of them several times, and keep each game's fit of least loss.

    The fit of a non-convex class ends in whatever optimum is near: several initial parameters come closer to what the
    class can do.

    Args:
        config: names the method and sizes its mixer.
        payoffs: the games, one axis per agent.
        steps: of the optimiser.
        restarts: initial parameters per game.
        seed: of the initial parameters.
        optimiser: :func:`fit_optimiser` if left out.

    Returns:
        Each leaf has a leading axis ``[G]``.
    """
    optimiser = optimiser or fit_optimiser(steps)

    def fit_one(payoff: Float[Array, "*actions"], key: PRNGKeyArray) -> Fitted:
        return fit(config, payoff, key, optimiser=optimiser, steps=steps)

    def keep_best(payoff: Float[Array, "*actions"], keys: Key[Array, " R"]) -> Fitted:
        fits = jax.vmap(fit_one, in_axes=(None, 0))(payoff, keys)
        best = jnp.argmin(fits.loss)
        return jax.tree.map(lambda x: x[best], fits)

    return jax.jit(jax.vmap(keep_best))(payoffs, jax.random.split(jax.random.key(seed), (len(payoffs), restarts)))


def only(fitted: Fitted) -> Fitted:
    """The first of several games' fits, without the leading axis."""
    return jax.tree.map(lambda x: x[0], fitted)


def _step_of(sizes: tuple[int, ...], hidden: int) -> Joint:
    """The only joint step of a game with so many actions per agent; agents have nothing to remember."""
    game = MatrixGame("matrix", np.zeros(sizes))
    ts = game.reset(jax.random.key(0))[1]
    n, a = game.spec.num_agents, game.spec.num_actions
    return Joint(jnp.zeros((n, a)), jnp.zeros((n,), jnp.int32), jnp.zeros((n, hidden)), ts)
