"""The Python interface: the same names and defaults as the command line."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from comarl.algos.base import Policy
from comarl.envs.base import Env, Hosted
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.execution.manifest import Format
from comarl.execution.team import checked_step
from comarl.experiments import evaluating, runner
from comarl.experiments.build import build_env
from comarl.experiments.exporting import export_run
from comarl.experiments.folder import load_config, require_seed
from comarl.experiments.methods import require_method
from comarl.experiments.presets import resolve
from comarl.experiments.progress import Progress
from comarl.experiments.runner import Run
from comarl.types import EnvSpec, TimeStep


def make(env: str) -> Env | Hosted:
    """The environment of that name, such as ``smax/3m`` (``comarl list``), or ``module:function`` of your own.

    Raises:
        ComarlError: if there is none, with the nearest name; or if its package is not installed.
    """
    return make_env(env)


def train(method: str, env: str = "smax/3m", *, progress: Progress | None = None, **settings: Any) -> Run:
    """Train a team; the keyword arguments are the command line's flags (``seeds=3``, ``lr=1e-3``).

    Raises:
        ComarlError: for an unknown name or a setting that cannot work, or if training breaks down.
    """
    require_method(method)
    return runner.train(resolve(method, env, settings), progress)


def resume(run: str | Path, *, progress: Progress | None = None, **settings: Any) -> Run:
    """Go on with a run that was stopped or killed; like ``comarl resume RUN``, whose options are the settings.

    Raises:
        ComarlError: as :func:`train`; also if a setting would make another run of it.
    """
    return runner.resume(Path(run), progress, **settings)


def evaluate(run: str | Path, episodes: int = 512, *, best: bool = False) -> dict[str, Any]:
    """Play the greedy policies of a finished run; the same object as ``comarl evaluate RUN --json``.

    With ``best`` those of the checkpoints with the best evaluation; the run need not have finished.
    """
    return evaluating.evaluate(Path(run), episodes, best=best)


class TeamPolicy:
    """A trained team that acts greedily, one joint step at a time.

    Attributes:
        spec: the sizes it was trained for.
    """

    def __init__(self, policy: Policy, spec: EnvSpec):
        self.spec = spec
        self._policy = policy
        self._act = jax.jit(lambda carry, ts, key: policy.act(carry, ts, key, False))
        self._episode = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything: an episode begins. A team with sub-policies draws one for each agent."""
        self._key = jax.random.key(self._episode)
        self._episode += 1
        self._carry: Any = self._policy.initial_carry()
        self._first = True

    def act(self, obs: Any, avail: Any = None) -> np.ndarray:
        """The team's actions ``[N]``, or where they are continuous ``[N, A]`` with numbers in [-1, 1].

        Args:
            obs: each agent's observation ``[N, D]``.
            avail: which actions each agent may take ``[N, A]``; all if left out.

        Raises:
            ComarlError: if the shapes do not fit, or an agent has no available action.
        """
        n, d, a = self.spec.num_agents, self.spec.obs_dim, self.spec.num_actions
        obs, avail = checked_step(obs, avail, (n,), d, a)
        if obs.ndim > 2:
            raise ComarlError(
                "a run's team plays one game at a time, and an exported one several: here act takes obs [N, D]"
            )
        ts = TimeStep(
            obs=jnp.asarray(obs),
            state=jnp.zeros((self.spec.state_dim,)),  # central information, not used in execution
            avail=jnp.asarray(avail),
            reward=jnp.zeros((n,)),
            discount=jnp.ones(()),
            first=jnp.asarray(self._first),
            last=jnp.asarray(False),
        )
        self._carry, action = self._act(self._carry, ts, self._key)
        self._first = False
        return np.asarray(action)


def policy_of_run(run: Path, seed: int | None = None, *, best: bool = False) -> TeamPolicy:
    """The trained team of a run folder; of its first seed unless told otherwise.

    With ``best`` that of the checkpoint with the best evaluation; the run need not have finished.

    Raises:
        ComarlError: if the folder holds no finished run, or not that seed.
    """
    config = load_config(run)
    seed = require_seed(run, config, seed)
    env = build_env(config)
    load = evaluating.load_best_policies if best else evaluating.load_policies
    return TeamPolicy(load(run, config, env)[seed], env.spec)


def export(run: str | Path, format: Format = "onnx", *, seed: int | None = None, out: str | Path | None = None) -> Path:
    """Write the greedy policies of a finished run to files that :func:`comarl.load_policy` plays, ``onnx`` without JAX.

    Returns:
        The folder: ``out``, or ``RUN/exported/FORMAT-seed-K``.

    Raises:
        ComarlError: if there is no finished run, its agents have no policies of their own, or the package that the
            format needs is missing.
    """
    return export_run(Path(run), format, seed, None if out is None else Path(out))[0]
