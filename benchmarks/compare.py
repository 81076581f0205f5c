"""Methods side by side on the same environments, settings and budget: ``make compare``.

``python benchmarks/compare.py NAME...`` runs the comparisons of those names, all if none is given. A result that is in
``benchmarks/results/NAME.json`` with the same settings is not run again, so the command goes on where it was stopped,
also on another machine. After every run the JSON, the picture ``docs/images/NAME.png`` and the table between the marks
in ``docs/comparisons.md`` are written anew.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_between
from scipy.stats import bootstrap, trim_mean

from comarl.experiments.config import RunConfig
from comarl.experiments.methods import METHODS
from comarl.experiments.presets import CHECKERS, SPEAKER, SWITCH, defaults, resolve
from comarl.experiments.scores import short, show_score
from comarl.report.curves import COLOURS, read_curve, summarise

ROOT = Path(__file__).parent.parent
RESULTS, PICTURES = ROOT / "benchmarks" / "results", ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "comparisons.md"
POLICIES = ("ippo", "mappo", "ia2c", "maa2c", "coma", "maddpg", "ddpg", "facmac", "maac")
FACTORISED = ("iql", "vdn", "qmix", "qplex", "qatten", "qtran-base", "qtran-alt", "cw-qmix", "ow-qmix")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        methods: names of methods, or of variants.
        envs: names of environments.
        settings: what all have in common, by flat names; the rest are each method's defaults.
        seeds: seeds of each.
        variants: by their names methods with more settings.
    """

    methods: tuple[str, ...]
    envs: tuple[str, ...]
    settings: dict[str, Any]
    seeds: int = 3
    variants: dict[str, tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)

    def of(self, name: str) -> tuple[str, dict[str, Any]]:
        """The method of that name, or behind a variant, and its settings."""
        method, more = self.variants.get(name, (name, {}))
        return method, self.settings | more


TRANSITIONS = {
    name: SPEAKER[name] for name in ("straight_through", "lr", "lr_decay", "replay_part", "batch_size", "updates")
}
COMPARISONS = {
    "switch": Comparison(FACTORISED, ("switch/2",), SWITCH),
    "checkers": Comparison(FACTORISED, ("checkers",), CHECKERS),
    "predator-prey": Comparison(
        FACTORISED,
        ("predator-prey/p-0", "predator-prey/p-1", "predator-prey/p-2"),
        {
            "steps": 100_000,
            "length": 32,
            "epsilon_steps": 50_000,
            "epsilon_end": 0.02,
            "td_lambda": 0.8,
            "target_interval": 50,
            "eval_every": 25_000,
            "eval_episodes": 64,
        },
    ),
    "combat": Comparison(
        FACTORISED,
        ("smax/3m", "smax/2s3z", "smax/3s5z", "smax/5m_vs_6m"),
        {"steps": 150_000, "length": 32, "epsilon_end": 0.02, "eval_every": 50_000, "eval_episodes": 256},
    ),
    "spread": Comparison(
        (*FACTORISED, *POLICIES),
        ("mpe/simple_spread",),
        {"steps": 300_000, "length": 26, "gamma": 0.9, "team_reward": "sum", "eval_every": 50_000},
        seeds=5,
    ),
    # All without memory, with the same γ and width. What learns from replayed actor and critic has the transitions and
    # rates of MADDPG's preset in common, the others their own learner's way.
    "speaker": Comparison(
        (*FACTORISED, *POLICIES, "maddpg-inferring"),
        ("mpe/simple_speaker_listener",),
        {"cell": "mlp", "steps": 900_000, "gamma": 0.5, "eval_every": 100_000},
        seeds=5,
        variants={
            **{name: (name, TRANSITIONS) for name in ("maddpg", "ddpg", "facmac", "maac")},
            "maddpg-inferring": ("maddpg", TRANSITIONS | {"infer_policies": True}),
        },
    ),
}


def main(names: list[str]) -> None:
    """Run what is missing of each comparison."""
    for name in names or COMPARISONS:
        comparison = COMPARISONS[name]
        path = RESULTS / f"{name}.json"
        rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        write(name, rows)
        for env in comparison.envs:
            for method in comparison.methods:
                if not any(is_result(row, comparison, method, env) for row in rows):
                    rows = [row for row in rows if (row["method"], row["env"]) != (method, env)]
                    rows.append(run(name, comparison, method, env))
                    write(name, rows)


