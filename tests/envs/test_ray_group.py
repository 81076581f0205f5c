"""Workers as Ray's actors: by a stand-in for Ray here, and by a real one in ``make test-faults``."""

import copy
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comarl.envs import processes, ray_group
from comarl.envs.processes import Processes, PythonEnvs
from comarl.envs.registry import make_python
from comarl.errors import ComarlError
from comarl.types import TimeStep
from tests.envs.python_envs import Diary
from tests.envs.test_processes import require_consistent

HERE = "tests.envs.python_envs"
B = 4


class RayError(Exception):
    """Whatever Ray raises."""


class GetTimeoutError(RayError):
    """An answer took too long."""


class ActorDiedError(RayError):
    """An actor is gone."""


class RayTaskError(RayError):
    """An actor has raised an error."""


class Handle:
    """An actor here: what it is asked it does when the answer is wanted; arguments and answers are copies."""

    def __init__(self, made: Any):
        self.made, self.dead, self.hangs = made, False, False

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any) -> Callable[[], Any]:
            sent = copy.deepcopy(arguments)
            return lambda: self._do(name, sent)

        return types.SimpleNamespace(remote=ask)

    def _do(self, name: str, sent: Any) -> Any:
        if self.dead:
            raise ActorDiedError
        if self.hangs:
            raise GetTimeoutError
        return copy.deepcopy(getattr(self.made, name)(*sent))


