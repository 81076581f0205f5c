"""States on disk: arrays and their tree, never code.

Orbax writes them, and is imported when there is something to write: it takes a quarter of a second, for which no
training has to wait before it starts. They are read with TensorStore, in whose format Orbax leaves the arrays: of a
damaged checkpoint Orbax would give up with its other reads under way, which then complain to an event loop that is
closed.
"""

import contextlib
import errno
import hashlib
import logging
import math
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from comarl.errors import ComarlError

FORMAT = 1
"""How a checkpoint is laid out; one of a higher number is refused."""

STEP = "0|[1-9][0-9]*"
"""The name of a checkpoint's folder."""

ABOUT = "_CHECKPOINT_METADATA"
"""The file in which Orbax keeps what is said of a checkpoint."""

HALF_DONE = ("*.orbax-checkpoint-tmp*", "*.removed")
"""The names of what is being written, and of what is being removed."""

DISK_FAULTS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)))
"""What to look for in TensorStore's long messages."""


def save(path: Path, state: Any) -> None:
    """Write any pytree of arrays to the folder ``path``, replacing what is there.

    The folder appears whole or not at all. A whole :class:`~comarl.training.ondevice.RunState` saved here and loaded
    again goes on bit for bit.
    """
    with _checkpointer() as checkpointer:
        checkpointer.save(path.absolute(), state, force=True)


def load(path: Path, like: Any) -> Any:
    """Read a state of the same structure, shapes and dtypes as ``like``, onto JAX's first device.

    Args:
        path: what :func:`save` was given.
        like: arrays or ``jax.ShapeDtypeStruct``; its values are not used.

    Raises:
        ComarlError: if there is none, or it does not fit.
    """
    if not path.is_dir() or not any(path.iterdir()):
        raise ComarlError(f"no saved state in {path}: the training may not have reached its end")
    try:
        _require_plain(path)
        return _read(path, like)
    except (ValueError, KeyError, OSError) as error:
        raise ComarlError(f"the saved state in {path} does not fit this configuration: {_reason(error)}") from error


def _read(path: Path, like: Any) -> Any:
    here = jax.devices()[0]  # and not where it was saved, which may not exist here
    store = {"driver": "ocdbt", "base": f"file://{quote(str(path.absolute()))}/"}
    stored = {key.decode().rpartition("/")[0] for key in ts.KvStore.open(store).result().list().result()}
    leaves = {jax.tree_util.keystr(name, simple=True, separator="."): x for name, x in jax.tree.leaves_with_path(like)}
    if unlike := sorted(stored ^ leaves.keys()):
        name = unlike[0]
        raise ValueError(f"{name} is {'there and not here' if name in stored else 'here and not there'}")
    arrays = [_array(store, name, x) for name, x in leaves.items()]
    return jax.device_put(jax.tree.unflatten(jax.tree.structure(like), arrays), here, may_alias=False)


def _array(store: dict[str, str], name: str, like: Any) -> np.ndarray:
    array = ts.open({"driver": "zarr", "kvstore": {**store, "path": f"{name}/"}}, open=True).result()
    if array.shape != like.shape:
        raise ValueError(f"{name} has the shape {array.shape} there and {like.shape} here")
    if array.dtype.numpy_dtype != like.dtype:
        raise ValueError(f"{name} is of {array.dtype.name} there and of {like.dtype} here")
    return array.read().result()


def _require_plain(path: Path) -> None:
    """Whatever is read must be here and come to an end: a link leads elsewhere, and a pipe can be read for ever."""
    if not path.is_dir():
        raise ValueError("it is no folder")
    for inside in path.rglob("*"):
        if inside.is_symlink() or not (inside.is_dir() or inside.is_file()):
            raise ValueError(f"{inside.name} is no plain file")


