"""Measures JaxMARL's baselines: ``python on_jaxmarl.py METHOD``, started by ``run.py``.

The baselines are no part of the registry's package: ``COMARL_JAXMARL`` names a checkout of the repository. A training
is one compiled function there, so an iteration is the difference of a longer and a shorter one.
"""

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
from omegaconf import OmegaConf
from settings import (
    BATCH,
    BUFFER,
    EMBED,
    GAMMA,
    HIDDEN,
    HYPER_HIDDEN,
    LR,
    MANY,
    NUM_ENVS,
    STEPS,
    TARGET_INTERVAL,
    Driver,
)

CHECKOUT = Path(os.environ["COMARL_JAXMARL"])
SHORT, LONG = 50, 200
"""Iterations; the first 31 only fill the buffer."""
SETTINGS: dict[str, Any] = {
    "NUM_ENVS": NUM_ENVS,
    "NUM_STEPS": STEPS,
    "BUFFER_SIZE": BUFFER,
    "BUFFER_BATCH_SIZE": BATCH,
    "HIDDEN_SIZE": HIDDEN,
    "MIXER_EMBEDDING_DIM": EMBED,
    "MIXER_HYPERNET_HIDDEN_DIM": HYPER_HIDDEN,
    "GAMMA": GAMMA,
    "LR": LR,
    "TARGET_UPDATE_INTERVAL": TARGET_INTERVAL,
    "LEARNING_STARTS": 0,
    "TEST_DURING_TRAINING": False,
    "WANDB_MODE": "disabled",
}


def main(method: str) -> None:
    """Compile four trainings: shorter and longer, with one update in an iteration and with several."""
    driver = Driver()
    sys.path.insert(0, str(CHECKOUT))
    rule = importlib.import_module(f"baselines.QLearning.{method}_rnn")
    folder = CHECKOUT / "baselines" / "QLearning" / "config"
    loaded = OmegaConf.merge(OmegaConf.load(folder / "config.yaml"), OmegaConf.load(folder / "alg" / "ql_rnn_mpe.yaml"))
    config: Any = OmegaConf.to_container(loaded)
    key = jax.random.PRNGKey(0)
    programs = {}
    for updates in (1, MANY):
        for iterations in (SHORT, LONG):
            own = {"NUM_EPOCHS": updates, "TOTAL_TIMESTEPS": iterations * NUM_ENVS * STEPS}
            config = config | SETTINGS | own
            env, _ = rule.env_from_config(dict(config))
            programs[updates, iterations] = jax.jit(rule.make_train(config, env)).lower(key).compile()

    def seconds(updates: int, iterations: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(programs[updates, iterations](key))
        return time.perf_counter() - start

    seconds(1, SHORT)
    driver.ready(jaxmarl=importlib.import_module("jaxmarl").__version__, jax=jax.__version__)
    for _ in driver.requests():
        driver.answer(*((seconds(u, LONG) - seconds(u, SHORT)) / (LONG - SHORT) for u in (1, MANY)))


if __name__ == "__main__":
    main(sys.argv[1])
