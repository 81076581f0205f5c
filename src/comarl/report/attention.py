"""``comarl attention``: what a mixer gives each agent over a greedy episode, above what happened.

Nothing is imported here that imports JAX: a mistake is answered at once.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import load_config, require_seed
from comarl.report.figures import COLOURS, new_figure, save_figure

if TYPE_CHECKING:
    from comarl.algos.qlearning import Networks
    from comarl.experiments.runner import Progress
    from comarl.types import TimeStep

ATTENTIVE = {
    "qplex": (r"$\lambda_i(s, u)$", "the weight of agent i's advantage"),
    "qatten": (r"$\lambda_{i,h}(s)$", "head h's share of agent i"),
}
"""The methods that weigh agents, and what the weights are: symbol and meaning."""


def require_attentive(config: RunConfig) -> None:
    """Refuse a run whose mixer has no weights to show.

    Raises:
        ComarlError: naming the methods that have.
    """
    if config.method not in ATTENTIVE:
        raise ComarlError(
            f"'{config.method}' gives the agents no weights that could be drawn: train one of {', '.join(ATTENTIVE)}"
        )


def run_attention(folder: Path, seed: int | None, episode: int, progress: "Progress") -> dict[str, Any]:
    """Play one greedy episode of a finished run and read its mixer's weights at every step.

    Args:
        folder: the run folder.
        seed: which of its learners; the first if left out.
        episode: which of the evaluation's episodes, from 0; they are the same for every method and seed.
        progress: who is told.

    Returns:
        The object that ``comarl attention --json`` prints, without ``file``.

    Raises:
        ComarlError: if there is no such run or seed, or its mixer has no weights.
    """
    config = load_config(folder)
    require_attentive(config)
    seed = require_seed(folder, config, seed)
    if episode < 0:
        raise ComarlError(f"episode={episode}: must not be negative")
    import jax.numpy as jnp

    from comarl.experiments.backend import prepare
    from comarl.experiments.build import build_algorithm, build_env
    from comarl.experiments.runner import load_states
    from comarl.returns import form_team_reward
    from comarl.training.evaluate import evaluation_keys, record

    prepare()
    env = build_env(config)
    state = load_states(folder, config, env)[seed]
    progress.say(f"playing episode {episode} with seed {seed} …")
    policy = build_algorithm(config, env.spec).policy(state, config.steps)
    moments = record(env, policy, evaluation_keys(episode + 1)[episode])
    weigh = _weigher(state.online)
    reward = [form_team_reward(jnp.asarray(moment.ts.reward), config.learner.team_reward) for moment in moments[1:]]
    outcome = env.outcome(moments[-1].state)
    return {
        "method": config.method,
        "env": config.env,
        "seed": seed,
        "episode": episode,
        "length": len(reward),
        "return": round(float(np.sum(reward)), 6),
        "outcome": {name: round(float(x), 6) for name, x in outcome.items()},
        "weights": _rounded([weigh(now.carry, now.ts, then.action) for now, then in itertools.pairwise(moments)]),
        "rewards": _rounded(reward),
        "actions": [moment.action.tolist() for moment in moments[1:]],
        "forced": [(moment.ts.avail.sum(-1) == 1).tolist() for moment in moments[:-1]],
    }


def _weigher(networks: "Networks") -> Callable[..., np.ndarray]:
    """From a carry, a time step and a joint action to what each head gives each agent ``[heads, N]``.

    QPLEX's kernels are summed: there is one head.
    """
    import jax

    from comarl.mixers.base import Attentive, Joint, mask_unavailable
    from comarl.mixers.qplex import QPLEX

    @jax.jit
    def weights(networks: "Networks", carry: Any, ts: "TimeStep", action: Any) -> Any:
        assert isinstance(networks.mixer, Attentive)
        _, out = networks.agent(carry, ts)
        given = networks.mixer.attention(Joint(mask_unavailable(out.q, ts), action, out.hidden, ts))
        return given.sum(0, keepdims=True) if isinstance(networks.mixer, QPLEX) else given

    return lambda carry, ts, action: np.asarray(weights(networks, carry, ts, action))


def _rounded(x: Any) -> list[Any]:
    return (np.asarray(x, np.float64).round(6) + 0.0).tolist()


def headline(result: dict[str, Any]) -> str:
    """What was played and what it came to, in one line."""
    outcome = "".join(f", {name} {value:g}" for name, value in result["outcome"].items())
    return (
        f"{result['method']} on {result['env']}, seed {result['seed']}, episode {result['episode']}: "
        f"{result['length']} steps, return {result['return']:.2f}{outcome}"
    )


MOST_LABELS = 32
"""Steps up to which each action's number is written into its cell."""


def draw_attention(result: dict[str, Any], out: Path) -> None:
    """Draw what :func:`run_attention` returned.

    Raises:
        ComarlError: if matplotlib is missing or the file cannot be written.
    """
    save_figure(figure_of(result), out)


def figure_of(result: dict[str, Any]) -> Any:
    """The matplotlib figure: a heat map of agents over steps for each head, then the reward, then the actions."""
    weights = np.array(result["weights"])
    steps, heads, agents = weights.shape
    rows = [0.16 * agents + 0.35] * heads + [0.8, 0.2 * agents + 0.35]
    figure = new_figure(min(12.0, 5.0 + 0.12 * steps), sum(rows) + 1.1)
    panels = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows)
    symbol, meaning = ATTENTIVE[result["method"]]
    scale = {"vmin": float(weights.min()), "vmax": float(weights.max()), "cmap": "viridis"}
    maps = [_draw_map(axes, weights[:, head].T, **scale) for head, axes in enumerate(panels[:heads])]
    for head, axes in enumerate(panels[:heads]):
        axes.set_ylabel(f"head {head + 1}\nagent" if heads > 1 else "agent", fontsize=8)
    figure.colorbar(maps[0], ax=list(panels[:heads]), label=symbol, fraction=0.04)
    _draw_rewards(panels[heads], result["rewards"])
    _draw_actions(panels[heads + 1], np.array(result["actions"]), np.array(result["forced"]))
    panels[-1].set_xlabel("step")
    figure.suptitle(f"{headline(result)}\n{symbol}: {meaning}", fontsize=9)
    return figure


def _draw_map(axes: Any, values: np.ndarray, **style: Any) -> Any:
    """Agents from top to bottom, steps from left to right."""
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **style)
    axes.set_yticks(range(len(values)), [str(i + 1) for i in range(len(values))], fontsize=7)
    return image


def _draw_rewards(axes: Any, rewards: list[float]) -> None:
    axes.bar(range(len(rewards)), rewards, color=COLOURS[0], width=0.8)
    axes.axhline(0, color="0.35", linewidth=0.6)
    axes.set_ylabel("team\nreward", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_actions(axes: Any, actions: np.ndarray, forced: np.ndarray) -> None:
    """Actions by number; grey where an agent had only one, as the dead have in combat."""
    shown = np.ma.masked_array(actions, forced).T
    _draw_map(axes, shown, cmap="tab20", vmin=0, vmax=19, alpha=0.55)
    axes.set_facecolor("0.8")
    axes.set_ylabel("action\nof agent", fontsize=8)
    if forced.any():
        axes.set_title("grey: only one action was available", fontsize=7, loc="right", pad=2)
    if len(actions) <= MOST_LABELS:
        for (step, agent), action in np.ndenumerate(actions):
            axes.text(step, agent, str(action), ha="center", va="center", fontsize=6)
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
