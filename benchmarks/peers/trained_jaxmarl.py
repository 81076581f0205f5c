"""A whole training of JaxMARL's QMIX on simple_spread: ``python trained_jaxmarl.py SEED``.

Started by ``time_to_return.py``. Its own settings, 1M steps of the environment. Prints the return of its last test, in
which 512 episodes are played greedily, and the seconds that compiling and training took.
"""

import importlib
import json
import sys
import time

import jax
import numpy as np
from on_jaxmarl import CHECKOUT, read

STEPS = 1e6


def main(seed: int) -> None:
    """Train and print JSON."""
    sys.path.insert(0, str(CHECKOUT))
    rule = importlib.import_module("baselines.QLearning.qmix_rnn")
    given = read("QLearning/config/config.yaml") | read("QLearning/config/alg/ql_rnn_mpe.yaml")
    config = given | {"TOTAL_TIMESTEPS": STEPS, "WANDB_MODE": "disabled"}
    env, _ = rule.env_from_config(dict(config))
    start = time.perf_counter()
    program = jax.jit(rule.make_train(config, env)).lower(jax.random.PRNGKey(seed)).compile()
    compiled = time.perf_counter()
    out = jax.block_until_ready(program(jax.random.PRNGKey(seed)))
    end = time.perf_counter()
    # Its wrapper of the particle worlds logs each agent's return times the number of agents: the team's sum.
    tested = float(np.mean(out["runner_state"][2]["returned_episode_returns"]))
    print(json.dumps({"return": tested, "compile": compiled - start, "training": end - compiled}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
