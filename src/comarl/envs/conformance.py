"""Whether an environment keeps to the protocol of :mod:`comarl.envs.base`, for the authors of environments."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from comarl.envs.base import Env, Hosted
from comarl.envs.processes import PythonEnvs
from comarl.envs.python_conformance import check_python
from comarl.envs.registry import one_line
from comarl.errors import ComarlError
from comarl.types import EnvSpec, TimeStep

TOLERANCE = 1e-4
"""How far compiled and uncompiled floats may lie apart, relative and absolute: compilation reorders sums."""

BEYOND = 3.0
"""How large continuous actions are that lie beyond their bounds."""

SHARED = EnvSpec.__dataclass_fields__["reward"].default
"""The meaning of a reward that every agent must get alike."""


def require_conformance(env: Env | Hosted) -> None:
    """The part of :func:`check_env` that runs no environment step: sizes, shapes and dtypes.

    Raises:
        ComarlError: naming the first problem, and how many more there are.
    """
    problems = list(_spec_problems(env.spec)) if isinstance(env, Hosted) else _static_problems(env)
    if problems:
        more = f" (and {len(problems) - 1} more: see 'comarl check-env')" if problems[1:] else ""
        name = getattr(getattr(env, "spec", None), "name", type(env).__name__)
        raise ComarlError(f"environment '{name}' does not keep to the protocol: {problems[0]}{more}")


def check_env(env: Env | PythonEnvs, *, episodes: int = 3, seed: int = 0) -> list[str]:
    """Play random episodes and tell what an environment does wrong.

    Checked are the specification, the shapes and dtypes, that observations, states and rewards are finite, that every
    agent always has an available action, the flags and the discount, the reward at the first step, the length of
    episodes, the outcomes, and that a step depends on its state, its action and its key alone: the same when
    repeated, compiled and mapped. Continuous actions are drawn from within their bounds, upon them and beyond, and what
    lies beyond must do what the bound does. Of one that Python steps, :func:`check_python` says what is checked.

    Args:
        env: the environment.
        episodes: how many episodes to play, side by side, with random available actions.
        seed: of the episodes and the actions.

    Returns:
        The problems, each with what to do about it; empty if the environment conforms.
    """
    if isinstance(env, PythonEnvs):
        return [*_spec_problems(env.spec)] or check_python(env, episodes=episodes, seed=seed)
    problems = _static_problems(env)
    if problems:
        return problems
    try:
        played = _play(env, episodes, seed)
        return [*_played_problems(played, env), *_purity_problems(played, env)]
    except Exception as error:  # the environment may raise anything
        return [
            f"playing an episode raises {one_line(error)}: reset and step must be pure functions, written with "
            "jax.numpy and without Python attributes that change"
        ]


def _static_problems(env: Env) -> list[str]:
    """What is wrong in the specification and in the shapes, found without running anything."""
    problems = list(_spec_problems(getattr(env, "spec", None)))
    if problems:
        return problems
    key = jax.random.key(0)
    where = "reset"
    try:
        state, ts = _pair(where, jax.eval_shape(env.reset, key))
        problems += _timestep_problems(where, ts, env.spec)
        where = "step"
        state_next, ts_next = _pair(where, jax.eval_shape(env.step, state, env.spec.action_form, key))
        problems += _timestep_problems(where, ts_next, env.spec)
        problems += _agreement_problems("state", state, state_next)
        problems += [] if problems else _agreement_problems("time step", ts, ts_next)
        where = "outcome"
        problems += _outcome_problems(jax.eval_shape(env.outcome, state), env.spec)
    except _NotAPairError as error:
        problems.append(str(error))
    except Exception as error:  # the environment may raise anything
        problems.append(
            f"{where} cannot be traced by JAX, it raises {one_line(error)}: write it with jax.numpy and jax.lax"
        )
    return problems


class _NotAPairError(Exception):
    """Raised to end the static check: nothing further can be looked at."""


def _pair(where: str, result: Any) -> tuple[Any, TimeStep]:
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], TimeStep)):
        raise _NotAPairError(f"{where} must return a pair (state, TimeStep), it returns a {type(result).__name__}")
    return result


def _spec_problems(spec: Any) -> Iterator[str]:
    if not isinstance(spec, EnvSpec):
        yield f"spec must be a comarl.types.EnvSpec, it is a {type(spec).__name__}"
        return
    for size in ("num_agents", "obs_dim", "state_dim", "num_actions", "max_episode_steps"):
        value = getattr(spec, size)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"spec.{size} is {value!r}: it must be an int of at least 1"
    lists = {"agent_types": int, "units": tuple, "outcomes": str, "sides": str}
    unlike = [
        f"spec.{name} is {getattr(spec, name)!r}: it must be a tuple, each entry of type {kind.__name__}"
        for name, kind in lists.items()
        if not isinstance(getattr(spec, name), tuple) or not all(isinstance(x, kind) for x in getattr(spec, name))
    ]
    if unlike:
        yield from unlike
        return
    if len(spec.agent_types) not in (0, spec.num_agents):
        yield (
            f"spec.agent_types has {len(spec.agent_types)} entries for {spec.num_agents} agents: "
            "give one number per agent, or none if all are alike"
        )
    if len(spec.sides) not in (0, spec.num_agents):
        yield f"spec.sides has {len(spec.sides)} entries for {spec.num_agents} agents: give one name per agent, or none"
    if len(set(spec.outcomes)) != len(spec.outcomes):
        yield f"spec.outcomes names an outcome twice: {', '.join(spec.outcomes)}"


def _timestep_problems(where: str, ts: TimeStep, spec: EnvSpec) -> Iterator[str]:
    n, d, s, a = spec.num_agents, spec.obs_dim, spec.state_dim, spec.num_actions
    wanted = {
        "obs": ((n, d), jnp.float32),
        "state": ((s,), jnp.float32),
        "avail": ((n, a), jnp.bool_),
        "reward": ((n,), jnp.float32),
        "discount": ((), jnp.float32),
        "first": ((), jnp.bool_),
        "last": ((), jnp.bool_),
    }
    for field, (shape, dtype) in wanted.items():
        got = getattr(ts, field)
        if tuple(got.shape) != shape or got.dtype != dtype:
            yield (
                f"{where} returns {field} of shape {_text(got.shape)} and dtype {got.dtype}, and by the spec it is "
                f"{_text(shape)} and {jnp.dtype(dtype)}: mend one of them"
            )


def _agreement_problems(what: str, reset: Any, step: Any) -> Iterator[str]:
    if jax.tree.structure(reset) != jax.tree.structure(step):
        yield f"step returns a {what} of another structure than reset: both must return the same pytree"
        return
    for (path, a), b in zip(jax.tree.leaves_with_path(reset), jax.tree.leaves(step), strict=True):
        if _kind(a) != _kind(b):
            leaf = jax.tree_util.keystr(path)
            yield (
                f"the {what}{leaf and f' at {leaf}'} is {_kind(a)} after reset and {_kind(b)} after step: they must "
                "agree (a weak type is that of a Python number: give it a dtype)"
            )


def _outcome_problems(outcome: Any, spec: EnvSpec) -> Iterator[str]:
    if not isinstance(outcome, dict) or set(outcome) != set(spec.outcomes):
        yield (
            f"outcome returns {sorted(outcome) if isinstance(outcome, dict) else type(outcome).__name__} and "
            f"spec.outcomes names {sorted(spec.outcomes)}: they must be the same names"
        )
        return
    for name, value in outcome.items():
        if tuple(value.shape) != () or value.dtype != jnp.float32:
            yield f"outcome '{name}' is {_kind(value)}: it must be a float32 scalar"


class _Played(NamedTuple):
    """``E`` episodes, side by side; an episode's entries after its last step mean nothing.

    ``ts`` is ``[T + 1, E, ...]``, ``actions`` and ``keys`` are per transition ``[E, ...]``, ``states`` per time step.
    """

    ts: TimeStep
    states: list[Any]
    actions: list[Array]
    keys: list[PRNGKeyArray]
    reset_keys: PRNGKeyArray


def _play(env: Env, episodes: int, seed: int) -> _Played:
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    rng = np.random.default_rng(seed)
    reset_keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0), episodes)
    state, ts = reset(reset_keys)
    states, steps = [state], [jax.device_get(ts)]
    actions: list[Array] = []
    keys: list[PRNGKeyArray] = []
    over = steps[0].last.copy()
    while not over.all() and len(actions) < env.spec.max_episode_steps:
        actions.append(_draw(env.spec, steps[-1].avail, len(actions), rng))
        keys.append(jax.random.split(jax.random.fold_in(jax.random.key(seed), len(actions)), episodes))
        state, ts = step(state, actions[-1], keys[-1])
        states.append(state)
        steps.append(jax.device_get(ts))
        over |= steps[-1].last
    return _Played(jax.tree.map(lambda *x: np.stack(x), *steps), states, actions, keys, reset_keys)


def _draw(spec: EnvSpec, avail: np.ndarray, time: int, rng: np.random.Generator) -> Array:
    """Random actions of ``E`` episodes; continuous ones in turn within their bounds, upon them, and beyond."""
    if not spec.continuous:
        rank = np.where(avail, rng.random(avail.shape), -1.0)
        return jnp.asarray(rank.argmax(-1), jnp.int32)
    within = rng.uniform(-1, 1, avail.shape)
    turn = (time + np.arange(len(avail)))[:, None, None] % 3
    drawn = np.select([turn == 0, turn == 1], [within, np.sign(within)], BEYOND * np.sign(within))
    return jnp.asarray(np.where(avail, drawn, 0), jnp.float32)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Something that must hold at every time step: where it is ``broken [T + 1, E, ...]``, and what to say."""

    broken: np.ndarray
    text: str


