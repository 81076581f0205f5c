"""Many runs: seeds × methods × environments × settings, wherever there is room for them. Without JAX."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from comarl.errors import ComarlError
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig, to_json
from comarl.experiments.folder import is_finished, load_config, read_json
from comarl.experiments.methods import require_learner, require_method, require_team_reward
from comarl.experiments.presets import resolve

OWN = ("method", "env", "seeds", "seed", "run", "overwrite", "resume")
"""Settings that a sweep sets itself."""

Settings = Mapping[str, tuple[Any, ...]]
"""The values that each setting takes in turn, by its name."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A run of one seed.

    Attributes:
        config: what is run, and where it writes.
        settings: what it has of the settings that the sweep names.
        varied: which of them have other values in other tasks.
    """

    config: RunConfig
    settings: dict[str, Any]
    varied: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it.

        >>> Task(RunConfig("vdn", "switch/2", seed=3), {"lr": 1e-3, "hidden": 64}, ("lr",)).name
        'vdn on switch/2, lr=0.001, seed 3'
        """
        own = _words({name: self.settings[name] for name in self.varied})
        return ", ".join([f"{self.config.method} on {self.config.env}", *own, f"seed {self.config.seed}"])


class Ended(NamedTuple):
    """That a task has come to an end.

    Attributes:
        number: which.
        reason: why it failed; empty if it did not.
        lost: whether the process that ran it was lost, so that it is worth another attempt.
    """

    number: int
    reason: str = ""
    lost: bool = False


@runtime_checkable
class Backend(Protocol):
    """Where tasks are run."""

    def submit(self, number: int, config: RunConfig) -> None:
        """Train as :func:`comarl.experiments.runner.train` does, when there is room."""
        ...

    def wait(self) -> Ended:
        """The next task that ends, of those submitted."""
        ...


Start = Callable[[], contextlib.AbstractContextManager[Backend]]


@dataclasses.dataclass(frozen=True)
class Result:
    """What has become of a task.

    Attributes:
        task: which.
        summary: what its ``summary.json`` says; None if it failed.
        attempts: how often it was begun; 0 if it had been finished before.
        reason: why it failed.
    """

    task: Task
    summary: dict[str, Any] | None
    attempts: int
    reason: str = ""


def plan(methods: Sequence[str], envs: Sequence[str], settings: Settings, seeds: range, folder: Path) -> list[Task]:
    """The tasks of a sweep: seeds vary fastest, then settings, environments and methods.

    Raises:
        ComarlError: if any of them could not be run.
    """
    combinations = [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    varied = tuple(name for name, values in settings.items() if len(values) > 1)
    return [
        Task(_config(method, env, chosen, seed, folder), chosen, varied)
        for method, env, chosen, seed in itertools.product(methods, envs, combinations, seeds)
    ]


def read_setting(text: str) -> tuple[str, tuple[Any, ...]]:
    """A setting and the values it takes, of ``NAME=VALUE,VALUE...``.

    >>> read_setting("lr=1e-3,0.0005"), read_setting("cell=gru,mlp"), read_setting("layer-norm=true,false")
    (('lr', (0.001, 0.0005)), ('cell', ('gru', 'mlp')), ('layer_norm', (True, False)))

    Raises:
        ComarlError: if it has another form, or the sweep sets it itself.
    """
    name, _, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not name or not values:
        raise ComarlError(f"--set {text}: write NAME=VALUE, or NAME=VALUE,VALUE for several, such as lr=1e-3,5e-4")
    if name in OWN:
        raise ComarlError(f"--set {text}: a sweep sets '{name}' itself ('comarl sweep --help' shows how)")
    return name, tuple(dict.fromkeys(_value(word.strip()) for word in values.split(",")))


def sweep(tasks: Sequence[Task], start: Start, *, retries: int, said: Callable[[Result, int], None]) -> list[Result]:
    """Run what is not finished yet; a task that fails does not keep the others.

    Args:
        tasks: what is to be run.
        start: gives a place to run them, if anything is to be run.
        retries: how often a task whose process was lost is begun again.
        said: is told of each result as it comes, and how many there are by then.

    Returns:
        A result for each task, in their order.

    Raises:
        ComarlError: if a run folder holds another run, or there is no place to run tasks.
    """
    results = {i: Result(task, summary, 0) for i, task in enumerate(tasks) if (summary := finished(task))}
    for count, i in enumerate(results, 1):
        said(results[i], count)
    missing = {i: task for i, task in enumerate(tasks) if i not in results}
    if missing:
        with start() as backend:
            for i, result in _run(missing, backend, retries):
                results[i] = result
                said(result, len(results))
    return [results[i] for i in range(len(tasks))]


def finished(task: Task) -> dict[str, Any] | None:
    """The summary of a task that has been run to its end; None if it has not.

    Raises:
        ComarlError: if its folder holds the run of another configuration.
    """
    folder = task.config.folder
    if not (folder / "config.json").is_file():
        return None
    there, here = to_json(load_config(folder)), to_json(task.config)
    if there != here:
        raise ComarlError(
            f"{folder} holds another run: name another --folder, or remove it ({_differences(there, here)})"
        )
    return read_json(folder / "summary.json") if is_finished(folder) else None


def _run(missing: dict[int, Task], backend: Backend, retries: int) -> Iterator[tuple[int, Result]]:
    attempts = dict.fromkeys(missing, 1)
    for i, task in missing.items():
        backend.submit(i, task.config)
    for _ in range(len(missing)):
        ended = backend.wait()
        while ended.lost and attempts[ended.number] <= retries:
            attempts[ended.number] += 1
            backend.submit(ended.number, missing[ended.number].config)
            ended = backend.wait()
        i, task = ended.number, missing[ended.number]
        summary = None if ended.reason else finished(task)
        unseen = f"its machine wrote {task.config.folder} where this one cannot see it: name a --folder that all share"
        yield i, Result(task, summary, attempts[i], "" if summary else ended.reason or unseen)


def _config(method: str, env: str, chosen: dict[str, Any], seed: int, folder: Path) -> RunConfig:
    """The configuration of a task, if it can be run at all."""
    require_method(method)
    run = folder / "-".join([method, env.replace("/", "-").replace(":", "-"), *_words(chosen)]) / f"seed-{seed}"
    own = {"seeds": 1, "seed": seed, "run": run, "resume": True}
    config = resolve(method, env, chosen | own)
    require_team_reward(method, config.learner.team_reward)
    require_learner(method, config.learner.learner)
    check(config)
    return config


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    flat = lambda data: {  # noqa: E731
        name: value
        for key, inner in data.items()
        for name, value in (inner.items() if isinstance(inner, dict) else [(key, inner)])
    }
    old, new = flat(there), flat(here)
    return ", ".join(f"{name} {old.get(name)} there and {new[name]} here" for name in new if old.get(name) != new[name])
