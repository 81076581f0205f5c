"""``comarl attention``: what a mixer or a critic gives each agent over a greedy episode, above what happened.

Nothing is imported here that imports JAX: a mistake is answered at once.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import load_config, require_episode, require_seed
from comarl.report.figures import COLOURS, new_figure, save_figure

if TYPE_CHECKING:
    from comarl.algos import maac, qlearning
    from comarl.envs.base import Env, Hosted
    from comarl.experiments.progress import Progress
    from comarl.types import TimeStep

ATTENTIVE = {
    "qplex": (r"$\lambda_i(s, u)$", "the weight of agent i's advantage"),
    "qatten": (r"$\lambda_{i,h}(s)$", "head h's share of agent i"),
    "maac": (r"$\alpha^h_{i \to j}(o, a)$", "agent j's share in what head h of agent i's critic hears"),
}
"""The methods that weigh agents, and what the weights are: symbol and meaning."""


def require_attentive(config: RunConfig) -> None:
    """Refuse a run that has no weights to show.

    Raises:
        ComarlError: naming the methods that have.
    """
    if config.method not in ATTENTIVE:
        raise ComarlError(
            f"'{config.method}' gives the agents no weights that could be drawn: train one of {', '.join(ATTENTIVE)}"
        )


def require_company(config: RunConfig, agents: int) -> None:
    """Refuse a critic that attends to the other agents where there are none.

    Raises:
        ComarlError: naming the environment.
    """
    if config.method == "maac" and agents == 1:
        raise ComarlError(f"{config.env} has a single agent, whose critic has nobody to attend to")


def run_attention(folder: Path, seed: int | None, episode: int, progress: "Progress") -> dict[str, Any]:
    """Play one greedy episode of a finished run and read its mixer's or its critic's weights at every step.

    Args:
        folder: the run folder.
        seed: which of its learners; the first if left out.
        episode: which of the evaluation's episodes, from 0; they are the same for every method and seed.
        progress: who is told.

    Returns:
        The object that ``comarl attention --json`` prints, without ``file``.

    Raises:
        ComarlError: if there is no such run or seed, or it has no weights.
    """
    config = load_config(folder)
    require_attentive(config)
    seed = require_seed(folder, config, seed)
    require_episode(episode)
    from comarl.experiments.backend import prepare
    from comarl.experiments.build import build_algorithm, build_env
    from comarl.experiments.evaluating import load_states
    from comarl.training.players import record_once

    prepare()
    env = build_env(config)
    require_company(config, env.spec.num_agents)
    state = load_states(folder, config, env)[seed]
    progress.say(f"playing episode {episode} with seed {seed} …")
    policy = build_algorithm(config, env.spec).policy(state, config.steps)
    moments, outcome = record_once(env, policy, episode)
    weigh = _critic_weigher(state.online) if config.method == "maac" else _mixer_weigher(state.online)
    # As scores are formed: rewards that are learned from one by one are averaged.
    form = np.sum if config.learner.team_reward == "sum" else np.mean
    reward = [form(moment.ts.reward) for moment in moments[1:]]
    return {
        "method": config.method,
        "env": config.env,
        "seed": seed,
        "episode": episode,
        "length": len(reward),
        "return": round(float(np.sum(reward)), 6),
        "outcome": {name: round(x, 6) for name, x in outcome.items()},
        "weights": _rounded([weigh(now.carry, now.ts, then.action) for now, then in itertools.pairwise(moments)]),
        "rewards": _rounded(reward),
        "actions": [moment.action.tolist() for moment in moments[1:]],
        "action_names": _action_names(env, moments[0].state),
        "forced": [(moment.ts.avail.sum(-1) == 1).tolist() for moment in moments[:-1]],
    }


def _action_names(env: "Env | Hosted", state: Any) -> list[str] | None:
    from comarl.envs.base import Hosted

    scene = None if isinstance(env, Hosted) else env.scene(state)
    return list(scene.actions) or None if scene else None


Weigher = Callable[[Any, "TimeStep", Any], np.ndarray]
"""From a carry, a time step and a joint action to what each head of each who attends gives each agent.

The shape is ``[attending, heads, N]``. A mixer attends for the whole team: there is one who does.
"""


def _critic_weigher(networks: "maac.Networks") -> Weigher:
    import jax

    weights = jax.jit(lambda critic, ts, action: critic(ts, action).weights)
    return lambda carry, ts, action: np.asarray(weights(networks.critic, ts, action))


def _mixer_weigher(networks: "qlearning.Networks") -> Weigher:
    """QPLEX's kernels are summed: there is one head."""
    import jax

    from comarl.mixers.base import Attentive, Joint, mask_unavailable
    from comarl.mixers.qplex import QPLEX

    @jax.jit
    def weights(networks: "qlearning.Networks", carry: Any, ts: "TimeStep", action: Any) -> Any:
        assert isinstance(networks.mixer, Attentive)
        _, out = networks.agent(carry, ts)
        given = networks.mixer.attention(Joint(mask_unavailable(out.q, ts), action, out.hidden, ts))
        return given.sum(0, keepdims=True) if isinstance(networks.mixer, QPLEX) else given

    return lambda carry, ts, action: np.asarray(weights(networks, carry, ts, action))[None]


