"""An ONNX team plays where there is no JAX: in a Python that refuses to import it."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import comarl
from comarl.algos.qlearning import QPolicy
from comarl.algos.stochastic import StochasticPolicy
from comarl.errors import ComarlError
from comarl.execution.write import Origin, write_team
from comarl.nets.agents import Agent
from comarl.types import EnvSpec

ROOT = Path(__file__).parents[2]
TRAINING = (
    *("jax", "jaxlib", "equinox", "optax", "orbax", "jaxtyping", "jaxmarl", "scipy", "rich", "tyro"),
    *("jax2onnx", "onnx", "safetensors"),
)
"""What a machine that only plays does not have: all that comarl depends on but numpy."""
SPREAD = EnvSpec("mpe/simple_spread", 3, 18, 54, 5, 26)


def run_without(packages: tuple[str, ...], *words: str) -> str:
    """Standard output of Python with these words, where none of the packages can be imported."""
    blocker = f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
    begin = f"import runpy\nsys.argv = {[*words]!r}\nrunpy.run_path({words[0]!r}, run_name='__main__')\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", blocker + begin], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", name="team")
def _team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three agents that have learned nothing, for simple_spread."""
    folder = tmp_path_factory.mktemp("teams") / "spread"
    policy = QPolicy(Agent(SPREAD, key=jax.random.key(0), hidden=8), jnp.zeros(()))
    write_team(policy, SPREAD, folder, "onnx", Origin("qmix", SPREAD.name, 0))
    return folder


FIVE_LINES = """\
import comarl, numpy as np
team = comarl.load_policy("{folder}")
obs = np.linspace(-1, 1, 4 * 3 * 18).reshape(4, 3, 18)
for step in range(4):
    print(team.act(obs[step]).tolist())
"""


def test_five_lines(team: Path, tmp_path: Path) -> None:
    script = tmp_path / "play.py"
    script.write_text(FIVE_LINES.format(folder=team))
    here = comarl.load_policy(team)
    obs = np.linspace(-1, 1, 4 * 3 * 18).reshape(4, 3, 18)
    want = "".join(f"{here.act(obs[step]).tolist()}\n" for step in range(4))
    assert run_without(TRAINING, str(script)) == want


REFUSED = """\
import comarl
for folder in {folders!r}:
    try:
        comarl.load_policy(folder)
    except comarl.ComarlError as error:
        print(error)
"""


def test_what_needs_jax_says_so(tmp_path: Path) -> None:
    policy = StochasticPolicy(Agent(SPREAD, key=jax.random.key(0), hidden=2, agent_id=False))
    folders = [str(tmp_path / name) for name in ("jax", "safetensors", "run")]
    for format_ in ("jax", "safetensors"):
        write_team(policy, SPREAD, tmp_path / format_, format_, Origin("ippo", "x", 0))
    script = tmp_path / "play.py"
    script.write_text(REFUSED.format(folders=folders))
    program, parameters, run = run_without(TRAINING, str(script)).splitlines()
    assert program.startswith(f"{folders[0]}/team.stablehlo plays in JAX (")
    assert parameters.startswith(f"{folders[1]}/team.safetensors plays in JAX (")
    assert program.endswith("): install it, or export the team with --format onnx")
    assert run.startswith(f"{folders[2]} holds no exported team, and a run plays in JAX (")


def test_the_pettingzoo_example(team: Path) -> None:
    words = (str(ROOT / "examples" / "pettingzoo_team.py"), str(team), "mpe2.simple_spread_v3", "--episodes", "2")
    out = run_without(TRAINING, *words)
    title, *rows = out.splitlines()
    assert title == "mpe2.simple_spread_v3, mean return of 2 episodes"
    assert [row.split()[0] for row in rows] == ["team", "random"]
    assert all(float(row.split()[1]) < 0 for row in rows)  # it pays the distance to the landmarks, negated


def test_what_a_program_needs_is_named(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ComarlError, match=r"'onnxruntime' is not installed: pip install 'comarl\[export\]'"):
        comarl.load_policy(team)


@pytest.mark.parametrize(("format_", "package"), [("onnx", "jax2onnx"), ("safetensors", "safetensors.numpy")])
def test_what_writing_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    policy = StochasticPolicy(Agent(SPREAD, key=jax.random.key(0), hidden=2))
    with pytest.raises(ComarlError, match=r"is not installed: pip install 'comarl\[export\]'"):
        write_team(policy, SPREAD, tmp_path / "team", format_, Origin("ippo", "x", 0))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_exported_folder_has_one_seed(team: Path) -> None:
    assert isinstance(comarl.load_policy(team, seed=0), comarl.ExportedTeam)
    with pytest.raises(ComarlError, match="has the seed 0 alone, not 4"):
        comarl.load_policy(team, seed=4)
