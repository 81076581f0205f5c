"""``comarl attention``: what a mixer gives each agent over a greedy episode, above what happened.

Nothing is imported here that imports JAX: a mistake is answered at once.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import load_config, require_episode, require_seed
from comarl.report.figures import COLOURS, new_figure, save_figure

if TYPE_CHECKING:
    from comarl.algos.qlearning import Networks
    from comarl.envs.base import Env
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
    require_episode(episode)
    import jax.numpy as jnp

    from comarl.experiments.backend import prepare
    from comarl.experiments.build import build_algorithm, build_env
    from comarl.experiments.runner import load_states
    from comarl.returns import form_team_reward
    from comarl.training.evaluate import evaluation_key, record

    prepare()
    env = build_env(config)
    state = load_states(folder, config, env)[seed]
    progress.say(f"playing episode {episode} with seed {seed} …")
    policy = build_algorithm(config, env.spec).policy(state, config.steps)
    moments = record(env, policy, evaluation_key(episode))
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
        "action_names": _action_names(env, moments[0].state),
        "forced": [(moment.ts.avail.sum(-1) == 1).tolist() for moment in moments[:-1]],
    }


def _action_names(env: "Env", state: Any) -> list[str] | None:
    scene = env.scene(state)
    return list(scene.actions) or None if scene else None


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
LEAST_REACH = 1e-3
"""Of the colours around equal shares: smaller differences are not blown up."""
FORCED = "0.8"
"""Grey."""
ACTION_COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9", "#E8C400", "#5B6BBF", "#A5D65C")
PALE = 0.65
"""Matplotlib's colours without its grey, and how much of them is left."""
COLUMNS_PER_INCH = 1.2
"""Of the legend of actions."""


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
    maps = [_draw_map(axes, weights[:, head].T, **_scale(weights)) for head, axes in enumerate(panels[:heads])]
    for head, axes in enumerate(panels[:heads]):
        axes.set_ylabel(f"head {head + 1}\nagent" if heads > 1 else "agent", fontsize=8)
    bar = figure.colorbar(maps[0], ax=list(panels[:heads]), fraction=0.04)
    bar.set_label(symbol + (f"  (equal shares: {1 / agents:.3g})" if _are_shares(weights) else ""), fontsize=9)
    bar.ax.tick_params(labelsize=7)
    _draw_rewards(panels[heads], result["rewards"])
    _draw_actions(panels[-1], np.array(result["actions"]), np.array(result["forced"]))
    _draw_action_legend(figure, result)
    panels[-1].set_xlabel("step", fontsize=9)
    panels[-1].tick_params(axis="x", labelsize=8)
    figure.suptitle(f"{headline(result)}\n{symbol}: {meaning}", fontsize=9)
    return figure


def _are_shares(weights: Float[np.ndarray, "T heads N"]) -> bool:
    return bool(np.allclose(weights.sum(-1), 1, atol=1e-4))


def _scale(weights: Float[np.ndarray, "T heads N"]) -> dict[str, Any]:
    """Colours: shares diverge from equal ones, red more and blue less; other weights go from the least to the most."""
    if not _are_shares(weights):
        return {"vmin": float(weights.min()), "vmax": float(weights.max()), "cmap": "viridis"}
    equal = 1 / weights.shape[-1]
    reach = max(float(np.abs(weights - equal).max()), LEAST_REACH)
    return {"vmin": equal - reach, "vmax": equal + reach, "cmap": "RdBu_r"}


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


def _draw_actions(axes: Any, actions: Int[np.ndarray, "T N"], forced: Bool[np.ndarray, "T N"]) -> None:
    """Actions by colour and number; grey where an agent had only one, as the dead have in combat."""
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    shown = np.ma.masked_array(actions, forced).T
    colours = [_colour(action) for action in range(int(actions.max()) + 1)]
    _draw_map(axes, shown, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5)
    axes.set_facecolor(FORCED)
    axes.set_ylabel("action\nof agent", fontsize=8)
    if len(actions) <= MOST_LABELS:
        for (step, agent), action in np.ndenumerate(actions):
            axes.text(step, agent, str(action), ha="center", va="center", fontsize=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _colour(action: int) -> tuple[float, float, float]:
    """Light enough for a number on it; another one begins anew after as many as can be told apart."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - PALE * (1 - part) for part in to_rgb(ACTION_COLOURS[action % len(ACTION_COLOURS)]))
    return red, green, blue


def _draw_action_legend(figure: Any, result: dict[str, Any]) -> None:
    """Below everything: the chosen actions by number, and by name where the environment has names."""
    from matplotlib.patches import Patch

    actions, forced, names = np.array(result["actions"]), np.array(result["forced"]), result["action_names"]
    handles = [
        Patch(facecolor=_colour(a), label=f"{a} {names[a]}" if names else f"action {a}")
        for a in sorted({*actions[~forced].tolist()})
    ]
    if forced.any():
        handles.append(Patch(facecolor=FORCED, label="only one was available"))
    small: dict[str, Any] = {"fontsize": 7, "handlelength": 1, "columnspacing": 1.2}
    columns = min(len(handles), int(COLUMNS_PER_INCH * figure.get_figwidth()))
    figure.legend(handles=handles, ncols=columns, loc="outside lower center", frameon=False, **small)
