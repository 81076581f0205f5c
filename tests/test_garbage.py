"""The collector's pauses."""

import gc

import pytest

from comarl.garbage import uncollected


@pytest.mark.parametrize("was_on", [True, False])
def test_afterwards_it_is_as_it_was(was_on: bool) -> None:
    seen = []

    @uncollected()
    def failing() -> None:
        seen.append(gc.isenabled())
        raise KeyError

    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(KeyError):
            failing()
        assert seen == [False]
        assert gc.isenabled() == was_on
    finally:
        gc.enable()
