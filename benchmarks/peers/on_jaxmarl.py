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
import settings
from omegaconf import OmegaConf

CHECKOUT = Path(os.environ["COMARL_JAXMARL"])
SHORT, LONG = 50, 200
"""Iterations; the first 31 only fill the buffer."""
COMMON: dict[str, Any] = {
    "NUM_ENVS": settings.NUM_ENVS,
    "NUM_STEPS": settings.STEPS,
    "GAMMA": settings.GAMMA,
    "LR": settings.LR,
    "WANDB_MODE": "disabled",
}
REPLAYING: dict[str, Any] = {
    "BUFFER_SIZE": settings.BUFFER,
    "BUFFER_BATCH_SIZE": settings.BATCH,
    "HIDDEN_SIZE": settings.HIDDEN,
    "MIXER_EMBEDDING_DIM": settings.EMBED,
    "MIXER_HYPERNET_HIDDEN_DIM": settings.HYPER_HIDDEN,
    "TARGET_UPDATE_INTERVAL": settings.TARGET_INTERVAL,
    "LEARNING_STARTS": 0,
    "TEST_DURING_TRAINING": False,
}
ON_POLICY: dict[str, Any] = {
    "FC_DIM_SIZE": settings.HIDDEN,
    "GRU_HIDDEN_DIM": settings.HIDDEN,
    "NUM_MINIBATCHES": 1,
    "GAE_LAMBDA": settings.GAE_LAMBDA,
    "CLIP_EPS": settings.CLIP,
}


def main(method: str) -> None:
    """Compile four trainings: shorter and longer, with one update in an iteration and with several."""
    driver = settings.Driver()
    sys.path.insert(0, str(CHECKOUT))
    make = make_mappo if method == "mappo" else functools.partial(make_replaying, method)
    key = jax.random.PRNGKey(0)
    programs = {}
    for updates in (1, settings.MANY):
        for iterations in (SHORT, LONG):
            programs[updates, iterations] = jax.jit(make(updates, iterations)).lower(key).compile()

    def seconds(updates: int, iterations: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(programs[updates, iterations](key))
        return time.perf_counter() - start

    seconds(1, SHORT)
    driver.ready(jaxmarl=importlib.import_module("jaxmarl").__version__, jax=jax.__version__)
    for _ in driver.requests():
        driver.answer(*((seconds(u, LONG) - seconds(u, SHORT)) / (LONG - SHORT) for u in (1, settings.MANY)))


def make_replaying(method: str, updates: int, iterations: int) -> Any:
    """A training of IQL, VDN or QMIX."""
    rule = importlib.import_module(f"baselines.QLearning.{method}_rnn")
    given = read("QLearning/config/config.yaml") | read("QLearning/config/alg/ql_rnn_mpe.yaml")
    config = given | COMMON | REPLAYING | {"NUM_EPOCHS": updates, "TOTAL_TIMESTEPS": iterations * settings.FRAMES}
    env, _ = rule.env_from_config(dict(config))
    return rule.make_train(config, env)


def make_mappo(updates: int, iterations: int) -> Any:
    """A training of MAPPO, which reports every iteration to wandb: to one that is switched off."""
    import wandb

    wandb.init(mode="disabled")
    rule = importlib.import_module("baselines.MAPPO.mappo_rnn_mpe")
    own = {"UPDATE_EPOCHS": updates, "TOTAL_TIMESTEPS": iterations * settings.FRAMES}
    return rule.make_train(read("MAPPO/config/mappo_homogenous_rnn_mpe.yaml") | COMMON | ON_POLICY | own)


def read(name: str) -> Any:
    """The settings that the checkout has in a file."""
    return OmegaConf.to_container(OmegaConf.load(CHECKOUT / "baselines" / name))


if __name__ == "__main__":
    main(sys.argv[1])
