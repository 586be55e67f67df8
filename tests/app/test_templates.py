"""From the texts of the playbooks to approved templates, on the command line and with a real database."""

import asyncio
import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orderbell.app import templates
from orderbell.app.hearing import Hearing
from orderbell.app.template_sheets import read_csv
from orderbell.app.templates import TemplatesWrong, check, find_provider, wanted_texts
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Heard, Review
from orderbell.channels.templates import Rule, Strikes
from orderbell.cli import app
from orderbell.core.events import Answer, Event
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher
from orderbell.dispatch.receiving import Receiver
from orderbell.dispatch.routes import Routes
from orderbell.errors import OrderBellError, SettingsInvalid
from orderbell.playbooks import shipped_shelf
from orderbell.settings import Settings
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.templates import Binding, Templates, digest_of
from tests.dispatch.rig import NOON, House, Scripted, notice

SECRET = bytes(range(32)).hex()  # that of the tests' vault
PAID = "已收到订单{order_no}的付款，谢谢！"
TOLD = "已收到订单{order_no}的付款，谢谢！{next}告诉您进展。"
PROVIDERS = """
[[provider]]
name = "ali"
kind = "alibaba"
access_key_id = "id"
access_key_secret = "secret"
sign = "叮咚"
ref_key = "0123456789"

[[provider]]
name = "tc"
kind = "tencent"
secret_id = "id"
secret_key = "key"
sdk_app_id = "1400"
sign = "叮咚"
variable_max = 12

[[provider]]
name = "wx"
kind = "wechat"
appid = "wx1"
secret = "secret"
[provider.keys]
T-order = { order_no = "character_string1", sum = "", next = "" }
T-sum = { order_no = "character_string1", sum = "amount2", next = "" }
"""


@dataclass
class Office:
    """A database, a file of providers, and the command line on both."""

    store: Store
    folder: Path

    async def run(self, *arguments: str) -> Result:
        """Run `orderbell templates`; errors of ours are in `exception`."""
        environment = {
            "ORDERBELL_DATABASE_URL": self.store.dsn, "ORDERBELL_SECRET_KEY": SECRET, "COLUMNS": "300",
            "ORDERBELL_PROVIDERS_FILE": str(self.folder / "providers.toml"),
        }  # fmt: skip
        return await asyncio.to_thread(CliRunner().invoke, app, ["templates", *arguments], env=environment)

    async def done(self, *arguments: str) -> str:
        """Run it, and give what it printed; it must not fail."""
        result = await self.run(*arguments)
        assert result.exit_code == 0, result.output or result.exception
        return result.stdout

    async def refused(self, *arguments: str) -> str:
        """Run it, and give the error that it must end with."""
        result = await self.run(*arguments)
        assert isinstance(result.exception, OrderBellError), result.output
        return str(result.exception)

    async def export(self, *arguments: str) -> list[dict[str, str]]:
        """The rows of an exported sheet."""
        return list(csv.DictReader(io.StringIO((await self.done("export", *arguments)).removeprefix("\ufeff"))))

    async def known(self, provider: str) -> dict[str, Binding]:
        """What stands in the database, by text."""
        return {one.text: one for one in await Templates(self.store).of(provider)}


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """The playbooks that ship, read once."""
    return shipped_shelf()


