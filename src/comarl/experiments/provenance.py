"""Where a run comes from: the command, the versions, the code and the machine, in ``provenance.json``."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

import comarl
from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import read_json, write_json

FILE = "provenance.json"

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy", "jaxmarl", "jumanji", "pettingzoo")
"""What results may depend on."""


def versions() -> dict[str, str]:
    """What computes: comarl with a hash of its sources, Python, and the packages that are installed."""
    known = {name: _version(name) for name in PACKAGES}
    ours = {"comarl": comarl.__version__, "comarl_sources": source_hash(), "python": platform.python_version()}
    return ours | {name: version for name, version in known.items() if version}


def source_hash() -> str:
    """SHA-256 over the package's Python files and their names."""
    total = hashlib.sha256()
    root = Path(comarl.__file__).parent
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root).as_posix()}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def note_session(folder: Path, config: RunConfig, begun: dict[int, int]) -> None:
    """Add this process to ``provenance.json``: a run that was broken off has several sessions.

    Args:
        folder: the run folder.
        config: what is run.
        begun: the environment steps from which each seed goes on.
    """
    try:
        before = read_json(folder / FILE).get("sessions") if any(begun.values()) else None
    except ComarlError:  # it was never written, or is spoilt: no reason not to train
        before = None
    session = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "folder": os.getcwd(),
        "seeds": list(range(config.seed, config.seed + config.seeds)),
        "from_env_steps": {str(seed): steps for seed, steps in begun.items()},
        "versions": versions(),
        "git": git_state(),
        "hardware": hardware(),
        "environment": {name: os.environ[name] for name in ("XLA_FLAGS", "JAX_PLATFORMS") if name in os.environ},
    }
    write_json(folder / FILE, {"sessions": [*(before if isinstance(before, list) else []), session]})


def git_state() -> dict[str, Any] | None:
    """Commit and changed files of the checkout that the package or the working directory is in; None outside one."""
    for where in (Path(comarl.__file__).parent, Path.cwd()):
        commit = _git(where, "rev-parse", "HEAD")
        if commit:
            changed = _git(where, "status", "--porcelain", "--untracked-files=no") or ""
            return {"commit": commit, "changed": [line[3:] for line in changed.splitlines()]}
    return None


def hardware() -> dict[str, Any]:
    """What the machine is, as far as results or speed may depend on it."""
    devices = jax.devices()
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in devices],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git(where: Path, *words: str) -> str:
    command = ["git", "-C", str(where), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.rstrip()
