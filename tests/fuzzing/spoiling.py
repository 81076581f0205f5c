"""Ways to spoil a file or a folder, as hypothesis draws them."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

NAMES = (
    "os:getcwd",
    "os:nothing",
    ":",
    "a:",
    ":b",
    "..:x",
    "json:",
    "smax/3m",
    "smax/",
    "/",
    "matrix/qtran/..",
    "SMAX/3m",
)
"""What might stand where an environment is named; each is quick to refuse, or to make."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 2**31 - 1, 2**31, 2**63, -(2**63) - 1, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        " ",
        "0",
        "1",
        "null",
        "\x00",
        "\ud800",
        "ε\n",
        "-",
        "--json",
        "..",
        "../../etc/passwd",
        "/dev/zero",
        "x" * 5000,
    ),
    *([], [[]], [0], [None], [0.0, "1"], {}, {"": 0}, {"kind": []}, {"a": {"b": [{}]}}),
)
"""Values that programs forget about."""

PIECES = (
    *(
        b"",
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\n",
        b"\r\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"\\",
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b"null\n",
    ),
)
"""Bytes that parsers stumble over."""


def values() -> st.SearchStrategy[Any]:
    """Any JSON value, the odd ones often."""
    text = st.text(st.characters(exclude_characters=":"), max_size=8)  # no module of this machine is imported by chance
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
    nested = st.recursive(
        scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(text, x, max_size=3), max_leaves=5
    )
    # Copies: an edit of one that is in a document already must not reach the others, nor put it inside itself.
    return st.one_of(st.sampled_from(ODD).map(copy.deepcopy), st.sampled_from(NAMES), nested)


def documents(good: Any) -> st.SearchStrategy[bytes]:
    """A JSON document with some of its values, names or bytes changed."""
    return st.one_of(_edited(good).map(_bytes), _bent(good).map(_bytes), garbled(_bytes(good)))


def lines(good: list[Any]) -> st.SearchStrategy[bytes]:
    """A file of JSON lines, of which some are changed, lost, repeated or in other places."""
    joined = b"".join
    whole = [_bytes(row) + b"\n" for row in good]
    one = st.integers(0, len(good) - 1).flatmap(
        lambda i: documents(good[i]).map(lambda line: [*whole[:i], line + b"\n", *whole[i + 1 :]])
    )
    every = st.tuples(st.sampled_from(sorted({key for row in good for key in row})), values()).map(
        lambda change: [_bytes({**row, change[0]: change[1]}) + b"\n" for row in good]
    )
    picked = st.lists(st.sampled_from(whole), max_size=len(whole) + 2)
    return st.one_of(one.map(joined), one.map(joined), every.map(joined), picked.map(joined), garbled(b"".join(whole)))


@st.composite
def garbled(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes of which some are lost, changed or repeated."""
    data = good
    for _ in range(draw(st.integers(1, 3))):
        begin, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        match draw(st.sampled_from(["flip", "cut", "piece", "end", "twice", "random"])):
            case "flip" if begin < len(data):
                data = data[:begin] + bytes([data[begin] ^ draw(st.integers(1, 255))]) + data[begin + 1 :]
            case "cut":
                data = data[:begin] + data[end:]
            case "end":
                data = data[:begin]
            case "twice":
                data = data[:end] + data[begin:]
            case "random":
                data = data[:begin] + draw(st.binary(max_size=20)) + data[end:]
            case _:
                data = data[:begin] + draw(st.sampled_from(PIECES)) + data[begin:]
    return data


@st.composite
def _edited(draw: st.DrawFn, good: Any) -> Any:
    """Up to three places of a document are replaced, removed, renamed or repeated."""
    data = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(_places(data) or [([None], 0)]))
        match draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"])):
            case "replace":
                holder[key] = draw(values())
            case "remove":
                del holder[key]
            case "rename" | "add" if isinstance(holder, dict):
                name = draw(
                    st.text(max_size=6) | st.sampled_from(sorted({k for h, k in _places(good) if isinstance(h, dict)}))
                )
                holder[name] = holder.pop(key) if draw(st.booleans()) else draw(values())
            case _:
                holder.insert(key, draw(values()))
    return data


@st.composite
def _bent(draw: st.DrawFn, good: Any) -> Any:
    """A number of a document a little off, or a text: of the right type, so that it gets further."""
    data = copy.deepcopy(good)
    holder, key = draw(
        st.sampled_from([place for place in _places(data) if not isinstance(place[0][place[1]], dict | list)])
    )
    match holder[key]:
        case bool():
            holder[key] = not holder[key]
        case int():
            holder[key] += draw(st.integers(-3, 3) | st.sampled_from([2**30, -(2**31), 2**40]))
        case float():
            holder[key] = draw(st.floats() | st.sampled_from([holder[key] * 2, -holder[key]]))
        case str():
            holder[key] = draw(st.sampled_from([*NAMES, holder[key] + "x", holder[key][:-1], holder[key].upper()]))
        case _:
            holder[key] = draw(values())
    return data


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every object and list of a document, with each of its keys."""
    keys = list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []
    return [(data, key) for key in keys] + [place for key in keys for place in _places(data[key])]


def _bytes(data: Any) -> bytes:
    return json.dumps(data).encode()


Spoil = Callable[[Path], None]


def _twist(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 0x41]) + data[half + 1 :] if data else b"x"


def _to_link(path: Path, target: str) -> None:
    _gone(path)
    path.symlink_to(target)


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _to_folder(path: Path) -> None:
    _gone(path)
    path.mkdir()
    (path / "inside").write_text("")


def _to_pipe(path: Path) -> None:
    _gone(path)
    os.mkfifo(path)


def _renamed(path: Path, name: str) -> None:
    if not (path.parent / name).exists():
        path.rename(path.parent / name)


def _copied(path: Path, name: str) -> None:
    if (path.parent / name).exists():
        return
    if path.is_dir():
        shutil.copytree(path, path.parent / name, symlinks=True)  # a link may lead to an endless file
    else:
        shutil.copy(path, path.parent / name)


def _rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    if path.is_file():
        path.write_bytes(change(path.read_bytes()))


ANY: dict[str, Spoil] = {
    "gone": _gone,
    "a folder": _to_folder,
    "a pipe": _to_pipe,
    "a link to nothing": lambda path: _to_link(path, "nothing"),
    "a link to itself": lambda path: _to_link(path, path.name),
    "a link to an endless file": lambda path: _to_link(path, "/dev/zero"),
    "a link to its folder": lambda path: _to_link(path, "."),
    "renamed": lambda path: _renamed(path, path.name + "x"),
    "another number": lambda path: _renamed(path, "7"),
    "no plain number": lambda path: _renamed(path, "0" + path.name),
    "foreign digits": lambda path: _renamed(path, "٧٢"),
    "twice": lambda path: _copied(path, "9999"),
    "empty": lambda path: _rewritten(path, lambda data: b""),
    "torn": lambda path: _rewritten(path, lambda data: data[: len(data) // 2]),
    "altered": lambda path: _rewritten(path, _twist),
    "longer": lambda path: _rewritten(path, lambda data: data + b"}\x00"),
}
"""What may become of a file or a folder."""
