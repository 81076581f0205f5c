"""Whatever an environment gives, it is named and nothing of it reaches a learner."""

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from comarl.envs.base import HostEnv
from comarl.envs.conformance import require_conformance
from comarl.envs.processes import PythonEnvs
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.spec import EnvSpec
from tests.fuzzing.verdict import command, fuzz, in_time, refused_or_done, some
from tests.fuzzing.worlds import Wild

NAME = "tests.fuzzing.worlds:Wild"
FIELDS = ("obs", "state", "avail", "reward", "terminated", "truncated", "percept", "outcome")

ODD: tuple[Any, ...] = (
    *(None, 0, -1, True, 2**70, 1.5, 1e300, float("nan"), float("inf"), 1j, "", "x", b"x", [], [[]], {}, object()),
    *([[1, 2, 3], [4, 5, 6]], [[1, 2], [3]], [None, 1], (1, 2, 3, 4, 5, 6), range(3), {"won": None}, {"won": "1"}),
    *({"won": float("nan")}, {"won": float("inf")}, {"won": [1, 2]}, {"won": 1, "more": 2}, {"lost": 1}, {1: 2}),
    *(
        np.zeros(0),
        np.zeros((2, 3, 1)),
        np.array(None),
        np.array([None, 1.0]),
        np.array(["a", "b"]),
        np.datetime64("NaT"),
    ),
    *(
        np.ma.masked,
        np.ma.masked_array([1.0, 2.0], [True, False]),
        np.zeros(2, [("a", float)]),
        np.bool_(True),
        np.float64(1e300),
    ),
)
"""What Python may give in place of numbers."""


def arrays() -> st.SearchStrategy[np.ndarray]:
    """Numbers in some shape, often the right one, of some kind."""
    shapes = st.sampled_from([(2, 3), (2,), (3,), (), (1,), (3, 2), (2, 3, 1), (0,), (1, 3)])
    kinds = st.sampled_from(["float64", "float32", "int8", "int64", "uint64", "bool", "complex64", "float16", "object"])
    numbers = st.sampled_from([0.0, 1.0, -1.0, 3.4e38, 1e39, -1e300, float("nan"), float("inf"), 1e-300])

    def made(shape: tuple[int, ...], kind: str, number: float, place: int) -> np.ndarray:
        array = np.ones(shape)
        if array.size:
            array.flat[place % array.size] = number
        with np.errstate(all="ignore"):
            return array.astype(kind)

    return st.builds(made, shapes, kinds, numbers, st.integers(0, 5))


SOUND = EnvSpec("wild", 2, 3, 2, 3, 4, outcomes=("won",))


def errors() -> st.SearchStrategy[Exception]:
    """What an environment may raise."""
    kinds = st.sampled_from([ValueError, KeyError, OSError, RuntimeError, StopIteration, RecursionError, MemoryError])
    return st.builds(
        lambda kind, text: kind(text), kinds, st.sampled_from(["", "x", "two\nlines", "\ud800", "é" * 300])
    )


def specs() -> st.SearchStrategy[Any]:
    """What may stand in place of a specification."""
    fields = st.sampled_from(
        ["num_agents", "obs_dim", "state_dim", "num_actions", "max_episode_steps", "outcomes", "name"]
    )
    numbers = st.sampled_from([0, -1, 1, 2, 7, 2.0, True, None, "2", (), ("won", "won"), ("",), (1,), float("nan")])

    def made(name: str, value: Any) -> EnvSpec:
        spec = copy.copy(SOUND)
        object.__setattr__(spec, name, value)  # past the tests' own checks of types, which users have not
        return spec

    return st.sampled_from(ODD) | st.builds(made, fields, numbers)


def scripts() -> st.SearchStrategy[dict[tuple[int, str], Any]]:
    """From one moment on, one thing or two are odd."""
    moments = st.integers(0, 14)
    given = st.tuples(moments, st.sampled_from(FIELDS)), st.sampled_from(ODD) | arrays()
    raised = st.tuples(moments, st.just("raise")), errors()
    spec = st.just((0, "spec")), specs()
    return st.lists(
        st.one_of(st.tuples(*given), st.tuples(*given), st.tuples(*raised), st.tuples(*spec)), min_size=1, max_size=2
    ).map(dict)


def play(env: HostEnv, steps: int = 12) -> None:
    """A driver's part: what it is given is finite, whatever it is made of."""
    seeds = np.arange(2 * env.count, dtype=np.uint32).reshape(env.count, 2)
    action = np.zeros((env.count, env.spec.num_agents), np.int32)
    ts = env.reset(seeds)
    for _ in range(steps):
        assert all(np.isfinite(x).all() for x in (ts.obs, ts.state, ts.reward, ts.discount))
        assert np.asarray(ts.avail).any(-1).all()
        assert all(np.isfinite(x).all() for x in env.outcome().values())
        ts = env.step(action, seeds)


def play_here() -> None:
    """As training does it, in this process."""
    envs = make_env(NAME, workers=0)
    assert isinstance(envs, PythonEnvs)
    require_conformance(envs)
    with contextlib.closing(envs.start(2)) as env:
        play(env)


@some("environments", 150)
def test_outputs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_env(script: dict[tuple[int, str], Any]) -> None:
        monkeypatch.setattr(Wild, "script", script)
        said = command("check-env", NAME)
        if said.status:
            with refused_or_done():
                play_here()
        else:
            play_here()

    fuzz(number, check_env, script=scripts())


@pytest.mark.parametrize("name", ["Empty", "TooLarge", "Unknown"])
def test_outputs_of_another_process(name: str) -> None:
    envs = make_env(f"tests.fuzzing.worlds:{name}", workers=1)
    assert isinstance(envs, PythonEnvs)
    env = envs.start(2)
    with in_time(), pytest.raises(ComarlError, match=rf"'tests.fuzzing.worlds:{name}' (failed|cannot)"):
        play(env, 40)
    env.close()
