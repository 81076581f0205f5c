"""Pictures of episodes: one step as a PNG, all of them as a GIF. They show a grid, or what the environment draws."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from comarl.envs.base import Env, Hosted
from comarl.envs.conformance import SHARED
from comarl.envs.scene import Figure, Item, Place, Scene
from comarl.errors import ComarlError, missing_extra
from comarl.training.evaluate import Moment

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#4D4D4D")
"""The agents': Okabe and Ito's, told apart by the colour-blind, and two more."""

KINDS: dict[str, tuple[str, str]] = {
    "apple": ("o", "#7FB069"),
    "lemon": ("o", "#F2D544"),
    "food": ("o", "#7FB069"),
    "prey": ("D", "#B0413E"),
    "shelf": ("s", "#C9CCD6"),
    "requested shelf": ("s", "#8E7CC3"),
}
"""Marker and colour of each kind of item."""

UNKNOWN = ("s", "#A89F91")
"""Of a kind that has none."""

WALL, FLOOR, LINE, INK = "#8A8D93", "#FBFBF8", "#E3E3DE", "#2B2B2B"
CELL, MARGIN, TEXT = 0.62, 0.25, 0.2
"""Inches: the side of a place (in large grids less), the margin, a line of the caption."""

LONGEST = 6.4
"""Inches of the longer side of a grid, at most, and of what an environment draws itself."""

PACE, LAST, WHOLE = 400, 1600, 30_000
"""Milliseconds: each picture of a GIF, the last one, and all of them at most."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture with its words.

    Attributes:
        scene: what is seen: a grid, or pixels ``[height, width, 3]``.
        lines: the caption, top down.
    """

    scene: Scene | np.ndarray
    lines: tuple[str, ...]


def frames(env: Env | Hosted, moments: list[Moment]) -> list[Frame]:
    """The pictures of an episode, each with its step, the joint action that led there, and the return until then.

    Raises:
        ComarlError: if the environment has no pictures.
    """
    return [Frame(_scene(env, moment), _caption(env, moment)) for moment in moments]


def write_png(frame: Frame, out: Path) -> None:
    """Draw one picture.

    Raises:
        ComarlError: if matplotlib is missing, or the file cannot be written.
    """
    _save(out, lambda: figure_of(frame).savefig(out, format="png"))


def write_gif(episode: list[Frame], out: Path) -> None:
    """Draw an episode as an animation.

    Raises:
        ComarlError: if matplotlib is missing, or the file cannot be written.
    """
    pictures = [_pixels(frame) for frame in episode]
    pace = min(PACE, WHOLE // len(pictures))
    first, *rest = pictures
    durations = [pace] * len(rest) + [LAST]
    _save(out, lambda: first.save(out, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0))


def team_return(env: Env | Hosted, moment: Moment) -> float:
    """What the team has been paid: the shared reward, or the sum over the agents where each has its own."""
    returns = np.asarray(moment.returns)
    return float(returns.mean() if env.spec.reward == SHARED else returns.sum())


def figure_of(frame: Frame) -> Any:
    """The matplotlib figure: the grid, below it the legend and above it the caption.

    Raises:
        ComarlError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise missing_extra("matplotlib", "plot") from error
    rows, columns = frame.scene.size if isinstance(frame.scene, Scene) else frame.scene.shape[:2]
    # A place of a grid grows to its full size; a picture fills what there is.
    side = LONGEST / max(rows, columns)
    if isinstance(frame.scene, Scene):
        side = min(CELL, side)
    above, below = TEXT * (len(frame.lines) + 0.2) + MARGIN * 0.6, TEXT * 1.6
    # The caption needs some width even above a narrow grid.
    width = max(columns * side, 4.6) + 2 * MARGIN
    height = rows * side + above + below
    canvas = Canvas(figsize=(width, height), dpi=110, facecolor="white")
    left = (width - columns * side) / 2
    axes = canvas.add_axes((left / width, below / height, columns * side / width, rows * side / height))
    if isinstance(frame.scene, Scene):
        _draw_scene(axes, frame.scene, side)
        _draw_legend(canvas, frame.scene, below / height)
    else:
        axes.imshow(frame.scene)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=LINE)
    for i, line in enumerate(frame.lines):
        y = 1 - (MARGIN * 0.6 + TEXT * (i + 0.3)) / height
        weight = "bold" if i == 0 else "normal"
        canvas.text(MARGIN / width, y, line, fontsize=9 if i == 0 else 8, color=INK, va="center", weight=weight)
    return canvas


def _scene(env: Env | Hosted, moment: Moment) -> Scene | np.ndarray:
    scene = moment.state if isinstance(env, Hosted) else env.scene(moment.state)
    if scene is None:
        lacks = "draws no 'rgb_array'" if isinstance(env, Hosted) else "gives no scene"
        raise ComarlError(f"{env.spec.name} has no pictures: its environment {lacks} (see docs/environments.md)")
    return scene


