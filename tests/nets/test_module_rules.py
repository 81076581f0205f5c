"""The three rules of modules: a module is its parameters and nothing else."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import comarl.types
from comarl.mixers.critic import FactoredCritic
from comarl.mixers.iql import IQL
from comarl.mixers.qatten import Qatten
from comarl.mixers.qmix import QMIX, QMIXNS, QMIXLin
from comarl.mixers.qplex import QPLEX
from comarl.mixers.qtran import QTRANAlt, QTRANBase
from comarl.mixers.vdn import VDN, VDNS
from comarl.mixers.wqmix import WeightedQMIX
from comarl.nets.agents import Agent
from comarl.nets.attention_critic import AttentionCritic
from comarl.nets.cells import CELLS, make_cell
from comarl.nets.critics import ActionCritic, CounterfactualCritic, Critic, JointValue
from comarl.nets.ensemble import Ensemble
from comarl.nets.inferred import InferredPolicies
from comarl.nets.layers import MLP, LayerNorm
from comarl.types import EnvSpec

KEY = jax.random.key(0)
SPEC = EnvSpec("x", 3, 4, 5, 2, 10, agent_types=(0, 1, 0))


def joint_value() -> JointValue:
    return JointValue(3, 2, 5, 4, hidden=4, key=KEY)


MODULES: dict[str, Callable[[], Any]] = {
    **{
        f"agent-{kind}-{sharing}": lambda kind=kind, sharing=sharing: Agent(SPEC, key=KEY, kind=kind, sharing=sharing)
        for kind in CELLS
        for sharing in ("shared", "agent", "type")
    },
    "agent-layer-norm": lambda: Agent(SPEC, key=KEY, sharing="type", layer_norm=True),
    "ensemble": lambda: Ensemble(lambda k: Agent(SPEC, key=k, sharing="type"), 2, key=KEY),
    **{f"cell-{kind}": lambda kind=kind: make_cell(kind, 3, 4, key=KEY) for kind in CELLS},
    "critic": lambda: Critic(SPEC, key=KEY, sees="state", sharing="type"),
    "action-critic": lambda: ActionCritic(SPEC, key=KEY, sees="observations"),
    "action-critic-own": lambda: ActionCritic(SPEC, key=KEY, sees="own", sharing="type"),
    "critic-counterfactual": lambda: CounterfactualCritic(SPEC, key=KEY, sharing="agent"),
    "critic-attention": lambda: AttentionCritic(SPEC, key=KEY, sharing="type"),
    "critic-attention-uniform": lambda: AttentionCritic(SPEC, key=KEY, uniform=True),
    "inferred-policies": lambda: InferredPolicies(SPEC, key=KEY),
    "critic-factored": lambda: FactoredCritic(ActionCritic(SPEC, key=KEY, sees="own"), QMIX(3, 5, key=KEY)),
    "net-mlp": lambda: MLP((3, 4, 2), key=KEY),
    "net-layer-norm": lambda: LayerNorm(3),
    "net-joint-value": joint_value,
    "iql": IQL,
    "vdn": VDN,
    "vdn-s": lambda: VDNS(5, key=KEY),
    "qmix": lambda: QMIX(3, 5, key=KEY),
    "qmix-icml": lambda: QMIX(3, 5, hyper_layers=1, key=KEY),
    "qmix-ns": lambda: QMIXNS(3, key=KEY),
    "qmix-lin": lambda: QMIXLin(3, 5, key=KEY),
    "qplex": lambda: QPLEX(3, 2, 5, key=KEY),
    "qatten": lambda: Qatten(SPEC, key=KEY),
    "qatten-plain": lambda: Qatten(SPEC, weighted_heads=False, key=KEY),
    "qtran-base": lambda: QTRANBase(joint_value(), MLP((5, 4, 1), key=KEY), 1.0, 0.1),
    "qtran-alt": lambda: QTRANAlt(joint_value(), None, 1.0, 0.1),
    "cw-qmix": lambda: WeightedQMIX(QMIX(3, 5, key=KEY), joint_value(), 0.1, optimistic=False),
    "ow-qmix": lambda: WeightedQMIX(QMIX(3, 5, key=KEY), joint_value(), 0.1, optimistic=True),
}
SOURCE = Path(comarl.types.__file__).parent


def kinds(module: Any) -> Iterator[type]:
    """The class of a module and of those within it."""
    if isinstance(module, tuple):
        for part in module:
            yield from kinds(part)
    elif isinstance(module, eqx.Module):
        yield type(module)
        for part in vars(module).values():
            yield from kinds(part)


def test_no_module_is_left_out() -> None:
    """Every class of mixers and networks that can be made stands in the list above, alone or in another one."""
    files = [file for package in ("mixers", "nets") for file in (SOURCE / package).glob("[!_]*.py")]
    sources = [importlib.import_module(f"comarl.{file.parent.name}.{file.stem}") for file in files]
    classes = {c for source in sources for _, c in inspect.getmembers(source, inspect.isclass)}
    concrete = {c for c in classes if issubclass(c, eqx.Module) and not inspect.isabstract(c)} - {eqx.Module}
    assert len(concrete) > 20
    listed = {kind for make in MODULES.values() for kind in kinds(jax.eval_shape(make))}
    assert concrete == listed


@pytest.mark.parametrize("name", MODULES)
def test_every_leaf_is_an_inexact_array(name: str) -> None:
    """So that a gradient, an optimiser and plain jax.jit take the module as it is."""
    leaves = jax.tree.leaves(jax.eval_shape(MODULES[name]))  # a leaf that is no array is an error here
    assert all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves)


@pytest.mark.parametrize("name", MODULES)
def test_structure_is_hashable_and_the_same_every_time(name: str) -> None:
    """What is static compares by value: another instance brings no new compilation."""
    one, other = (jax.tree.structure(jax.eval_shape(MODULES[name])) for _ in range(2))
    assert hash(one) == hash(other)
    assert one == other


@pytest.mark.parametrize("name", MODULES)
def test_no_parameter_stands_in_two_places(name: str) -> None:
    """Two places for one parameter would become two parameters at the first update."""
    results = jax.make_jaxpr(MODULES[name])().jaxpr.outvars
    assert len(set(results)) == len(results)


def test_no_filter_jit_in_the_source() -> None:
    """Plain jax.jit: filter_jit's overhead at every call is for code that mixes arrays with anything else."""
    users = [p.name for p in SOURCE.rglob("*.py") if re.search(r"\bfilter_(jit|pmap)\b", p.read_text(encoding="utf-8"))]
    assert users == []
    assert len(list(SOURCE.rglob("*.py"))) > 20
