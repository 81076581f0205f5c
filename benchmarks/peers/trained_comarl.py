"""A whole training of ours on simple_spread: ``python trained_comarl.py METHOD SEED START``.

Started by ``time_to_return.py``. The method's preset, each core a CPU device. ``START`` is the machine's monotonic
clock at the start of the process. Prints the returns of the tests on the way and the seconds from the start to each.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from comarl.garbage import uncollected

with uncollected():  # as ``comarl train`` begins
    from comarl.experiments.backend import devices, prepare
    from comarl.experiments.build import build_driver, build_env
    from comarl.experiments.presets import resolve
    from comarl.training.awake import cores
    from comarl.training.ondevice import OnDevice
    from comarl.training.seeds import Seeds

SETTINGS: dict[str, Any] = {"cpu_devices": cores(), "eval_every": 24_960, "eval_episodes": 512}
"""Beside those of the preset."""


def main(method: str, seed: int, start: float) -> None:
    """Train and print JSON."""
    prepare()
    there = devices(SETTINGS["cpu_devices"])
    config = resolve(method, "mpe/simple_spread", SETTINGS)
    driver = build_driver(config, build_env(config))
    assert isinstance(driver, OnDevice)
    seeds = Seeds(driver, [seed], devices=there)
    tests = []
    for chunk in seeds.run(-(-config.steps // (driver.iterations * driver.steps_per_iteration))):
        tested = float(np.asarray(chunk.log.evaluation.returns).sum(-1).mean())
        steps = (chunk.number + 1) * driver.iterations * driver.steps_per_iteration
        tests.append({"steps": steps, "return": tested, "seconds": time.monotonic() - start})
    print(json.dumps({"compile": seeds.compile_seconds, "tests": tests}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
