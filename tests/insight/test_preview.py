"""The preview: every text is in it, no sample is too long, and the longest case is that of the proof."""

import json
import re
from functools import lru_cache
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from orderbell import cli
from orderbell.core.playbook import Playbook
from orderbell.core.segments import SEPTETS_MAX, measure, utf16_units
from orderbell.core.wording import TONES, Wording, longest
from orderbell.errors import PlaybookInvalid
from orderbell.insight.preview import CHANNELS, Preview, PreviewUnknown, preview
from orderbell.playbooks import SHIPPED_NAMES, check_draft, shipped_shelf

CLOSED = {"state", "choice"}  # their words are those of the playbook, which may all be shorter than is allowed
LONG_TEXT = "texts: {late_news: {sms: ['这是一条很长很长的短信文本用来说明超过七十个字的时候会怎样怎样怎样怎样怎样怎样怎样怎样怎样怎样，订单{order_no}。']}}"


@lru_cache
def shelf() -> dict[str, Playbook]:
    """The playbooks that ship."""
    return dict(shipped_shelf().playbooks)


@lru_cache
def previews(name: str) -> list[Preview]:
    """Every text of one of them."""
    return preview(shelf()[name])


def run(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Exit code and output of `orderbell playbook preview`."""
    result = CliRunner().invoke(cli.app, ["playbook", "preview", *arguments], env={"COLUMNS": str(columns)})
    return result.exit_code, result.stdout


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_every_sms_text_is_shown(name: str) -> None:
    """Each rung of each topic, tone and locale is there once, and what newcomers read besides."""
    playbook = shelf()[name]
    shown = [found for found in previews(name) if found.channel == "sms"]
    ladders = [(found.topic, found.locale, found.tone, found.variant) for found in shown if not found.newcomer]
    expected = [
        (found.topic, locale, found.tone, found.path[-1])
        for locale, wording in playbook.wording.items()
        for found in longest(wording, playbook.notices)
    ]
    assert sorted(ladders) == sorted(expected)
    assert len(set(ladders)) == len(ladders)


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_what_goes_out_for_the_samples_is_shown(name: str) -> None:
    """Whatever the composer writes from the sample values, on any channel, stands in the preview as chosen."""
    for found in previews(name):
        chosen = [
            other
            for other in previews(name)
            if (other.topic, other.locale, other.channel, other.tone) == (found.topic, found.locale, found.channel, found.tone)
            and other.newcomer == found.newcomer
            and other.chosen
        ]  # fmt: skip
        # a newcomer is spared the explanation where it has no room
        assert len(chosen) == 1 or (found.newcomer and chosen == [] and not found.sample.fits), found


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_longest_case_is_that_of_the_proof(name: str) -> None:
    """The units of the longest case are the proof's, its text has as many, and a last text fits."""
    playbook = shelf()[name]
    marketing = [topic for topic, rule in playbook.notices.items() if rule.marketing]
    proofs = {
        (found.topic, locale, found.tone, found.path[-1]): found
        for locale, wording in playbook.wording.items()
        for found in longest(wording, playbook.notices, marketing)
    }
    for found in previews(name):
        if found.channel == "sms" and not found.newcomer:
            proof = proofs[found.topic, found.locale, found.tone, found.variant]
            assert (found.worst.units, found.worst.units_max) == (proof.units, proof.units_max), found
            text = found.worst.text
            units = measure(text).units if found.worst.units_max == SEPTETS_MAX else utf16_units(text)
            is_closed = CLOSED & {slot.name for slot in found.slots}
            assert units <= proof.units if is_closed else units == proof.units, found
            assert (found.worst.fits and found.worst.parts == 1) or not found.last


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_samples_fit(name: str) -> None:
    """The SMS that goes out for the sample values is one part, without a gap where a value should be."""
    for found in previews(name):
        assert not re.search(r"\{|\}|（）|\(\)|  ", found.sample.text), found.sample.text
        if found.channel == "sms" and found.chosen:
            assert found.sample.fits
            assert found.sample.parts == 1
            assert found.sample.units == measure(found.sample.text).units


def test_newcomers_read_the_explanation() -> None:
    """What newcomers read begins as the text for everybody and goes on."""
    of_listed = preview(shelf()["consignment"], topic="listed", locale="zh-CN", channel="sms")
    plain, newcomer = of_listed[0], next(found for found in of_listed if found.newcomer)
    assert (plain.newcomer, newcomer.newcomer, newcomer.chosen) == (False, True, True)
    assert newcomer.sample.text.startswith(plain.sample.text)
    assert newcomer.sample.units > plain.sample.units


def test_marketing_counts_the_opt_out_line() -> None:
    """Every marketing SMS ends with the opt-out line; nothing else does."""
    for found in previews("consignment"):
        ends = bool(found.opt_out) and found.sample.text.endswith(found.opt_out)
        assert ends == (found.about.marketing and found.channel == "sms")


def test_asked_tone_shows_what_stands_in_for_it() -> None:
    """A topic without words for `sorry` shows the calm ones, and an e-mail its subject."""
    found = preview(shelf()["retail"], topic="parcel_lost", locale="en", tone="sorry")
    assert {one.tone for one in found} == {"calm"}
    mail = next(one for one in found if one.channel == "email")
    assert (mail.own, mail.sample.units_max, mail.sample.parts, mail.sample.alphabet) == (True, None, 0, "")
    assert "20261111-0087" in mail.sample.subject


def test_texts_come_in_the_order_of_the_file() -> None:
    """Topics stand as in the playbook, its own locale first, the SMS first."""
    playbook = shelf()["retail"]
    assert list(dict.fromkeys(found.topic for found in previews("retail"))) == list(playbook.notices)
    assert list(dict.fromkeys(found.locale for found in previews("retail"))) == ["zh-CN", "en"]
    assert list(dict.fromkeys(found.channel for found in previews("retail"))) == list(CHANNELS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"topic": "parcel_move"},
            "there is no topic 'parcel_move'; did you mean 'parcel_moved'? There is: payment_received",
        ),
        ({"locale": "fr"}, "there is no locale 'fr'; There is: en, zh-CN"),
        ({"channel": "pigeon"}, "there is no channel 'pigeon'; There is: sms, email, push, wechat, inbox"),
        ({"tone": "angry"}, f"there is no tone 'angry'; There is: {', '.join(TONES)}"),
    ],
)
def test_unknown_name_is_told_with_what_there_is(wrong: dict[str, str], said: str) -> None:
    """Whoever asks for what is not there reads what is."""
    with pytest.raises(PreviewUnknown) as caught:
        preview(shelf()["retail"], **wrong)
    assert str(caught.value).startswith(said)


