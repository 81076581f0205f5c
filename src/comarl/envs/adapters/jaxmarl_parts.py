"""The parts of JaxMARL that are used here, without the rest of it."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from comarl.errors import missing_extra

PACKAGES = ("jaxmarl", "jaxmarl.environments")
"""What is around the parts: importing it imports every family of environments, which takes four times as long."""

_imported: dict[str, Any] = {}
"""Modules of JaxMARL by their full names, the two packages apart."""


def import_part(name: str) -> Any:
    """The module ``jaxmarl.environments.<name>``, as it is without the packages around it.

    Whoever imports ``jaxmarl`` gets all of it, as ever; what was imported here before is then another copy.

    Raises:
        ComarlError: if JaxMARL, or something it needs, is not installed.
    """
    module = f"{PACKAGES[-1]}.{name}"
    try:
        found = importlib.util.find_spec(PACKAGES[0])
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError(name=PACKAGES[0])
        if module in _imported:
            return _imported[module]
        if PACKAGES[-1] in sys.modules:
            return importlib.import_module(module)
        return _import_alone(module, Path(found.submodule_search_locations[0]))
    except ImportError as error:
        raise missing_extra((error.name or PACKAGES[0]).split(".")[0], "jaxmarl") from error


def _import_alone(module: str, folder: Path) -> Any:
    """Import it with nothing in the place of the packages around it but their paths; they are gone afterwards."""
    try:
        sys.modules.update(_imported)
        for package in PACKAGES:
            stand_in = sys.modules[package] = types.ModuleType(package)
            stand_in.__path__ = [str(folder.joinpath(*package.split(".")[1:]))]
        return importlib.import_module(module)
    finally:
        own = [name for name in sys.modules if name.split(".")[0] == PACKAGES[0]]
        _imported.update({name: sys.modules.pop(name) for name in own})
        for package in PACKAGES:
            del _imported[package]
