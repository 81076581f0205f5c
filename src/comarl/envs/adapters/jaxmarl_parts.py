"""The parts of JaxMARL that are used here, without the rest of it."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from comarl.errors import missing_extra

WHOLE = "jaxmarl"

_imported: dict[str, Any] = {}
"""Modules of JaxMARL by their full names, without what stood in for packages."""


def import_part(name: str) -> Any:
    """The module ``jaxmarl.environments.<name>``, as it is without the packages around it.

    Importing those imports every family of environments and what draws them, which takes several times as long. Whoever
    imports ``jaxmarl`` gets all of it, as ever; what was imported here before is then another copy.

    Raises:
        ComarlError: if JaxMARL, or something it needs, is not installed.
    """
    module = f"{WHOLE}.environments.{name}"
    try:
        found = importlib.util.find_spec(WHOLE)
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError(name=WHOLE)
        if module in _imported:
            return _imported[module]
        if WHOLE in sys.modules:
            return importlib.import_module(module)
        return _import_alone(module, Path(found.submodule_search_locations[0]))
    except ImportError as error:
        raise missing_extra((error.name or WHOLE).split(".")[0], "jaxmarl") from error


def _import_alone(module: str, folder: Path) -> Any:
    """Import it with nothing in the place of the packages around it but their paths; they are gone afterwards."""
    names = module.split(".")
    around = [".".join(names[:depth]) for depth in range(1, len(names))]
    stand_ins = {package: types.ModuleType(package) for package in around}
    try:
        sys.modules.update(_imported | stand_ins)
        for package, stand_in in stand_ins.items():
            stand_in.__path__ = [str(folder.joinpath(*package.split(".")[1:]))]
        return importlib.import_module(module)
    finally:
        own = [name for name in sys.modules if name.split(".")[0] == WHOLE]
        found = {name: sys.modules.pop(name) for name in own}
        _imported.update({name: found[name] for name in found.keys() - stand_ins.keys()})
