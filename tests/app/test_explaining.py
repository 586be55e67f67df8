"""Explanations from a real database: over the API, on the command line, and only to whom they belong."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import pytest
from typer.testing import CliRunner, Result

from orderbell.app.platform import open_platform
from orderbell.app.virtual import VirtualHost
from orderbell.cli import app
from orderbell.errors import OrderBellError
from orderbell.settings import Settings
from orderbell.store import dossier as archive
from orderbell.store.dossier import Archive, Dossier
from orderbell.store.keys import create_key
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from tests.dispatch.rig import Scripted
from tests.insight.cases import PHONE, START, TENANT, event, shelf

SECRET = bytes(range(32)).hex()  # that of the tests' vault
RIVAL = "rival"
CLEAR = re.compile(r"1[3-9]\d{9}|ann@example")
LATER = timedelta(hours=1)


@dataclass
class Shop:
    """Two tenants with an order each, told and kept in one database."""

    store: Store
    settings: Settings
    host: VirtualHost
    now: datetime = START

    async def happens(self, kind: str, *, tenant: str = TENANT, no: str = "A1001", **data: object) -> None:
        """Something happens, and half an hour passes."""
        one = event(kind, self.now, data, no=no, tenant=tenant)
        assert (await self.host.feed([one]))[0].status == "accepted"
        self.now += LATER / 2
        await self.host.advance(self.now)

    def run(self, *arguments: str) -> Result:
        """Run `orderbell explain`."""
        environment = {"ORDERBELL_DATABASE_URL": self.settings.database_url, "ORDERBELL_SECRET_KEY": SECRET}
        return CliRunner().invoke(app, ["explain", *arguments], env={**environment, "LC_ALL": "", "LANG": "en"})

    async def dossier(self, order_no: str = "A1001") -> Dossier:
        """What is on record of an order that is there."""
        found = await Archive(self.store, TENANT).of_order(order_no)
        assert found is not None
        return found


@pytest.fixture
async def shop(store: Store) -> AsyncIterator[Shop]:
    """A shop with a muted buyer, beside a rival with another."""
    host = VirtualHost(store, dict.fromkeys((TENANT, RIVAL), shelf()), [Scripted()], start=START)
    opened = Shop(store, Settings(database_url=store.dsn, secret_key=SECRET, port=0), host)
    await add_tenant(store.pool, TENANT, shelf())
    ann = {"id": "ann", "phone": PHONE, "email": "ann@example.com", "mute": ["progress"]}
    await opened.happens("order.placed", people={"buyer": ann}, amount_fen=19900)
    await opened.happens("payment.succeeded", amount_fen=19900)
    await opened.happens("parcel.shipped", carrier="SF")
    yield opened
    await host.close()


async def with_rival(shop: Shop) -> None:
    """Add another tenant, who has an order."""
    await add_tenant(shop.store.pool, RIVAL, shelf())
    bob = {"id": "bob", "phone": "+8613912345678"}
    await shop.happens("order.placed", tenant=RIVAL, no="R1", people={"buyer": bob})
    await shop.happens("refund.succeeded", tenant=RIVAL, no="R1")


async def test_command_tells_the_story(shop: Shop) -> None:
    """`orderbell explain` must tell what was sent and what was not, in both languages, without any phone."""
    told = await asyncio.to_thread(shop.run, "A1001")
    assert told.exit_code == 0, told.output
    assert "People: the buyer (+86 138****8000)." in told.stdout
    assert "It went out by SMS at 10:31; so far no receipt." in told.stdout
    assert "Not sent: they turned off news of this kind (progress)." in told.stdout
    chinese = await asyncio.to_thread(shop.run, "A1001", "--tenant", TENANT, "--lang", "zh-CN")
    assert "没有发：对方关掉了「订单进展」类消息。" in chinese.stdout
    for output in (told.output, chinese.output):
        assert not CLEAR.search(output)


async def test_command_in_a_language_that_it_does_not_speak(shop: Shop) -> None:
    """A language that there are no words of must be refused with those that there are; other tags of ours are taken."""
    refused = await asyncio.to_thread(shop.run, "A1001", "--lang", "xx")
    assert (refused.exit_code, "write zh-CN or en" in refused.stderr) == (2, True)
    for tag, words in (("zh", "没有发"), ("en_GB.UTF-8", "Not sent")):
        assert words in (await asyncio.to_thread(shop.run, "A1001", "--lang", tag)).stdout


async def test_command_answers_questions(shop: Shop) -> None:
    """A person and a topic narrow the story, by role, contact or phone; what never was is answered."""
    for person in ("buyer", "ann", PHONE, "138 0013 8000", "ANN@example.com"):
        asked = await asyncio.to_thread(shop.run, "A1001", "--person", person, "--topic", "shipped", "--json")
        story = json.loads(asked.stdout)
        (line,) = story["lines"]
        assert (line["fate"], line["reason"], story["answer"]) == ("dropped", "muted", "")
        assert not CLEAR.search(asked.output)
    never = await asyncio.to_thread(shop.run, "A1001", "--person", "buyer", "--topic", "delivered")
    assert "There was never any reason to tell the buyer (+86 138****8000): “the parcel has arrived”" in never.stdout


async def test_command_when_it_is_not_clear_what_is_meant(shop: Shop) -> None:
    """An unknown order or tenant, and several tenants without a name, are errors that say what to do."""
    for arguments, said in (
        (("nothing",), "the tenant 'acme' has no order 'nothing'"),
        (("A1001", "--tenant", "x"), "there is no tenant 'x'; known: acme"),
    ):
        failed = await asyncio.to_thread(shop.run, *arguments)
        assert isinstance(failed.exception, OrderBellError)
        assert said in str(failed.exception)
    await with_rival(shop)
    unclear = await asyncio.to_thread(shop.run, "A1001")
    assert str(unclear.exception) == "name a tenant with --tenant; known: acme, rival"
    foreign = await asyncio.to_thread(shop.run, "R1", "--tenant", TENANT)
    assert str(foreign.exception) == "the tenant 'acme' has no order 'R1'; check the number and --tenant"


async def test_api_tells_the_story_to_whom_it_belongs(shop: Shop) -> None:
    """The API must explain orders and people of the key's tenant; all others are the same 404, without a word more."""
    await with_rival(shop)
    key = await create_key(shop.store, TENANT)
    headers = {"authorization": f"Bearer {key}", "accept-language": "en-GB,en;q=0.9"}
    async with (
        open_platform(shop.settings, worker=False) as platform,
        httpx.AsyncClient(base_url=platform.url, headers=headers, trust_env=False) as http,
    ):
        order = await http.get("/v1/orders/A1001/explain")
        assert order.status_code == 200, order.text
        assert order.headers["cache-control"] == "no-store"
        kinds = [line["kind"] for line in order.json()["lines"]]
        assert kinds == ["event", "event", "notice", "event", "notice"]
        person = (await http.get("/v1/contacts/ann/explain", params={"lang": "zh", "limit": 1})).json()
        assert [line["reason"] for line in person["lines"]] == ["muted"]
        assert "没有发" in person["lines"][0]["text"]
        topic = (await http.get("/v1/contacts/ann/explain", params={"topic": "payment_received"})).json()
        assert [line["sent"][0]["channel"] for line in topic["lines"]] == ["sms"]
        never = (await http.get("/v1/orders/A1001/explain", params={"person": "buyer", "topic": "delivered"})).json()
        assert "None of them has happened yet." in never["answer"]
        foreign, nothing = [(await http.get(f"/v1/orders/{no}/explain")).json() for no in ("R1", "nothing")]
        assert foreign == nothing
        assert (foreign["status"], foreign["reason"]) == (404, "unknown_order")
        foreign, nothing = [(await http.get(f"/v1/contacts/{name}/explain")).json() for name in ("bob", "nobody")]
        assert foreign == nothing
        assert (foreign["status"], foreign["reason"]) == (404, "unknown_contact")
        wrong = await http.get("/v1/contacts/ann/explain", params={"limit": 0})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "limit")
        closed = await http.get("/v1/orders/A1001/explain", headers={"authorization": "Bearer ob_x"})
        assert (closed.status_code, closed.json()["reason"]) == (401, "bad_key")
        document = (await http.get("/schema/openapi.json")).json()
        assert {"/v1/orders/{order_no}/explain", "/v1/contacts/{contact}/explain"} <= set(document["paths"])
        assert not CLEAR.search(order.text + json.dumps([person, topic, never]))


