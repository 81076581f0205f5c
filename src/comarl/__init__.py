"""comarl: teams of agents that learn together and act apart."""

import importlib
from typing import TYPE_CHECKING, Any

from comarl.errors import ComarlError

if TYPE_CHECKING:
    from comarl.api import TeamPolicy, evaluate, export, make, resume, train
    from comarl.execution.team import ExportedTeam
    from comarl.policies import load_policy

__version__ = "0.1.0"
__all__ = ["ComarlError", "ExportedTeam", "TeamPolicy", "evaluate", "export", "load_policy", "make", "resume", "train"]

WITHOUT_JAX = {"ExportedTeam": "comarl.execution.team", "load_policy": "comarl.policies"}
"""Where those names are that a machine without JAX can use, too."""


def __getattr__(name: str) -> Any:
    """Load the interface when it is first used: ``comarl --help`` must not wait for JAX."""
    if name in __all__:
        return getattr(importlib.import_module(WITHOUT_JAX.get(name, "comarl.api")), name)
    raise AttributeError(f"module 'comarl' has no attribute '{name}'")
