"""How many devices seeds are shared out among; what comes of it is tested in test_seeds.py."""

import jax
import pytest

from comarl.training.sharding import _devices  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("seeds", "devices", "used"), [(8, 8, 8), (6, 8, 6), (6, 4, 3), (5, 4, 1), (3, 1, 1)])
def test_every_device_has_as_many_seeds(seeds: int, devices: int, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(devices)))
    assert _devices(seeds) == list(range(used))