async def test_what_waits_and_what_was_taken_back_are_on_record(shop: Shop) -> None:
    """A notice is seen in the queue or with its fate, and what took it back or said it too comes along."""
    await shop.happens("order.confirmed", people={"buyer": {"quiet": "00:00-23:59"}})
    await shop.happens("payment.failed")
    await shop.happens("stock.restored")
    await shop.happens("refund.succeeded", amount_fen=1)
    facts = await shop.dossier()
    assert [notice.topic for notice in facts.waiting] == ["refund_succeeded"]
    assert {one.fate for one in facts.settled} >= {"sent", "dropped"}
    assert await Archive(shop.store, TENANT).of_contact("nobody") is None
    person = await Archive(shop.store, TENANT).of_contact("ann", "refund_succeeded")
    assert person is not None
    assert [notice.topic for notice in person.waiting] == ["refund_succeeded"]
    assert person.settled == ()


READS: tuple[tuple[str, tuple[object, ...], str], ...] = (
    (archive._STEPS, (TENANT, "A1001", 10), "_tenant_order_no_version_idx"),
    (archive._SETTLED_OF_ORDER, (TENANT, "A1001"), "notice_order"),
    (archive._SETTLED_BY_ID, (TENANT, [b"x"]), "notice_pkey"),
    (archive._SETTLED_OF_CONTACT, (TENANT, "ann", "", 10), "notice_contact"),
    (archive._WAITING, (TENANT, ["ann"]), "queue_pkey"),
    (archive._POSTED, (TENANT, ["A1001"]), "message_order"),
    (archive._CONTACTS, (TENANT, ["ann"]), "contact_pkey"),
    (archive._CONSENTS, (TENANT, ["ann"]), "consent_contact"),
)


