"""The checkpoints of a run: one series for each seed, in ``checkpoints/seed_K``."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from comarl.errors import ComarlError
from comarl.experiments.build import Driver
from comarl.experiments.config import RunConfig, from_json, to_json
from comarl.experiments.provenance import versions
from comarl.training.checkpoint import Saved, Series
from comarl.training.ondevice import RunState


class Checkpoints:
    """Writes and finds the states from which the seeds of a run can go on.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, folder: Path, config: RunConfig, driver: Driver):
        self.folder, self._config, self._driver = folder, config, driver
        seeds = range(config.seed, config.seed + config.seeds)
        self._series = {seed: Series(folder / "checkpoints" / f"seed_{seed}", config.keep) for seed in seeds}
        self._versions = versions()

    def restore(self) -> tuple[dict[int, Saved], list[str]]:
        """The latest whole checkpoint of each seed that has one, and what is to be told of the others.

        Raises:
            ComarlError: if a seed has checkpoints and none of them can be used.
        """
        # Without any, a driver is not asked: it may have to start environments to say.
        like = self._driver.shapes() if any(series.steps() for series in self._series.values()) else None
        found: dict[int, Saved] = {}
        news: list[str] = []
        for seed, series in self._series.items():
            saved, problems = series.restore(like)
            news += problems
            if saved:
                self._require_fit(seed, saved)
                found[seed] = saved
                news += [f"seed {seed}: going on from the one before, of environment step {saved.step}"] * bool(
                    problems
                )
        return found, news + self._other_versions(found)

    def best(self) -> dict[int, Saved]:
        """Each seed's checkpoint with the best evaluation.

        Raises:
            ComarlError: if a seed has none that can be used.
        """
        like = self._driver.shapes()
        found = {seed: series.best(like) for seed, series in self._series.items()}
        for seed, saved in found.items():
            self._require_fit(seed, saved)
        return found

    def save(self, seed: int, env_steps: int, state: RunState, score: float, seconds: float) -> None:
        """Begin to write a copy of a seed's state.

        Args:
            seed: which.
            env_steps: environment steps until now.
            state: nobody else's.
            score: of the evaluation that has just been.
            seconds: what the training has taken until now.

        Raises:
            ComarlError: if it cannot be written.
        """
        notes = {"config": to_json(self._config), "versions": self._versions, "train_seconds": seconds}
        self._series[seed].save(env_steps, state, score, notes)

    def wait(self) -> None:
        """Until everything is written.

        Raises:
            ComarlError: if it cannot be.
        """
        for series in self._series.values():
            series.wait()

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            ComarlError: if it cannot be.
        """
        with contextlib.ExitStack() as stack:
            for series in self._series.values():
                stack.callback(series.close)

    def last(self, seed: int) -> str:
        """Where a seed's latest checkpoint is, in words."""
        series = self._series[seed]
        with contextlib.suppress(ComarlError):
            series.wait()
        steps = series.steps()
        return f"the last good checkpoint is {series.path(steps[-1])}" if steps else "there is no checkpoint before it"

    def _require_fit(self, seed: int, saved: Saved) -> None:
        """Refuse what somebody has put there: another run's, or another seed's."""
        path = self._series[seed].path(saved.step)
        recorded = saved.notes.get("config")
        # More steps may have been asked for since.
        same = isinstance(recorded, dict) and dataclasses.replace(from_json(recorded), steps=self._config.steps)
        if not isinstance(saved.notes.get("train_seconds"), float):
            raise ComarlError(f"{path} does not say what the training has taken: put its own back, or use --overwrite")
        if not same or to_json(same) != to_json(self._config):
            raise ComarlError(f"{path} is of another configuration than the run: put its own back, or use --overwrite")
        here = int(saved.state.iteration) * self._driver.steps_per_iteration
        if (int(saved.state.seed), here) != (seed, saved.step):
            raise ComarlError(
                f"{path} is of seed {int(saved.state.seed)} at environment step {here}: put its own back, "
                "or use --overwrite"
            )

    def _other_versions(self, found: dict[int, Saved]) -> list[str]:
        recorded = [saved.notes.get("versions") for saved in found.values()]
        before: dict[str, Any] = next((v for v in recorded if isinstance(v, dict) and v != self._versions), {})
        names = [k for k in {**before, **self._versions} if before.get(k) != self._versions.get(k)] if before else []
        if not names:
            return []
        return [
            f"other versions than before ({', '.join(names)}): it goes on, perhaps not bit for bit as it would have"
        ]
