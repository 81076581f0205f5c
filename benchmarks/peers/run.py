"""Speed beside other libraries, in one run and in turn: ``make bench-peers``.

``python benchmarks/peers/run.py [METHOD...]`` measures QMIX if none is named; ``settings.py`` says with what. Each
library runs in a process of its own, from an environment of its own, which is made from ``requirements/`` where it is
absent (in ``.cache/peers``, or where ``COMARL_PEERS`` says). All are started and warmed up first; then every round asks
one after the other for the seconds of an iteration and of an update, in one order and in the next round in the other.
JaxMARL's baselines take part if ``COMARL_JAXMARL`` names a checkout of its repository. Nothing else should run on the
machine meanwhile. Writes ``benchmarks/results/peers.json`` and the tables in ``docs/speed.md``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from settings import FRAMES, METHODS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from pages import write_between  # noqa: E402

from comarl.report.speed import machine, short, spread  # noqa: E402

ROUNDS = 7
NAMES = {"comarl": "comarl", "jaxmarl": "JaxMARL", "benchmarl": "BenchMARL", "xuance": "XuanCe"}
ENVIRONMENTS = Path(os.environ.get("COMARL_PEERS") or ROOT / ".cache" / "peers")
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
PAGE = ROOT / "docs" / "speed.md"
MARK = "peers: made by 'make bench-peers'"


class Library:
    """A process that measures one library."""

    def __init__(self, name: str, method: str) -> None:
        """Start it; what it prints goes to a log."""
        self.name = name
        command = [str(python_of(name)), str(HERE / f"on_{name}.py"), method]
        self._log = ENVIRONMENTS / f"{name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.versions: dict[str, str] = self._read()["versions"]

    def measure(self) -> dict[str, float]:
        """Seconds of an iteration and of an update, and the most memory so far in GB."""
        assert self._process.stdin
        print("measure", file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} stopped with status {self._process.wait()}: {self._log} says why")
        return json.loads(line)


def main(methods: list[str]) -> None:
    """Measure each method; the JSON and the page after each."""
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise SystemExit(f"error: no such method: {', '.join(unknown)}; one of {', '.join(METHODS)}")
    report = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for method in methods or ["qmix"]:
        report[method] = compare(method)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_between(PAGE, MARK, "\n\n".join(table(name, result) for name, result in report.items()))
        print(table(method, report[method]))
    print(f"wrote {RESULTS.relative_to(ROOT)} and the tables in {PAGE.relative_to(ROOT)}")


def compare(method: str) -> dict[str, Any]:
    """Every library's figures, from alternating rounds."""
    names = [name for name in NAMES if name != "jaxmarl" or "COMARL_JAXMARL" in os.environ]
    if "jaxmarl" not in names:
        print("without JaxMARL: COMARL_JAXMARL names no checkout of its repository", file=sys.stderr)
    libraries = []
    for name in names:
        print(f"starting {NAMES[name]} …", file=sys.stderr)
        libraries.append(Library(name, method))
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for library in libraries:
        library.measure()  # not counted: a library's first measurement may still warm something up
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
        for library in libraries[:: 1 if number % 2 == 0 else -1]:
            rounds[library.name].append(library.measure())
    for library in libraries:
        library.close()
    return {
        "machine": machine(),
        "rounds": ROUNDS,
        "libraries": {x.name: {"versions": x.versions} | figures(rounds[x.name]) for x in libraries},
        "ratios": {name: ratios(rounds["comarl"], rounds[name]) for name in names[1:]},
    }


def figures(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Rates, as medians with their ranges.

    An update is a difference; where it takes next to nothing of an iteration, noise can make a round's negative. Such
    rounds are left out, and how many there were is said.
    """
    updates = [x["update"] for x in rounds if x["update"] > 0]
    return {
        "updates/s": spread([1 / x for x in updates]),
        "rounds with an update": len(updates),
        "iterations/s": spread([1 / x["iteration"] for x in rounds]),
        "environment steps/s": spread([FRAMES / x["iteration"] for x in rounds]),
        "memory (GB)": max(x["memory"] for x in rounds),
    }


def ratios(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """How many times faster ours is, round by round."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        what: spread([t[what] / o[what] for o, t in pairs if min(o[what], t[what]) > 0])
        for what in ("update", "iteration")
    }


def table(method: str, result: dict[str, Any]) -> str:
    """A method's libraries in Markdown."""
    of = result["machine"]
    lines = [
        f"{method.upper()}, medians of {result['rounds']} rounds with their range, on {of['cores']} cores "
        f"({of['cpu']}, {of['backend']}):",
        "",
        "| library | updates/s | ours is faster | iterations/s | ours is faster | env steps/s | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, x in result["libraries"].items():
        times = result["ratios"].get(name)
        update, iteration = (f"{short(times[w]['median'])}×" if times else "" for w in ("update", "iteration"))
        versions = ", ".join(f"{k} {v}" for k, v in x["versions"].items())
        lines.append(
            f"| {NAMES[name]} ({versions}) | {_range(x['updates/s'])} | {update} | {_range(x['iterations/s'])} | "
            f"{iteration} | {short(x['environment steps/s']['median'])} | {x['memory (GB)']:.1f} GB |"
        )
    return "\n".join(lines)


def _range(x: dict[str, float]) -> str:
    return f"{short(x['median'])} [{short(x['min'])}, {short(x['max'])}]"


def python_of(name: str) -> Path:
    """The interpreter of a library's environment, which is made if it is absent; ours is this one."""
    if name == "comarl":
        return Path(sys.executable)
    wanted = HERE / "requirements" / f"{name}.txt"
    folder = ENVIRONMENTS / name
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not (installed.is_file() and installed.read_text(encoding="utf-8") == wanted.read_text(encoding="utf-8")):
        print(f"making {folder} from {wanted.relative_to(ROOT)} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--requirement", str(wanted)], check=True, stdout=sys.stderr)
        installed.write_text(wanted.read_text(encoding="utf-8"), encoding="utf-8")  # last: begun is not done
    return python


if __name__ == "__main__":
    main(sys.argv[1:])
