"""How the time of an update and of an environment step grows: ``make bench-scaling``.

``python benchmarks/scaling.py [METHOD or WHAT...]`` measures every method of :data:`METHODS` over agents and over
environments, and QMIX over the steps of a sequence, the width of the agents, and seeds as well; or those named alone
(``qmix iql agents``). The other settings stay at :data:`BASE`. A point that is in ``benchmarks/results/scaling.json``
is not measured again, so the command goes on where it was stopped. After every line of points the pictures
``docs/images/scaling-*.png`` and the section in ``docs/speed.md`` are written anew. Nothing else should run on the
machine meanwhile.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_between

from comarl.experiments.methods import METHODS as KNOWN

ROOT = Path(__file__).parent.parent
RESULTS, PICTURES = ROOT / "benchmarks" / "results" / "scaling.json", ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "speed.md"
MARK = "scaling: made by 'make bench-scaling'"
ROUNDS = 5
METHODS = tuple(name for name in KNOWN if name != "joint")  # the joint Q's outputs are all joint actions: exponential
BASE = {"agents": 4, "environments": 8, "steps": 26, "width": 64, "seeds": 1}
"""What the other settings are while one of them grows; batches are of 32 sequences."""
GROWING: dict[str, tuple[int, ...]] = {
    "agents": (2, 4, 16, 64),
    "environments": (1, 16, 256, 4096),
    "steps": (8, 16, 32, 64, 128, 256),
    "width": (32, 64, 128, 256, 512),
    "seeds": (1, 2, 4, 8),
}
FOR_ALL = ("agents", "environments")
"""What every method is measured over; the rest is QMIX's alone."""
TIMES = {"update": "an update", "iteration": "an iteration's steps"}
MAX_SECONDS = 900
"""Of one point; one that takes longer, or more memory than there is, is left out, and so are those beyond it."""


def main(names: list[str]) -> None:
    """Measure what is missing, a line of points after the other."""
    known = (*METHODS, *GROWING)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"error: neither a method nor what grows: {', '.join(unknown)}; any of {', '.join(known)}")
    methods = [name for name in METHODS if name in names] or METHODS
    growing = [name for name in GROWING if name in names] or GROWING
    points: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    for method in methods:
        for what in growing if method == "qmix" else [name for name in FOR_ALL if name in growing]:
            for value in GROWING[what]:
                wanted = {"method": method, "what": what, "value": value}
                if not any(wanted.items() <= point.items() for point in points):
                    print(f"{method}: {what} {value}", file=sys.stderr)
                    points.append(wanted | point_of(method, what, value))
                    save(points)
                if "failed" in next(point for point in points if wanted.items() <= point.items()):
                    break
            write(points)
    write(points)
    print(f"wrote {RESULTS.relative_to(ROOT)} and the section in {PAGE.relative_to(ROOT)}")


def point_of(method: str, what: str, value: int) -> dict[str, Any]:
    """One point's figures, from a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("scaling_point.py")), method]
    command += [json.dumps(BASE | {what: value} | {"rounds": ROUNDS})]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"over {MAX_SECONDS} s"}
    return json.loads(done.stdout) if done.returncode == 0 else {"failed": f"status {done.returncode}"}


def save(points: list[dict[str, Any]]) -> None:
    """The JSON, a line for each point."""
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(point) for point in points) + "\n]\n", encoding="utf-8")


def write(points: list[dict[str, Any]]) -> None:
    """A picture for everything that grows, and the section with the slopes."""
    parts = []
    for what in GROWING:
        lines = lines_of(points, what)
        if lines:
            draw(what, lines)
            parts += [f"![Time of an update and of an iteration's steps over {what}](images/scaling-{what}.png)", ""]
            parts += [table(what, lines), ""]
    write_between(PAGE, MARK, "\n".join(parts).strip())


def lines_of(points: list[dict[str, Any]], what: str) -> dict[str, list[dict[str, Any]]]:
    """By method the points over ``what``, in order."""
    own = [point for point in points if point["what"] == what and "failed" not in point]
    return {
        method: line
        for method in METHODS
        if len(line := sorted((x for x in own if x["method"] == method), key=lambda x: x["value"])) > 1
    }


def slope(line: list[dict[str, Any]], figure: str) -> float | None:
    """The exponent of the growth over the upper half of a line; 1 is linear. None where something is 0."""
    upper = line[len(line) // 2 - (len(line) == 2) :]
    y = [value_of(point, figure) for point in upper]
    if not all(y):
        return None
    return float(np.polyfit(np.log([point["value"] for point in upper]), np.log(y), 1)[0])


def value_of(point: dict[str, Any], figure: str) -> float:
    """Seconds, or an update's operations."""
    return point[figure] if figure == "gflop" else point[figure]["median"]


def table(what: str, lines: dict[str, list[dict[str, Any]]]) -> str:
    """The exponents over ``what`` in Markdown."""
    from comarl.report.speed import short

    rows = [
        f"| method | {what} | an update (ms) | exponent | its operations (GFLOP) | exponent | steps (ms) | exponent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, line in lines.items():
        ends = (line[0], line[-1])
        cells = [f"{ends[0]['value']} → {ends[1]['value']}"]
        for figure, scale in (("update", 1e3), ("gflop", 1.0), ("iteration", 1e3)):
            exponent = slope(line, figure)
            cells.append(" → ".join(short(scale * value_of(x, figure)) for x in ends))
            cells.append("–" if exponent is None else f"{round(exponent, 2) + 0.0:.2f}")
        rows.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(rows)


def draw(what: str, lines: dict[str, list[dict[str, Any]]]) -> None:
    """Time over ``what`` on logarithmic axes, with a line of slope 1; on the right an update's operations."""
    from matplotlib.figure import Figure

    panels = {
        "update": "update (ms)",
        "iteration": "an iteration's steps (ms)",
        "gflop": "products of an update (GFLOP)",
    }
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        scale = 1.0 if name == "gflop" else 1e3
        lowest = np.inf
        for number, (method, line) in enumerate(lines.items()):
            x, y = [p["value"] for p in line], [scale * value_of(p, name) for p in line]
            axes.plot(x, y, marker="osD^v<>pP*X"[number % 11], markersize=4, linewidth=1.3, label=method)
            lowest = min(lowest, *y)
        ticks = np.array(GROWING[what], float)
        axes.plot(ticks, lowest * ticks / ticks[0], color="0.45", linestyle="--", linewidth=1, label="linear")
        axes.set(xscale="log", yscale="log", xlabel=what, title=title)
        axes.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
        axes.minorticks_off()
        axes.grid(color="0.9")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"scaling-{what}.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