def _rounded(x: Any) -> list[Any]:
    return (np.asarray(x, np.float64).round(6) + 0.0).tolist()


def headline(result: dict[str, Any]) -> str:
    """What was played and what it came to, in one line."""
    outcome = "".join(f", {name} {value:g}" for name, value in result["outcome"].items())
    return (
        f"{result['method']} on {result['env']}, seed {result['seed']}, episode {result['episode']}: "
        f"{result['length']} steps, return {result['return']:.2f}{outcome}"
    )


ROW, MOST_HEIGHT = 0.16, 30.0
"""Inches: of a row, and of all rows of heat maps together; where they are more they are lower."""
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


class Map(NamedTuple):
    """A panel of the picture.

    Attributes:
        label: beside it.
        rows: what each row is.
        values: the weights ``[rows, T]``.
        each: rows that belong together, from the first on.
    """

    label: str
    rows: list[str]
    values: Float[np.ndarray, "rows T"]
    each: int


def figure_of(result: dict[str, Any]) -> Any:
    """The matplotlib figure: heat maps over the steps, then the reward, then the actions."""
    weights = np.array(result["weights"])
    steps, _, _, agents = weights.shape
    shown, equal = _maps(weights), _equal_share(weights)
    row = min(ROW, MOST_HEIGHT / sum(len(m.rows) for m in shown))
    heights = [*(row * len(m.rows) + 0.35 for m in shown), 0.8, ROW * agents + 0.4]
    figure = new_figure(min(12.0, 5.0 + 0.12 * steps), sum(heights) + 1.1)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    symbol, meaning = ATTENTIVE[result["method"]]
    scale = _scale(np.concatenate([m.values for m in shown]), equal)
    images = [_draw_map(axes, m.values, m.rows, **scale) for m, axes in zip(shown, panels, strict=False)]
    for m, axes in zip(shown, panels, strict=False):
        axes.set_ylabel(m.label, fontsize=8)
        for boundary in range(m.each, len(m.rows), m.each):
            axes.axhline(boundary - 0.5, color="0.2", linewidth=0.8)
    bar = figure.colorbar(images[0], ax=list(panels[: len(shown)]), fraction=0.04)
    bar.set_label(symbol + (f"  (equal shares: {equal:.3g})" if equal else ""), fontsize=9)
    bar.ax.set_ylim(bottom=max(scale["vmin"], 0))  # no weight is negative
    bar.ax.tick_params(labelsize=7)
    _draw_rewards(panels[-2], result["rewards"])
    _draw_actions(panels[-1], np.array(result["actions"]), np.array(result["forced"]))
    _draw_action_legend(figure, result)
    panels[-1].set_xlabel("step", fontsize=9)
    panels[-1].tick_params(axis="x", labelsize=8)
    figure.align_ylabels(panels)
    figure.suptitle(f"{headline(result)}\n{symbol}: {meaning}", fontsize=9)
    return figure


def _maps(weights: Float[np.ndarray, "T attending heads N"]) -> list[Map]:
    """A panel for each head with a row for each agent; or, where agents attend, a panel for each of them."""
    _, attending, heads, agents = weights.shape
    if attending == 1:
        label = "head {}\nagent" if heads > 1 else "agent"
        names = _numbers(agents)
        return [Map(label.format(h + 1), names, weights[:, 0, h].T, agents) for h in range(heads)]
    return [_map_of(i, np.delete(weights[:, i], i, axis=-1)) for i in range(attending)]


def _map_of(agent: int, weights: Float[np.ndarray, "T heads others"]) -> Map:
    """Whom one agent attends to: a row for each head and each other agent."""
    steps, heads, others = weights.shape
    names = np.delete(_numbers(others + 1), agent)
    rows = [f"head {h + 1} → agent {name}" for h in range(heads) for name in names]
    return Map(f"agent {agent + 1}", rows, weights.reshape(steps, -1).T, others)


def _numbers(agents: int) -> list[str]:
    return [str(i + 1) for i in range(agents)]


def _equal_share(weights: Float[np.ndarray, "T attending heads N"]) -> float | None:
    """What every agent would get if all got the same; None if weights are no shares of 1."""
    if not np.allclose(weights.sum(-1), 1, atol=1e-4):
        return None
    _, attending, _, agents = weights.shape
    return 1 / (agents if attending == 1 else agents - 1)


def _scale(values: Float[np.ndarray, "rows T"], equal: float | None) -> dict[str, Any]:
    """Colours: shares diverge from equal ones, red more and blue less; other weights go from the least to the most."""
    if equal is None:
        return {"vmin": float(values.min()), "vmax": float(values.max()), "cmap": "viridis"}
    reach = max(float(np.abs(values - equal).max()), LEAST_REACH)
    return {"vmin": equal - reach, "vmax": equal + reach, "cmap": "RdBu_r"}


def _draw_map(axes: Any, values: np.ndarray, rows: list[str], **style: Any) -> Any:
    """Rows from top to bottom, steps from left to right."""
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **style)
    axes.set_yticks(range(len(values)), rows, fontsize=7)
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
    _draw_map(axes, shown, _numbers(len(shown)), cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5)
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
