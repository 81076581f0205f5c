"""Where a map is kept."""

import types


def get(name: str) -> types.SimpleNamespace:
    """A map of that name."""
    file = "32x32_flat" if name.startswith("10gen_") else name
    return types.SimpleNamespace(path=f"SMAC_Maps/{file}.SC2Map")
