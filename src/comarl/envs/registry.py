"""Environments by name.

A name is ``family`` or ``family/variant`` (``smax/3m``). A family is looked up exactly, never by a part of its name.
An environment of the user's own is ``module:function``. Nothing here imports JAX before an environment is made.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from comarl.errors import ComarlError, unknown_name

if TYPE_CHECKING:
    from comarl.envs.base import Env
    from comarl.envs.processes import PythonEnvs
    from comarl.envs.python import PythonEnv


@dataclasses.dataclass(frozen=True)
class Family:
    """A group of environments.

    Attributes:
        summary: one line for ``comarl list``.
        variants: the names after the slash; a single empty name for a family without variants.
        make: ``module:function`` that takes the variant and returns the environment; imported when first used.
        python: whether that is one which Python steps (:class:`comarl.envs.python.PythonEnv`).
        more: whether ``make`` knows other variants, that only the package can tell.
    """

    summary: str
    variants: tuple[str, ...]
    make: str
    python: bool = False
    more: bool = False


MPE_WORLDS = (
    "simple_spread",
    "simple_speaker_listener",
    "simple_reference",
    "simple_adversary",
    "simple_crypto",
    "simple_push",
    "simple_tag",
    "simple_world_comm",
)

FAMILIES: dict[str, Family] = {
    "matrix": Family(
        "one-step matrix games of two agents, exact values known",
        ("qtran", "qplex-1", "qplex-3", "climbing", "penalty"),
        "comarl.envs.games.matrix:make",
    ),
    "iterated": Family(
        "matrix games of 25 rounds; in the first five each agent has payoffs of its own",
        (
            "prisoners",
            "pennies",
            "stag-hunt",
            "chicken",
            "bach-stravinsky",
            "climbing",
            "penalty-0",
            "penalty-25",
            "penalty-50",
            "penalty-75",
            "penalty-100",
        ),
        "comarl.envs.games.iterated:make",
    ),
    "two-step": Family("the QMIX paper's two-step game", ("",), "comarl.envs.games.two_step:make"),
    "mmdp": Family("the QPLEX paper's two-state game of 100 steps", ("game-1",), "comarl.envs.games.mmdp:make"),
    "switch": Family(
        "two or four agents pass through a corridor for one (ma-gym's Switch)",
        ("2", "4"),
        "comarl.envs.grids.switch:make",
    ),
    "checkers": Family(
        "one agent should eat apples, the other clear the way (ma-gym's Checkers)",
        ("",),
        "comarl.envs.grids.checkers:make",
    ),
    "predator-prey": Family(
        "eight hunters who catch in pairs; p-2: catching alone costs 2",
        ("p-0", "p-1", "p-1.5", "p-2"),
        "comarl.envs.grids.predator_prey:make",
    ),
    "smax": Family(
        "combat against a scripted enemy (JaxMARL)",
        (
            "3m",
            "2s3z",
            "25m",
            "3s5z",
            "8m",
            "5m_vs_6m",
            "10m_vs_11m",
            "27m_vs_30m",
            "3s5z_vs_3s6z",
            "3s_vs_5z",
            "6h_vs_8z",
            "smacv2_5_units",
            "smacv2_10_units",
            "smacv2_20_units",
        ),
        "comarl.envs.adapters.jaxmarl:make_smax",
    ),
    "mpe": Family(
        "particle worlds (JaxMARL's MPE); the last five have adversaries, which are agents like the others",
        MPE_WORLDS,
        "comarl.envs.adapters.jaxmarl:make_mpe",
    ),
    "mpe-continuous": Family(
        "the same worlds with continuous actions: how much of each movement and word",
        MPE_WORLDS,
        "comarl.envs.adapters.jaxmarl:make_mpe_continuous",
    ),
    "lbf": Family(
        "level-based foraging (Jumanji): food that agents lift together; 2s: they see two places far",
        (
            "8x8-2p-2f-coop",
            "2s-8x8-2p-2f-coop",
            "10x10-3p-3f",
            "2s-10x10-3p-3f",
            "15x15-3p-5f",
            "15x15-4p-3f",
            "15x15-4p-5f",
        ),
        "comarl.envs.adapters.jumanji:make_lbf",
    ),
    "rware": Family(
        "the robot warehouse (Jumanji): shelves carried to where they are wanted; a collision ends the episode",
        (
            "tiny-2ag",
            "tiny-2ag-hard",
            "tiny-4ag-easy",
            "tiny-4ag",
            "tiny-4ag-hard",
            "small-4ag",
            "small-4ag-hard",
            "medium-4ag",
            "large-4ag",
        ),
        "comarl.envs.adapters.jumanji:make_rware",
    ),
    "mpe2": Family(
        "particle worlds, stepped by Python (mpe2, PettingZoo); -continuous: actions are vectors",
        (
            "simple_spread_v3",
            "simple_spread_v3-continuous",
            "simple_speaker_listener_v4",
            "simple_reference_v3",
            "simple_adversary_v3",
            "simple_crypto_v3",
            "simple_push_v3",
            "simple_tag_v3",
            "simple_world_comm_v3",
        ),
        "comarl.envs.adapters.pettingzoo:make_mpe2",
        python=True,
        more=True,
    ),
    "pettingzoo": Family(
        "any module with PettingZoo's parallel_env or env, stepped by Python",
        ("mpe2.simple_spread_v3", "pettingzoo.butterfly.knights_archers_zombies_v11"),
        "comarl.envs.adapters.pettingzoo:make",
        python=True,
        more=True,
    ),
    "lbforaging": Family(
        "level-based foraging, stepped by Python (the package lbforaging)",
        (
            "Foraging-8x8-2p-2f-coop-v3",
            "Foraging-2s-8x8-2p-2f-coop-v3",
            "Foraging-10x10-3p-3f-v3",
            "Foraging-2s-10x10-3p-3f-v3",
            "Foraging-15x15-3p-4f-v3",
            "Foraging-15x15-4p-3f-v3",
        ),
        "comarl.envs.adapters.gymnasium:make_lbforaging",
        python=True,
        more=True,
    ),
    "robotic-warehouse": Family(
        "the robot warehouse, stepped by Python (the package rware); who would collide stays where he is",
        ("rware-tiny-2ag-v2", "rware-tiny-4ag-v2", "rware-tiny-4ag-hard-v2", "rware-small-4ag-v2"),
        "comarl.envs.adapters.gymnasium:make_rware",
        python=True,
        more=True,
    ),
    "smac": Family(
        "StarCraft II's micromanagement, stepped by Python (the package SMAC and the game)",
        (
            "3m",
            "8m",
            "25m",
            "2s3z",
            "3s5z",
            "1c3s5z",
            "MMM",
            "2m_vs_1z",
            "2s_vs_1sc",
            "3s_vs_3z",
            "3s_vs_4z",
            "3s_vs_5z",
            "5m_vs_6m",
            "8m_vs_9m",
            "10m_vs_11m",
            "bane_vs_bane",
            "so_many_baneling",
            "2c_vs_64zg",
            "27m_vs_30m",
            "3s5z_vs_3s6z",
            "6h_vs_8z",
            "MMM2",
            "corridor",
        ),
        "comarl.envs.adapters.smac:make_smac",
        python=True,
        more=True,
    ),
    "smacv2": Family(
        "the same with teams and places drawn for each episode (SMACv2); RACE_ALLIES_vs_ENEMIES",
        tuple(
            f"{race}_{teams}"
            for race in ("protoss", "terran", "zerg")
            for teams in ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
        ),
        "comarl.envs.adapters.smac:make_smacv2",
        python=True,
        more=True,
    ),
    "smaclite": Family(
        "SMAC's maps rebuilt in Python, without the game (SMAClite)",
        (
            "2s3z",
            "3s5z",
            "3s5z_vs_3s6z",
            "3s_vs_5z",
            "2s_vs_1sc",
            "2c_vs_64zg",
            "10m_vs_11m",
            "27m_vs_30m",
            "bane_vs_bane",
            "corridor",
            "MMM",
            "MMM2",
        ),
        "comarl.envs.adapters.smac:make_smaclite",
        python=True,
    ),
}
"""Every family, in the order in which they are listed."""


def names() -> list[str]:
    """The names of all environments, family by family."""
    return [_joined(name, variant) for name, family in FAMILIES.items() for variant in family.variants]


WORKERS = 2
"""Processes that step Python environments, unless something else is asked for."""


def make_env(name: str, workers: int = WORKERS, actors: str | None = None) -> "Env | PythonEnvs":
    """The environment of that name, or that ``module:function`` returns.

    >>> make_env("matrix/qtran").spec.num_actions
    3

    Args:
        name: what ``comarl list`` shows.
        workers: processes that step an environment which Python steps; 0 steps it in this one.
        actors: the address of a Ray whose actors they are, in place of processes of this machine.

    Raises:
        ComarlError: if the name is unknown, with the nearest one; if a family is named without its variant; if an
            optional package is missing; or if ``module:function`` cannot be imported or returns something else.
    """
    if ":" in name:
        return _make_own(name, workers, actors)
    family = _require_family(name)
    return _hosted(name, workers, actors, lambda: make_python(name)) if family.python else _call(family, name)


def make_python(name: str) -> "PythonEnv":
    """One environment of that name, which Python steps; nothing here imports JAX.

    Raises:
        ComarlError: as :func:`make_env`.
    """
    if ":" in name:
        return _adapted(name, _call_own(name))
    return _call(_require_family(name), name)


def _hosted(name: str, workers: int, actors: str | None, make: "Callable[[], PythonEnv]") -> "PythonEnvs":
    from comarl.envs.processes import PythonEnvs

    return PythonEnvs(name, make, workers, actors)


def _require_family(name: str) -> Family:
    family = FAMILIES.get(name.partition("/")[0])
    if name in names() or (family and family.more and name.partition("/")[2]):
        assert family is not None
        return family
    raise _unknown(name)


def _call(family: Family, name: str) -> Any:
    module, _, function = family.make.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(name.partition("/")[2])
    except KeyError:
        if name in names():
            raise
        raise _unknown(name) from None


def one_line(error: Exception) -> str:
    """The type and the first line of an error that somebody else's code raised."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else '(no message)'}"


