"""Measures this library: ``python on_comarl.py METHOD``, started by ``run.py``; each core is a CPU device."""

import os
import sys
import time
from typing import Any

import jax
import settings

import comarl
from comarl.experiments.backend import devices, prepare
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import RunConfig, with_settings
from comarl.training.seeds import Seeds

ITERATIONS = 200
SETTINGS: dict[str, Any] = {
    "num_envs": settings.NUM_ENVS,
    "length": settings.STEPS,
    "batch_size": settings.BATCH,
    "hidden": settings.HIDDEN,
    "embed": settings.EMBED,
    "hyper_hidden": settings.HYPER_HIDDEN,
    "gamma": settings.GAMMA,
    "lr": settings.LR,
    "buffer_steps": settings.BUFFER * settings.STEPS,
    "target_interval": settings.TARGET_INTERVAL,
    "last_action": False,
    "td_lambda": 0.0,
    "stored_state": False,
    "optimiser": "radam",
    "grad_clip": 25.0,
    "team_reward": "sum",
    "learning_starts": 0,
    # A chunk is so many iterations and ends with an evaluation, here of one episode, which counts.
    "steps": ITERATIONS * settings.FRAMES,
    "eval_every": ITERATIONS * settings.FRAMES,
    "eval_episodes": 1,
}
ON_POLICY = {
    "learner": "ppo",
    "optimiser": "adam",
    "minibatches": 1,
    "td_lambda": settings.GAE_LAMBDA,
    "clip": settings.CLIP,
}


def main(method: str) -> None:
    """Compile a chunk with one update in an iteration and one with several; time them when asked."""
    prepare()
    cores = devices(os.cpu_count() or 1)
    driver = settings.Driver()
    own = SETTINGS | (ON_POLICY if method == "mappo" else {})
    programs: list[Seeds] = []
    for updates in (1, settings.MANY):
        often = {"updates": updates, "epochs": updates}  # from replay, on-policy
        config = with_settings(RunConfig(method=method, env="mpe/simple_spread"), own | often)
        on_device = build_driver(config, build_env(config))
        programs.append(Seeds(on_device, [0], devices=cores))
        another(programs[-1])
    driver.ready(comarl=comarl.__version__, jax=jax.__version__)
    for _ in driver.requests():
        seconds = []
        for program in programs:
            start = time.perf_counter()
            another(program)
            seconds.append((time.perf_counter() - start) / ITERATIONS)
        driver.answer(*seconds)


def another(program: Seeds) -> None:
    """One chunk more, whose logs tell when it is finished."""
    list(program.run(program.done[0] + 1))


if __name__ == "__main__":
    main(sys.argv[1])