class StandIn:
    """As much of Ray as is needed."""

    exceptions = types.SimpleNamespace(RayError=RayError, GetTimeoutError=GetTimeoutError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.actors: list[Handle] = []
        self.killed = 0

    def is_initialized(self) -> bool:
        return True

    def remote(self, **options: Any) -> Any:
        assert options["max_restarts"] == 0

        def make(*arguments: Any, kind: Any) -> Handle:
            self.actors.append(Handle(kind(*copy.deepcopy(arguments))))
            return self.actors[-1]

        return lambda kind: types.SimpleNamespace(remote=lambda *arguments: make(*arguments, kind=kind))

    def get(self, answer: Callable[[], Any], timeout: float) -> Any:
        assert timeout > 0
        return answer()

    def kill(self, actor: Handle) -> None:
        actor.dead = True
        self.killed += 1


@pytest.fixture(name="ray")
def _ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(ray_group, "connect", lambda address: stand_in)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return stand_in


def begin(function: str, workers: int, actors: str | None) -> Processes:
    name = f"{HERE}:{function}"
    make = Diary if workers else lambda: make_python(name)  # this process's own one need not be faulty
    return PythonEnvs(name, make, workers, actors).start(B)


def words(t: int) -> np.ndarray:
    return np.array([[t * 7 + i, 1000 + i] for i in range(B)], np.uint32)


def play(env: Processes, steps: int) -> list[TimeStep]:
    seen = [env.reset(words(0))]
    for t in range(1, steps):
        seen.append(env.step(np.full((B, Diary.AGENTS), 1 + t % 2, np.int32), words(t)))
    return seen


def alike(some: list[TimeStep], others: list[TimeStep]) -> bool:
    return all(np.array_equal(x, y) for a, b in zip(some, others, strict=True) for x, y in zip(a, b, strict=True))


def test_actors_give_what_this_process_gives(ray: StandIn) -> None:
    here, there = begin("Diary", 0, None), begin("Diary", 3, "auto")
    assert [len(actor.made._rows) for actor in ray.actors] == [2, 1, 1]
    assert alike(play(here, 20), play(there, 20))
    np.testing.assert_array_equal(here.outcome()["steps"], there.outcome()["steps"])
    action, some = np.ones((B, Diary.AGENTS), np.int32), np.array([True, False, True, False])
    assert alike([here.step(action, words(20), some)], [there.step(action, words(20), some)])
    snapshot = here.snapshot()
    there.restore(snapshot)
    assert alike([here.step(action, words(21))], [there.step(action, words(21))])
    there._repeatable = False
    there.restore(snapshot)
    assert there.step(action, words(22)).first.all()
    there.close()
    assert ray.killed == 3


def test_an_environment_that_raises_is_made_anew_there(ray: StandIn) -> None:
    here, there = begin("raising", 0, None), begin("raising", 2, "auto")
    seen = play(there, 40)
    assert alike(play(here, 40), seen)
    assert require_consistent(seen, there.dropped) >= 3
    assert len(ray.actors) == 2


@pytest.mark.parametrize("fault", ["dead", "hangs"])
def test_an_actor_that_is_lost_or_hangs_is_replaced(fault: str, ray: StandIn) -> None:
    env = begin("Diary", 2, "auto")
    env.reset(words(0))
    setattr(ray.actors[0], fault, True)
    ts = env.step(np.ones((B, Diary.AGENTS), np.int32), words(1))
    np.testing.assert_array_equal(ts.first, [True, True, False, False])
    assert (env.dropped, len(ray.actors)) == (2, 3)
    env.close()


def test_why_it_cannot_go_on(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_FAILURES", 1)
    with pytest.raises(ComarlError, match=r"cannot be made: .*the game is not installed"):
        begin("unmakeable", 2, "auto")
    with pytest.raises(ComarlError, match=r"failed 2 times .*RuntimeError: the door is stuck"):
        play(begin("always_raising", 2, "auto"), 100)
    assert all(actor.dead for actor in ray.actors)


REAL = """
import os, signal, sys
import numpy as np
from comarl.envs.registry import make_env
from tests.envs.test_ray_group import REAL_STEPS, play, words

env = make_env("tests.envs.python_envs:Diary", 2, "local").start(4)
seen = play(env, REAL_STEPS)
np.savez(sys.argv[1], *(x for ts in seen for x in ts))
pids = [int(group._ray.get(group._actor.__ray_call__.remote(lambda self: os.getpid()))) for group in env._groups]
os.kill(pids[0], signal.SIGKILL)
ts = env.step(np.ones((4, 2), np.int32), words(REAL_STEPS))
print(ts.first.tolist(), env.dropped, len(set(pids)))
env.close()
"""
REAL_STEPS = 12

NODES = """
import json
import sys
import time
import numpy as np
import ray
from ray.cluster_utils import Cluster
from comarl.envs.registry import make_env
from tests.envs.test_ray_group import REAL_STEPS, play, words

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
env = make_env("tests.envs.python_envs:Diary", 2, cluster.address).start(4)
ts = play(env, REAL_STEPS)[-1]


def homes():
    ask = lambda self: __import__("ray").get_runtime_context().get_node_id()
    return [group._ray.get(group._actor.__ray_call__.remote(ask)) for group in env._groups]


def moved():  # a machine's processes go after it, within moments, in which a new actor may be put there still
    try:
        return actors != [group._actor for group in env._groups] and other.node_id not in homes()
    except ray.exceptions.RayError:
        return False


before, actors = homes(), [group._actor for group in env._groups]
cluster.remove_node(other, allow_graceful=False)
t, begun = REAL_STEPS, 0
while not moved():
    time.sleep(0.1)
    over, ts = ts.last, env.step(np.ones((4, 2), np.int32), words(t))
    begun = begun + (ts.first & ~over)
    t += 1
lost = [home == other.node_id for home in before]
with open(sys.argv[1], "w") as file:
    json.dump([lost, begun.tolist(), env.dropped], file)
env.close()
ray.shutdown()
cluster.shutdown()
"""


def last_words(script: str, *arguments: str) -> str:
    """The last line that a script prints, if any."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] if done.stdout else ""  # Ray may have told of the loss before


@pytest.mark.faults
def test_a_real_ray_and_an_actor_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "seen.npz"
    before = set(os.listdir("/dev/shm"))
    words = last_words(REAL, str(file))
    last = play(begin("Diary", 0, None), REAL_STEPS)
    with np.load(file) as saved:
        there = [saved[name] for name in saved.files]
    assert all(np.array_equal(x, y) for x, y in zip(there, (x for ts in last for x in ts), strict=True))
    first, dropped, actors = words.rsplit(" ", 2)
    assert (first[:13], int(actors)) == ("[True, True, ", 2)
    assert int(dropped) == int((~last[-1].last[:2]).sum())
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.faults
def test_a_machine_that_is_lost_loses_its_actors_alone(tmp_path: Path) -> None:
    """Two nodes with an actor each, of which one is killed: its environments begin anew on the other."""
    said = tmp_path / "said.json"
    last_words(NODES, str(said))
    lost, begun, dropped = json.loads(said.read_text())
    assert sorted(lost) == [False, True]
    assert dropped == sum(begun)
    assert not any(begun[2:] if lost[0] else begun[:2])
    assert any(begun)