def _joined(family: str, variant: str) -> str:
    return f"{family}/{variant}" if variant else family


def _unknown(name: str) -> ComarlError:
    family = FAMILIES.get(name.rstrip("/"))
    if family and family.variants != ("",):
        some = ", ".join(_joined(name.rstrip("/"), variant) for variant in family.variants[:3])
        return ComarlError(f"environment '{name}' is a family: choose one, such as {some} ('comarl list' shows all)")
    bare = [known for known in names() if known.endswith(f"/{name}")]  # too short for the nearest name to be found
    if bare:
        return ComarlError(f"unknown environment '{name}': did you mean '{bare[0]}'? ('comarl list' shows all)")
    return unknown_name("environment", name, names())


def _make_own(name: str, workers: int, actors: str | None) -> "Env | PythonEnvs":
    from comarl.envs.base import Env

    env = _call_own(name)
    if isinstance(env, Env):
        return env
    made = [env]  # the first one is at hand
    return _hosted(name, workers, actors, lambda: _adapted(name, made.pop() if made else _call_own(name)))


def _adapted(name: str, env: Any) -> "PythonEnv":
    """An environment of the user's own as one that Python steps."""
    from comarl.envs.adapters.gymnasium import GymnasiumTeam, is_gymnasium
    from comarl.envs.adapters.pettingzoo import adapt, is_pettingzoo
    from comarl.envs.python import PythonEnv

    if isinstance(env, PythonEnv):
        return env
    if is_pettingzoo(env):
        return adapt(name, env)
    if is_gymnasium(env):
        return GymnasiumTeam(name, env)
    raise ComarlError(
        f"environment '{name}': the function must return a comarl.envs.base.Env, an environment of PettingZoo or a "
        f"team of Gymnasium, not {type(env).__name__}"
    )


def _call_own(name: str) -> Any:
    make = _import_own(name)
    try:
        return make()
    except ComarlError:
        raise
    except Exception as error:
        raise ComarlError(f"environment '{name}': the function failed with {one_line(error)}") from error


def _import_own(name: str) -> Callable[[], Any]:
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # the user's module may raise anything
        raise ComarlError(f"environment '{name}': cannot import '{module}': {one_line(error)}") from error
    if not callable(found):
        raise ComarlError(f"environment '{name}': the module '{module}' has no function '{function}'")
    return found
