"""Reading playbooks: what ships passes, and every fault of a file is told with file, line and remedy."""

import re
from pathlib import Path

import pytest

from orderbell.errors import PlaybookInvalid
from orderbell.playbooks import SHIPPED, SHIPPED_NAMES, check_playbook, load_playbook, load_shelf, shipped_shelf

OWN = "name: own\nextends: retail\n"
RULES = len(load_playbook(SHIPPED / "retail.yaml").spec.rules)


def write(folder: Path, text: str, name: str = "own.yaml") -> Path:
    """A playbook file of a merchant."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    """What is said of a file, the folder left out."""
    with pytest.raises(PlaybookInvalid) as caught:
        load_playbook(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_shipped_playbook_passes(name: str) -> None:
    """What ships has no fault, and says so without being asked for more."""
    playbook, problems = check_playbook(SHIPPED / f"{name}.yaml")
    assert (playbook is not None, problems) == (True, [])


def test_shelf_of_shipped_playbooks() -> None:
    """All three stand on the shelf, retail in front."""
    shelf = shipped_shelf()
    assert tuple(shelf.playbooks) == SHIPPED_NAMES
    retail = shelf.find("")
    assert retail is not None
    assert (retail.name, shelf.find("nonsense")) == ("retail", None)
    assert len({playbook.version for playbook in shelf.playbooks.values()}) == 3


def test_own_playbook_is_laid_over_a_shipped_one(tmp_path: Path) -> None:
    """Mappings are laid over, rules joined, other lists replaced, and `null` switches off."""
    text = (
        OWN + "rules:\n  - {on: order.confirmed, tell: shipped}\n"
        "notices: {shipped: {channels: [inbox], covers: []}}\ndeadlines: {handover_overdue: null}\n"
        "anomalies: {stage_overdue: null}\n"
    )
    playbook = load_playbook(write(tmp_path, text))
    assert len(playbook.spec.rules) == RULES + 1
    shipped = playbook.notices["shipped"]
    assert (shipped.channels, shipped.covers, shipped.category) == (("inbox",), frozenset(), "progress")
    assert not {"handover_overdue", "stage_overdue"} & (playbook.deadlines.keys() | playbook.anomalies.keys())


def test_own_playbook_may_bear_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    """A file `retail.yaml` of one's own extends the shipped one, and others extend the file beside them."""
    write(tmp_path, "name: retail\nextends: retail\nnotices: {shipped: {wait: 2m}}\n", "retail.yaml")
    playbook = load_playbook(write(tmp_path, OWN))
    assert playbook.notices["shipped"].wait.total_seconds() == 120


