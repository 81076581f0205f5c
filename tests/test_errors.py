"""What a user is told."""

import pytest

from comarl.errors import ComarlError, missing_extra, unknown_name


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("qmx", ["iql", "qmix"], "unknown method 'qmx': did you mean 'qmix'? ('comarl list' shows all)"),
        ("zzz", ["iql", "qmix"], "unknown method 'zzz' ('comarl list' shows all)"),
        ("", ["iql"], "unknown method '' ('comarl list' shows all)"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(name: str, known: list[str], message: str) -> None:
    error = unknown_name("method", name, known)
    assert isinstance(error, ComarlError)
    assert str(error) == message


def test_a_missing_package_comes_with_its_extra() -> None:
    error = missing_extra("jaxmarl", "jaxmarl")
    assert isinstance(error, ComarlError)
    assert str(error) == "the package 'jaxmarl' is not installed: pip install 'comarl[jaxmarl]'"


def test_a_name_that_is_far_too_long_is_cut() -> None:
    message = str(unknown_name("setting", "[" * 100_000, ["lr"]))
    assert message == f"unknown setting '{'[' * 200}…' ('comarl list' shows all)"
