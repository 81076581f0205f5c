"""Python's collector of cyclic garbage, out of the way where it only costs time."""

import contextlib
import gc
from collections.abc import Generator


@contextlib.contextmanager
def uncollected() -> Generator[None, None, None]:
    """Not to be collected from: imports and JAX's tracing make objects by the million, nearly all of them to stay.

    The collector would look through them again and again: a seventh of the time until a training starts.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
