"""Sweeps: what is planned, what is run again and what is not, and what becomes of tasks that fail."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import claim_folder, write_json
from comarl.experiments.sweep import Ended, Result, Settings, Task, plan, read_setting, sweep


class Place:
    """Runs tasks, the latest first, as if they were trained: a script says which attempts fail.

    Args:
        script: of each task's name, what comes of its first attempts; later ones succeed.
        blind: whether it writes where nobody sees it.
    """

    def __init__(self, script: dict[str, list[Ended]] | None = None, *, blind: bool = False):
        self.script, self.blind = script or {}, blind
        self.begun: Counter[str] = Counter()
        self.waiting: list[tuple[int, RunConfig]] = []
        self.started = self.closed = 0

    @contextlib.contextmanager
    def start(self) -> Iterator["Place"]:
        self.started += 1
        yield self
        self.closed += 1

    def submit(self, number: int, config: RunConfig) -> None:
        self.waiting.append((number, config))

    def wait(self) -> Ended:
        number, config = self.waiting.pop()
        name = f"{config.method} {config.seed}"
        self.begun[name] += 1
        attempts = self.script.get(name, [])
        if self.begun[name] <= len(attempts):
            claim_folder(config)  # it breaks off after that
            return attempts[self.begun[name] - 1]._replace(number=number)
        if not self.blind:
            write_json(claim_folder(config) / "summary.json", {"score": "return", "return": {"mean": config.seed / 2}})
        return Ended(number)


LOST, WRONG = Ended(0, "its process was lost (WorkerCrashedError)", lost=True), Ended(0, "the loss is not finite")


def planned(folder: Path, *methods: str, settings: Settings | None = None, seeds: int = 2) -> list[Task]:
    return plan(methods, ("switch/2",), settings or {}, range(seeds), folder)


def run(tasks: list[Task], place: Place, retries: int = 2) -> list[Result]:
    return sweep(tasks, place.start, retries=retries, said=lambda result, count: None)


def test_a_plan_is_every_combination_once(tmp_path: Path) -> None:
    settings = dict(map(read_setting, ("lr=1e-3,5e-4", "cell=gru,mlp", "steps=20000")))
    tasks = plan(("vdn", "qmix"), ("switch/2", "switch/4"), settings, range(4, 7), tmp_path)
    told = {(t.config.method, t.config.env, t.config.learner.lr, t.config.agent.cell, t.config.seed) for t in tasks}
    wanted = itertools.product(("vdn", "qmix"), ("switch/2", "switch/4"), (1e-3, 5e-4), ("gru", "mlp"), (4, 5, 6))
    assert told == set(wanted)
    assert len(tasks) == len({t.config.folder for t in tasks}) == 48
    assert {(t.config.seeds, t.config.steps) for t in tasks} == {(1, 20000)}
    assert tasks[0].name == "vdn on switch/2, lr=0.001, cell=gru, seed 4"
    assert tasks[0].config.folder == tmp_path / "vdn-switch-2-lr=0.001-cell=gru-steps=20000" / "seed-4"


def test_presets_and_a_methods_own_learner_hold(tmp_path: Path) -> None:
    vdn, mappo = (task.config for task in planned(tmp_path, "qmix", "mappo", seeds=1))
    assert vdn.learner.learner == "replay"
    assert mappo.learner.learner == "ppo"
    assert vdn.length != RunConfig().length  # of the preset


@pytest.mark.parametrize(
    ("methods", "settings", "text"),
    [
        (("vdn", "qmxi"), {}, "unknown method 'qmxi': did you mean 'qmix'"),
        (("vdn",), {"lrr": (1.0,)}, "unknown setting 'lrr'"),
        (("vdn",), {"lr": (1e-3, "fast")}, "lr='fast': expected float"),
        (("vdn",), {"lr": (1e-3, -1.0)}, "lr=-1.0: must be positive"),
        (("vdn", "coma"), {"learner": ("pqn",)}, "'coma' does not learn with pqn"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(
    methods: tuple[str, ...], settings: Settings, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ComarlError, match=text):
        planned(tmp_path, *methods, settings=settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["lr", "lr=", "=3", "seed=1,2", "run=here", "method=vdn"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(ComarlError, match=f"--set {text}: "):
        read_setting(text)


def test_a_value_is_run_once() -> None:
    assert read_setting("lr=1e-3,0.001,.5") == ("lr", (0.001, ".5"))  # JSON has no .5: it is refused later
    assert read_setting("layer-norm=true") == ("layer_norm", (True,))


def test_results_come_in_the_tasks_order_and_are_not_run_again(tmp_path: Path) -> None:
    tasks, place = planned(tmp_path, "vdn", "qmix"), Place()
    first = run(tasks, place)
    assert [(r.task, r.attempts, r.summary) for r in first] == [
        (task, 1, {"score": "return", "return": {"mean": task.config.seed / 2}}) for task in tasks
    ]
    again = Place()
    assert [(r.summary, r.attempts) for r in run(tasks, again)] == [(r.summary, 0) for r in first]
    assert again.started == 0
    more = Place()
    assert [r.attempts for r in run(planned(tmp_path, "vdn", "iql", seeds=3), more)] == [0, 0, 1, 1, 1, 1]
    assert place.closed == more.closed == 1


def test_what_was_broken_off_is_run_again(tmp_path: Path) -> None:
    tasks = planned(tmp_path, "vdn")
    assert all(task.config.resume for task in tasks)  # else what is there is refused
    claim_folder(tasks[0].config)
    place = Place()
    assert [r.attempts for r in run(tasks, place)] == [1, 1]
    assert place.begun == {"vdn 0": 1, "vdn 1": 1}


def test_lost_tasks_are_tried_again_failed_ones_are_not_and_the_others_go_on(tmp_path: Path) -> None:
    tasks = planned(tmp_path, "vdn", "qmix", "iql")
    place = Place({"vdn 0": [LOST, LOST], "qmix 1": [LOST] * 9, "iql 0": [WRONG], "iql 1": [LOST, WRONG]})
    told = {f"{r.task.config.method} {r.task.config.seed}": (r.attempts, r.reason) for r in run(tasks, place)}
    assert told == {
        "vdn 0": (3, ""), "vdn 1": (1, ""), "qmix 0": (1, ""), "qmix 1": (3, LOST.reason),
        "iql 0": (1, WRONG.reason), "iql 1": (2, WRONG.reason),
    }  # fmt: skip
    assert place.begun == {name: attempts for name, (attempts, _) in told.items()}
    # The same command once more: only what failed is run.
    again = Place()
    assert all(r.summary for r in run(tasks, again))
    assert set(again.begun) == {"qmix 1", "iql 0", "iql 1"}


def test_a_folder_that_the_other_machine_has_alone(tmp_path: Path) -> None:
    (result,) = run(planned(tmp_path, "vdn", seeds=1), Place(blind=True))
    assert result.summary is None
    assert "name a --folder that all share" in result.reason


def test_another_run_in_the_folder_is_not_replaced(tmp_path: Path) -> None:
    (task,) = planned(tmp_path, "vdn", seeds=1)
    settings: dict[str, Any] = {"lr": (0.5,)}
    (other,) = plan(("vdn",), ("switch/2",), settings, range(1), tmp_path)
    moved = Task(other.config.__class__(**{**vars(other.config), "run": task.config.run}), {})
    place = Place()
    run([task], place)
    with pytest.raises(ComarlError, match=r"holds another run: name another --folder, or remove it \(lr .* there and"):
        run([moved], place)
    assert place.started == 1
