"""``python -m tests.fuzzing.guided PARSER FOLDER -runs=10000``: a search guided by coverage, with ``atheris``.

libFuzzer looks for bytes that reach further into a parser. Whatever is no :class:`~comarl.errors.ComarlError` ends it
with a status other than 0, and so does a case that takes longer than ``-timeout``.
"""

import contextlib
import sys
from pathlib import Path


def main(name: str, folder: Path, *options: str) -> None:
    """Search, from the good file on."""
    import atheris  # an extra tool, and before what it is to see into

    with atheris.instrument_imports(include=["comarl"]):
        from comarl.errors import ComarlError
        from comarl.training.checkpoint import quiet
        from tests.fuzzing.parsers import PARSERS

    seen = folder / "seen"
    seen.mkdir(parents=True)
    parser = PARSERS[name](folder)
    (seen / "good").write_bytes(parser.file.read_bytes())

    def once(data: bytes) -> None:
        parser.file.write_bytes(data)
        with contextlib.suppress(ComarlError):
            parser.read()

    with quiet():
        atheris.Setup([name, *options, str(seen)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
