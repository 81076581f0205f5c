"""What an exported folder says of itself: ``manifest.json``, read as the data of a stranger. No JAX here.

Every agent is a program (carry, observation, mask) → (carry, action, grounds), whose arrays have names and a leading
batch axis. An output ``next_X`` is the input ``X`` of the next step; an episode begins with zeros.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

from comarl.errors import ComarlError

MANIFEST = "manifest.json"
VERSION = 1
"""Of the manifest and the programs' signature; a reader refuses a newer one."""

Format = Literal["onnx", "jax", "safetensors"]
ENDINGS: dict[Format, str] = {"onnx": "onnx", "jax": "stablehlo", "safetensors": "safetensors"}
DTYPES = ("float32", "int32", "bool")
OBSERVATION, MASK, ACTION, NEXT = "observation", "mask", "action", "next_"
LARGEST = 2**24
"""No single array of a policy has more numbers than this for one agent: a torn manifest must not fill the memory."""

T = TypeVar("T")


class Port(NamedTuple):
    """An input or output of a program.

    Attributes:
        name: its name.
        shape: without the batch axis.
        dtype: one of ``DTYPES``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def of(self, batch: int | str) -> tuple[int | str, ...]:
        """The shape with the batch axis."""
        return (batch, *self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.of('B')))}]"


class Member(NamedTuple):
    """One agent of the team.

    Attributes:
        agent: its index.
        type: its type in the environment; agents of one type may share parameters.
        files: its policy; several where it draws one of them for each episode.
    """

    agent: int
    type: int
    files: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Network:
    """What is between inputs and outputs; with the parameters' names all that another program needs to rebuild it.

    Attributes:
        cell: ``gru``, ``lstm``, ``mingru`` or ``mlp``.
        hidden: width of encoder and memory.
        outputs: numbers that the head gives.
        layer_norm: whether encoder and memory's output are normalised.
        last_action: whether the network sees the agent's last action.
        agent_ids: length of the agent's one-hot index that it sees, 0 for none.
        head: how the head's numbers become an action: ``values``, ``softmax``, ``gaussian``, ``tanh`` or ``corner``.
    """

    cell: str
    hidden: int
    outputs: int
    layer_norm: bool
    last_action: bool
    agent_ids: int
    head: str

    def features(self, obs_dim: int, num_actions: int) -> list[tuple[str, int]]:
        """What the encoder reads, in order, each with its length."""
        parts = [(OBSERVATION, obs_dim)]
        if self.last_action:
            parts.append(("last_action", num_actions))
        if self.agent_ids:
            parts.append(("agent_id", self.agent_ids))
        return parts


@dataclasses.dataclass(frozen=True)
class Manifest:
    """An exported team.

    Attributes:
        format: of the files.
        method: which trained it.
        env: where.
        seed: which seed of the run.
        inputs: of every program: the carry, ``observation`` and ``mask``.
        outputs: the next carry, ``action``, and what it was chosen by (values or probabilities), if anything.
        network: between them.
        agents: the team, in the order of their indices.
        files: the SHA-256 of each file.
        versions: of the packages that wrote them.
    """

    format: Format
    method: str
    env: str
    seed: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    network: Network
    agents: tuple[Member, ...]
    files: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def carry(self) -> tuple[Port, ...]:
        """The inputs that come from the step before."""
        return tuple(port for port in self.inputs if port.name not in (OBSERVATION, MASK))

    @property
    def obs_dim(self) -> int:
        """``D``."""
        return self._input(OBSERVATION).shape[0]

    @property
    def num_actions(self) -> int:
        """``A``: actions of an agent, or components of one."""
        return self._input(MASK).shape[0]

    @property
    def continuous(self) -> bool:
        """Whether an action is a vector of ``A`` numbers in [-1, 1]."""
        return next(port for port in self.outputs if port.name == ACTION).dtype == "float32"

    def agents_of(self, file: str) -> list[int]:
        """Whom a file is for."""
        return [member.agent for member in self.agents if file in member.files]

    def _input(self, name: str) -> Port:
        return next(port for port in self.inputs if port.name == name)


def to_text(manifest: Manifest) -> str:
    """What ``manifest.json`` holds, with lists of numbers and names on one line each."""
    text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False, allow_nan=False)
    innermost = re.compile(r"([\[{])\n\s+([^\[\]{}]*?)\n\s+([\]}])")  # a string of JSON has no line break
    for _ in range(2):
        text = innermost.sub(lambda m: m[1] + re.sub(r"\n\s+", " ", m[2]) + m[3], text)
    return text + "\n"


def to_json(manifest: Manifest) -> dict[str, Any]:
    """The object itself."""
    size = manifest.num_actions
    action = {"kind": "continuous", "components": size, "low": -1.0, "high": 1.0}
    features = manifest.network.features(manifest.obs_dim, size)
    return {
        "comarl_policy": VERSION,
        "format": manifest.format,
        "method": manifest.method,
        "env": manifest.env,
        "seed": manifest.seed,
        "action": action if manifest.continuous else {"kind": "discrete", "actions": size},
        "carry": [
            {"input": port.name, "output": NEXT + port.name, "shape": list(port.shape), "initial": 0.0}
            for port in manifest.carry
        ],
        "inputs": [port_json(port) for port in manifest.inputs],
        "outputs": [port_json(port) for port in manifest.outputs],
        "network": dataclasses.asdict(manifest.network)
        | {"reads": [{"name": name, "size": size} for name, size in features]},
        "agents": [{"agent": m.agent, "type": m.type, "files": list(m.files)} for m in manifest.agents],
        "files": {name: {"sha256": digest} for name, digest in manifest.files.items()},
        "versions": dict(manifest.versions),
    }


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported team, and not a run."""
    return (folder / MANIFEST).is_file() and not (folder / "config.json").exists()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an exported folder.

    Raises:
        ComarlError: if there is none, if it is of a newer version, or if anything in it is not as it should be.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ComarlError(f"cannot read {path}: {error.strerror} ('comarl export RUN' writes one)") from error
    except (ValueError, RecursionError) as error:
        raise ComarlError(f"{path} is not JSON ({error})") from error
    try:
        return _from_json(data)
    except (_UnfitError, KeyError, TypeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ComarlError(f"{path} is not an exported team's: {what} (export it again)") from error


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """One of the manifest's files, after its SHA-256 was checked.

    Raises:
        ComarlError: if it is missing, is not in the folder itself, or is not what was written.
    """
    path = folder / name
    # Its name leads nowhere else; a link could, and a pipe would never end.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ComarlError(f"{path} is no plain file: nothing outside of the folder is read")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ComarlError(f"cannot read {path}: {error.strerror} (export the team again)") from error
    if hashlib.sha256(data).hexdigest() != manifest.files[name]:
        raise ComarlError(f"{path} is not the file that was exported, its SHA-256 differs: export the team again")
    return data


class _UnfitError(Exception):
    """Something in a manifest is not as it should be."""


def _from_json(data: Any) -> Manifest:
    version = _typed(data, dict)["comarl_policy"]
    if _typed(version, int) != VERSION:
        raise _UnfitError(f"it is of version {version}, and this comarl reads {VERSION}")
    files = {_file_name(name): _digest(entry["sha256"]) for name, entry in _typed(data["files"], dict).items()}
    inputs, outputs = (tuple(_port(p) for p in _typed(data[key], list)) for key in ("inputs", "outputs"))
    _require_signature(inputs, outputs)
    return Manifest(
        format=_choice(data["format"], get_args(Format)),
        method=_typed(data["method"], str),
        env=_typed(data["env"], str),
        seed=_count(data["seed"]),
        inputs=inputs,
        outputs=outputs,
        network=_network(_typed(data["network"], dict)),
        agents=_members(_typed(data["agents"], list), files),
        files=files,
        versions={_typed(k, str): _typed(v, str) for k, v in _typed(data["versions"], dict).items()},
    )


def port_json(port: Port) -> dict[str, Any]:
    """How a port is said in JSON."""
    return {"name": port.name, "shape": list(port.of("B")), "dtype": port.dtype}


def _port(data: Any) -> Port:
    batch, *shape = _typed(data["shape"], list) or [None]
    port = Port(_name(data["name"]), tuple(_size(n) for n in shape), _choice(data["dtype"], DTYPES))
    size = 1
    for n in port.shape:
        size *= n
    if batch != "B" or size > LARGEST:
        raise _UnfitError(f"{port.name} has the shape {[batch, *shape]}")
    return port


def _require_signature(inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
    """(carry, observation, mask) → (carry, action, …), each carry as it comes out."""
    given, made = ({port.name: port for port in ports} for ports in (inputs, outputs))
    if len(given) < len(inputs) or len(made) < len(outputs):
        raise _UnfitError("two arrays have one name")
    for name, dtype in ((OBSERVATION, "float32"), (MASK, "bool")):
        if given[name].dtype != dtype or len(given[name].shape) != 1:
            raise _UnfitError(f"{name} is not one {dtype} vector for each agent")
    actions = given[MASK].shape
    if made[ACTION][1:] not in (((), "int32"), (actions, "float32")):
        raise _UnfitError("the action is neither an index nor a vector as long as the mask")
    for name in set(given) - {OBSERVATION, MASK}:
        if made[NEXT + name][1:] != given[name][1:]:
            raise _UnfitError(f"{NEXT}{name} is not like {name}")


def _network(data: dict[str, Any]) -> Network:
    types: dict[str, Callable[[Any], Any]] = {
        "cell": _name,
        "hidden": _size,
        "outputs": _size,
        "layer_norm": lambda x: _typed(x, bool),
        "last_action": lambda x: _typed(x, bool),
        "agent_ids": _count,
        "head": _name,
    }
    return Network(**{name: check(data[name]) for name, check in types.items()})


def _members(data: list[Any], files: Mapping[str, str]) -> tuple[Member, ...]:
    members: list[Member] = []
    for i, entry in enumerate(data):
        names = tuple(_choice(name, tuple(files)) for name in _typed(entry["files"], list))
        if entry["agent"] != i or not names:
            raise _UnfitError(f"agent {i} is not in its place or has no file")
        members.append(Member(i, _count(entry["type"]), names))
    if not members:
        raise _UnfitError("it has no agents")
    return tuple(members)


def _typed(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _UnfitError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _count(value: Any) -> int:
    if not 0 <= _typed(value, int) < 2**63:
        raise _UnfitError(f"{value} is no number of anything")
    return value


def _size(value: Any) -> int:
    if not 0 < _typed(value, int) <= LARGEST:
        raise _UnfitError(f"{value} is no size")
    return value


def _name(value: Any) -> str:
    return _text(value, r"[a-z][a-z0-9_]{0,63}", "name")


def _file_name(value: Any) -> str:
    """A plain name: nothing that could lead out of the folder."""
    return _text(value, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "plain file name in this folder")


def _digest(value: Any) -> str:
    return _text(value, r"[0-9a-f]{64}", "SHA-256")


def _text(value: Any, pattern: str, what: str) -> str:
    if not re.fullmatch(pattern, _typed(value, str)):
        raise _UnfitError(f"{value[:40]!r} is no {what}")
    return value


def _choice(value: Any, known: tuple[T, ...]) -> T:
    if value not in known:
        raise _UnfitError(f"{str(value)[:40]!r} is none of {', '.join(map(str, known))}")
    return cast(T, value)