def is_result(row: dict[str, Any], comparison: Comparison, method: str, env: str) -> bool:
    """Whether a row is this method's result with the settings of now."""
    wanted = (method, env, comparison.of(method)[1], comparison.seeds)
    return (row["method"], row["env"], row["settings"], len(row["scores"])) == wanted


def run(name: str, comparison: Comparison, method: str, env: str) -> dict[str, Any]:
    """Train and read the curve."""
    from comarl.cli.output import showing_progress
    from comarl.experiments.runner import train

    print(f"{method} on {env}", file=sys.stderr)
    folder = ROOT / "runs" / name / f"{method}-{env.replace('/', '-')}"
    rule, settings = comparison.of(method)
    config = fair(rule, env, settings | {"seeds": comparison.seeds, "run": folder, "overwrite": True})
    with showing_progress() as progress:
        train(config, progress)
    curve = read_curve(folder)
    return {
        "method": method,
        "env": env,
        "settings": settings,
        "score": curve.score,
        "env_steps": curve.steps.tolist(),
        "scores": curve.scores.round(4).tolist(),
        "fixed": {k: round(v, 4) for k, v in curve.fixed.items()},
        "command": command(rule, env, comparison.seeds, settings),
    }


def fair(method: str, env: str, settings: dict[str, Any]) -> RunConfig:
    """The configuration of a run, which no preset may favour."""
    config = resolve(method, env, settings)
    if config != defaults(method, env, settings):
        raise ValueError(
            f"the preset of {method} on {env} has settings that the comparison does not: it would favour it"
        )
    return config


def command(method: str, env: str, seeds: int, settings: dict[str, Any]) -> str:
    """What a user types for one result."""
    return f"comarl train {method} --env {env} --seeds {seeds} {' '.join(flag(*x) for x in settings.items())}"


def flag(name: str, value: Any) -> str:
    """A setting as it is typed."""
    word = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{word}" if value else f"--no-{word}"
    return f"--{word} {value}"


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """The JSON, the picture and the table."""
    if not rows:
        return
    order = COMPARISONS[name]
    rows.sort(key=lambda r: (order.envs.index(r["env"]), order.methods.index(r["method"])))
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(name, rows)
    write_table(name, rows)


def write_table(name: str, rows: list[dict[str, Any]]) -> None:
    """The page's picture and table: a row per method, a column per environment, and the middle over all of them."""
    envs = [env for env in COMPARISONS[name].envs if any(r["env"] == env for r in rows)]
    picture = f"![Learning curves of every method on {', '.join(envs)}](images/{name}.png)"
    # Returns of different environments have no common scale.
    several = ["all"] if len(envs) > 1 and short(rows[0]["score"]) == "win rate" else []
    lines = [f"| {' | '.join(['method', *envs, *several])} |", "|---" * (len(envs) + 1 + len(several)) + "|"]
    for method in COMPARISONS[name].methods:
        own = {r["env"]: r for r in rows if r["method"] == method}
        if own:
            cells = [cell(own[env]) if env in own else "–" for env in envs]
            cells += [overall([own[env] for env in envs]) if len(own) == len(envs) else "–" for _ in several]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    for policy in dict.fromkeys(p for r in rows for p in r["fixed"]):
        fixed = {r["env"]: show_score(r["score"], r["fixed"][policy]) for r in rows if policy in r["fixed"]}
        lines.append(f"| *{policy}* | {' | '.join([*(fixed.get(env, '–') for env in envs), *('' for _ in several)])} |")
    write_section(name, [picture, "", *lines])


def write_section(name: str, lines: list[str]) -> None:
    """The page's part between the marks of that name."""
    write_between(PAGE, f"{name}: made by 'make compare'", "\n".join(lines))


def cell(row: dict[str, Any]) -> str:
    """The last evaluation: the middle over seeds and its interval."""
    middle, low, high, _ = summarise(np.array(row["scores"])[:, -1:])
    return f"{shown(row, middle[0])} [{shown(row, low[0])}, {shown(row, high[0])}]"


