"""What all pictures share. Matplotlib is optional and imported when a picture is made."""

import importlib
import tempfile
from pathlib import Path
from typing import Any, Literal

from comarl.errors import ComarlError, missing_extra

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, told apart by the colour-blind."""


FORMATS = (".png", ".pdf", ".svg")
"""The endings of pictures."""


def new_figure(width: float, height: float, *, layout: Literal["constrained"] | None = "constrained") -> Any:
    """An empty matplotlib figure of that many inches; with ``layout`` None whoever fills it places its axes.

    Raises:
        ComarlError: if matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, dpi=150)


def require_picture(out: Path) -> None:
    """Refuse to begin what takes minutes and ends in a picture that cannot be written.

    Raises:
        ComarlError: if matplotlib is missing, the file's ending names no format, or its folder takes no files.
    """
    require_matplotlib()
    _require_format(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ComarlError(f"cannot write {out}: {out.parent}: {error.strerror}") from error


def require_matplotlib() -> None:
    """Refuse to begin what ends in a picture.

    Raises:
        ComarlError: if matplotlib is missing.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise missing_extra("matplotlib", "plot") from error


def save_figure(figure: Any, out: Path) -> None:
    """Write a figure; the file's ending says the format.

    Raises:
        ComarlError: if the file cannot be written.
    """
    _require_format(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out)
    except OSError as error:
        raise ComarlError(f"cannot write {out}: {error.filename}: {error.strerror}") from error


def _require_format(out: Path) -> None:
    """Matplotlib would add an ending where there is none, and the file would not be where it was said to be."""
    if out.suffix.lower() not in FORMATS:
        raise ComarlError(f"cannot write {out}: use a name that ends with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