def _played_problems(played: _Played, env: Env) -> Iterator[str]:
    ts: Any = played.ts
    spec = env.spec
    ended = np.logical_or.accumulate(ts.last, axis=0)
    counts = ~np.concatenate([np.zeros_like(ended[:1]), ended[:-1]])  # up to the first last step
    time = np.arange(len(ts.last))[:, None]
    rules = [
        _Rule(~np.isfinite(ts.obs), "obs is not finite: an observation has a NaN or an infinity"),
        _Rule(~np.isfinite(ts.state), "state is not finite: the global state has a NaN or an infinity"),
        _Rule(~np.isfinite(ts.reward), "reward is not finite: a reward is NaN or infinite"),
        _Rule(
            ~ts.avail.any(-1),
            "an agent has no available action: each needs at least one, also at the last step (the dead may 'stop')",
        ),
        _Rule(ts.first != (time == 0), "first is wrong: reset sets it and step never does"),
        _Rule(ts.last & (time == 0), "last is set by reset: an episode has at least one transition"),
        _Rule(
            ~np.isin(ts.discount, (0.0, 1.0)),
            "discount is neither 0 nor 1: it is 0 where the episode terminates, else 1 (γ belongs to the method)",
        ),
        _Rule((ts.discount == 0) & ~ts.last, "discount is 0 and last is not set: an episode that terminates is over"),
        _Rule((ts.reward != 0) & (time == 0)[..., None], "reward is not 0 at reset: nothing has been done yet"),
    ]
    if spec.reward == SHARED:
        unequal = np.nan_to_num(ts.reward) != np.nan_to_num(ts.reward[..., :1])
        rules.append(
            _Rule(unequal, f"reward differs between agents and spec.reward says '{SHARED}': say what it means there")
        )
    for rule in rules:
        where = np.argwhere(rule.broken & counts.reshape(counts.shape + (1,) * (rule.broken.ndim - 2)))
        if len(where):
            yield f"{rule.text} (first at step {where[0][0]} of episode {where[0][1]})"
    if not ended[-1].all():
        yield (
            f"an episode had not ended after spec.max_episode_steps = {spec.max_episode_steps} transitions: "
            "set last by then, or raise the number"
        )


