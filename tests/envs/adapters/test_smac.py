"""SMAC, SMACv2 and SMAClite, by packages that stand in for them (tests/envs/stand_ins)."""

import importlib.util
import itertools
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from comarl.envs import processes
from comarl.envs.adapters.smac import LITE_LIMITS, SOURCES
from comarl.envs.processes import PythonEnvs
from comarl.envs.python import Percept, PythonEnv, require_sound
from comarl.envs.python_conformance import check_python
from comarl.envs.registry import FAMILIES, make_env, make_python
from comarl.errors import ComarlError
from comarl.types import TimeStep
from tests.envs.battle import LIMIT, MOVES

STAND_INS = Path(__file__).parents[1] / "stand_ins"
Choose = Callable[[Percept], np.ndarray]


@pytest.fixture(autouse=True)
def _fresh_imports() -> Iterator[None]:
    """Nothing of the packages is kept from one test to the next."""
    kept = dict(sys.modules)
    yield
    for name in [name for name in sys.modules if name not in kept]:
        if name.split(".")[0] in {*SOURCES, "pysc2"}:
            del sys.modules[name]


@pytest.fixture(name="starcraft")
def _starcraft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages, and a game with their maps."""
    maps = tmp_path / "Maps" / "SMAC_Maps"
    maps.mkdir(parents=True)
    for name in ("3m", "safe", "doomed", "raises", "drops", "32x32_flat"):
        (maps / f"{name}.SC2Map").touch()
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    monkeypatch.syspath_prepend(STAND_INS / "starcraft")
    return tmp_path


@pytest.fixture(name="lite")
def _lite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STAND_INS / "lite")


def idle(percept: Percept) -> np.ndarray:
    """Stop, or nothing for the dead."""
    return np.where(percept.avail[:, 0], 0, 1)


def attack(percept: Percept) -> np.ndarray:
    """The last action there is: an attack, while enemies live."""
    return percept.avail.shape[1] - 1 - percept.avail[:, ::-1].argmax(1)


def play(env: PythonEnv, seed: int, choose: Choose) -> list[Percept]:
    """An episode, every step of which is sound."""
    steps = [env.reset(seed)]
    while not (steps[-1].terminated or steps[-1].truncated):
        require_sound(steps[-1], env.spec)
        steps.append(env.step(choose(steps[-1])))
    require_sound(steps[-1], env.spec)
    return steps


def ends(steps: list[Percept], env: PythonEnv) -> tuple[bool, bool, float]:
    """How an episode ended: terminated, truncated, won."""
    return steps[-1].terminated, steps[-1].truncated, env.outcome()["won"]


# SMAC.


@pytest.mark.usefixtures("starcraft")
def test_what_smac_says_of_itself() -> None:
    spec = make_python("smac/3m").spec
    assert (spec.num_agents, spec.num_actions, spec.max_episode_steps) == (3, MOVES + 3, LIMIT)
    assert spec.outcomes == ("won",)
    assert spec.units == ((0, 4), (4, 8), (8, 12))
    assert spec.state_dim == 12 + 9 + 3 * spec.num_actions


@pytest.mark.usefixtures("starcraft")
@pytest.mark.parametrize(
    ("name", "choose", "ended", "length"),
    [
        (
            "safe",
            attack,
            (True, False, 1.0),
            4,
        ),  # two attacks a step on the same enemy, of health 3: the second one is half wasted
        ("doomed", idle, (True, False, 0.0), 1),  # four hits on health 3
        ("safe", idle, (False, True, 0.0), LIMIT),
    ],
)
def test_victory_defeat_and_the_end_of_time(
    name: str, choose: Choose, ended: tuple[bool, bool, float], length: int
) -> None:
    env = make_python(f"smac/{name}")
    steps = play(env, 0, choose)
    assert ends(steps, env) == ended
    assert len(steps) - 1 == length
    np.testing.assert_array_equal(steps[1].reward, steps[1].reward[0])
    assert sum(step.reward[0] for step in steps[1:]) == (6 + 10 if ended[2] else 0)
    env.reset(1)
    assert env.outcome() == {"won": 0.0}


@pytest.mark.usefixtures("starcraft")
def test_the_dead_can_do_nothing_and_the_living_cannot_do_nothing() -> None:
    env = make_python("smac/3m")
    died = 0
    for seed in range(3):
        for step in play(env, seed, idle):
            for agent, (start, _) in enumerate(env.spec.units):
                dead = step.state[start] == 0
                died += dead
                assert step.avail[agent, 0] == dead
                assert not (dead and (step.avail[agent, 1:].any() or step.obs[agent].any()))
    assert died


@pytest.mark.usefixtures("starcraft")
def test_the_game_begins_with_the_first_episodes_seed() -> None:
    """Later episodes go on with the same game, whatever their seed: they cannot be repeated."""
    health = []
    for first, second in ((1, 7), (1, 8), (2, 7)):
        env = make_python("smac/3m")
        both = play(env, first, idle), play(env, second, idle)
        health.append([[step.state[:12] for step in steps] for steps in both])
        env.close()
    alike = lambda a, b: len(a) == len(b) and np.array_equal(a, b)  # noqa: E731
    assert alike(health[0][0], health[1][0])
    assert alike(health[0][1], health[1][1])
    assert not alike(health[0][0], health[2][0])
    assert not env.repeatable


# SMACv2.


@pytest.mark.usefixtures("starcraft")
@pytest.mark.parametrize("race", ["protoss", "terran", "zerg"])
def test_smacv2_draws_teams_and_places_from_the_episodes_seed(race: str) -> None:
    one, other = make_python(f"smacv2/{race}_5_vs_6"), make_python(f"smacv2/{race}_5_vs_6")
    assert (one.spec.num_agents, one.spec.num_actions) == (5, MOVES + 6)
    other.reset(99)  # another game, that has played already
    begins = [(one.reset(seed), other.reset(seed)) for seed in range(6)]
    for a, b in begins:
        np.testing.assert_array_equal(a.state, b.state)
    units = one.spec.units
    teams = {tuple(a.state[start + 4 : stop].argmax() for start, stop in units) for a, _ in begins}
    places = {tuple(a.state[start + 2] for start, _ in units) for a, _ in begins}
    assert len(teams) > 3
    assert len(places) > 2


@pytest.mark.usefixtures("starcraft")
def test_pythons_own_generator_is_left_alone() -> None:
    env = make_python("smacv2/zerg_5_vs_5")
    drawn = []
    for _ in range(2):
        env.reset(3)
        drawn.append(random.random())
    assert drawn[0] != drawn[1]


@pytest.mark.usefixtures("starcraft")
@pytest.mark.parametrize("variant", ["human_5_vs_5", "terran_5", "terran_0_vs_5"])
def test_no_such_team(variant: str) -> None:
    with pytest.raises(ComarlError, match=f"unknown environment 'smacv2/{variant}'"):
        make_python(f"smacv2/{variant}")


@pytest.mark.usefixtures("starcraft")
def test_smacv2_is_played() -> None:
    env = make_python("smacv2/terran_3_vs_1")
    steps = play(env, 0, attack)
    assert ends(steps, env) == (True, False, 1.0)


# SMAClite.


@pytest.mark.usefixtures("lite")
def test_smaclite_has_the_maps_types_and_smacs_time_limit() -> None:
    env = make_python("smaclite/2s3z")
    assert env.spec.agent_types == (0, 0, 1)
    assert env.spec.units == ((0, 6), (6, 12), (12, 18))
    assert env.spec.max_episode_steps == 120
    assert env.repeatable
    steps = play(env, 3, attack)
    assert steps[-1].terminated
    assert env.outcome() == {"won": float(not steps[-1].state[18:27:3].any())}
    np.testing.assert_array_equal(steps[-1].state, play(make_python("smaclite/2s3z"), 3, attack)[-1].state)


@pytest.mark.usefixtures("lite")
def test_smaclite_is_cut_by_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LITE_LIMITS, "2s3z", 2)
    env = make_python("smaclite/2s3z")
    assert ends(play(env, 3, idle), env) == (False, True, 0.0)


@pytest.mark.usefixtures("lite")
def test_smaclites_map_that_is_not_there() -> None:
    with pytest.raises(ComarlError, match="unknown environment 'smaclite/2s3y': did you mean 'smaclite/2s3z'"):
        make_python("smaclite/2s3y")


def test_every_map_of_smaclite_has_a_limit() -> None:
    assert set(FAMILIES["smaclite"].variants) == set(LITE_LIMITS)


# Through workers.


def drive(name: str, workers: int, steps: int) -> tuple[processes.Processes, list[TimeStep]]:
    """Random available actions in two environments."""
    envs = make_env(name, workers)
    assert isinstance(envs, PythonEnvs)
    env = envs.start(2)
    words = lambda t: np.array([[t, 1], [t, 2]], np.uint32)  # noqa: E731
    rng, seen = np.random.default_rng(0), [env.reset(words(0))]
    for t in range(1, steps):
        drawn = np.where(seen[-1].avail, rng.random(seen[-1].avail.shape), -1.0).argmax(-1)
        seen.append(env.step(drawn, words(t)))
    return env, seen


@pytest.mark.usefixtures("starcraft", "lite")
@pytest.mark.parametrize("name", ["smac/3m", "smacv2/zerg_5_vs_5", "smaclite/2s3z"])
def test_the_number_of_workers_changes_nothing(name: str) -> None:
    played = []
    for workers in (0, 2):
        env, seen = drive(name, workers, 30)
        played.append((np.stack([ts.state for ts in seen]), env.outcome()["won"]))
        assert sum(ts.last.sum() for ts in seen) >= 4
        assert env.dropped == 0
        env.close()
    np.testing.assert_array_equal(played[0][0], played[1][0])
    np.testing.assert_array_equal(played[0][1], played[1][1])


@pytest.mark.usefixtures("starcraft")
@pytest.mark.parametrize(("name", "workers"), [("raises", 1), ("drops", 0)])
def test_a_battle_that_breaks_down_is_dropped(name: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is no defeat: the step before is no last one."""
    monkeypatch.setattr(processes, "MAX_FAILURES", 100)
    env, seen = drive(f"smac/{name}", workers, 7)
    np.testing.assert_array_equal([ts.first for ts in seen], [[t % 3 == 0] * 2 for t in range(7)])
    assert not any(ts.last.any() for ts in seen)
    assert env.dropped == 4
    env.close()