def test_own_words_take_the_place_of_shipped_ones(tmp_path: Path) -> None:
    """A ladder of one's own is the whole ladder; other locales may be added."""
    wording = "texts: {shipped: {sms: ['Your order {order_no} left us.']}}\n"
    write(tmp_path, wording, "wording/en.yaml")
    text = (
        load_playbook(write(tmp_path, OWN))
        .wording["en"]
        .compose("shipped", "sms", "calm", {"order_no": "A1"}, timezone="UTC")
    )
    assert text is not None
    assert text.text.endswith("Your order A1 left us.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "own.yaml:1: the file is empty; begin with `name:` and `extends: base`"),
        ("- a\n- b\n", "own.yaml:1: the file: expected `object`, got `array`; see the schema"),
        ("name: [\n", "own.yaml:2: this is not YAML: "),
        ("name: own\n  x: 1\n", "own.yaml:2: this is not YAML: mapping values are not allowed"),
        ("name: a\x00b\n", "own.yaml:1: this is not YAML: "),
        ("name: own\nprincipal: buyer\nname: other\n", "own.yaml:3: 'name' stands here twice; keep one of them"),
        ("name: own\nnote: 2026-13-45\n", "own.yaml:2: '2026-13-45' cannot be read as timestamp; put it in quotes"),
        ("name: own\nnote: !odd x\n", "own.yaml:2: 'x' cannot be read as !odd; put it in quotes"),
        ("name: own\nnote: &a [*a]\n", "own.yaml:2: this is nested too deeply; write it out flat"),
        ("name: own\n", "own.yaml:1: the file: object missing required field `principal`; see the schema"),
        (OWN + "colour: red\n", "own.yaml:1: the file: object contains unknown field `colour`; see the schema"),
        (OWN + "notices:\n  shipped:\n    lane: fast\n", "own.yaml:5: notices.shipped.lane: invalid enum value 'fast'"),
        (OWN + "notices:\n  shipped:\n    wait: 5\n", "own.yaml:5: notices.shipped.wait: expected `str`, got `int`"),
        (OWN + "notices:\n  shipped:\n    colour: 5\n", "own.yaml:4: notices.shipped: object contains unknown field `colour`"),
        (OWN + "stages:\n  placed:\n    says:\n      en: 5\n", "own.yaml:6: stages.placed.says.en: expected `str`"),
        (OWN + "rules:\n  - {on: order.confirmed}\n  - {on: 5}\n", f"own.yaml:5: rules.{RULES + 1}.on: expected"),
        (OWN + "rules:\n  - on: no.such\n", f"own.yaml:4: rules.{RULES}.on: there is no event type 'no.such'; use one of: "),
        (OWN + "rules:\n  - on: order.confirmed\n    stage: x\n", f"own.yaml:5: rules.{RULES}.stage: there is no stage 'x'; use one of: placed"),
        (OWN + "rules:\n  - on: order.confirmed\n    tell: x\n", f"own.yaml:5: rules.{RULES}.tell: there is no notice 'x'; use one of: "),
        (OWN + "rules:\n  - on: order.placed\n    when: order.size > 5\n", f"own.yaml:5: rules.{RULES}.when: order has no attribute `size` (column 1); "),
        (OWN + "notices:\n  shipped: {category: x}\n", "own.yaml:4: notices.shipped.category: there is no category 'x'; use one of"),
        (OWN + "notices:\n  shipped:\n    within: soon\n", "own.yaml:5: notices.shipped.within: 'soon' is no span of time; write a number"),
        (OWN + "notices:\n  shipped:\n    wait: 20m\n", "own.yaml:5: notices.shipped.wait: waits 20m but promises to tell within 10m; "),
        (OWN + "notices:\n  payment_received:\n    covers: shipped\n", "notices.payment_received.covers: 'payment_received' covers itself"),
        (OWN + "notices:\n  fresh: {to: buyer, category: progress}\n", "own.yaml:4: notices.fresh.channels: has no wording for sms in en; add"),
        (OWN + "stages:\n  lost: {}\n", "own.yaml:4: stages.lost: nothing leads to the stage 'lost'; add a rule with `stage: lost`"),
        (OWN + "anomalies:\n  odd: {owner: service, clears: risk.cleared}\n", "own.yaml:4: anomalies.odd: nothing ever opens the anomaly 'odd'"),
        (OWN + "anomalies:\n  odd: {owner: service, opens: [{on: risk.flagged}]}\n", "own.yaml:4: anomalies.odd: nothing ever clears the anomaly"),
        ("name: own\nextends: nonsense\n", "own.yaml:2: there is no playbook 'nonsense' to extend; name base or a file beside this one"),
        ("name: own\nextends: ../own\n", "own.yaml:2: there is no playbook '../own' to extend"),
        ("name: own\nextends: [base]\n", "own.yaml:2: there is no playbook ['base'] to extend"),
    ],
)  # fmt: skip
def test_playbook_file_when_broken(tmp_path: Path, text: str, said: str) -> None:
    """Each fault is one line: the file, the line in it, what is wrong, and what to do."""
    found = refusal(tmp_path, text)
    assert said in found
    assert all(re.match(r"\S+\.yaml:\d+: .+; .+", line) for line in found.splitlines()), found


