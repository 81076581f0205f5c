"""Measures XuanCe: ``python on_xuance.py METHOD``, started by ``run.py``."""

import os
import sys
import tempfile
import time
from argparse import Namespace
from importlib.metadata import version

import settings
import torch
import xuance.torch.agents
from pettingzoo.mpe import simple_spread_v3
from xuance.common import get_arguments
from xuance.environment import REGISTRY_MULTI_AGENT_ENV, make_envs
from xuance.environment.multi_agent_env.mpe import MPE_Env

ITERATIONS = 20
SETTINGS = {
    "env_name": "spread",
    "env_id": "simple_spread_v3",
    "vectorize": "DummyVecMultiAgentEnv",
    "parallels": settings.NUM_ENVS,
    "representation": "Basic_RNN",
    "use_rnn": True,
    "rnn": "GRU",
    "fc_hidden_sizes": [settings.HIDDEN],
    "recurrent_hidden_size": settings.HIDDEN,
    "q_hidden_size": [],
    "use_parameter_sharing": True,
    "hidden_dim_mixing_net": settings.EMBED,
    "hidden_dim_hyper_net": settings.HYPER_HIDDEN,
    "gamma": settings.GAMMA,
    "learning_rate": settings.LR,
    "use_grad_clip": True,
    "grad_clip_norm": 25.0,
    "render": False,
    "render_mode": None,
}
REPLAYING = {
    "batch_size": settings.BATCH,
    "buffer_size": settings.BUFFER,
    "sync_frequency": settings.TARGET_INTERVAL,
    "double_q": True,
    "start_training": 0,
}
ON_POLICY = {
    "policy": "Categorical_MAAC_Policy",
    "continuous_action": False,
    "actor_hidden_size": [],
    "critic_hidden_size": [],
    "buffer_size": settings.NUM_ENVS,  # in episodes, for the agents have memory
    "n_minibatch": 1,
    "gae_lambda": settings.GAE_LAMBDA,
    "clip_range": settings.CLIP,
}


class Spread(MPE_Env):
    """simple_spread with as many steps as ours; XuanCe has no setting for it, but lets one register environments."""

    def __init__(self, config: Namespace) -> None:
        super().__init__(Namespace(**vars(config) | {"env_name": "mpe"}))
        self.env = simple_spread_v3.parallel_env(max_cycles=settings.STEPS)
        self.env.reset(config.env_seed)
        self.max_episode_steps = settings.STEPS


def main(method: str) -> None:
    """Build XuanCe's agents; time whole iterations of their ``train`` when asked."""
    driver = settings.Driver()
    REGISTRY_MULTI_AGENT_ENV["spread"] = Spread
    own = SETTINGS | (ON_POLICY if method == "mappo" else REPLAYING)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it writes its logs below the working directory
        config = get_arguments(method, "mpe", "simple_spread_v3", parser_args=Namespace(**own))
        if method == "mappo":
            del config.normalize  # no layer normalisation
        agents = getattr(xuance.torch.agents, f"{method.upper()}_Agents")(config, make_envs(config))

        def seconds(updates: int) -> float:
            agents.n_epochs = updates
            start = time.perf_counter()
            agents.train(ITERATIONS * settings.STEPS)
            return (time.perf_counter() - start) / ITERATIONS

        seconds(1)
        driver.ready(xuance=version("xuance"), torch=torch.__version__)
        for _ in driver.requests():
            driver.answer(seconds(1), seconds(settings.MANY))


if __name__ == "__main__":
    main(sys.argv[1])
