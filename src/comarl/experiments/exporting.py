"""From a finished run to policies that leave it."""

from pathlib import Path

from comarl.execution.manifest import Format, Manifest
from comarl.execution.write import Origin, write_team
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_env
from comarl.experiments.evaluating import load_policies
from comarl.experiments.folder import load_config, require_seed
from comarl.experiments.methods import require_agents


def export_run(
    run: Path, format_: Format = "onnx", seed: int | None = None, out: Path | None = None
) -> tuple[Path, Manifest]:
    """Write a seed's greedy policies, of the first unless told otherwise.

    Returns:
        The folder, ``RUN/exported/FORMAT-seed-K`` if left out, and what its manifest says.

    Raises:
        ComarlError: if there is no finished run, if its agents have no policies of their own, if a package is missing,
            or if the folder cannot be written.
    """
    config = load_config(run)
    require_agents(config.method)
    seed = require_seed(run, config, seed)
    folder = out or run / "exported" / f"{format_}-seed-{seed}"
    prepare()
    env = build_env(config)
    policy = load_policies(run, config, env)[seed]
    return folder, write_team(policy, env.spec, folder, format_, Origin(config.method, config.env, seed))