def _caption(env: Env | Hosted, moment: Moment) -> tuple[str, ...]:
    scene = _scene(env, moment)
    parts = [f"{env.spec.name}, step {int(moment.length)}", f"team return {_short(team_return(env, moment))}"]
    names, more = (scene.actions, scene.caption) if isinstance(scene, Scene) else ((), "")
    title = ", ".join([*parts, *([more] if more else [])])
    actions = [_named(names, action) for action in np.asarray(moment.action)]
    words = [f"{i}: {name}" for i, name in enumerate(actions, 1)] if moment.length else ["the beginning"]
    # Four to a line, and as many lines in every picture of an episode.
    lines = ["   ".join(words[i : i + 4]) for i in range(0, len(actions), 4)]
    return (title, *lines)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _named(names: tuple[str, ...], action: Any) -> str:
    if action.ndim:
        return "(" + " ".join(f"{x:.1f}" for x in action) + ")"
    return names[int(action)] if names else str(action)


def _draw_scene(axes: Any, scene: Scene, side: float) -> None:
    _draw_grid(axes, scene)
    for item in scene.items:
        _draw_item(axes, item, side)
    for index, agent in enumerate(scene.agents):
        _draw_agent(axes, agent, index, side)


def _draw_grid(axes: Any, scene: Scene) -> None:
    """Floor, lines, walls and goals; one unit is one place, and rows go down."""
    rows, columns = scene.size
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[], facecolor=FLOOR)
    for spine in axes.spines.values():
        spine.set(color=WALL, linewidth=1.5)
    axes.vlines(np.arange(columns - 1) + 0.5, -0.5, rows - 0.5, color=LINE, linewidth=0.8, zorder=1)
    axes.hlines(np.arange(rows - 1) + 0.5, -0.5, columns - 0.5, color=LINE, linewidth=0.8, zorder=1)
    for wall in scene.walls:
        _draw_square(axes, wall, 1.0, facecolor=WALL, edgecolor=WALL, zorder=2)
    for place, owner in scene.goals:
        colour = INK if owner is None else _colour(owner)
        style: dict[str, Any] = {"edgecolor": colour, "linewidth": 2, "linestyle": (0, (3, 1.5))}
        _draw_square(axes, place, 0.86, facecolor="none", zorder=3, **style)


def _draw_square(axes: Any, place: Place, side: float, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    row, column = place
    axes.add_patch(Rectangle((column - side / 2, row - side / 2), side, side, **style))


def _draw_item(axes: Any, item: Item, side: float) -> None:
    marker, colour = KINDS.get(item.kind, UNKNOWN)
    row, column = item.place
    share = {"D": 0.36, "s": 0.78}.get(marker, 0.56)
    points = 72 * side * share
    axes.plot(column, row, marker, markersize=points, color=colour, markeredgecolor="white", zorder=4)
    if item.note:
        axes.text(column, row, item.note, ha="center", va="center", fontsize=16 * side, color=INK, zorder=5)


def _draw_agent(axes: Any, agent: Figure, index: int, side: float) -> None:
    from matplotlib.patches import Circle

    if agent.place is None:
        return
    row, column = agent.place
    edge = INK if agent.carrying else "white"
    axes.add_patch(Circle((column, row), 0.36, facecolor=_colour(index), edgecolor=edge, linewidth=1.8, zorder=6))
    if agent.heading is not None:
        down, right = agent.heading
        tip = (column + 0.47 * right, row + 0.47 * down)
        axes.plot([column + 0.3 * right, tip[0]], [row + 0.3 * down, tip[1]], color=INK, linewidth=2.2, zorder=7)
    lift = 0.1 if agent.note else 0.02
    number: dict[str, Any] = {"fontsize": 17 * side, "color": "white", "weight": "bold", "zorder": 8}
    axes.text(column, row - lift, str(index + 1), ha="center", va="center", **number)
    if agent.note:
        axes.text(column, row + 0.17, agent.note, ha="center", va="center", fontsize=8 * side, color="white", zorder=8)


def _draw_legend(canvas: Any, scene: Scene, height: float) -> None:
    """The kinds of items in this picture, and what an outline is."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=KINDS.get(kind, UNKNOWN)[0], color=KINDS.get(kind, UNKNOWN)[1], linestyle="", label=kind)
        for kind in dict.fromkeys(item.kind for item in scene.items)
    ]
    if scene.goals:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (2, 1)), label="goal"))
    if any(agent.carrying for agent in scene.agents):
        ring: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.8}
        handles.append(Line2D([], [], marker="o", linestyle="", label="carries something", **ring))
    if handles:
        where: dict[str, Any] = {"loc": "center", "bbox_to_anchor": (0.5, height / 2)}
        canvas.legend(handles=handles, ncols=len(handles), frameon=False, fontsize=8, handletextpad=0.4, **where)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _pixels(frame: Frame) -> Any:
    """The picture as a Pillow image."""
    canvas = figure_of(frame)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    drawn = FigureCanvasAgg(canvas)
    drawn.draw()
    return Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB")


def _save(out: Path, write: Any) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise ComarlError(f"cannot write {out}: {error.filename}: {error.strerror}") from error