def test_long_ladder_costs_as_much_a_text_as_a_short_one() -> None:
    """A text is composed a few times, however many there are: a draft that anybody sends must not hold a core."""
    ladder = ", ".join(f"'单{{order_no}} {{promised}} {{until}} {{next}} {{state}} {number}'" for number in range(11))
    draft = f"name: retail\nextends: retail\nwording: {{zh-CN: {{texts: {{shipped: {{sms: [{ladder}, 好]}}}}}}}}\n"
    playbook = check_draft(draft).playbook
    assert playbook is not None
    with mock.patch.object(Wording, "compose", autospec=True, side_effect=Wording.compose) as composed:
        shown = preview(playbook, topic="shipped", locale="zh-CN", channel="sms")
        shown += preview(playbook, topic="shipped", locale="zh-CN", channel="push")
    assert len({found.variant for found in shown}) > 11
    assert composed.call_count < 10 * len(shown)


def test_json_holds_what_the_structs_hold() -> None:
    """`--json` prints a list that reads back into the same values."""
    code, printed = run("digital", "--topic", "key_issued", "--json")
    assert code == 0
    assert msgspec.json.decode(printed, type=list[Preview]) == preview(shelf()["digital"], topic="key_issued")
    first = json.loads(printed)[0]
    assert first["about"]["within"] == "3m"
    assert first["sample"]["alphabet"] == "UCS-2"
    assert first["slots"][0] == {"name": "order_no", "kind": "code", "units_max": 36}


