"""One process writes to a run folder at a time."""

import contextlib
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

from comarl.errors import ComarlError

try:
    import fcntl
except ImportError:  # Windows: nobody keeps two processes apart there
    fcntl = None


class FolderLock:
    """Holds a run folder, which it makes, as long as the block lasts.

    The operating system lets go of the lock when the process ends, however it ends: a killed one never bars the way.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._path = folder / ".lock"

    def __enter__(self) -> "FolderLock":
        """Take it.

        Raises:
            ComarlError: if another process has it, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._locked()
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of it."""
        with contextlib.suppress(OSError):
            if self.is_held():
                self._path.unlink()
        self._file.close()

    def is_held(self) -> bool:
        """Whether the folder is still the one that was locked."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def require(self) -> None:
        """Notice a folder that was removed or replaced: what is written into it would be lost, or another run's.

        Raises:
            ComarlError: if it was.
        """
        if not self.is_held():
            raise ComarlError(
                f"the run folder {self.folder} has vanished or been replaced while it was being written: training stops"
            )

    def _locked(self) -> IO[str]:
        while True:
            file = self._path.open("a+", encoding="utf-8")
            if not fcntl:
                return file
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read() or "another process"
                file.close()
                raise ComarlError(
                    f"{self.folder} is being written by {owner}: wait for it, or choose another folder with --run"
                ) from None
            # Whoever had it may have removed the file between our opening and locking it.
            with contextlib.suppress(OSError):
                if os.path.samestat(self._path.stat(), os.fstat(file.fileno())):
                    return file
            file.close()


def unwritable(folder: Path, error: OSError) -> ComarlError:
    """The error for a run folder that cannot be written."""
    return ComarlError(f"cannot write the run folder {folder}: {error.strerror} (choose another with --run)")
