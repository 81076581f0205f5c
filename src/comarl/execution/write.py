"""Writing a team's greedy policies to a folder, in a format that outlives the training code."""

import dataclasses
import hashlib
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from comarl.algos.base import Policy
from comarl.errors import ComarlError
from comarl.execution.manifest import (
    ENDINGS,
    MANIFEST,
    Format,
    Manifest,
    Member,
    Network,
    is_exported,
    read_manifest,
    to_text,
)
from comarl.execution.serialise import input_ports, output_ports, serialise
from comarl.execution.solo import Solo, owners, solos
from comarl.nets.cells import kind_of
from comarl.types import EnvSpec

PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("comarl", "jax", "jax2onnx", "onnx"),
    "jax": ("comarl", "jax"),
    "safetensors": ("comarl", "jax", "safetensors"),
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a policy comes from.

    Attributes:
        method: which trained it.
        env: where.
        seed: which seed of the run.
    """

    method: str
    env: str
    seed: int


def write_team(policy: Policy, spec: EnvSpec, folder: Path, format_: Format, origin: Origin) -> Manifest:
    """Write each agent's greedy policy and the manifest; the folder appears whole or not at all.

    Agents whose policies are the same function share a file: there is one for the team, each type or each agent. In
    ONNX and StableHLO an agent that sees its own index has a file of its own, which knows it.

    Args:
        policy: of the team.
        spec: what it was trained for.
        folder: where to; replaced if it holds an exported team and nothing else.
        format_: of the files.
        origin: for the manifest.

    Raises:
        ComarlError: if the policy cannot be exported, a package is missing, or the folder cannot be written.
    """
    _require_free(folder)
    team = solos(policy, spec.obs_dim)
    files = _FileNames(owners(policy), spec.types, format_)
    names = [[files.of(solo, k, len(own)) for k, solo in enumerate(own)] for own in team]
    unique = {name: solo for row, own in zip(names, team, strict=True) for name, solo in zip(row, own, strict=True)}
    data = {name: serialise(solo, format_) for name, solo in unique.items()}
    manifest = Manifest(
        format=format_,
        method=origin.method,
        env=origin.env,
        seed=origin.seed,
        inputs=input_ports(team[0][0]),
        outputs=output_ports(team[0][0]),
        network=_network(team[0][0]),
        agents=tuple(Member(i, spec.types[i], tuple(row)) for i, row in enumerate(names)),
        files={name: hashlib.sha256(x).hexdigest() for name, x in data.items()},
        versions={package: version(package) for package in PACKAGES[format_]},
    )
    _write(folder, {**data, MANIFEST: to_text(manifest).encode()})
    return manifest


def _network(solo: Solo) -> Network:
    body = solo.body
    return Network(
        cell=kind_of(body.cell),
        hidden=body.encoder.weight.shape[-1],
        outputs=body.head.weight.shape[-1],
        layer_norm=body.norms is not None,
        last_action=solo.use_last_action,
        agent_ids=solo.agent_ids,
        head=solo.head,
    )


class _FileNames(NamedTuple):
    """Files are named after whom they are for: the team, a type, or an agent.

    Attributes:
        owners: whose network each agent has.
        types: of the agents.
        format: of the files.
    """

    owners: tuple[int, ...]
    types: tuple[int, ...]
    format: Format

    def of(self, solo: Solo, which: int, policies: int) -> str:
        """The file of one of an agent's policies."""
        knows_itself = solo.agent_ids and self.format != "safetensors"
        networks = len(set(self.owners))
        if knows_itself or networks == len(self.owners):
            who = f"agent_{solo.agent}"
        else:
            who = "team" if networks == 1 else f"type_{self.types[solo.agent]}"
        return f"{who}{f'_policy_{which}' if policies > 1 else ''}.{ENDINGS[self.format]}"


def _require_free(folder: Path) -> None:
    """Nothing but an exported team is ever replaced."""
    if not folder.exists():
        return
    try:
        found = {path.name for path in folder.iterdir()}
        known = {MANIFEST, *read_manifest(folder).files} if is_exported(folder) else set[str]()
    except OSError as error:
        raise ComarlError(f"cannot write {folder}: {error.strerror} (choose another folder with --out)") from error
    others = sorted(found - known)
    if others:
        raise ComarlError(f"{folder} holds {others[0]}, which is not an exported team's: choose another with --out")


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """All files at once: into a folder beside it, which then takes its name."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            part.mkdir()
            for name, data in files.items():
                (part / name).write_bytes(data)
            if folder.exists():
                shutil.rmtree(folder)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise ComarlError(f"cannot write {folder}: {error.strerror} (choose another folder with --out)") from error
