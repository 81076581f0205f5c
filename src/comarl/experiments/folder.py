"""The run folder, without importing JAX."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comarl.errors import ComarlError
from comarl.experiments.config import GROUPS, MAX_COUNT, RunConfig, from_json, to_json, with_settings
from comarl.experiments.lock import unwritable

FILES = ("config.json", "provenance.json", "metrics.jsonl", "summary.json", "learning_curve.png")
"""What a run writes, beside its folders."""

FOLDERS = ("seed_*", "checkpoints", "tensorboard", "exported")
"""The folders that it makes: ``seed_K`` for each seed at the end, TensorBoard's if asked, and exported teams."""


def load_config(folder: Path) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        ComarlError: if the folder holds none that this version can read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ComarlError(f"no config.json in {folder}: is it a run folder? ('comarl train' writes one)")
    data = read_json(path)
    # A group that is newer than the run has its defaults.
    if not ("agent" in data and all(isinstance(data.get(g, {}), dict) for g in GROUPS)):
        raise ComarlError(f"{path} is not a run's configuration")
    return from_json(data)


def to_resume(folder: Path, settings: dict[str, Any]) -> RunConfig:
    """The configuration with which a run goes on: its own, but for ``settings``.

    Raises:
        ComarlError: if the folder holds none that this version can read, or a setting cannot be.
    """
    own = {"run": folder, "resume": True, "tensorboard": (folder / "tensorboard").is_dir()}
    return with_settings(load_config(folder), own | settings)


def require_seed(folder: Path, config: RunConfig, seed: int | None) -> int:
    """That seed of a run, or its first one.

    Raises:
        ComarlError: if the run has not that seed.
    """
    seeds = range(config.seed, config.seed + config.seeds)
    if seed is None:
        return config.seed
    if seed not in seeds:
        raise ComarlError(f"{folder} has the seeds {', '.join(map(str, seeds))}, not {seed}")
    return seed


def require_episode(episode: int) -> None:
    """Refuse an episode that no evaluation can play.

    Raises:
        ComarlError: if its number is negative, or does not fit into 32 bits.
    """
    if not 0 <= episode < MAX_COUNT:
        raise ComarlError(f"episode={episode}: they are counted from 0, and there are {MAX_COUNT}")


def claim_folder(config: RunConfig) -> Path:
    """Write ``config.json`` into the run folder, or find the run there that is to go on.

    Whoever calls holds the folder's :class:`~comarl.experiments.lock.FolderLock`.

    Raises:
        ComarlError: if the folder cannot be written; if it holds a run, and neither ``config.overwrite`` nor
            ``config.resume`` says what is to become of it; or if the run to go on with is another one.
    """
    folder = config.folder
    try:
        if (folder / "config.json").exists() and config.resume:
            _go_on(folder, config)
        else:
            _begin(folder, config)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _begin(folder: Path, config: RunConfig) -> None:
    if (folder / "config.json").exists() and not config.overwrite:
        raise ComarlError(_occupied(folder, config))
    folder.mkdir(parents=True, exist_ok=True)
    _remove(folder, FILES[1:], FOLDERS)
    write_json(folder / "config.json", to_json(config))


def _go_on(folder: Path, config: RunConfig) -> None:
    old = load_config(folder)
    # Whatever would end the run at its first write ends it here, before anything is taken out of its metrics.
    for path in (folder / name for name in FILES):
        _require_plain(path)
    if to_json(old) == to_json(config):
        return
    if to_json(dataclasses.replace(config, steps=old.steps)) != to_json(old) or config.steps < old.steps:
        raise ComarlError(_occupied(folder, config))
    _require_extension(folder, old, config.steps)
    # What says that it has finished goes first: broken off in between, it has not.
    _remove(folder, ("summary.json", "learning_curve.png"), ())
    write_json(folder / "config.json", to_json(config))


def _require_extension(folder: Path, old: RunConfig, steps: int) -> None:
    """Refuse more steps where the run would have gone otherwise from the beginning, had it been asked for them."""
    learner = old.learner
    reasons = {
        f"lr_decay={learner.lr_decay} spreads over all steps": learner.lr_decay < 1,
        f"priority_beta={learner.priority_beta} grows over all steps": (
            (learner.learner, learner.replay) == ("replay", "prioritised") and learner.priority_beta < 1
        ),
        f"its {old.steps} steps are a single chunk, being no more than eval_every={old.eval_every}": (
            old.steps <= old.eval_every
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ComarlError(
                f"{folder} cannot go on to {steps} steps as if it had been asked for them: {reason}; "
                "train anew in another folder with --run"
            )


def is_finished(folder: Path) -> bool:
    """Whether the run has come to its end: its summary is the last that is written."""
    return (folder / "summary.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        ComarlError: if the file holds anything else, or is none.
    """
    _require_plain(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ComarlError(f"{path} is not JSON ({error})") from error
    except OSError as error:
        raise ComarlError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(data, dict):
        raise ComarlError(f"{path} is not a JSON object")
    return data


def written(folder: Path) -> list[Path]:
    """What a run has left in its folder."""
    paths = [folder / name for name in FILES]
    paths += [path for pattern in FOLDERS for path in sorted(folder.glob(pattern))]
    return [path for path in paths if path.exists()]


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write one JSON object for people and programs; the file appears whole or stays what it was."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # of a file that could not be replaced


def _require_plain(path: Path) -> None:
    if os.path.lexists(path) and not path.is_file():  # a link may lead nowhere
        raise ComarlError(f"{path} is no plain file")


def _remove(folder: Path, names: Iterable[str], patterns: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        shutil.rmtree(path, ignore_errors=True)


def _occupied(folder: Path, config: RunConfig) -> str:
    old, new = (_flat(to_json(c)) for c in (load_config(folder), config))
    differ = ", ".join(f"{k} {old[k]} there and {new[k]} here" for k in new if old.get(k) != new[k])
    if differ:
        return (
            f"{folder} holds another configuration ({differ}): "
            "choose another folder with --run, or --overwrite to replace it"
        )
    return (
        f"{folder} holds this very run: go on with --resume, choose another folder with --run, "
        "or --overwrite to replace it"
    )


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
