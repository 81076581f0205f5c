"""Measures BenchMARL: ``python on_benchmarl.py METHOD``, started by ``run.py``."""

import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import settings
import torch
from benchmarl import algorithms
from benchmarl.environments import PettingZooTask
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models import GruConfig, MlpConfig, SequenceModelConfig

ITERATIONS = 20
SETTINGS = {
    "share_policy_params": True,
    "prefer_continuous_actions": False,
    "gamma": settings.GAMMA,
    "lr": settings.LR,
    "clip_grad_val": 25.0,
    "soft_target_update": False,
    "hard_target_update_frequency": settings.TARGET_INTERVAL,
    "max_n_iters": 10**9,
    "max_n_frames": None,
    "exploration_anneal_frames": 10**6,
    "off_policy_collected_frames_per_batch": settings.FRAMES,
    "off_policy_n_envs_per_worker": settings.NUM_ENVS,
    "off_policy_n_optimizer_steps": 1,
    # In frames; the buffer gives sequences, for the agents have memory.
    "off_policy_train_batch_size": settings.BATCH * settings.STEPS,
    "off_policy_memory_size": settings.BUFFER * settings.STEPS,
    "on_policy_collected_frames_per_batch": settings.FRAMES,
    "on_policy_n_envs_per_worker": settings.NUM_ENVS,
    "on_policy_n_minibatch_iters": 1,
    "on_policy_minibatch_size": settings.FRAMES,
    "evaluation": False,
    "render": False,
    "loggers": [],
    "create_json": False,
}


class Clock(Callback):
    """Is told of the end of every collection, which is an iteration after the one before."""

    def __init__(self, driver: settings.Driver) -> None:
        super().__init__()
        self._measuring = self._measure(driver)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the experiment pickles its callbacks when it begins."""
        return {}

    def on_batch_collected(self, batch: Any) -> None:
        """Measures, and leaves the experiment when nothing more is asked for."""
        del batch
        next(self._measuring)

    def _measure(self, driver: settings.Driver) -> Iterator[None]:
        """Every ``yield`` lasts one iteration."""
        yield
        driver.ready(
            benchmarl=version("benchmarl"),
            torchrl=version("torchrl"),
            torch=torch.__version__,
        )
        for _ in driver.requests():
            seconds = []
            for updates in (1, settings.MANY):
                self.experiment.config.off_policy_n_optimizer_steps = updates
                self.experiment.config.on_policy_n_minibatch_iters = updates
                start = time.perf_counter()
                for _ in range(ITERATIONS):
                    yield
                seconds.append((time.perf_counter() - start) / ITERATIONS)
            driver.answer(*seconds)


def main(method: str) -> None:
    """Run an experiment until the clock stops it."""
    driver = settings.Driver()
    task = PettingZooTask.SIMPLE_SPREAD.get_from_yaml()
    task.config["max_cycles"] = settings.STEPS
    rule = getattr(algorithms, f"{method.capitalize()}Config").get_from_yaml()
    if method == "qmix":
        rule.mixing_embed_dim = settings.EMBED
    if method == "mappo":
        rule.clip_epsilon, rule.lmbda = settings.CLIP, settings.GAE_LAMBDA
    config = ExperimentConfig.get_from_yaml()
    with tempfile.TemporaryDirectory() as folder:
        for name, value in (SETTINGS | {"save_folder": folder}).items():
            setattr(config, name, value)
        experiment = Experiment(
            task, rule, network(), seed=0, config=config, critic_model_config=network(), callbacks=[Clock(driver)]
        )
        try:
            experiment.run()
        except StopIteration:
            return


def network() -> SequenceModelConfig:
    """An encoder and a GRU with a linear head, for agents and for MAPPO's critic."""
    gru, encoder = GruConfig.get_from_yaml(), MlpConfig.get_from_yaml()
    gru.hidden_size, gru.mlp_num_cells, encoder.num_cells = settings.HIDDEN, [], []
    return SequenceModelConfig(model_configs=[encoder, gru], intermediate_sizes=[settings.HIDDEN])


if __name__ == "__main__":
    main(sys.argv[1])
