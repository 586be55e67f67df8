"""CSV files for people, who open them in spreadsheets: no cell of them is ever taken for a formula.

A text that begins like a formula gets an apostrophe in front (OWASP ASVS 5.0, 1.2.10), everything is quoted (RFC 4180),
and a byte order mark says that it is UTF-8.
"""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from litestar.response import Stream

Cell: TypeAlias = str | int | float | datetime | None

FORMULA_STARTS: Final = tuple("=+-@\t\r\n\0＝＋－＠")
"""What spreadsheets take for the beginning of a formula, or skip before one."""


def plain_cell(value: Cell) -> str:
    """A cell's text as it can be opened without harm; times are UTC in ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if not isinstance(value, str):
        return str(value)
    guarded = "'" + value if _begins_like_a_formula(value) else value
    return guarded.replace("\0", "�")


def told_cell(text: str) -> str:
    """The text that `plain_cell` made a cell of, for sheets that come back."""
    return text[1:] if text.startswith("'") and _begins_like_a_formula(text[1:]) else text


def _begins_like_a_formula(text: str) -> bool:
    return text.lstrip(" \u3000\ufeff").startswith(FORMULA_STARTS)


def csv_line(cells: Sequence[Cell]) -> str:
    """One line of a CSV file, with its end."""
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow([plain_cell(cell) for cell in cells])
    return written.getvalue()


def csv_download(name: str, heads: Sequence[str], rows: AsyncIterator[Sequence[Cell]]) -> Stream:
    """A CSV file to be kept, sent while it is made; `name` is plain ASCII without quotes."""

    async def lines() -> AsyncIterator[bytes]:
        yield "\ufeff".encode() + csv_line(heads).encode()
        async for row in rows:
            yield csv_line(row).encode("utf-8", "replace")

    headers = {
        "Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }  # fmt: skip
    return Stream(lines(), media_type="text/csv; charset=utf-8", headers=headers)
