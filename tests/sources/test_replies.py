"""`POST /v1/replies`: an SMS that comes back finds its order and its sender, or is refused in clear words."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orderbell.core.replies import OPT_IN_WORDS, OPT_OUT_WORDS
from orderbell.errors import DatabaseUnavailable
from orderbell.sources.replies import SOURCE
from orderbell.store.postgres import Store
from tests.dispatch.rig import NOON
from tests.site_server import TooBusy
from tests.town import PHONE, Town, people, running_town

BOOK = Path(__file__).parents[2] / "docs" / "people.md"


async def told(town: Town, order_no: str = "A1", **buyer: object) -> None:
    """Place an order and tell its buyer by SMS that the payment failed."""
    await town.tell("order.placed", order_no, people=people(**buyer))
    await town.tell("payment.failed", order_no)
    await town.dispatcher.step()


async def test_reply_reaches_the_order_told_last(store: Store) -> None:
    """A reply must become an event of the order that the person last heard of, with their role, once per id."""
    async with running_town(store) as town:
        await told(town, "A1")
        await told(town, "A2")
        await town.tell("order.placed", "A3", people=people())  # of which nothing has been told
        response = await town.reply("r1", "查询", phone="138 0013 8000", time="2026-03-02T20:00:01+08:00")
        assert (response.status_code, response.json()) == (202, {"id": "r1", "status": "accepted"})
        assert await town.replies_of("A2") == [(SOURCE, "r1", "buyer")]
        again = await town.reply("r1", "查询", phone=PHONE, time="2026-03-02T12:00:01Z")
        assert (again.status_code, again.json()["status"]) == (200, "duplicate")
        altered = await town.reply("r1", "不要", phone=PHONE)
        assert (altered.status_code, altered.json()["reason"]) == (409, "altered_duplicate")
        assert (await town.contact("ann")).states["sms"] == "verified"


async def test_named_order_counts(store: Store) -> None:
    """The order that is named must get the reply; one that the person has no part in must not."""
    async with running_town(store) as town:
        await told(town, "A1")
        await told(town, "A2")
        await town.tell("order.placed", "B1", people={"buyer": {"id": "bob", "phone": "+8613900139000"}})
        assert (await town.reply("r1", "什么时候能修好", phone=PHONE, order="A1")).status_code == 202
        assert await town.replies_of("A1") == [(SOURCE, "r1", "buyer")]
        for name, order in (("r2", "B1"), ("r3", "nowhere")):
            refusal = await town.reply(name, "?", phone=PHONE, order=order)
            assert (refusal.status_code, refusal.json()["reason"], refusal.json()["field"]) == (
                422,
                "unknown_order",
                "order",
            )
        assert await town.replies_of("B1") == []


async def test_reply_comes_from_its_role(store: Store) -> None:
    """A person who is no buyer must answer in the role that they have."""
    async with running_town(store) as town:
        await told(town)
        await town.tell("parcel.packed", people={"friend": {"id": "fred", "phone": "+8613700137000"}})
        assert (await town.reply("r1", "好的", contact="fred", order="A1")).status_code == 202
        assert await town.replies_of() == [(SOURCE, "r1", "friend")]


async def test_answer_makes_the_choice(store: Store) -> None:
    """A number must choose what was offered, in the order that asked (S2-14)."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        await town.tell("payment.succeeded")
        await town.tell("stock.short", title="Tea")
        town.clock.turn(600)
        await town.dispatcher.step()
        await town.reply("r1", "３", phone=PHONE)
        names = await store.pool.fetch("SELECT name FROM anomaly WHERE closed_at IS NULL")
        assert [row["name"] for row in names] == ["refund_wanted"]


@pytest.mark.parametrize("text", ["ＴＤ", "退订", " t d ", "请退订", "「TD」"])
async def test_opt_out_ends_marketing_only(store: Store, text: str) -> None:
    """An opt-out in any width must end marketing for all ids of the phone, leave a record, and spare the transaction."""
    async with running_town(store) as town:
        await told(town, marketing=True)
        await town.tell("order.placed", "A2", people={"buyer": {"phone": PHONE}})
        assert (await town.reply("r1", text, phone=PHONE)).status_code == 202
        assert {c.marketing for c in await town.people().find_by_phone(PHONE)} == {"no"}
        (record, _) = await town.people().consents("ann", 9)
        assert (record.given, record.at, record.source) == (False, town.clock(), "reply r1")
        sent = len(town.channel.got)
        await town.tell("payment.failed", "A3", people=people())
        await town.dispatcher.step()
        assert len(town.channel.got) == sent + 1


