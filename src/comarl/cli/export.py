"""``comarl export``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse
from comarl.execution.manifest import MANIFEST, Format, Manifest, port_json
from comarl.experiments.folder import load_config, require_seed
from comarl.experiments.methods import require_agents


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the greedy policies of a finished run to files that play without the training code."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    format: Format = "onnx"
    """onnx plays in onnxruntime, without JAX; jax is a serialised StableHLO program; safetensors are the parameters."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="(default: the run's first)")] = None
    """Which of its seeds."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: RUN/exported/FORMAT-seed-K)")
    ] = None
    """Where to; an exported team that is there is replaced, anything else never is."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def export(words: list[str]) -> int:
    """Write, and say what the files take and give."""
    args = parse(Export, "comarl export", words)
    config = load_config(args.run)
    require_agents(config.method)
    require_seed(args.run, config, args.seed)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            from comarl.experiments.exporting import export_run

            progress.say(f"exporting {args.run} …")
            folder, manifest = export_run(args.run, args.format, args.seed, args.out)
        rows = [
            {
                "file": str(folder / name),
                "bytes": (folder / name).stat().st_size,
                "sha256": digest,
                "agents": manifest.agents_of(name),
            }
            for name, digest in manifest.files.items()
        ]
        print(f"{manifest.method} on {manifest.env}, seed {manifest.seed}: greedy policies as {manifest.format}")
        table_console().print(_table(rows))
        print(_signature(manifest))
        print(f"wrote {folder / MANIFEST}")
        report(_result(folder, manifest, rows))
    return 0


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("file", overflow="fold")
    table.add_column("agents")
    table.add_column("bytes", justify="right")
    for row in rows:
        table.add_row(Path(row["file"]).name, ", ".join(map(str, row["agents"])), f"{row['bytes']:,}")
    return table


def _signature(manifest: Manifest) -> str:
    inputs, outputs = (", ".join(map(str, ports)) for ports in (manifest.inputs, manifest.outputs))
    return f"each takes {inputs}\n     gives {outputs}"


def _result(folder: Path, manifest: Manifest, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "method": manifest.method,
        "env": manifest.env,
        "seed": manifest.seed,
        "format": manifest.format,
        "folder": str(folder),
        "manifest": str(folder / MANIFEST),
        "inputs": [port_json(port) for port in manifest.inputs],
        "outputs": [port_json(port) for port in manifest.outputs],
        "files": rows,
    }
