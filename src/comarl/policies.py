"""Trained teams that act, of run folders and of exported ones. JAX is imported only where a team needs it."""

from pathlib import Path
from typing import TYPE_CHECKING

from comarl.errors import ComarlError
from comarl.execution.manifest import is_exported
from comarl.execution.team import ExportedTeam, load_team

if TYPE_CHECKING:
    from comarl.api import TeamPolicy


def load_policy(run: str | Path, seed: int | None = None, *, best: bool = False) -> "TeamPolicy | ExportedTeam":
    """The trained team of a run folder, or of a folder that ``comarl export`` wrote; both act greedily.

    Args:
        run: the folder.
        seed: which seed of a run; its first if left out. An exported folder holds a single one.
        best: of a run, the team of the checkpoint with the best evaluation; the run need not have finished.

    Raises:
        ComarlError: if the folder holds no finished run, or not that seed; or if an exported team is not as it was
            written, or the package that plays it is missing.
    """
    folder = Path(run)
    if not is_exported(folder):
        try:
            from comarl.api import policy_of_run
        except ImportError as error:
            what = f"{folder} holds no exported team, and a run plays in JAX ({error})"
            raise ComarlError(f"{what}: install it, or export the run with 'comarl export'") from error
        return policy_of_run(folder, seed, best=best)
    team = load_team(folder)
    if best:
        raise ComarlError(f"{folder} holds one exported team, and nothing to choose the best of (leave best out)")
    if seed is not None and seed != team.manifest.seed:
        raise ComarlError(f"{folder} has the seed {team.manifest.seed} alone, not {seed}")
    return team
