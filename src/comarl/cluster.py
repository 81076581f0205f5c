"""Ray: one that runs on some machines, or one that is started on this machine and ended with whoever started it."""

import atexit
import contextlib
import importlib
import os
import tempfile
import warnings
from collections.abc import Generator
from typing import Any

from comarl.errors import ComarlError, missing_extra

LOCAL = "local"
"""The address of a Ray that is to be started on this machine."""

STORE_BYTES = 100_000_000
"""Memory for what is passed on, of a Ray that is started here: we pass on little."""


@contextlib.contextmanager
def connected(address: str) -> Generator[Any]:
    """The module ``ray``, connected; left as it was found.

    Args:
        address: of a running Ray, such as ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; ``local`` starts one.

    Raises:
        ComarlError: if Ray is not installed, or there is none at the address.
    """
    ray = _import_ray()
    with tempfile.TemporaryDirectory(prefix="comarl-", ignore_cleanup_errors=True) as folder:
        try:
            _init(ray, address, folder)
            yield ray
        finally:
            ray.shutdown()


def connect(address: str) -> Any:
    """The module ``ray``, connected until this process ends; once, whatever the address of a second call.

    Raises:
        ComarlError: as :func:`connected`.
    """
    ray = _import_ray()
    if not ray.is_initialized():
        open_until_exit = contextlib.ExitStack()
        open_until_exit.enter_context(connected(address))
        atexit.register(open_until_exit.close)
    return ray


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # who asks for no GPU keeps the devices he sees
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("ray")
    except ImportError as error:
        raise missing_extra("ray", "ray") from error


def _init(ray: Any, address: str, folder: str) -> None:
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES, "_temp_dir": folder}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **(own if address == LOCAL else {}))
    except Exception as error:  # Ray raises many kinds
        where = "Ray cannot be started on this machine" if address == LOCAL else f"there is no Ray at '{address}'"
        text = " ".join(str(error).split())[:200]
        raise ComarlError(f"{where}: {type(error).__name__}: {text}") from error