class Saved(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        step: its number.
        state: the state, on the device.
        notes: what was said of it when it was saved.
    """

    step: int
    state: Any
    notes: dict[str, Any]


class Series:
    """The checkpoints of one state as it goes on: the latest ``keep`` and the one of the best score.

    Each is a folder named by its step. It is written in the background, appears whole or not at all, and holds the
    SHA-256 of its arrays. What is pruned gets another name first, so that no half of it is ever taken for a whole.

    Attributes:
        folder: where they are.
        keep: how many of the latest are kept; the best one is kept as well.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        self._scores: dict[int, float] = {}
        self._checkpointer: Any = None

    def steps(self) -> list[int]:
        """Of what checkpoints there are, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if re.fullmatch(STEP, path.name))

    def path(self, step: int) -> Path:
        """The folder of one."""
        return self.folder / str(step)

    def save(self, step: int, state: Any, score: float, notes: dict[str, Any]) -> None:
        """Begin to write ``state``, which must not change any more.

        Args:
            step: a number that is higher each time.
            state: any pytree of arrays.
            score: how good it is; may be NaN.
            notes: plain data to find again in :class:`Saved`.

        Raises:
            ComarlError: if this one or the one before cannot be written.
        """
        state = _plain(state)
        about = {"format": FORMAT, "digest": digest(state), "score": score if math.isfinite(score) else None}
        with self._writing():
            self.wait()
            self._prune()
            self._checkpointer = self._checkpointer or _checkpointer()
            self._checkpointer.save(self.path(step).absolute(), state, custom_metadata={**about, "notes": notes})
        self._scores[step] = score

    def wait(self) -> None:
        """Until everything is written.

        Raises:
            ComarlError: if it cannot be.
        """
        if self._checkpointer:
            with self._writing(), quiet():
                self._checkpointer.wait_until_finished()

    def close(self) -> None:
        """Wait, and leave what is to be kept, if anything was saved: whoever only reads removes nothing.

        Raises:
            ComarlError: if what was under way cannot be written.
        """
        if self._checkpointer:
            with self._writing(), contextlib.closing(self._checkpointer):
                self.wait()
                self._prune()

    def restore(self, like: Any) -> tuple[Saved | None, list[str]]:
        """The latest checkpoint that is whole, if there is any, and what is wrong with those after it.

        Those are removed then: whoever goes on from here will come to their steps again.

        Args:
            like: arrays or ``jax.ShapeDtypeStruct`` of the state's structure, shapes and dtypes.

        Raises:
            ComarlError: if there are checkpoints and none of them can be used (nothing is removed), or if one was
                written by a newer version.
        """
        problems: list[str] = []
        with quiet():
            self._sweep()
            about = {step: self._about(step) for step in self.steps()}
            for step in reversed(about):
                try:
                    saved = self._restore(step, like, about[step])
                except ComarlError:
                    raise
                except Exception as error:  # whatever is made of a damaged file
                    problems.append(f"{self.path(step)} cannot be used: {_reason(error)}")
                    continue
                for later in (s for s in about if s > step):
                    self._remove(later)
                self._scores = {s: _score(about[s]) for s in self.steps()}
                return saved, problems
        if problems:
            raise ComarlError(f"no checkpoint can be used, train anew with --overwrite: {'; '.join(problems)}")
        return None, []

    def best(self, like: Any) -> Saved:
        """The checkpoint of the best score; nothing is changed, for training may be going on.

        Raises:
            ComarlError: if there is none, or it cannot be used.
        """
        with quiet():
            about = {step: self._about(step) for step in self.steps()}
            self._scores = {step: _score(about[step]) for step in about}
            step = self._best()
            if step is None:
                raise ComarlError(f"no checkpoint in {self.folder} has a score: play the end of the run instead")
            try:
                return self._restore(step, like, about[step])
            except ComarlError:
                raise
            except Exception as error:  # whatever is made of a damaged file
                raise ComarlError(f"{self.path(step)} cannot be used: {_reason(error)}") from error

    def _about(self, step: int) -> Any:
        """What stands beside the arrays; None if it cannot be read."""
        from orbax.checkpoint.metadata import metadata_store

        try:
            _require_plain(self.path(step))
            return (metadata_store(enable_write=False).read(self.path(step) / ABOUT) or {}).get("custom_metadata")
        except Exception:  # whatever is made of a damaged file
            return None

    def _restore(self, step: int, like: Any, about: Any) -> Saved:
        _require_plain(self.path(step))
        if not (isinstance(about, dict) and {"format", "digest", "notes"} <= about.keys()):
            raise ValueError("its description cannot be read")
        if about["format"] > FORMAT:
            raise ComarlError(
                f"{self.path(step)} was written by a newer version of comarl (format {about['format']}, and this one "
                f"reads {FORMAT}): install that version to go on"
            )
        state = _read(self.path(step), jax.eval_shape(_plain, like))
        if digest(state) != about["digest"]:
            raise ValueError("its arrays are not those that were saved (SHA-256)")
        return Saved(step, _as(like, state), about["notes"])

    def _best(self) -> int | None:
        """The step of the highest score, the earlier one if two are alike."""
        scored = [step for step in self.steps() if math.isfinite(self._scores.get(step, math.nan))]
        return max(scored, key=lambda step: (self._scores[step], -step), default=None)

    def _prune(self) -> None:
        best = self._best()
        for step in self.steps()[: -self.keep]:
            if step != best:
                self._remove(step)

    def _remove(self, step: int) -> None:
        self.path(step).rename(self.folder / f"{step}.removed")
        self._sweep()

    def _sweep(self) -> None:
        """Clear away what a killed process left half written or half removed, and nothing else that lies there."""
        for pattern in HALF_DONE:
            for path in self.folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:  # rmtree would open it, and wait for whoever writes to a pipe
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Generator[None, None, None]:
        try:
            yield
        except ComarlError:
            raise
        except Exception as error:  # what Orbax raises depends on the file system
            reason = next((text for text in DISK_FAULTS if text in str(error)), _reason(error))
            raise ComarlError(f"cannot write a checkpoint into {self.folder}: {reason}") from error


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer()


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """Orbax and its threads log what they raise as well, page by page: not while the block lasts."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def digest(state: Any) -> str:
    """SHA-256 of a pytree of arrays: their names, types, shapes and numbers, bit for bit.

    >>> zeros = np.zeros(2)
    >>> digest({"a": zeros}) == digest({"a": zeros.copy()}), digest({"a": zeros}) == digest({"b": zeros})
    (True, False)
    """
    total = hashlib.sha256()
    for path, x in jax.tree.leaves_with_path(state):
        array = np.ascontiguousarray(x)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {np.shape(x)}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _plain(state: Any) -> Any:
    """Random keys as the numbers they are made of, which every array library can hold."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _as(like: Any, plain: Any) -> Any:
    """What :func:`_plain` was made of; random keys are of JAX's usual kind."""
    return jax.tree.map(lambda x, y: jax.random.wrap_key_data(y) if _is_key(x) else y, like, plain)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _score(about: Any) -> float:
    score = about.get("score") if isinstance(about, dict) else None
    return score if isinstance(score, float) else math.nan


def _reason(error: Exception) -> str:
    """The beginning of what an exception says, on one line: TensorStore says a page."""
    return " ".join(str(error).split())[:300] or type(error).__name__
