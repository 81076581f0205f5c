"""Runs as Ray tasks, on a cluster or on this machine alone. Without JAX, but in the tasks' processes."""

import contextlib
import os
import sys
from collections.abc import Generator
from typing import Any

from comarl.cluster import connected
from comarl.envs.registry import one_line
from comarl.errors import TIME_IS_UP, ComarlError, Stopped
from comarl.experiments.config import RunConfig
from comarl.experiments.sweep import Ended


@contextlib.contextmanager
def ray_tasks(address: str, cpus: float, gpus: float) -> "Generator[RayTasks]":
    """A place for tasks.

    Args:
        address: of a Ray (:func:`comarl.cluster.connected`).
        cpus: CPUs that each task takes up.
        gpus: GPUs, or parts of one, that each task takes up.

    Raises:
        ComarlError: if there is no Ray, or if no task could ever have so much.
    """
    # Ray tells of lost processes on standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr), connected(address) as ray:
        _require_room(ray, cpus, gpus)
        yield RayTasks(ray, cpus, gpus)


class RayTasks:
    """Tasks that are running or wait for room, each in a process of its own.

    Args:
        ray: the module, connected.
        cpus: CPUs that each task takes up.
        gpus: GPUs that each task takes up.
    """

    def __init__(self, ray: Any, cpus: float, gpus: float):
        self._ray = ray
        # Retries are the sweep's, which counts them. A process that has trained is not used again: its memory is full
        # and its JAX set up for what it has run.
        self._train = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(train_one)
        self._running: dict[Any, int] = {}

    def submit(self, number: int, config: RunConfig) -> None:
        """Hand a task to Ray."""
        self._running[self._train.remote(config, os.getcwd(), sys.path)] = number

    def wait(self) -> Ended:
        """The next task that ends."""
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        number = self._running.pop(ready)
        try:
            return Ended(number, *self._ray.get(ready))
        except self._ray.exceptions.RayTaskError as error:  # before ours had begun: comarl is not there, or another
            return Ended(number, f"its process could not begin: {one_line(error.cause or error)}")
        except self._ray.exceptions.RayError as error:
            return Ended(number, f"its process was lost ({type(error).__name__})", lost=True)


def train_one(config: RunConfig, cwd: str, path: list[str]) -> tuple[str, bool]:
    """Train, in a process of Ray's, from where an earlier attempt has come to.

    Returns:
        Why it failed, or nothing; and whether it was only told to stop, so that it is worth another attempt.

    Args:
        config: what is run.
        cwd: the folder that relative paths begin at, where there is such a folder.
        path: where modules of the user's own are looked for.
    """
    with contextlib.suppress(OSError):
        os.chdir(cwd)
    sys.path[:] = list(dict.fromkeys([*sys.path, *path]))
    from comarl.experiments import runner

    try:
        runner.train(config)
    except Stopped as stopped:
        return f"it was stopped {stopped}", stopped.status != TIME_IS_UP
    except ComarlError as error:
        return " ".join(str(error).split()), False
    except Exception as error:  # whatever it is, the other tasks go on
        return one_line(error), False
    return "", False


def _require_room(ray: Any, cpus: float, gpus: float) -> None:
    """Refuse what Ray would wait for without end."""
    there = ray.cluster_resources()
    for option, name, wanted in (("cpus", "CPU", cpus), ("gpus", "GPU", gpus)):
        if wanted > there.get(name, 0):
            raise ComarlError(f"--{option} {wanted:g}: there are {there.get(name, 0):g} {name}s for all tasks together")