@pytest.mark.parametrize("columns", [80, 120])
def test_terminal_shows_each_text_within_its_width(columns: int) -> None:
    """Nothing is wider than the terminal, Chinese counted double, and no line begins with a full stop."""
    code, printed = run("retail", columns=columns)
    assert code == 0
    lines = printed.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert not [line for line in lines if re.match(r"\s*[。，！？；]", line)]
    assert "\x1b" not in printed
    bare = re.sub(r"\s|▕.*|longest", "", "\n".join(line.partition("▕")[0] for line in lines))
    for found in previews("retail"):
        if found.own:
            assert found.topic in printed
        if found.channel == "sms":
            assert re.sub(r"\s", "", found.sample.text) in bare


def test_terminal_tells_the_longest_case_without_colour() -> None:
    """A text that is too long for some values shows it by a sign and by figures, and so does a last text that fits."""
    _, printed = run("--topic", "stock_short", "--locale", "zh-CN", "--channel", "sms", "--tone", "calm")
    meters = re.findall(r"▕[█ ]+[▏▶] +\d+/70", printed)
    assert [meter.split()[-1] for meter in meters] == ["62/70", "93/70", "45/70", "76/70", "37/70", "68/70"]
    assert ["▶" in meter for meter in meters] == [False, True, False, True, False, False]
    assert "critical, at any hour" in printed


def test_terminal_says_which_channel_only_repeats() -> None:
    """A channel without words of its own is shown when asked for, and says whose words they are."""
    _, printed = run("--topic", "shipped", "--channel", "push")
    assert "the words of the SMS, unsigned" in printed
    assert "【" not in printed


def test_terminal_refuses_a_playbook_that_is_not_there() -> None:
    """The error names the playbooks that ship."""
    result = CliRunner().invoke(cli.app, ["playbook", "preview", "retial"])
    assert isinstance(result.exception, PreviewUnknown)
    assert str(result.exception) == (
        "there is no playbook 'retial'; name one that ships (retail, digital, consignment), or a file"
    )


def test_terminal_refuses_a_file_that_does_not_compile(tmp_path: Path) -> None:
    """What cannot be read as a playbook has no texts, and the error names file and line."""
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nextends: retail\nstages: {paid: {light: blue}}\n", encoding="utf-8")
    result = CliRunner().invoke(cli.app, ["playbook", "preview", str(own)])
    assert isinstance(result.exception, PlaybookInvalid)
    assert "own.yaml:3: stages.paid.light" in str(result.exception)


def test_terminal_says_what_is_other_for_a_tier() -> None:
    """People of a tier who hear it on more channels, or in a kinder tone, stand in the heading."""
    assert "vip customers: push and wechat at the same time" in run("--topic", "payment_failed")[1]
    assert "new customers: amends or kinder" in run("--topic", "stock_short")[1]


def test_terminal_shows_a_file_with_a_text_that_is_too_long(tmp_path: Path) -> None:
    """A text that lint refuses is seen all the same, with the problem after it and exit code 1."""
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: own\nextends: retail\nrules: [{on: feedback.given, tell: late_news}]\n"
        "notices: {late_news: {to: buyer, category: progress}}\n",
        encoding="utf-8",
    )
    (tmp_path / "wording").mkdir()
    (tmp_path / "wording" / "zh-CN.yaml").write_text(LONG_TEXT, encoding="utf-8")
    english = "texts: {late_news: {sms: ['Late news of order {order_no}.']}}"
    (tmp_path / "wording" / "en.yaml").write_text(english, encoding="utf-8")
    result = CliRunner().invoke(cli.app, ["playbook", "preview", str(own), "--topic", "late_news"])
    assert result.exit_code == 1
    assert "▶" in result.stdout
    assert "the last SMS of late_news (calm) can have" in result.stderr
