"""Training a finished run once more, and saying where it differs."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from comarl.errors import ComarlError
from comarl.experiments import provenance
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_env
from comarl.experiments.config import to_json
from comarl.experiments.evaluating import load_states
from comarl.experiments.folder import is_finished, load_config, read_json
from comarl.experiments.progress import Progress
from comarl.experiments.runner import train
from comarl.training.logging import read_metrics

Key = tuple[int, str]
"""Seed (-1: of no seed) and kind of a row."""


def reproduce(folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Train a run's configuration again, into a folder beside it, and compare everything that was learned and measured.

    Returns:
        ``run`` and ``again`` (the folders), ``equal``, ``difference`` (the first one, in words, or None) and
        ``versions`` (names of what computes that have changed since).

    Raises:
        ComarlError: if the folder holds no finished run, or as :func:`~comarl.experiments.runner.train` raises it.
    """
    config = load_config(folder)
    if not is_finished(folder):
        raise ComarlError(f"{folder} has not finished: there is nothing to compare with ('comarl resume' finishes it)")
    again = folder.with_name(f"{folder.resolve().name}-again")
    # What an earlier comparison left is replaced; somebody's other run of that name is not.
    replaces = (again / "config.json").exists() and to_json(load_config(again)) == to_json(config)
    train(dataclasses.replace(config, run=again, overwrite=replaces), progress)
    difference = first_difference(folder, again)
    return {
        "run": str(folder),
        "again": str(again),
        "equal": difference is None,
        "difference": difference,
        "versions": _changed_versions(folder),
    }


def first_difference(folder: Path, again: Path) -> str | None:
    """The first row of metrics, or else the first array of a learner, in which two finished runs differ; in words."""
    one, other = _by_seed(folder), _by_seed(again)
    for seed, kind in sorted(one.keys() | other.keys()):
        there, here = one.get((seed, kind), []), other.get((seed, kind), [])
        words = f"{kind} of seed {seed}" if seed >= 0 else kind
        for x, y in zip(there, here, strict=False):
            field = next((name for name in {**x, **y} if x.get(name) != y.get(name)), None)
            if field:
                at = f" at environment step {x['env_steps']}" if "env_steps" in x else ""
                return f"{words}{at}: {field} is not the same"
        if len(there) != len(here):
            return f"{words}: {len(there)} rows in {folder} and {len(here)} in {again}"
    return _different_array(folder, again)


def _by_seed(folder: Path) -> dict[Key, list[dict[str, Any]]]:
    """Rows in the order of each seed: which of two seeds writes first is chance."""
    rows: dict[Key, list[dict[str, Any]]] = {}
    for row in read_metrics(folder):
        rows.setdefault((row.get("seed", -1), row["kind"]), []).append(row)
    return rows


def _different_array(folder: Path, again: Path) -> str | None:
    prepare()
    config = load_config(folder)
    env = build_env(config)
    one, other = (load_states(of, config, env) for of in (folder, again))
    for (path, x), y in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        if np.asarray(x).tobytes() != np.asarray(y).tobytes():
            seed, *name = path
            return f"the learner of seed {seed.key}: {jax.tree_util.keystr(tuple(name))} is not the same"
    return None


def _changed_versions(folder: Path) -> list[str]:
    try:
        before = read_json(folder / provenance.FILE)["sessions"][-1]["versions"]
    except (ComarlError, KeyError, IndexError, TypeError):
        return []  # an older run, or one that was tampered with, does not say
    now = provenance.versions()
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]
