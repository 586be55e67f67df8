"""Templates as sheets to hand in and to take back (CSV), and as a terminal shows them."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from orderbell.app.templates import SHOWN_DIGEST, Complaint, Listed, Row, Synced, TemplatesWrong, counted
from orderbell.channels.templates import Strikes
from orderbell.store.templates import digest_of
from orderbell.web.csv import plain_cell, told_cell

COLUMNS = (
    "provider", "digest", "topic", "needed", "name", "type", "content", "examples", "remark", "code", "state", "reason",
)  # fmt: skip
"""Those that matter when a sheet comes back are provider, digest, code, state and reason; topic for WeChat."""

_COLOURS = {"approved": "green", "rejected": "red", "in_review": "yellow", "draft": "dim"}
_STRIKES = {
    Strikes.REVIEW: ("will be refused", "red"),
    Strikes.PERHAPS: ("may be refused", "yellow"),
    Strikes.SENDING: ("only some messages", "cyan"),
}


def write_csv(rows: Iterable[Row]) -> str:
    """The rows of an export as CSV for spreadsheets: the mark at its begin says UTF-8, and no cell is a formula."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for row in rows:
        examples = " ".join(f"{name}={value}" for name, value in row["examples"].items())
        cells = {**row, "examples": examples, "needed": "yes" if row["needed"] else ""}
        # Codes and reasons come from providers, and some codes begin with a dash.
        writer.writerow({name: plain_cell(cells.get(name, "")) for name in COLUMNS})
    return "\ufeff" + file.getvalue()


def read_csv(file: Path, provider: str = "") -> dict[str, list[tuple[int, Mapping[str, str]]]]:
    """The rows of a CSV file with their lines, by provider: that of their column, else the one that is given.

    It may be in UTF-8 or GB 18030, as spreadsheets save it.

    Raises:
        TemplatesWrong: It cannot be read, a column is missing, or nothing says whose templates they are.
    """
    try:
        content = file.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("gb18030")
        reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="", strict=True)
        rows = [(reader.line_num, {name: told_cell(text) for name, text in row.items() if name}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise TemplatesWrong(f"{file} cannot be read as CSV: {problem}; save it as CSV (UTF-8)") from None
    missing = {"digest", "code", "state"} - set(reader.fieldnames or ())
    if missing:
        names = ", ".join(sorted(missing))
        raise TemplatesWrong(f"{file} has no column {names}; `orderbell templates export` makes one that has")
    by_provider: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in rows:
        name = row.get("provider", "").strip() or provider
        if not name:
            raise TemplatesWrong(f"{file}, line {line}: it is not said whose template this is; add --provider NAME")
        by_provider.setdefault(name, []).append((line, row))
    return by_provider


def show_synced(console: Console, provider: str, synced: Synced) -> None:
    """Say what a sync has changed, and what is to be done at the provider."""
    words = f"{provider}: {counted(synced.new, 'new text')}, {synced.kept} kept, {synced.dropped} gone"
    console.print(words, highlight=False, markup=False, soft_wrap=True)
    if synced.orphaned:
        codes = ", ".join(synced.orphaned)
        words = f"No playbook has these templates any more; they may be deleted at the provider: {codes}"
        console.print(words, highlight=False, markup=False, soft_wrap=True, style="yellow")


def show_complaints(console: Console, provider: str, complaints: Sequence[Complaint]) -> None:
    """Print the problems, each with its remedy and the first of its texts."""
    for complaint in complaints:
        problem = complaint.problem
        when, colour = _STRIKES[problem.strikes]
        many = f" ({counted(len(complaint.texts), 'text')})" if complaint.texts else ""
        console.print(
            Text.assemble((when, colour), f"  {problem.rule}: {problem.message}{many}; {problem.remedy}"),
            soft_wrap=True,
        )
        for text in complaint.texts[:1]:
            shown = Text.assemble((f"    {digest_of(text).hex()[:SHOWN_DIGEST]} ", "dim"), (text, "dim"))
            console.print(shown, soft_wrap=True)
    if not complaints:
        console.print(f"[green]✓[/] {provider}: nothing that the provider would find fault with", highlight=False)


def show_listed(console: Console, listed: Listed, state: str = "") -> None:
    """Print each template (with a `state`, those in it) with state, code and text, then the signatures."""
    shown = listed.in_state(state)
    if shown:
        table = Table("Digest", "State", "Code", Column("Text", overflow="fold"), box=None, pad_edge=False)
        for one in shown:
            notes = [one.reason] if one.reason else []
            notes += ["no playbook has it any more"] if one.text in listed.gone else []
            text = Text.assemble(one.text, *((f" ({note})", "red") for note in notes))
            digest = Text(digest_of(one.text).hex()[:SHOWN_DIGEST], "dim")
            table.add_row(digest, Text(one.state, _COLOURS.get(one.state, "")), Text(one.code), text)
        console.print(table)
    for name, found, reason in listed.signatures:
        words = (f"Signature {name}: ", (found, _COLOURS.get(found, "")), f" {reason}")
        console.print(Text.assemble(*words), soft_wrap=True)
    counts = Counter(one.state for one in listed.bindings)
    words_of = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    console.print(counted(len(listed.bindings), "template") + (f": {words_of}" if words_of else ""), highlight=False)
