"""comarl: teams of agents that learn together and act apart."""

import importlib
from typing import TYPE_CHECKING, Any

from comarl.errors import ComarlError

if TYPE_CHECKING:
    from comarl.api import TeamPolicy, evaluate, load_policy, make, resume, train

__version__ = "0.1.0"
__all__ = ["ComarlError", "TeamPolicy", "evaluate", "load_policy", "make", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Load the interface when it is first used: ``comarl --help`` must not wait for JAX."""
    if name in __all__:
        return getattr(importlib.import_module("comarl.api"), name)
    raise AttributeError(f"module 'comarl' has no attribute '{name}'")
