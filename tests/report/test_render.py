"""Pictures of episodes: what they show and say."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from comarl.envs.games.two_step import TwoStep
from comarl.envs.grids.switch import Switch
from comarl.envs.scene import Figure, Item, Scene
from comarl.errors import ComarlError
from comarl.report.render import COLOURS, Frame, figure_of, frames, team_return, write_gif, write_png
from comarl.training.baselines import RandomPolicy
from comarl.training.evaluate import evaluation_keys, play, record

KEY = evaluation_keys(1)[0]
ENV = Switch(2)
MOMENTS = record(ENV, ENV.heuristics()["optimal"], KEY)
SCENE = Scene(
    size=(2, 3),
    agents=(Figure((0, 0)), Figure(None), Figure((1, 2), heading=(0, -1), note="level 2", carrying=True)),
    walls=((0, 1),),
    goals=(((1, 0), 0),),
    items=(Item("apple", (1, 1), note="3"), Item("something else", (0, 2))),
)


def test_a_recorded_episode_is_the_one_that_evaluations_play() -> None:
    moments = record(ENV, RandomPolicy(), KEY)
    episodes = play(ENV, RandomPolicy(), evaluation_keys(1))
    assert len(moments) - 1 == int(episodes.length[0]) == 50
    np.testing.assert_allclose(moments[-1].returns, episodes.returns[0], rtol=1e-5)


def test_the_caption_says_step_joint_action_and_return() -> None:
    first, *_, last = frames(ENV, MOMENTS)
    assert first.lines == ("switch/2, step 0, team return 0", "the beginning")
    assert last.lines == ("switch/2, step 12, team return 8.3", "1: stay   2: up")
    assert last.scene.agents == (Figure((0, 6)), Figure((0, 0)))
    assert len(first.scene.walls) == 6


def test_a_shared_reward_is_counted_once() -> None:
    two_step = TwoStep()
    moments = record(two_step, RandomPolicy(), jax.random.key(0))
    assert team_return(two_step, moments[-1]) == float(moments[-1].returns[0])


def test_what_a_figure_shows() -> None:
    canvas = figure_of(Frame(SCENE, ("title", "actions")))
    (axes,) = canvas.axes
    circles = [patch for patch in axes.patches if type(patch).__name__ == "Circle"]
    # Columns go to the right and rows go down; the second agent is gone.
    assert [tuple(map(float, circle.center)) for circle in circles] == [(0, 0), (2, 1)]
    assert axes.get_ylim() == (1.5, -0.5)
    assert [text.get_text() for text in axes.texts] == ["3", "1", "3", "level 2"]
    assert [text.get_text() for text in canvas.texts] == ["title", "actions"]
    (legend,) = canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == ["apple", "something else", "goal", "carries something"]


def test_an_agent_is_drawn_where_it_stands(tmp_path: Path) -> None:
    write_png(Frame(Scene(size=(1, 2), agents=(Figure((0, 1)),)), ("",)), tmp_path / "x.png")
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).astype(int)
    blue = [int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
    columns = np.nonzero((np.abs(pixels - blue).sum(-1) < 10).any(0))[0]
    assert columns.min() > pixels.shape[1] / 2


def test_a_gif_has_a_picture_per_step(tmp_path: Path) -> None:
    write_gif(frames(ENV, MOMENTS), tmp_path / "new" / "x.gif")
    with Image.open(tmp_path / "new" / "x.gif") as gif:
        assert getattr(gif, "n_frames", 1) == 13
        assert gif.info["duration"] == 400


def test_an_environment_without_a_scene() -> None:
    two_step = TwoStep()
    with pytest.raises(ComarlError, match="two-step has no pictures"):
        frames(two_step, record(two_step, RandomPolicy(), KEY))
