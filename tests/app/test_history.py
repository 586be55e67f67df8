"""Comparisons for the command line: which playbook follows which, and where the page goes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orderbell.app.history import contenders, write_page
from orderbell.cli import app
from orderbell.errors import HistoryUnreadable, PlaybookInvalid
from tests.insight.pasts import compared, three_orders

OWN = "name: shop\nextends: retail\ncaps:\n  person: {per: person, most: 2, within: 1d}\n"


def own(folder: Path, name: str = "new", text: str = OWN) -> Path:
    """A playbook of one's own, in a file."""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_contenders_of_another_name(tmp_path: Path) -> None:
    """Orders that name the older playbook, or none, follow the newer one on its side, whatever it is called."""
    before, after = contenders(own(tmp_path), "retail")
    assert (before.label, after.label) == ("retail", "new")
    for name in ("", "retail", "shop"):
        old, new = before.shelf.find(name), after.shelf.find(name)
        assert (old and old.name, new and new.name) == ("retail", "shop")
    assert before.shelf.playbooks["digital"] is after.shelf.playbooks["digital"]


def test_contenders_of_two_files(tmp_path: Path) -> None:
    """Where both are files, what follows the shipped playbook that they extend follows them."""
    first = own(tmp_path, "first")
    second = own(tmp_path, "second", OWN.replace("most: 2", "most: 3"))
    before, after = contenders(second, str(first))
    assert (before.label, after.label) == ("first", "second")
    for name in ("", "retail", "shop"):
        assert before.shelf.find(name) is before.playbook
        assert after.shelf.find(name) is after.playbook
    assert before.playbook.version != after.playbook.version


def test_contenders_without_a_file() -> None:
    """Without a file of one's own the shipped retail playbook is the newer one."""
    before, after = contenders(None, "digital")
    assert (before.label, after.label) == ("digital", "retail")
    assert after.shelf.find("digital") is after.playbook


def test_contenders_when_there_is_no_such_playbook() -> None:
    """A name that means nothing is told, with those that do."""
    with pytest.raises(PlaybookInvalid, match=r"there is no playbook 'nonsense'.*retail, digital, consignment"):
        contenders(None, "nonsense")


def test_page_is_written_in_the_language_asked_for(tmp_path: Path) -> None:
    """The page is in the language asked for, else in that of the playbook."""
    path = tmp_path / "page.html"
    write_page(path, compared(three_orders()), "zh")
    assert '<html lang="zh-CN">' in path.read_text(encoding="utf-8")
    write_page(path, compared(three_orders()))
    assert '<html lang="en">' in path.read_text(encoding="utf-8")


def test_page_when_it_cannot_be_written(tmp_path: Path) -> None:
    """A page that cannot be written is told by its name."""
    with pytest.raises(HistoryUnreadable, match="the page cannot be written: No such file"):
        write_page(tmp_path / "nowhere" / "page.html", compared(three_orders()))


@pytest.mark.parametrize(("options", "said"), [(["--html", "x.html"], "--against"), (["--lang", "fr"], "zh or en")])
def test_backtest_when_options_make_no_sense(tmp_path: Path, options: list[str], said: str) -> None:
    """A page without a comparison, or an unknown language, is wrong use."""
    result = CliRunner().invoke(app, ["backtest", "--history", str(tmp_path), *options])
    assert result.exit_code == 2
    assert said in result.output
