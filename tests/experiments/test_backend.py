"""JAX's settings, and the devices of a run."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from comarl.errors import ComarlError
from comarl.experiments import backend
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig
from comarl.experiments.presets import resolve

SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


@pytest.mark.parametrize(
    ("set_before", "then"),
    [
        ("", f"{SCHEDULER} --xla_backend_optimization_level=2"),
        ("--xla_backend_optimization_level=0", f"--xla_backend_optimization_level=0 {SCHEDULER}"),
        (f"--xla_other {SCHEDULER}", f"--xla_other {SCHEDULER} --xla_backend_optimization_level=2"),
    ],
)
def test_flags_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch, set_before: str, then: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", set_before)
    backend.prepare()
    assert backend.os.environ["XLA_FLAGS"] == then


def test_versions_that_were_not_tried_get_no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA would abort the process for one that it does not know."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(jax, "__version_info__", (99, 0, 0))
    backend.prepare()
    assert backend.os.environ["XLA_FLAGS"] == ""


def test_a_cpu_is_one_device_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run computes is determined by its settings, and not by XLA_FLAGS of the machine."""
    cpu = jax.local_devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda: [cpu] * 8)
    assert backend.devices() == [cpu]
    assert backend.devices(4) == [cpu] * 4


def test_who_asks_for_more_devices_than_jax_has_begun_with_is_told_what_to_do() -> None:
    jax.local_devices()
    with pytest.raises(
        ComarlError, match=r"cpu_devices=99: in this process JAX has begun with \d+ \(train in a process"
    ):
        backend.devices(99)


def test_accelerators_are_all_used_and_are_no_cpu_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [SimpleNamespace(platform="gpu")] * 3
    monkeypatch.setattr(jax, "local_devices", lambda: gpus)
    assert backend.devices() == gpus
    with pytest.raises(ComarlError, match=r"cpu_devices=2: JAX computes on gpu here \(leave it out"):
        backend.devices(2)


def test_the_environments_of_python_are_shared_out_among_workers_alone() -> None:
    config = resolve("qmix", "tests.envs.python_envs:Diary", {"cpu_devices": 2, "workers": 0})
    with pytest.raises(ComarlError, match=r"cpu_devices=2: .* shared out, among --workers \(leave it out\)"):
        build_driver(config, build_env(config))


IN_PARTS = """
import sys
from pathlib import Path
import jax
from comarl import resume, train
from comarl.experiments.reproduce import first_difference

few = dict(num_envs=4, length=8, batch_size=4, updates=1, learning_starts=32, eval_every=64, eval_episodes=2)
few |= dict(cell="mlp", hidden=8, lr_decay=1.0, cpu_devices=2)
whole, parts = (Path(sys.argv[1]) / name for name in ("whole", "parts"))
train("vdn", env="mpe/simple_spread", steps=192, run=whole, **few)
train("vdn", env="mpe/simple_spread", steps=128, run=parts, **few)
resume(parts, steps=192)
print(jax.local_device_count(), first_difference(whole, parts))
"""


def test_on_two_cpu_devices_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """In a process of its own, in which JAX has not begun."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", IN_PARTS, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 None\n"


def test_more_devices_than_there_is_work_for_are_refused() -> None:
    """JAX would try to make as many as a slip of the finger asks for."""
    check(RunConfig(seeds=2, num_envs=4, cpu_devices=8))
    with pytest.raises(ComarlError, match="cpu_devices=9: seeds=2 with num_envs=4 have work for 8 at most"):
        check(RunConfig(seeds=2, num_envs=4, cpu_devices=9))
