"""JAX's settings."""

import jax
import pytest

from comarl.experiments import backend

SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


@pytest.mark.parametrize(
    ("set_before", "then"),
    [
        ("", f"{SCHEDULER} --xla_backend_optimization_level=2"),
        ("--xla_backend_optimization_level=0", f"--xla_backend_optimization_level=0 {SCHEDULER}"),
        (f"--xla_other {SCHEDULER}", f"--xla_other {SCHEDULER} --xla_backend_optimization_level=2"),
    ],
)
def test_flags_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch, set_before: str, then: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", set_before)
    backend.prepare()
    assert backend.os.environ["XLA_FLAGS"] == then


def test_versions_that_were_not_tried_get_no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA would abort the process for one that it does not know."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(jax, "__version_info__", (99, 0, 0))
    backend.prepare()
    assert backend.os.environ["XLA_FLAGS"] == ""
