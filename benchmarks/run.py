"""Speed of training, phase by phase, beside the machine's own measured peak: ``make bench``.

Every figure is a median with its range over alternating rounds, each case in a process of its own. Start-up, compiling
and memory are those of ``comarl train``. Nothing else should run on the machine meanwhile. Writes
``benchmarks/results/speed.json`` and the table between the marks in ``README.md``.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from pages import write_between

from comarl.experiments.backend import prepare
from comarl.experiments.presets import resolve

ROUNDS = 7
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
MARK = "speed: made by 'make bench'"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "QMIX, simple_spread (8 environments, 26 steps, batch 32, GRU 64)": (
        "qmix",
        "mpe/simple_spread",
        {"cell": "gru", "batch_size": 32, "updates": 1},  # as JaxMARL's QMIX, which makes some 83 updates/s there
    ),
    "QMIX, smax/3m (preset)": ("qmix", "smax/3m", {}),
    "QMIX, smax/3m (GRU 64)": ("qmix", "smax/3m", {"cell": "gru"}),
    "MAPPO, smax/3m (preset)": ("mappo", "smax/3m", {}),
    "MADDPG, simple_spread (the paper's settings)": ("maddpg", "mpe/simple_spread", {}),
}
"""Method, environment, and settings in place of the preset's."""


def main(case: str = "", cores: str = "") -> None:
    """Measure every case, each in a process of its own; with ``case`` that one alone, onto standard output.

    With ``cores`` it is kept to so many of them.
    """
    if not hasattr(os, "sched_setaffinity"):  # said at once, and not after the first case
        raise SystemExit("error: a share of one core's peak needs a system that keeps a process to it, as Linux does")
    if case:
        if cores:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
        print(json.dumps(measure_here(*CASES[case])))
        return
    report: dict[str, Any] = {"rounds": ROUNDS, "cases": {}}
    for name, (method, env, settings) in CASES.items():
        print(f"measuring {name} …", file=sys.stderr)
        measured = json.loads(output([sys.executable, __file__, name]))
        report["machine"] = measured.pop("machine")
        one_core = json.loads(output([sys.executable, __file__, name, "1"]))
        measured["one_core"] = {part: one_core[part] for part in ("phases", "rates", "peak")}
        report["cases"][name] = measured | {"start_up": start_up(method, env, settings)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show_all(report)
    write_between(ROOT / "README.md", MARK, table(report))
    print(f"wrote {RESULTS.relative_to(ROOT)} and the table in README.md")


def measure_here(method: str, env: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The phases of one case, in this process, and what they ran on."""
    prepare()
    from comarl.report.speed import machine, measure

    return measure(resolve(method, env, settings), ROUNDS) | {"machine": machine()}


def start_up(method: str, env: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A short training as a user begins it: with an empty cache of compiled programs (``cold``), then with theirs.

    Returns:
        Of ``cold`` and ``warm`` each ``seconds`` from the command until training starts, ``compile_seconds`` of them,
        and ``memory_gb`` at the most, of the whole training; of ``warm`` medians with their range.
    """
    from comarl.report.speed import spread

    flags = [x for k, v in settings.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "comarl", "train", method, "--env", env, *flags]
        command += ["--steps", "20000", "--eval-every", "20000", "--overwrite", "--run", f"{folder}/run"]
        cold, *warm = [started(command, folder) for _ in range(4)]
    return {"cold": cold, "warm": {name: spread([start[name] for start in warm]) for name in cold}}


def started(command: list[str], cache: str) -> dict[str, float]:
    """What a training that runs to its end took until it started, and its memory."""
    start, said, took = time.perf_counter(), "", 0.0
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr or ():
            said += line
            if "training starts" in line:
                took = time.perf_counter() - start
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    compiled = re.search(r"compiled in ([0-9.]+) s; training starts", said)
    if process.returncode or not compiled:
        _fail(command, process.returncode, said)
    return {"seconds": took, "compile_seconds": float(compiled[1]), "memory_gb": used.ru_maxrss / 1e6}


def output(command: list[str]) -> str:
    """Standard output of a process, whose standard error is shown if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout if not done.returncode else _fail(command, done.returncode, done.stderr)


def _fail(command: list[str], status: int, said: str) -> NoReturn:
    raise SystemExit(f"error: {' '.join(command)} ended with status {status}:\n{said}")


def show_all(report: dict[str, Any]) -> None:
    """Every case's phases."""
    from comarl.cli.output import table_console
    from comarl.report.speed import phase_table, show

    for name, case in report["cases"].items():
        table_console().print(phase_table(name, case))
        cold, warm = (case["start_up"][cache] for cache in ("cold", "warm"))
        print(
            f"start-up: {cold['seconds']:.1f} s at first, {show(warm['seconds'])} s then; memory of the training: "
            f"{cold['memory_gb']:.2f} GB, {show(warm['memory_gb'])} GB\n"
        )


def table(report: dict[str, Any]) -> str:
    """The cases as a table in Markdown."""
    from comarl.report.speed import short

    lines = [
        "| | env steps/s, environments alone | env steps/s, acting | updates/s "
        "| share of matrix-product peak: one core, all | compile | start-up: cold, warm cache "
        "| memory: cold, warm cache |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in report["cases"].items():
        cells = [short(case["rates"][x]["median"]) for x in ("env_steps_alone", "env_steps_acting", "updates")]
        shares = [
            f"{of['phases']['update']['share']['median']:.0%} of {short(of['peak']['median'])}"
            for of in (case["one_core"], case)
        ]
        cold, warm = case["start_up"]["cold"], case["start_up"]["warm"]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {', '.join(shares)} GFLOP/s | "
            f"{cold['compile_seconds']:.1f} s | {cold['seconds']:.1f}, {warm['seconds']['median']:.1f} s | "
            f"{cold['memory_gb']:.2f}, {warm['memory_gb']['median']:.2f} GB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
