"""Seeds on several devices compute what they compute on one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from comarl.training.seeds import Seeds
from comarl.training.sharding import _devices  # pyright: ignore[reportPrivateUsage]
from tests.probes import Lottery, standard_driver

SEEDS = [3, 4, 5, 6]

SCRIPT = """
import sys
import jax
import numpy as np
from comarl.training.seeds import Seeds
from tests.probes import Lottery, standard_driver

seeds = [int(word) for word in sys.argv[2:]]
programs = Seeds(standard_driver(Lottery()), seeds)
logs = [log for _, _, log in programs.run(2)]
state = programs._states[0]
leaves = jax.tree.leaves(state.learner)
assert all(len(leaf.sharding.device_set) == 4 for leaf in leaves)
assert {shard.data.shape[0] for leaf in leaves for shard in leaf.addressable_shards} == {1}
program = programs._chunk.as_text()
assert not any(word in program for word in ("all-reduce(", "all-gather(", "collective-permute(", "all-to-all("))
whole = [programs.state(seed) for seed in seeds]
np.savez(sys.argv[1], *(np.asarray(x) for x in jax.tree.leaves((whole, logs))))
print(jax.local_device_count())
"""


@pytest.fixture(name="on_one", scope="module")
def _on_one() -> list[np.ndarray]:
    programs = Seeds(standard_driver(Lottery()), SEEDS)
    logs = {(chunk, seed): log for seed, chunk, log in programs.run(2)}
    whole = [programs.state(seed) for seed in SEEDS]
    return [np.asarray(x) for x in jax.tree.leaves((whole, [logs[at] for at in sorted(logs)]))]


def test_on_eight_devices_as_on_one(on_one: list[np.ndarray], tmp_path: Path) -> None:
    """Four seeds among eight devices: four of them have one each, and none waits for another."""
    file = tmp_path / "leaves.npz"
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-c", SCRIPT, str(file), *map(str, SEEDS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8\n"
    with np.load(file) as saved:
        leaves = [saved[name] for name in saved.files]
    assert len(leaves) == len(on_one)
    for sharded, alone in zip(leaves, on_one, strict=True):
        np.testing.assert_allclose(sharded, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("seeds", "devices", "used"), [(8, 8, 8), (6, 8, 6), (6, 4, 3), (5, 4, 1), (3, 1, 1)])
def test_every_device_has_as_many_seeds(seeds: int, devices: int, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(devices)))
    assert _devices(seeds) == list(range(used))