async def test_every_read_goes_by_its_index(shop: Shop) -> None:
    """No question about one order or person may read a whole table."""
    others = {
        "notice": {"notice_id": "decode(md5(i::text), 'hex')", "order_no": "'N' || i", "contact": "'c' || i"},
        "message": {
            "message_id": "decode(md5(i::text), 'hex')", "attempt_id": "decode(md5(i::text), 'hex')",
            "order_no": "'N' || i", "contact": "'c' || i",
        },
        "journal": {"order_no": "'N' || i"},
        "contact": {"contact": "'c' || i"},
    }  # fmt: skip
    async with shop.store.pool.acquire() as connection:
        for table, made in others.items():
            columns = [row[0] for row in await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
            )]  # fmt: skip
            values = ", ".join(made.get(column, column) for column in columns)
            one = f"(SELECT * FROM {table} LIMIT 1) AS one, generate_series(1, 3000) AS i"
            await connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {one}")
        await connection.execute(
            "INSERT INTO queue (tenant, contact, notice_id, lane, due_at, body)"
            " SELECT 'acme', 'c' || i, decode(md5(i::text), 'hex'), 1, now(), ''::bytea FROM generate_series(1, 3000) AS i"
        )
        await connection.execute(
            "INSERT INTO consent (tenant, contact, scope, given, at, source, words)"
            " SELECT 'acme', 'c' || i, 'marketing', true, now(), '', '' FROM generate_series(1, 3000) AS i"
        )
        await connection.execute("ANALYZE")
        await connection.execute("SET enable_seqscan = off")
        for query, arguments, index in READS:
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *arguments))
            assert index in plan, plan
            assert "Seq Scan" not in plan, plan
        await connection.execute("RESET enable_seqscan")