async def test_opt_out_without_an_order(store: Store) -> None:
    """A known person who was told nothing must still be able to opt out, once per id; everything else is refused."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people(marketing=True))
        town.clock.turn(1)
        first = await town.reply("r1", "ＴＤ　退订", phone=PHONE)
        assert (first.status_code, first.json()) == (202, {"id": "r1", "status": "accepted"})
        assert (await town.reply("r1", "ＴＤ　退订", phone=PHONE)).status_code == 200
        (record, _) = await town.people().consents("ann", 9)
        assert (record.given, record.source, record.words) == (False, "reply r1", "ＴＤ 退订")
        assert (await town.contact("ann")).marketing == "no"
        assert (await town.reply("r2", "订阅", phone=PHONE, order="nowhere")).status_code == 202
        assert (await town.contact("ann")).marketing == "yes"
        assert (await town.reply("r1", "ＴＤ　退订", phone=PHONE)).status_code == 200
        assert (await town.contact("ann")).marketing == "yes", "a repeated delivery is no second opt-out"
        refusal = await town.reply("r3", "你好", phone=PHONE)
        assert (refusal.status_code, refusal.json()["reason"]) == (422, "unknown_person")
        assert await store.pool.fetchval("SELECT count(*) FROM journal WHERE type = 'reply.received'") == 0


async def test_opt_out_survives_a_full_intake(store: Store) -> None:
    """While nothing can be decided the answer must say so; sent again, the opt-out must be there once."""
    async with running_town(store) as town:
        await told(town, marketing=True)
        for problem, status in ((TooBusy("full"), 429), (DatabaseUnavailable("postgresql://me:secret@host"), 503)):
            town.failures.append(problem)
            response = await town.reply("r1", "TD", phone=PHONE)
            assert (response.status_code, "secret" in response.text) == (status, False)
            assert "retry-after" in response.headers
        assert (await town.reply("r1", "TD", phone=PHONE)).status_code == 202
        assert [c.given for c in await town.people().consents("ann", 9)] == [False, True]


async def test_person_of_another_tenant(store: Store) -> None:
    """A phone or contact of another tenant must be as unknown as one of nobody, and nothing may happen to it."""
    async with running_town(store) as town:
        await told(town, marketing=True)
        for who in ({"phone": PHONE}, {"contact": "ann"}, {"phone": PHONE, "order": "A1"}):
            answer = await town.other.post("/v1/replies", json={"id": "r1", "text": "TD", **who})
            assert (answer.status_code, answer.json()["reason"]) == (422, "unknown_person")
        assert (await town.contact("ann")).marketing == "yes"
        assert await town.replies_of() == []


async def test_list_of_replies(store: Store) -> None:
    """A list must be answered item for item and in order; bad items must not harm their neighbours."""
    async with running_town(store) as town:
        await told(town)
        items = [
            {"id": "r1", "phone": PHONE, "text": "查询"},
            {"id": "r2", "phone": "+8613900139000", "text": "查询"},
            {"id": "r3", "text": "查询"},
            {"id": "r4", "phone": PHONE, "contact": "ann", "text": "?"},
            {"id": "r5", "phone": PHONE, "text": "x" * 4001},
            {"id": "r6", "phone": PHONE, "text": 5},
            {"id": "r7", "phone": PHONE, "text": "x", "colour": "red"},
            {"id": "", "phone": PHONE, "text": "x"},
            7,
            {"id": "r8", "phone": PHONE, "text": "x", "time": "2026-03-09T10:00:00+08:00"},
            {"id": "r9", "phone": "no number", "text": "TD"},
            {"id": "r1", "phone": "13800138000", "text": "查询"},
            {"id": "r10", "phone": PHONE, "text": "x" * 4000},
        ]
        answer = (await town.http.post("/v1/replies", json=items)).json()
    assert [(one["id"], one["status"], one.get("reason"), one.get("field")) for one in answer["results"]] == [
        ("r1", "accepted", None, None),
        ("r2", "refused", "unknown_person", "phone"),
        ("r3", "refused", "missing_field", "phone"),
        ("r4", "refused", "missing_field", "phone"),
        ("r5", "refused", "too_large", "text"),
        ("r6", "refused", "wrong_value", "text"),
        ("r7", "refused", "wrong_value", None),
        ("", "refused", "wrong_value", "id"),
        ("", "refused", "wrong_value", None),
        ("r8", "refused", "time_in_future", "time"),
        ("r9", "refused", "unknown_person", "phone"),
        ("r1", "duplicate", None, None),
        ("r10", "accepted", None, None),
    ]
    assert (answer["accepted"], answer["duplicate"], answer["refused"]) == (2, 1, 10)


async def test_text_of_ten_thousand_characters(store: Store) -> None:
    """A text that no SMS could hold must be refused with its length, and leave nothing behind."""
    async with running_town(store) as town:
        await told(town)
        response = await town.reply("r1", "TD" * 5000, phone=PHONE)
        assert (response.status_code, response.json()["field"]) == (422, "text")
        assert response.json()["detail"].startswith("text: 10,000 characters; at most 4,000 are taken")
        assert await town.replies_of() == []


async def test_text_that_a_gateway_broke(store: Store) -> None:
    """Half an emoji, a NUL or a hidden character must not lose the reply, nor what it means."""
    async with running_town(store) as town:
        await told(town, marketing=True)
        body = json.dumps(
            [{"id": "r1", "phone": PHONE, "text": "好 \ud83d"}, {"id": "r2", "phone": PHONE, "text": "TD\0"}]
        )
        answer = await town.http.post("/v1/replies", content=body, headers={"content-type": "application/json"})
        assert answer.json()["accepted"] == 2
        assert (await town.contact("ann")).marketing == "no"


async def test_body_that_is_no_reply(store: Store) -> None:
    """What is not JSON, too large, too long a list or of another type must be refused as a whole."""
    async with running_town(store) as town:
        kind = {"content-type": "application/json"}
        for body, headers, status in [
            (b"", kind, 400), (b"{", kind, 400), (b"[" * 50_000, kind, 400), (b'[{"id":NaN}]', kind, 400),
            (b" " * 1_100_000, kind, 413), (json.dumps([{}] * 201).encode(), kind, 422),
            (b"{}", {"content-type": "text/plain"}, 415), (b"[]", kind, 200), (b"{}", kind, 422),
        ]:  # fmt: skip
            response = await town.http.post("/v1/replies", content=body, headers=headers)
            assert response.status_code == status, body[:20]
        anybody = await town.http.post("/v1/replies", json={}, headers={"authorization": ""})
        assert anybody.status_code == 401


async def test_no_phone_in_answers_and_logs(store: Store) -> None:
    """Whatever becomes of a reply, its phone must stand in no answer, no log and no column in clear."""
    async with running_town(store) as town:
        await told(town)
        with capture_logs() as logs:
            answers = [
                await town.reply("r1", "你好", phone=PHONE),
                await town.reply("r2", "你好", phone="+8613900139000"),
                await town.reply("r3", "x" * 5000, phone=PHONE),
            ]
            town.failures.append(DatabaseUnavailable("away"))
            answers.append(await town.reply("r4", "你好", phone=PHONE))
        assert not any("3800138" in answer.text or "3900139" in answer.text for answer in answers)
        assert "3800138" not in str(logs)
        for table in ("journal", "event_key", "consent"):
            rows = await store.pool.fetch(f"SELECT {table}::text AS line FROM {table}")
            assert not any("3800138" in row["line"] or b"3800138".hex() in row["line"] for row in rows)


async def test_old_news_is_not_the_last_told(store: Store) -> None:
    """What lies in the inbox only must not win over the SMS that was answered."""
    async with running_town(store) as town:
        await told(town, "A1")
        await town.tell("order.placed", "A2", people=people(phone=""))
        await town.tell("payment.failed", "A2")
        town.channel.carries = frozenset()
        silent = type(town.dispatcher)(town.dispatcher._ledger, town.shelves, [town.channel], now=town.clock)
        await silent.step()
        assert await store.pool.fetchval("SELECT channel FROM message WHERE order_no = 'A2'") == "inbox"
        await town.reply("r1", "你好", contact="ann")
        assert await town.replies_of("A1") == [(SOURCE, "r1", "buyer")]
        assert town.clock() - NOON < timedelta(minutes=1)


def test_documented_words_are_those_that_work() -> None:
    """The handbook must list every word that ends or allows advertising."""
    text = BOOK.read_text(encoding="utf-8").casefold()
    assert [word for word in OPT_OUT_WORDS | OPT_IN_WORDS if f"`{word}`" not in text] == []