@pytest.fixture(autouse=True)
def read_before(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> None:
    """Commands find the playbooks already read: that takes most of their time, and is tested elsewhere."""
    monkeypatch.setattr(templates, "load_shelf", lambda _folder: shelf)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with three providers of templates."""
    (tmp_path / "providers.toml").write_text(PROVIDERS, "utf-8")
    return Settings(providers_file=str(tmp_path / "providers.toml"))


@pytest.fixture
def office(store: Store, settings: Settings, tmp_path: Path) -> Office:
    """An office in which nothing has been drafted."""
    assert settings.providers_file
    return Office(store, tmp_path)


def test_every_text_that_may_be_sent_is_wanted(shelf: Shelf) -> None:
    """Texts of all playbooks and locales, once each; none of topics that never go by that channel."""
    wanted = wanted_texts(shelf, "sms")
    assert {PAID, TOLD} < wanted.keys()
    assert {locale for one in wanted.values() for locale in one.locales} == {"zh-CN", "en"}
    assert not any("parcel_moved" in one.topics for one in wanted.values())
    assert any("parcel_moved" in one.topics for one in wanted_texts(shelf, "wechat").values())
    longer = "已收到您订单{order_no}的付款{sum}元，谢谢！{next}告诉您进展。"
    assert [wanted[text].needed for text in (PAID, TOLD, longer)] == [True, True, False]
    assert wanted[PAID].widths["title"] == 12


@pytest.mark.parametrize("name", ["ali", "tc", "wx"])
def test_shipped_texts_are_checked_for_every_provider(settings: Settings, name: str) -> None:
    """Every problem of the shipped playbooks must be found, with its texts and a remedy, the gravest first."""
    complaints = check(settings, name)
    assert all(one.problem.message and one.problem.remedy for one in complaints)
    known = {"ali": {Rule.NO_WAY_OUT}, "tc": {Rule.NO_WAY_OUT, Rule.TOO_MANY}, "wx": {Rule.NO_VARIABLE, Rule.TOO_MANY}}
    assert known[name] <= {one.problem.rule for one in complaints}
    assert all(one.texts for one in complaints if one.problem.rule is not Rule.TOO_MANY)
    of_texts = [list(Strikes).index(one.problem.strikes) for one in complaints if one.texts]
    assert of_texts == sorted(of_texts)


async def test_check_on_the_command_line(office: Office) -> None:
    """What will be refused ends with exit code 1 and stands there with its remedy, also as JSON."""
    told = await office.run("check", "ali")
    assert told.exit_code == 1
    assert "no_way_out: marketing must end with 拒收请回复R" in told.stdout
    listed = json.loads((await office.run("check", "tc", "--json")).stdout)
    assert {one["problem"]["rule"] for one in listed} >= {"too_many", "variable_too_long"}


async def test_check_of_one_locale(office: Office) -> None:
    """The texts of one language can be checked alone: the Chinese ones that ship keep every rule of an SMS provider."""
    for name in ("ali", "tc"):
        assert (await office.run("check", name)).exit_code == 1
        told = await office.run("check", name, "--locale", "zh-CN", "--json")
        assert told.exit_code == 0, told.output
        assert all(one["problem"]["strikes"] != "review" for one in json.loads(told.stdout))
    assert await office.refused("check", "ali", "--locale", "fr") == "no playbook has words in 'fr'; known: en, zh-CN"


async def test_filters_that_nothing_can_pass(office: Office) -> None:
    """A locale or state that does not exist must be refused with those that do, not answered with nothing."""
    await office.done("sync", "ali")
    assert "known: en, zh-CN" in await office.refused("export", "ali", "--locale", "fr")
    told = await office.run("list", "ali", "--state", "foo")
    assert told.exit_code == 2
    assert "write draft, in_review, approved or rejected" in told.stderr
    for state in ("draft", "in_review", "approved", "rejected"):
        assert "463 templates" in await office.done("list", "ali", "--state", state)


async def test_list_as_json_keeps_to_the_state(office: Office) -> None:
    """The same templates must be listed as JSON as in the table."""
    await office.done("sync", "ali")
    await office.done("bind", "ali", "SMS_1", PAID, "--approved")
    listed = json.loads(await office.done("list", "ali", "--state", "approved", "--json"))
    assert [one["text"] for one in listed["bindings"]] == [PAID]


async def test_sync_drafts_what_is_new_and_drops_what_is_gone(office: Office, shelf: Shelf) -> None:
    """A second sync finds nothing; a text that nobody says goes, unless it stands at the provider."""
    count = len(wanted_texts(shelf, "sms"))
    assert f"ali: {count} new texts, 0 kept, 0 gone" in await office.done("sync", "ali")
    kept = Templates(office.store)
    old = [Binding("ali", text, (), marketing=False) for text in ("old", "older")]
    await kept.draft(old, datetime.now(UTC))
    await kept.bind("ali", "older", "SMS_9", "approved", datetime.now(UTC))
    told = await office.done("sync", "ali")
    assert f"ali: 0 new texts, {count} kept, 1 gone" in told
    assert "may be deleted at the provider: SMS_9" in told
    assert await kept.signatures("ali") == [("叮咚", "draft", "")]
    assert (await office.known("ali")).keys() - wanted_texts(shelf, "sms").keys() == {"older"}
    assert "older (no playbook has it any more)" in await office.done("list", "ali", "--state", "approved")


async def test_export_and_import_of_a_sheet(office: Office) -> None:
    """A sheet goes out in the provider's form, and comes back with codes and states."""
    assert "run `orderbell templates sync ali` first" in await office.refused("export", "ali")
    await office.done("sync", "ali")
    rows = await office.export("ali", "--needed", "--locale", "zh-CN")
    [paid] = [row for row in rows if row["digest"] == digest_of(PAID).hex()]
    assert (paid["content"], paid["type"], paid["state"]) == (PAID.replace("{", "${"), "短信通知", "draft")
    assert len(rows) < len(await office.export("ali"))
    sheet = office.folder / "sheet.csv"
    lines = [["digest", "code", "state", "reason"], [paid["digest"], "SMS_1", "审核通过", ""]]
    lines += [[digest_of(TOLD).hex(), "SMS_2", "2", "太笼统"], [rows[5]["digest"], "", "", ""]]
    for encoding in ("utf-8-sig", "gb18030"):
        sheet.write_text("\r\n".join(map(",".join, lines)), encoding)
        told = await office.done("import", str(sheet), "--provider", "ali")
        assert told == "ali: 2 texts bound, 1 row without a code left alone\n"
    assert await Templates(office.store).approved() == {"ali": {PAID: "SMS_1"}}
    assert (await office.known("ali"))[TOLD].reason == "太笼统"
    left = {row["digest"] for row in await office.export("ali")}
    assert paid["digest"] not in left
    assert digest_of(TOLD).hex() in left
    assert "1 approved" in await office.done("list", "ali")
    sheet.write_text(f"digest,code,state\n{paid['digest']},SMS_1,1\n")
    assert await office.done("import", str(sheet), "--provider", "ali") == "ali: 1 text bound\n"


async def test_exported_json_is_what_the_api_takes(office: Office) -> None:
    """Each row of JSON brings the parameters of the call that hands it in."""
    await office.done("sync", "tc")
    rows = json.loads(await office.done("export", "tc", "--format", "json", "--locale", "zh-CN"))
    [paid] = [row for row in rows if row["digest"] == digest_of(PAID).hex()]
    assert paid["request"]["TemplateContent"] == "已收到订单{1}的付款，谢谢！"
    assert paid["request"]["SmsType"] == 2


async def test_sheet_with_faults_changes_nothing(office: Office) -> None:
    """Every wrong line is named, and the right ones are not taken either."""
    await office.done("sync", "ali")
    sheet = office.folder / "sheet.csv"
    paid, told = digest_of(PAID).hex(), digest_of(TOLD).hex()
    sheet.write_text(
        f"provider,digest,code,state\nali,{paid},SMS_1,1\nali,{told},SMS_1,1\nali,ffffffff,SMS_3,1\nali,{told},SMS_4,great\n"
    )
    problem = await office.refused("import", str(sheet))
    assert problem.startswith("nothing was taken:\nline 4: there is no text 'ffffffff' at ali")
    assert "line 5: 'great' is no state; write in_review, approved or rejected" in problem
    assert "SMS_1 stands at 2 texts; each has its own" in problem
    assert not any(one.code for one in (await office.known("ali")).values())


def test_sheets_that_cannot_be_read(tmp_path: Path) -> None:
    """What is no such sheet is refused with what to do."""
    sheet = tmp_path / "sheet.csv"
    for content, said in (
        (b"a,b\n1,2\n", "no column code, digest, state; `orderbell templates export`"),
        (b"digest,code,state\nff,SMS_1,1\n", "line 2: .*--provider"),
        (b"\xff\xff\xff", "cannot be read as CSV"),
        (b'digest,code,state\n"ff,SMS', "cannot be read as CSV"),
        (b"", "no column"),
    ):
        sheet.write_bytes(content)
        with pytest.raises(TemplatesWrong, match=said):
            read_csv(sheet)


async def test_bind_one_text(office: Office) -> None:
    """A text is named by its words, by the provider's form of them, or by its digest, and has a code of its own."""
    await office.done("sync", "ali")
    assert await office.done("bind", "ali", "SMS_1", PAID, "--approved") == "SMS_1: 1 bound\n"
    await office.done("bind", "ali", "SMS_2", TOLD.replace("{", "${"))
    await office.done("bind", "ali", "SMS_3", digest_of(TOLD).hex()[:8])
    known = await office.known("ali")
    assert [(known[text].code, known[text].state) for text in (PAID, TOLD)] == [
        ("SMS_1", "approved"), ("SMS_3", "in_review"),
    ]  # fmt: skip
    short = await office.refused("bind", "ali", "SMS_4", digest_of(PAID).hex()[:4])
    assert "is too short: give at least 6 characters of a digest" in short
    assert "there is no text 'no such text' at ali" in await office.refused("bind", "ali", "SMS_4", "no such text")
    assert "already the template of another text" in await office.refused("bind", "ali", "SMS_1", TOLD)
    assert "templates list ali" in await office.refused("bind", "ali", "SMS_4", "ffffff")
    assert "--topic is for WeChat" in await office.refused("bind", "ali", "SMS_4", "--topic", "shipped")
    assert (await office.run("bind", "ali", "SMS_4")).exit_code == 2
    assert (await office.run("export", "ali", "--format", "xml")).exit_code == 2


async def test_bind_again_keeps_what_the_provider_decided(office: Office) -> None:
    """To say the code once more must not take back an approval that came by callback."""
    await office.done("sync", "ali")
    await office.done("bind", "ali", "SMS_1", PAID)
    await Templates(office.store).review("ali", "SMS_1", "approved", "", datetime.now(UTC))
    await office.done("bind", "ali", "SMS_1", PAID)
    assert await Templates(office.store).approved() == {"ali": {PAID: "SMS_1"}}


async def test_wechat_template_serves_a_topic(office: Office) -> None:
    """All texts of a topic that can fill the template are bound, the others told and left to another template."""
    assert "run `orderbell templates sync wx` first" in await office.refused(
        "bind", "wx", "T-order", "--topic", "payment_received"
    )
    await office.done("sync", "wx")
    assert "18 bound" in await office.done("bind", "wx", "T-order", "--topic", "payment_received")
    part = await office.run("bind", "wx", "T-sum", "--topic", "payment_received", "--approved")
    assert "Left out: " + PAID in part.stderr
    assert "nothing would fill amount2 (sum)" in part.stderr
    known = await office.known("wx")
    assert known[PAID].code == "T-order"
    assert {one.code for one in known.values() if "sum" in one.names and "已收到" in one.text} == {"T-sum"}
    missing = await office.refused("bind", "wx", "T-new", "--topic", "payment_received")
    assert '"T-new" = { ' in missing
    assert 'order_no = "character_string1"' in missing
    assert "no text can fill T-order" in await office.refused("bind", "wx", "T-order", "--topic", "shipped")
    assert "known: " in await office.refused("bind", "wx", "T-order", "--topic", "weather")


async def test_wechat_sheet_goes_by_topic(office: Office) -> None:
    """A row of WeChat is a topic with keys that all its texts can fill; with an id it comes back as one."""
    await office.done("sync", "wx")
    [row] = [row for row in await office.export("wx") if row["topic"] == "payment_received"]
    assert (row["digest"], row["content"]) == ("", "订单号：{{character_string1.DATA}}")
    sheet = office.folder / "sheet.csv"
    sheet.write_text("provider,digest,topic,code,state\nwx,,payment_received,T-order,approved\n")
    assert await office.done("import", str(sheet)) == "wx: 18 texts bound\n"
    assert "payment_received" not in {row["topic"] for row in await office.export("wx")}
    every = json.loads(await office.done("export", "wx", "--all", "--format", "json"))
    assert [one["code"] for one in every if one["topic"] == "payment_received"] == ["T-order"]


async def test_approval_reaches_the_dispatcher(store: Store) -> None:
    """Nothing is sent on a template in review; once the provider's callback approves it, messages go out with it."""
    house, channel, kept = House(store), Scripted(), Templates(store)
    channel.needs_template = True
    text = "Order {order_no} is paid."
    await kept.draft([Binding("scripted", text, ("order_no",), marketing=False)], NOON)
    await kept.bind("scripted", text, "SMS_1", "in_review", NOON)
    dispatcher = Dispatcher(
        house.ledger, house.shelves, Routes([channel], NOON), now=house.clock, templates=kept.approved
    )
    await house.put(notice("paid"))
    await dispatcher.learn()
    await dispatcher.step()
    assert channel.got == []

    async def submit(_events: list[Event]) -> list[Answer]:
        return []

    hearing = Hearing(
        Receiver(house.ledger, house.clock), kept, lambda tenant: People(store, tenant),
        shelves=house.shelves, submit=submit, now=house.clock, tenants_of={}, shared_of=lambda _name: KeptInMemory(house.clock),
    )  # fmt: skip
    await hearing.keep("scripted", Heard(reviews=(Review("template", "SMS_1", "approved"),)))
    await house.put(notice("paid", order_no="A2", after_s=1))
    house.clock.turn(2)
    await dispatcher.learn()
    await dispatcher.step()
    assert [(one.template_code, one.slots) for one in channel.got] == [("SMS_1", (("order_no", "A2"),))]
    await hearing.keep("scripted", Heard(reviews=(Review("template", "SMS_1", "rejected", "complaints"),)))
    await house.put(notice("paid", order_no="A3", after_s=3))
    house.clock.turn(2)
    await dispatcher.learn()
    await dispatcher.step()
    assert len(channel.got) == 1


def test_providers_that_have_no_templates(settings: Settings) -> None:
    """Who cannot be asked for templates is told why, and what there is instead."""
    with pytest.raises(TemplatesWrong, match=r"there is no provider 'x'; .* names: ali, tc, wx"):
        find_provider(settings, "x")
    with pytest.raises(SettingsInvalid, match="ORDERBELL_PROVIDERS_FILE"):
        find_provider(Settings(), "ali")
    file = Path(settings.providers_file)
    file.write_text(
        PROVIDERS + '[[provider]]\nname = "post"\nkind = "mail"\nhost = "h"\nfrom_address = "a@b.example"\n'
    )
    with pytest.raises(TemplatesWrong, match=r"post \(mail\) sends any text"):
        find_provider(settings, "post")
