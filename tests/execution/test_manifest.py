"""An exported folder is a stranger's data: what is altered, torn or hostile is one clear line."""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import export

from comarl.algos.qlearning import QPolicy
from comarl.errors import ComarlError
from comarl.execution.manifest import MANIFEST, is_exported, read_manifest, to_json
from comarl.execution.team import load_team
from comarl.execution.write import Origin, write_team
from comarl.nets.agents import Agent
from comarl.types import EnvSpec

SPEC = EnvSpec("x", 2, 3, 1, 2, 5)


def policy(seed: int = 0) -> QPolicy:
    return QPolicy(Agent(SPEC, key=jax.random.key(seed), hidden=2, agent_id=False), jnp.zeros(()))


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good folder in each format; not to be changed."""
    folders = {f: tmp_path_factory.mktemp("teams") / f for f in ("onnx", "jax", "safetensors")}
    for format_, folder in folders.items():
        write_team(policy(), SPEC, folder, format_, Origin("vdn", "x", 7))  # type: ignore[arg-type]
    return folders


def altered(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The folder with another manifest."""
    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))
    return folder


def replaced(folder: Path, data: bytes) -> Path:
    """The folder with another policy, and a manifest that vouches for it."""
    (file,) = [path for path in folder.iterdir() if path.name != MANIFEST]
    file.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return altered(folder, lambda m: m["files"][file.name].update(sha256=digest))


def refusal(folder: Path) -> str:
    with pytest.raises(ComarlError) as caught:
        load_team(folder)
    return str(caught.value)


def test_what_is_written_is_read(made: dict[str, Path]) -> None:
    manifest = read_manifest(made["onnx"])
    assert to_json(manifest) == json.loads((made["onnx"] / MANIFEST).read_text())
    assert (manifest.obs_dim, manifest.num_actions, manifest.continuous, manifest.seed) == (3, 2, False, 7)
    assert [port.name for port in manifest.carry] == ["memory", "last_action"]
    assert [port.name for port in manifest.outputs] == ["next_memory", "next_last_action", "action", "values"]
    assert manifest.network.features(3, 2) == [("observation", 3), ("last_action", 2)]
    assert is_exported(made["onnx"])


FORMATS = ["onnx", "jax", "safetensors"]


@pytest.mark.parametrize("format_", FORMATS)
def test_an_altered_file(made: dict[str, Path], tmp_path: Path, format_: str) -> None:
    folder = shutil.copytree(made[format_], tmp_path / "team")
    (file,) = [path for path in folder.iterdir() if path.name != MANIFEST]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert refusal(folder) == f"{file} is not the file that was exported, its SHA-256 differs: export the team again"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_missing_file(made: dict[str, Path], tmp_path: Path, format_: str) -> None:
    folder = shutil.copytree(made[format_], tmp_path / "team")
    (file,) = [path for path in folder.iterdir() if path.name != MANIFEST]
    file.unlink()
    assert refusal(folder) == f"cannot read {file}: No such file or directory (export the team again)"


