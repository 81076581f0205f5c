"""What a run came to, as a table."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from comarl.experiments.scores import short, show_score

COSTS = ("env_steps", "compile_seconds", "train_seconds", "episodes")
NOT_A_POLICY = {"method", "env", "learner", "seeds", "score", "win_rate", "return", "sampled", "outcomes", *COSTS}
"""Keys of a summary; every other key is a fixed policy with its score."""


def score_table(summary: dict[str, Any]) -> RenderableType:
    """Learned scores per seed and their mean, beside the fixed policies; further outcomes in columns of their own."""
    name: str = summary["score"]
    learned = summary.get("win_rate") or summary["return"]
    episodes = f", {summary['episodes']} episodes" if "episodes" in summary else ""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("policy")
    outcomes: dict[str, Any] = summary.get("outcomes", {})
    for column in (short(name), *outcomes):
        table.add_column(column, justify="right")
    for i, (seed, score) in enumerate(zip(summary["seeds"], learned["per_seed"], strict=True)):
        also = (f"{x['per_seed'][i]:.3f}" for x in outcomes.values())
        table.add_row(f"learned, seed {seed}", show_score(name, score), *also)
    table.add_row(
        "learned, mean",
        show_score(name, learned["mean"]),
        *(f"{sum(x['per_seed']) / len(x['per_seed']):.3f}" for x in outcomes.values()),
        style="bold",
        end_section="sampled" not in summary,
    )
    if "sampled" in summary:
        table.add_row("the same, sampling actions", show_score(name, summary["sampled"]["mean"]), end_section=True)
    for policy in (key for key in summary if key not in NOT_A_POLICY):
        table.add_row(policy, show_score(name, summary[policy]), *(f"{x[policy]:.3f}" for x in outcomes.values()))
    # Not the table's own title, which is folded to the table's width.
    return Group(Text(f"{summary['method']} on {summary['env']}: {name}{episodes}", style="italic"), table)


def costs(summary: dict[str, Any]) -> str:
    """What the run took; compiling is no part of training."""
    seeds, steps, seconds = len(summary["seeds"]), summary["env_steps"], summary["train_seconds"]
    rate = f" ({seeds * steps / seconds:,.0f} steps/s)" if seconds else ""
    each = f"{seeds} × " if seeds > 1 else ""
    trained = f"trained {each}{steps:,} environment steps in {seconds:.1f} s{rate}"
    return f"compiled in {summary['compile_seconds']:.1f} s, {trained}"
