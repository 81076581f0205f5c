"""What every library is asked to do, and how it talks to ``run.py``.

Imported by each runner in its library's own environment, so it needs nothing but Python.
"""

import json
import os
import resource
import sys
from collections.abc import Iterator

METHODS = ("qmix", "vdn", "iql", "mappo")
NUM_ENVS = 8
STEPS = 26
"""Steps of an episode, of a collection and of a sequence."""
FRAMES = NUM_ENVS * STEPS
"""Environment steps of an iteration."""
BATCH = 32
"""Sequences of a batch."""
HIDDEN = 64
"""Width of the agents' encoder and GRU, which the agents share."""
EMBED, HYPER_HIDDEN = 32, 128
"""Width of the mixer, and the hidden width of its hypernetworks."""
GAMMA, LR = 0.9, 5e-3
GAE_LAMBDA, CLIP = 0.95, 0.2
BUFFER = 5000
"""Sequences that are kept."""
TARGET_INTERVAL = 200
MANY = 5
"""Updates of an iteration that learns more often, to tell learning from the rest (MAPPO: epochs, of one minibatch)."""


class Driver:
    """The process that asks for measurements, one line each, and reads an answer for each.

    Whatever a library prints goes to standard error.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def ready(self, **versions: str) -> None:
        """Says that all is compiled and warm, and which versions will be measured."""
        self._say({"versions": versions})

    def requests(self) -> Iterator[None]:
        """One item for each measurement that is asked for."""
        for _ in sys.stdin:
            yield

    def answer(self, one: float, many: float) -> None:
        """Seconds of an iteration with one update, and of one with :data:`MANY`."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        self._say({"iteration": one, "update": (many - one) / (MANY - 1), "memory": peak})

    def _say(self, what: object) -> None:
        print(json.dumps(what), file=self._answers, flush=True)
