"""Measures JaxMARL's baselines: ``python on_jaxmarl.py METHOD``, started by ``run.py``.

The baselines are no part of the registry's package: ``COMARL_JAXMARL`` names a checkout of the repository. A training
is one compiled function there, so an iteration is the difference of a longer and a shorter one.
"""

import functools
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
    CLIP,
    EMBED,
    GAE_LAMBDA,
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
COMMON: dict[str, Any] = {
    "NUM_ENVS": NUM_ENVS,
    "NUM_STEPS": STEPS,
    "GAMMA": GAMMA,
    "LR": LR,
    "WANDB_MODE": "disabled",
}
REPLAYING: dict[str, Any] = {
    "BUFFER_SIZE": BUFFER,
    "BUFFER_BATCH_SIZE": BATCH,
    "HIDDEN_SIZE": HIDDEN,
    "MIXER_EMBEDDING_DIM": EMBED,
    "MIXER_HYPERNET_HIDDEN_DIM": HYPER_HIDDEN,
    "TARGET_UPDATE_INTERVAL": TARGET_INTERVAL,
    "LEARNING_STARTS": 0,
    "TEST_DURING_TRAINING": False,
}
ON_POLICY: dict[str, Any] = {
    "FC_DIM_SIZE": HIDDEN,
    "GRU_HIDDEN_DIM": HIDDEN,
    "NUM_MINIBATCHES": 1,
    "GAE_LAMBDA": GAE_LAMBDA,
    "CLIP_EPS": CLIP,
}


def main(method: str) -> None:
    """Compile four trainings: shorter and longer, with one update in an iteration and with several."""
    driver = Driver()
    sys.path.insert(0, str(CHECKOUT))
    make = make_mappo if method == "mappo" else functools.partial(make_replaying, method)
    key = jax.random.PRNGKey(0)
    programs = {}
    for updates in (1, MANY):
        for iterations in (SHORT, LONG):
            programs[updates, iterations] = jax.jit(make(updates, iterations)).lower(key).compile()

    def seconds(updates: int, iterations: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(programs[updates, iterations](key))
        return time.perf_counter() - start

    seconds(1, SHORT)
    driver.ready(jaxmarl=importlib.import_module("jaxmarl").__version__, jax=jax.__version__)
    for _ in driver.requests():
        driver.answer(*((seconds(u, LONG) - seconds(u, SHORT)) / (LONG - SHORT) for u in (1, MANY)))


def make_replaying(method: str, updates: int, iterations: int) -> Any:
    """A training of IQL, VDN or QMIX."""
    rule = importlib.import_module(f"baselines.QLearning.{method}_rnn")
    given = read("QLearning/config/config.yaml") | read("QLearning/config/alg/ql_rnn_mpe.yaml")
    config = given | COMMON | REPLAYING | {"NUM_EPOCHS": updates, "TOTAL_TIMESTEPS": iterations * NUM_ENVS * STEPS}
    env, _ = rule.env_from_config(dict(config))
    return rule.make_train(config, env)


def make_mappo(updates: int, iterations: int) -> Any:
    """A training of MAPPO, which reports every iteration to wandb: to one that is switched off."""
    import wandb

    wandb.init(mode="disabled")
    rule = importlib.import_module("baselines.MAPPO.mappo_rnn_mpe")
    own = {"UPDATE_EPOCHS": updates, "TOTAL_TIMESTEPS": iterations * NUM_ENVS * STEPS}
    return rule.make_train(read("MAPPO/config/mappo_homogenous_rnn_mpe.yaml") | COMMON | ON_POLICY | own)


def read(name: str) -> Any:
    """The settings that the checkout has in a file."""
    return OmegaConf.to_container(OmegaConf.load(CHECKOUT / "baselines" / name))


if __name__ == "__main__":
    main(sys.argv[1])