def shown(row: dict[str, Any], x: float) -> str:
    """A score in a table."""
    return show_score(row["score"], float(x))


def overall(rows: list[dict[str, Any]]) -> str:
    """The interquartile mean over seeds and environments, seeds resampled within each environment."""
    scores = [np.array(r["scores"])[:, -1] for r in rows]

    def middle(*by_env: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(trim_mean(np.concatenate(by_env, axis=axis), 0.25, axis=axis))

    interval = bootstrap(scores, middle, method="percentile", rng=0, n_resamples=2000).confidence_interval
    parts = (middle(*scores), interval.low, interval.high)
    at, low, high = (shown(rows[0], float(x)) for x in parts)
    return f"{at} [{low}, {high}]"


def draw(name: str, rows: list[dict[str, Any]]) -> None:
    """A panel per environment and kind of methods, a line per method; the fixed policies as horizontal lines."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    envs = [env for env in COMPARISONS[name].envs if any(r["env"] == env for r in rows)]
    done = {(row["env"], row["method"]) for row in rows}
    panels_of = [(env, kind, methods) for env in envs for kind, methods in kinds(COMPARISONS[name]).items()]
    shown = [(env, kind, methods) for env, kind, methods in panels_of if any((env, m) in done for m in methods)]
    wide = min(2, len(shown))
    high = -(-len(shown) // wide)
    figure = Figure(figsize=(5.2 * wide + 1.8, 3.1 * high + 0.4), layout="constrained", dpi=130)
    panels = figure.subplots(high, wide, squeeze=False, sharey="row" if len(shown) > len(envs) else False).ravel()
    handles: dict[str, Any] = {}
    for (env, kind, methods), axes in zip(shown, panels, strict=False):
        for row in (r for r in rows if r["env"] == env and r["method"] in methods):
            i = methods.index(row["method"])
            colour, dash = COLOURS[i % len(COLOURS)], ("-", "--")[i // len(COLOURS) % 2]
            middle, low, up, _ = summarise(np.array(row["scores"]))
            handles[row["method"]] = axes.plot(
                row["env_steps"], middle, dash, color=colour, linewidth=1.8, label=row["method"]
            )[0]
            axes.fill_between(row["env_steps"], low, up, color=colour, alpha=0.07, linewidth=0)
            for policy, score in row["fixed"].items():
                handles[policy] = axes.axhline(
                    score, color="0.4", linewidth=1, linestyle=":" if policy == "random" else "-."
                )
        axes.set_title(f"{env}, {kind}" if kind else env, fontsize=10, loc="left")
        axes.set_xlim(0, max(r["env_steps"][-1] for r in rows if r["env"] == env))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k")
        axes.grid(color="0.92", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if rows[0]["score"] == "win rate":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.set_ylim(-0.02, 1.02)
        else:
            late = np.concatenate([np.asarray(line.get_ydata())[len(line.get_ydata()) // 2 :] for line in axes.lines])
            # How bad the beginning is would flatten the rest.
            axes.set_ylim(bottom=max(axes.get_ylim()[0], late.min() - 0.25 * np.ptp(late)))
        if kind:  # each has colours of its own
            learned = [handles.pop(method) for method in methods if method in handles]
            axes.legend(learned, [h.get_label() for h in learned], loc="lower right", fontsize=8, ncols=3)
    for axes in panels[len(shown) :]:
        axes.remove()
    figure.supxlabel("environment steps per seed", fontsize=10)
    figure.supylabel(f"{short(rows[0]['score'])}, greedy policy", fontsize=10)
    learned = COMPARISONS[name].methods
    order = [*(m for m in learned if m in handles), *(h for h in handles if h not in learned)]
    figure.legend([handles[label] for label in order], order, loc="outside right center", frameon=False, fontsize=9)
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"{name}.png")


def kinds(comparison: Comparison) -> dict[str, list[str]]:
    """The methods of each panel: those with values apart from those with policies, where they are too many for one."""
    if len(comparison.methods) <= 2 * len(COLOURS):
        return {"": list(comparison.methods)}
    with_values = {name: METHODS[comparison.of(name)[0]].values for name in comparison.methods}
    return {
        "values": [name for name, values in with_values.items() if values],
        "policies": [name for name, values in with_values.items() if not values],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