@pytest.mark.usefixtures("starcraft")
def test_a_battle_that_always_breaks_down_is_an_error() -> None:
    with pytest.raises(ComarlError, match=r"'smac/drops' failed 4 times .*StarCraft II lost the connection"):
        drive("smac/drops", 0, 20)


@pytest.mark.usefixtures("starcraft")
def test_a_run_goes_on_with_new_battles() -> None:
    env, seen = drive("smac/3m", 1, 3)
    snapshot = env.snapshot()
    words = np.array([[9, 1], [9, 2]], np.uint32)
    env.restore(snapshot)
    ts = env.step(np.ones((2, 3), np.int32), words)  # to stop is available: an error would begin an episode too
    assert ts.first.all()
    assert not seen[-1].last.any()
    env.close()


@pytest.mark.usefixtures("starcraft", "lite")
@pytest.mark.parametrize("name", ["smac/3m", "smacv2/protoss_5_vs_5", "smaclite/2s3z"])
def test_they_keep_to_the_protocol(name: str) -> None:
    envs = make_env(name)
    assert isinstance(envs, PythonEnvs)
    assert check_python(envs, episodes=3, seed=0) == []
    assert envs.at_once == (32 if name.startswith("smaclite") else 4)  # games that an evaluation starts


# What is missing.


