"""``comarl render``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from comarl.cli.output import showing_progress
from comarl.cli.parse import parse, require_env
from comarl.errors import ComarlError
from comarl.experiments.folder import require_episode

ENDINGS = (".gif", ".png")


@dataclasses.dataclass(frozen=True)
class Render:
    """Play an episode and draw it: a fixed policy in an environment, or the greedy policy of a finished run."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV|RUN", help_behavior_hint="")] = ""
    """An environment ('comarl list' shows all) or a run folder."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: RUN/episode.gif, else the environment's name)"),
    ] = None
    """The picture: .gif for the whole episode, .png for one step."""
    policy: Annotated[
        str | None, tyro.conf.arg(metavar="POLICY", help_behavior_hint="(default: a run's own, else random)")
    ] = None
    """A fixed policy: random, or one that the environment brings, such as heuristic or optimal."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="(default: the first)")] = None
    """Which seed of a run plays."""
    episode: Annotated[int, tyro.conf.arg(metavar="E")] = 0
    """Which episode of those that evaluations play, counted from 0."""
    step: Annotated[int | None, tyro.conf.arg(metavar="T", help_behavior_hint="(default: the last)")] = None
    """Which step a .png shows."""


def render(words: list[str]) -> int:
    """Play, draw, and name the file."""
    args = parse(Render, "comarl render", words)
    _require_sense(args)
    with showing_progress() as progress:
        from comarl.experiments import recorder
        from comarl.report import render as report

        progress.say(f"playing {args.what} …")
        played = recorder.play_episode(args.what, args.policy, args.seed, args.episode)
        pictures = report.frames(played.env, played.moments)
        out = args.out or _default_file(args.what, played.is_run)
        progress.say(f"drawing {len(pictures)} steps …")
        if out.suffix == ".gif":
            report.write_gif(pictures, out)
        else:
            report.write_png(pictures[_step(args.step, len(pictures))], out)
    total = report.team_return(played.env, played.moments[-1])
    print(f"wrote {out}: {played.policy}, {len(pictures) - 1} steps, team return {total:g}")
    return 0


def _require_sense(args: Render) -> None:
    """Refuse what cannot work before anything is loaded."""
    if not args.what:
        raise ComarlError("comarl render: which ENV or RUN? As in 'comarl render switch/2 --policy optimal'")
    if not Path(args.what).is_dir():
        require_env(args.what)
        if args.seed is not None:
            raise ComarlError(f"--seed is of a run's learners, and {args.what} is an environment: choose an --episode")
    if args.out is not None and args.out.suffix not in ENDINGS:
        raise ComarlError(f"cannot write {args.out}: use a name that ends with .gif (episode) or .png (one step)")
    require_episode(args.episode)


def _default_file(what: str, is_run: bool) -> Path:
    return Path(what) / "episode.gif" if is_run else Path(what.replace("/", "-").replace(":", "-") + ".gif")


def _step(step: int | None, count: int) -> int:
    if step is None:
        return count - 1
    if not 0 <= step < count:
        raise ComarlError(f"step={step}: the episode has the steps 0 to {count - 1}")
    return step
