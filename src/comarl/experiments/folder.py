"""The run folder, without importing JAX."""

import json
import shutil
from pathlib import Path
from typing import Any

from comarl.errors import ComarlError
from comarl.experiments.config import GROUPS, MAX_COUNT, RunConfig, from_json, to_json

FILES = ("config.json", "metrics.jsonl", "summary.json", "learning_curve.png")
"""What a run writes, beside a folder ``seed_K`` for each seed and, if asked, ``tensorboard``."""


def load_config(folder: Path) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        ComarlError: if the folder holds none that this version can read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ComarlError(f"no config.json in {folder}: is it a run folder? ('comarl train' writes one)")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ComarlError(f"{path} is not JSON ({error})") from error
    # A group that is newer than the run has its defaults.
    if not (isinstance(data, dict) and "agent" in data and all(isinstance(data.get(g, {}), dict) for g in GROUPS)):
        raise ComarlError(f"{path} is not a run's configuration")
    return from_json(data)


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
    """Make the run folder with its ``config.json``.

    Raises:
        ComarlError: if it cannot be written, or holds a run already and ``config.overwrite`` is off.
    """
    folder = config.folder
    try:
        if (folder / "config.json").exists():
            if not config.overwrite:
                raise ComarlError(_occupied(folder, config))
            for name in FILES[1:]:
                (folder / name).unlink(missing_ok=True)
            for path in (*folder.glob("seed_*"), folder / "tensorboard", folder / "exported"):
                shutil.rmtree(path, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", to_json(config))
    except OSError as error:
        raise ComarlError(
            f"cannot write the run folder {folder}: {error.strerror} (choose another with --run)"
        ) from error
    return folder


def written(folder: Path) -> list[Path]:
    """What a run has left in its folder."""
    files = [folder / name for name in FILES]
    return [path for path in (*files, *sorted(folder.glob("seed_*")), folder / "tensorboard") if path.exists()]


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write one JSON object for people and programs."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _occupied(folder: Path, config: RunConfig) -> str:
    old, new = (_flat(to_json(c)) for c in (load_config(folder), config))
    differ = ", ".join(f"{k} {old[k]} there and {new[k]} here" for k in new if old.get(k) != new[k])
    kind = f"another configuration ({differ})" if differ else "this very run"
    return f"{folder} holds {kind}: choose another folder with --run, or --overwrite to replace it"


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