@pytest.mark.parametrize("name", ["smac/3m", "smacv2/terran_5_vs_5", "smaclite/2s3z"])
def test_a_package_that_is_absent(name: str) -> None:
    package = name.partition("/")[0]
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    text = rf"the package '{package}' is not installed: pip install git\+https://github.com/.*/{package} "
    with pytest.raises(ComarlError, match=text):
        make_python(name)


def test_the_other_project_by_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STAND_INS / "other")
    with pytest.raises(ComarlError, match=r"is another project: pip uninstall smac, then pip install git\+https"):
        make_python("smac/3m")


def test_a_package_with_something_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "smaclite.py").write_text("import rtree_of_nobody")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ComarlError, match=r"'smaclite' cannot be imported .*No module named 'rtree_of_nobody'"):
        make_python("smaclite/2s3z")


def test_the_game_is_missing(starcraft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SC2PATH", str(starcraft / "elsewhere"))
    with pytest.raises(ComarlError, match="StarCraft II is not found: install it and name its folder in SC2PATH"):
        make_python("smac/3m")


def test_a_map_of_the_game_is_missing(starcraft: Path) -> None:
    (starcraft / "Maps" / "SMAC_Maps" / "32x32_flat.SC2Map").unlink()
    make_python("smac/3m")
    with pytest.raises(ComarlError, match="StarCraft II has no map '10gen_terran': put SMAC_Maps into its folder Maps"):
        make_python("smacv2/terran_5_vs_5")


@pytest.mark.usefixtures("starcraft")
def test_no_such_map() -> None:
    with pytest.raises(ComarlError, match="unknown environment 'smac/3n': did you mean 'smac/3m'"):
        make_python("smac/3n")


# The real one.


@pytest.mark.skipif(
    importlib.util.find_spec("smaclite") is None, reason="SMAClite is not installed: it is on GitHub only"
)
def test_the_real_smaclite() -> None:
    env = make_python("smaclite/2s3z")
    assert (env.spec.num_agents, env.spec.agent_types) == (5, (0, 0, 1, 1, 1))
    steps = [play(env, seed, attack) for seed in (0, 0, 1)]
    assert all(
        itertools.starmap(np.array_equal, zip([s.state for s in steps[0]], [s.state for s in steps[1]], strict=True))
    )
    assert re.fullmatch("[01].0", str(env.outcome()["won"]))