def test_problems_are_told_all_at_once(tmp_path: Path) -> None:
    """Two faults are two lines."""
    found = refusal(tmp_path, OWN + "rules:\n  - on: no.such\n  - {on: order.placed, tell: x}\n")
    assert [line.split(":")[1] for line in found.splitlines()] == ["4", "5"]


def test_fault_of_the_extended_file_names_that_file(tmp_path: Path) -> None:
    """A fault that was inherited is told where it stands."""
    write(tmp_path, "name: middle\nextends: retail\nnotices:\n  shipped: {category: x}\n", "middle.yaml")
    assert refusal(tmp_path, "name: own\nextends: middle\n").startswith("middle.yaml:4: notices.shipped.category")


def test_extends_in_a_circle(tmp_path: Path) -> None:
    """Files that extend each other are refused."""
    write(tmp_path, "name: other\nextends: own\n", "other.yaml")
    assert refusal(tmp_path, "name: own\nextends: other\n").startswith(
        "other.yaml:2: the playbook extends itself over 'own'; "
    )


def test_file_when_there_is_none_or_it_is_no_text(tmp_path: Path) -> None:
    """A file that is not there, is a folder or is not UTF-8 is told as such."""
    assert check_playbook(tmp_path / "no.yaml")[1] == [f"{tmp_path}/no.yaml:1: there is no such file; check the name"]
    path = tmp_path / "own.yaml"
    path.write_bytes("name: 叮咚".encode("gb18030"))
    assert "own.yaml:1: the file cannot be read" in check_playbook(path)[1][0]
    assert "the file cannot be read" in check_playbook(tmp_path)[1][0]


def test_wording_file_when_broken(tmp_path: Path) -> None:
    """A fault in the words is told by the wording file and its line."""
    write(tmp_path, "texts:\n  shipped:\n    sms: ['{nonsense}']\n", "wording/en.yaml")
    assert "wording/en.yaml:3: wording.en.texts.shipped.sms.0: there is no variable 'nonsense'; " in refusal(
        tmp_path, OWN
    )
    write(tmp_path, "texts:\n  shipped:\n    smss: x\n", "wording/en.yaml")
    assert "wording/en.yaml:2: texts.shipped: object contains unknown field `smss`; " in refusal(tmp_path, OWN)
    write(tmp_path, "locale: fr\n", "wording/fr.yaml")
    write(tmp_path, "subject: Order\n", "wording/en.yaml")
    assert "wording/fr.yaml:1: the file: object missing required field `signature`; " in refusal(tmp_path, OWN)


def test_sms_when_it_may_be_too_long(tmp_path: Path) -> None:
    """A text that some value could make too long is refused with how much to shorten."""
    write(tmp_path, f"texts:\n  shipped:\n    sms:\n      - 订单{{order_no}}{'长' * 40}\n", "wording/zh-CN.yaml")
    found = refusal(tmp_path, OWN)
    assert re.search(
        r"wording/zh-CN.yaml:4: wording.zh-CN.texts.shipped.sms.0: the last SMS .* can have 8\d characters, 70 fit; shorten",
        found,
    )


def test_shelf_with_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Own playbooks stand beside the shipped ones, or in their place; a folder without any is told."""
    write(tmp_path, "name: retail\nextends: retail\nnote: ours\n", "retail.yaml")
    write(tmp_path, OWN)
    shelf = load_shelf(str(tmp_path), "own")
    assert tuple(shelf.playbooks) == (*SHIPPED_NAMES, "own")
    assert (shelf.playbooks["retail"].spec.note, shelf.default) == ("ours", "own")
    assert tuple(load_shelf("").playbooks) == SHIPPED_NAMES
    with pytest.raises(PlaybookInvalid, match="there is no folder of this name"):
        load_shelf(str(tmp_path / "nowhere"))
