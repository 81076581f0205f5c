"""One process on a run folder; a dead one holds nothing."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from comarl.errors import ComarlError
from comarl.experiments.lock import FolderLock

HOLD = "import sys, time; from pathlib import Path; from comarl.experiments.lock import FolderLock\n\
with FolderLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_killed_process_does_not_bar_the_way(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ComarlError, match=rf"^{tmp_path} is being written by process {process.pid} on "):
            FolderLock(tmp_path).__enter__()
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / ".lock").exists()
    with FolderLock(tmp_path):
        pass


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run" / ".lock").exists()
    assert list((tmp_path / "a" / "run").iterdir()) == []


def test_a_replaced_folder_is_another_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with FolderLock(folder) as lock:
        lock.require()
        folder.rename(tmp_path / "moved")
        with pytest.raises(ComarlError, match="has vanished or been replaced"):
            lock.require()
        with FolderLock(folder):
            with pytest.raises(ComarlError, match="has vanished or been replaced"):
                lock.require()
            lock.__exit__(None, None, None)  # which must leave the other's lock alone
            assert (folder / ".lock").exists()
    shutil.rmtree(tmp_path / "moved")


@pytest.mark.parametrize("folder", ["/dev/null/run", "/proc/run", "/sys/run"])
def test_a_folder_that_cannot_be_written_is_one_line(folder: str) -> None:
    with pytest.raises(ComarlError, match=rf"^cannot write the run folder {folder}: .* \(choose another with --run\)$"):
        FolderLock(Path(folder)).__enter__()
