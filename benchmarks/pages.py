"""Tables that a benchmark writes into a page, between two marks."""

from pathlib import Path


def write_between(page: Path, mark: str, text: str) -> None:
    """Replace what stands in ``page`` between ``<!-- mark -->`` and ``<!-- end of KIND -->``; KIND is before the colon.

    Raises:
        ValueError: if the page has no such marks.
    """
    kind, _, _ = mark.partition(":")
    begin, end = f"<!-- {mark} -->", f"<!-- end of {kind} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{page} lacks {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