def _purity_problems(played: _Played, env: Env) -> Iterator[str]:
    """Whether reset and step give the same again, compiled and mapped, at a few moments of the first episode."""
    length = int(played.ts.last[:, 0].argmax()) or len(played.actions)
    first = _row(played.states[0], 0), _row(played.ts, (0, 0))
    yield from _purity("reset", env.reset, (played.reset_keys[0],), first)
    seen: set[str] = set()
    step = jax.jit(env.step)
    for t in sorted({0, length // 2, length - 1} & set(range(length))):
        arguments = _row(played.states[t], 0), played.actions[t][0], played.keys[t][0]
        mapped = _row(played.states[t + 1], 0), _row(played.ts, (t + 1, 0))
        found = [*_purity("step", env.step, arguments, mapped, step)]
        if env.spec.continuous:
            found += _bound_problems(step, *arguments)
        found = [problem for problem in found if problem not in seen]
        seen.update(found)
        yield from found


def _bound_problems(step: Callable[..., Any], state: Any, action: Array, key: PRNGKeyArray) -> Iterator[str]:
    beyond = BEYOND * jnp.sign(action)
    if not _alike(step(state, beyond, key), step(state, jnp.clip(beyond, -1.0, 1.0), key), TOLERANCE):
        yield "step does not clip a continuous action to [-1, 1]: policies with Gaussian noise go beyond"


def _purity(
    where: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    mapped: Any,
    compiled: Callable[..., Any] | None = None,
) -> Iterator[str]:
    plain = function(*arguments)
    if not _alike(plain, function(*arguments), 0.0):
        yield (
            f"{where} gives another result for the same arguments: draw all randomness from the key, and keep what "
            "changes in the state and not in Python"
        )
        return
    jitted = (compiled or jax.jit(function))(*arguments)
    if not _alike(plain, jitted, TOLERANCE):
        yield (
            f"{where} gives another result under jax.jit: what it reads from Python attributes is frozen when it is "
            "compiled, so keep it in the state"
        )
    elif not _alike(jitted, mapped, TOLERANCE):
        yield (
            f"{where} gives another result under jax.vmap than alone: write it for one environment, without batch "
            "axes, and keep what changes in the state and not in Python"
        )


def _alike(a: Any, b: Any, tolerance: float) -> bool:
    return all(map(lambda x, y: _close(_numbers(x), _numbers(y), tolerance), jax.tree.leaves(a), jax.tree.leaves(b)))


def _close(x: np.ndarray, y: np.ndarray, tolerance: float) -> bool:
    if not np.issubdtype(x.dtype, np.inexact):
        tolerance = 0.0
    return bool(np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True))


def _numbers(x: Any) -> np.ndarray:
    """An array as NumPy's; a key as its bits."""
    x = jnp.asarray(x)
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def _row(tree: Any, index: int | tuple[int, ...]) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def _kind(x: Any) -> str:
    return f"{'weak ' if getattr(x, 'weak_type', False) else ''}{x.dtype}{_text(x.shape)}"


def _text(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