class Boom:
    """Whoever unpickles it knows."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a file was unpickled",)


@pytest.mark.parametrize("format_", FORMATS)
def test_nothing_is_unpickled(made: dict[str, Path], tmp_path: Path, format_: str) -> None:
    for i, data in enumerate((pickle.dumps(Boom()), b"", b"\x80\x05.", b"PK\x03\x04")):
        folder = shutil.copytree(made[format_], tmp_path / f"team{i}")
        assert " is no " in refusal(replaced(folder, data))


def test_a_jax_program_that_calls_code_outside_itself(made: dict[str, Path], tmp_path: Path) -> None:
    """A name that XLA knows would be enough to run it; only those who say that they know what they do may."""
    manifest = read_manifest(made["jax"])
    shapes = [jax.ShapeDtypeStruct((4, *port.shape), np.dtype(port.dtype)) for port in manifest.inputs]

    def step(memory: Any, last: Any, obs: Any, mask: Any) -> Any:
        q = jax.ffi.ffi_call("somewhere_else", jax.ShapeDtypeStruct((4, 2), jnp.float32))(last)
        return memory, last, jnp.argmax(q, -1).astype(jnp.int32), q

    unchecked = [export.DisabledSafetyCheck.custom_call("somewhere_else")]
    data = export.export(jax.jit(step), platforms=["cpu"], disabled_checks=unchecked)(*shapes).serialize()
    folder = shutil.copytree(made["jax"], tmp_path / "team")
    assert refusal(replaced(folder, bytes(data))).endswith("calls code outside itself, which no exported policy does")


def test_an_onnx_graph_that_asks_for_another_file(made: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """ONNX allows parameters in a file beside it: here one of the working directory, and one of the system's."""
    import onnx

    model = onnx.load_from_string((made["onnx"] / "team.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(10_000))
    for i, location in enumerate(("secret", str(tmp_path / "secret"), "../secret")):
        weight = max(model.graph.initializer, key=lambda x: len(x.raw_data))
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        del weight.external_data[:]
        weight.external_data.add(key="location", value=location)
        folder = shutil.copytree(made["onnx"], tmp_path / f"team{i}")
        line = refusal(replaced(folder, model.SerializeToString()))
        assert line.endswith("asks for parameters in another file, which no exported policy does")


NOWHERE = "a" * 64
FOLDER_TRICKS = ["../team.onnx", "/etc/passwd", "..", ".", "a/b", "a\\b", "~", "", ".hidden", "x" * 200, "a\nb", "C:x"]


@pytest.mark.parametrize("name", FOLDER_TRICKS)
def test_files_outside_the_folder_are_not_read(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(made["onnx"], tmp_path / "team")
    assert "is no plain file name in this folder" in refusal(
        altered(folder, lambda m: m["files"].update({name: {"sha256": NOWHERE}}))
    )
    folder = shutil.copytree(made["onnx"], tmp_path / "again")
    assert "is none of team.onnx" in refusal(altered(folder, lambda m: m["agents"][0].update(files=[name])))


def test_a_link_out_of_the_folder_is_not_followed(made: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(made["onnx"], tmp_path / "team")
    shutil.move(folder / "team.onnx", tmp_path / "elsewhere")
    (folder / "team.onnx").symlink_to(tmp_path / "elsewhere")
    assert refusal(folder) == f"{folder / 'team.onnx'} is no plain file: nothing outside of the folder is read"
    (folder / "team.onnx").unlink()
    os.mkfifo(folder / "team.onnx")
    assert "is no plain file" in refusal(folder)


def _port(which: str, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda m: next(p for p in m["inputs"] + m["outputs"] if p["name"] == which).update(changes)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer": (lambda m: m.update(comarl_policy=2), "it is of version 2, and this comarl reads 1"),
    "not even a version": (lambda m: m.update(comarl_policy=True), "'True' is no int"),
    "another format": (lambda m: m.update(format="pickle"), "'pickle' is none of onnx, jax, safetensors"),
    "nothing missing": (lambda m: m.pop("agents"), "it has no 'agents'"),
    "no agents": (lambda m: m.update(agents=[]), "it has no agents"),
    "agents out of order": (lambda m: m["agents"].reverse(), "agent 0 is not in its place"),
    "a huge carry": (_port("memory", shape=["B", 2**40]), "is no size"),
    "a huge product": (_port("memory", shape=["B", 2**20, 2**20]), "memory has the shape"),
    "a fixed batch": (_port("observation", shape=[1, 3]), "observation has the shape [1, 3]"),
    "no shape": (_port("mask", shape=[]), "mask has the shape [None]"),
    "no dtype": (_port("memory", dtype="object"), "'object' is none of float32, int32, bool"),
    "a carry that changes": (_port("next_memory", shape=["B", 3]), "next_memory is not like memory"),
    "a digest": (lambda m: m["files"]["team.onnx"].update(sha256="../x"), "'../x' is no SHA-256"),
    "more to see": (_port("observation", shape=["B", 4]), "observation float32[B, 3] in place of observation"),
    "other names": (_port("values", name="worth"), "values float32[B, 2] in place of worth float32[B, 2]"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_an_altered_manifest(made: dict[str, Path], tmp_path: Path, change: Any, said: str) -> None:
    folder = shutil.copytree(made["onnx"], tmp_path / "team")
    line = refusal(altered(folder, change))
    assert said in line
    assert "\n" not in line


def test_a_program_for_one_number_of_games(made: dict[str, Path], tmp_path: Path) -> None:
    shapes = [
        jax.ShapeDtypeStruct((4, *port.shape), np.dtype(port.dtype)) for port in read_manifest(made["jax"]).inputs
    ]

    def step(memory: Any, last: Any, obs: Any, mask: Any) -> Any:
        return memory, last, jnp.argmax(obs * mask.any(), -1).astype(jnp.int32), last

    data = export.export(jax.jit(step), platforms=["cpu"])(*shapes).serialize()
    folder = shutil.copytree(made["jax"], tmp_path / "team")
    assert "it has memory float32[B, 4, 2] in place of memory float32[B, 2]" in refusal(replaced(folder, bytes(data)))


@pytest.mark.parametrize("format_", ["jax", "safetensors"])
def test_a_file_that_does_not_fit_its_manifest(made: dict[str, Path], tmp_path: Path, format_: str) -> None:
    folder = shutil.copytree(made[format_], tmp_path / "team")
    assert "does not fit its manifest" in refusal(altered(folder, _port("observation", shape=["B", 4])))


def test_manifests_that_are_no_json(tmp_path: Path) -> None:
    for text in ("", "{", "[" * 100_000, "\xff", "NaN"):
        (tmp_path / MANIFEST).write_text(text, encoding="latin-1")
        assert refusal(tmp_path).startswith(str(tmp_path / MANIFEST))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=8), scalars, max_size=3)


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=300)
def test_whatever_a_manifest_holds_is_read_or_refused(
    made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = json.loads((made["onnx"] / MANIFEST).read_text())
    place: Any = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(anything)
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_text(json.dumps(whole))
    shutil.copy(made["onnx"] / "team.onnx", folder)
    with contextlib.suppress(ComarlError):  # anything else is a fault
        assert set(load_team(folder).manifest.files) == {"team.onnx"}


def test_only_an_exported_team_is_replaced(made: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(made["onnx"], tmp_path / "team")
    write_team(policy(1), SPEC, folder, "jax", Origin("vdn", "x", 8))
    assert {path.name for path in folder.iterdir()} == {MANIFEST, "team.stablehlo"}
    assert load_team(folder).manifest.seed == 8
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(ComarlError, match=r"holds thesis.tex, which is not an exported team's: choose another"):
        write_team(policy(), SPEC, folder, "jax", Origin("vdn", "x", 9))
    assert load_team(folder).manifest.seed == 8
    assert [path.name for path in tmp_path.iterdir()] == ["team"]  # nothing half-written is left


def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(ComarlError, match=r"cannot write /dev/null/team: .* \(choose another folder with --out\)"):
        write_team(policy(), SPEC, Path("/dev/null/team"), "safetensors", Origin("vdn", "x", 9))
