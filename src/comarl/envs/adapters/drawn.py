"""What environments of other packages draw themselves. Without JAX."""

from typing import Any

import numpy as np

MODE = "rgb_array"
"""What Gymnasium and PettingZoo call a picture in place of a window."""


def drawn(env: Any) -> np.ndarray | None:
    """What ``env`` draws now, bytes ``[height, width, 3]``; None where it can only open a window, or nothing at all."""
    inner = env.unwrapped
    if MODE not in (getattr(inner, "metadata", None) or {}).get("render_modes", ()):
        return None
    # It is read where something is drawn, and not every maker of an environment has an argument for it.
    inner.render_mode = MODE
    picture = np.asarray(env.render())
    return picture if picture.ndim == 3 else None  # some open a window nevertheless, and say so
