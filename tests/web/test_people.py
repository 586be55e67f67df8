"""The API around people: what it shows, what it changes, and what it refuses in which words."""

from datetime import timedelta
from typing import Any

from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.trail import Trail
from tests.dispatch.rig import NOON
from tests.town import PHONE, Town, people, running_town

PROBLEM = "application/problem+json"


async def patched(town: Town, change: dict[str, Any], name: str = "ann") -> dict[str, Any]:
    """Change a contact and read the answer."""
    response = await town.http.patch(f"/v1/contacts/{name}", json=change)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def promised(town: Town, count: int) -> None:
    """Have so many orders be late, so that a message promises amends to each."""
    for number in range(count):
        await town.tell("order.placed", f"A{number}", people=people())
        await town.tell("payment.succeeded", f"A{number}")
        await town.tell("parcel.promised", f"A{number}", by="2026-03-03")
    await town.store.fire_due(town.shelves, NOON + timedelta(days=30))


async def refused(town: Town, change: object, name: str = "ann") -> tuple[str, str]:
    """Have a change refused, and read the field and the detail."""
    before = await town.contact(name)
    response = await town.http.patch(f"/v1/contacts/{name}", json=change)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == PROBLEM
    assert await town.contact(name) == before
    return response.json().get("field", ""), response.json()["detail"]


async def test_contact_is_shown_masked(store: Store) -> None:
    """A contact must show state, tier, wishes and counts, and no address in clear."""
    async with running_town(store) as town:
        wishes = {"quiet": "22:00-08:00", "mute": ["browse"], "locale": "en", "marketing": True}
        tokens = {"email": "ann@example.com", "app": "token-1234567890", "wechat": "short"}
        await town.tell("order.placed", amount_fen=500, people=people(**tokens, **wishes))
        response = await town.http.get("/v1/contacts/ann")
        shown = response.json()
    assert PHONE[3:] not in response.text
    assert shown.pop("endpoints") == {
        "sms": {"address": "+86 138****8000", "state": "unverified"},
        "email": {"address": "a***@example.com", "state": "unverified"},
        "push": {"address": "***7890", "state": "unverified"},
        "wechat": {"address": "***", "state": "unverified"},
    }
    (consent,) = shown.pop("consents")
    assert (consent["given"], consent["source"]) == (True, "event shop")
    at = (NOON + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert shown == {
        "id": "ann", "tier": "regular", "tier_from": "rules", "locale": "en", "timezone": "", "quiet": "22:00-08:00",
        "mute": ["browse"], "frequency": "normal", "marketing": "yes", "order_count": 1, "spent_fen": 500,
        "checked_at": at, "warnings": {},
    }  # fmt: skip


async def test_tier_says_where_it_comes_from(store: Store) -> None:
    """A tier that the shop set must say so, and be left to the rules again by null."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        assert (await patched(town, {"tier": "vip"}))["tier_from"] == "shop"
        again = await patched(town, {"tier": None})
        assert (again["tier"], again["tier_from"]) == ("vip", "rules")


async def test_phone_in_other_spellings_finds_the_same_person(store: Store) -> None:
    """However a phone is written, it must find the person, by our own id too."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        await town.tell("order.placed", "A2", people={"buyer": {"phone": "+86 138-0013-8000"}})
        for spelled in (PHONE, "138 0013 8000", "138-0013-8000", "１３８００１３８０００", "0086 13800138000"):
            response = await town.http.get("/v1/contacts", params={"phone": spelled})
            found = [contact["id"] for contact in response.json()["contacts"]]
            assert (len(found), found[1]) == (2, "ann"), "the one heard of last comes first"
            assert response.json() == (await town.http.get(f"/v1/contacts?phone={PHONE}")).json(), "a + read as a blank"
        unknown = await town.http.get("/v1/contacts", params={"phone": "+8613900139000"})
        assert unknown.json() == {"contacts": []}
        assert (await town.http.get("/v1/contacts")).json()["field"] == "phone"


async def test_contact_of_another_tenant(store: Store) -> None:
    """A foreign contact must be answered exactly like one that does not exist, and stay as it is."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        before = await town.contact("ann")
        for method, path in [("GET", ""), ("PATCH", ""), ("GET", "/consents")]:
            foreign = await town.other.request(method, f"/v1/contacts/ann{path}", json={"quiet": None})
            nobody = await town.http.request(method, f"/v1/contacts/nobody{path}", json={"quiet": None})
            assert (foreign.status_code, foreign.json()) == (404, nobody.json())
            assert foreign.json()["reason"] == "unknown_contact"
        assert (await town.other.get("/v1/contacts", params={"phone": PHONE})).json() == {"contacts": []}
        assert await town.contact("ann") == before
        assert (await town.http.get("/v1/contacts/a%00b")).status_code == 404


async def test_key_is_needed(store: Store) -> None:
    """No route must open without a key that is somebody's, and a database that is away must be said to be so."""
    async with running_town(store) as town:
        for path in ("/v1/contacts/ann", "/v1/contacts?phone=1", "/v1/contacts/ann/consents", "/v1/amends"):
            for key in ("", "Bearer ob_nobody", "Basic eA=="):
                response = await town.http.get(path, headers={"authorization": key})
                assert (response.status_code, response.headers["content-type"]) == (401, PROBLEM)
                assert "www-authenticate" in response.headers
        assert (await town.http.get("/v1/contacts/ann")).status_code == 404
        await store.pool.close()
        away = await town.http.get("/v1/contacts/ann")
        assert (away.status_code, away.json()["reason"], away.headers["retry-after"]) == (503, "unavailable", "2")


async def test_mandatory_category_cannot_be_muted(store: Store) -> None:
    """The refusal must say why and what can be turned off instead; one channel of it can."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        field, detail = await refused(town, {"mute": ["browse", "transaction"]})
        assert field == "mute"
        assert "'transaction' cannot be turned off" in detail
        assert "transaction:sms" in detail
        answer = await patched(town, {"mute": ["transaction:sms", "browse", "transaction:sms"]})
        assert answer["mute"] == ["transaction:sms", "browse"]


WRONG: list[tuple[object, str, str]] = [
    ({"mute": ["weather"]}, "mute", "known: transaction, progress, browse, marketing"),
    ({"mute": ["progress:pigeon"]}, "mute", "known: sms, email, push, wechat, inbox"),
    ({"mute": ["progress:"] * 101}, "mute", "at most 100"),
    ({"mute": "browse"}, "mute", "Expected `array"),
    ({"mute": [1]}, "mute", "Expected `str`"),
    ({"timezone": "Mars/Phobos"}, "timezone", "'Mars/Phobos' is no time zone"),
    ({"timezone": "../../etc/passwd"}, "timezone", "is no time zone"),
    ({"quiet": "25:00-08:00"}, "quiet", "such as 22:00-08:00"),
    ({"quiet": "22-8"}, "quiet", "are no hours"),
    ({"locale": "<b>"}, "locale", "such as zh-CN"),
    ({"frequency": "never"}, "frequency", "Invalid enum value"),
    ({"marketing": None}, "marketing", "say true or false"),
    ({"marketing": "yes"}, "marketing", "Expected `bool"),
    ({"phone": "call me"}, "phone", "cannot be read"),
    ({"email": "a b@c"}, "email", "cannot be read"),
    ({"id": "bob"}, "id", "never changes"),
    ({"colour": "red"}, "colour", "no such field; known: phone, email"),
    ({"colour": None}, "colour", "no such field"),
    ([1], "", "JSON object"),
]


async def test_wishes_that_make_no_sense(store: Store) -> None:
    """What cannot be must be refused by the name of its field, and change nothing."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        for change, field, words in WRONG:
            found, detail = await refused(town, change)
            assert (found, words in detail) == (field, True), detail


async def test_body_that_is_no_change(store: Store) -> None:
    """A body that is not JSON, too large or of another type must be refused as such."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        json = {"content-type": "application/merge-patch+json"}
        for body, headers, status in [
            (b"{", json, 400), (b"\xff", json, 400), (b"[" * 50_000, json, 400), (b" " * 70_000, json, 413),
            (b"{}", {"content-type": "text/plain"}, 415), (b"{}", json, 200),
        ]:  # fmt: skip
            response = await town.http.patch("/v1/contacts/ann", content=body, headers=headers)
            assert response.status_code == status


async def test_change_is_idempotent_and_taken_back_by_null(store: Store) -> None:
    """The same change twice must leave one consent record; null must bring back what holds without a word."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people(email="ann@example.com"))
        wishes = {
            "quiet": "22:00-08:00", "timezone": "Asia/Tokyo", "locale": "en", "frequency": "calm", "mute": ["browse"],
            "marketing": True,
        }  # fmt: skip
        first = await patched(town, wishes)
        assert {name: first[name] for name in wishes} == wishes | {"marketing": "yes"}
        assert await patched(town, wishes) == first
        assert [(c["given"], c["source"]) for c in first["consents"]] == [(True, "api")]
        blank = await patched(town, dict.fromkeys(["quiet", "timezone", "locale", "frequency", "mute", "email"]))
        assert [blank[name] for name in ("quiet", "timezone", "locale", "frequency", "mute")] == [
            "",
            "",
            "",
            "normal",
            [],
        ]
        assert set(blank["endpoints"]) == {"sms"}
        town.clock.turn(60)
        await patched(town, {"marketing": False})
        listed = (await town.http.get("/v1/contacts/ann/consents")).json()["consents"]
        assert [(c["given"], c["scope"]) for c in listed] == [(False, "marketing"), (True, "marketing")]


async def test_change_by_a_key_stands_in_the_trail(store: Store) -> None:
    """Who changed a person by the API must be found by the key's name; a change of nothing leaves no line."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        for _ in range(2):
            await patched(town, {"quiet": "22:00-08:00", "email": "ann@example.org"})
        [line] = await Trail(store).read("acme")
        assert (line.action, line.object) == ("person.wishes", "contact:ann")
        assert line.actor.startswith("key:")
        assert sorted(line.detail["fields"]) == ["email", "quiet"]


async def test_landline_is_taken_with_a_warning(store: Store) -> None:
    """A phone that cannot take an SMS must be kept, answered with a warning, and found under its number."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        assert (await patched(town, {"phone": "010-62345678"}))["warnings"] == {"sms": "landline"}
        assert (await patched(town, {"phone": "123456789012345678"}))["warnings"] == {"sms": "invalid"}
        answer = await patched(town, {"phone": "(010) 6234 5678"})
        assert answer["endpoints"]["sms"] == {"address": "+86 10****5678", "state": "landline"}
        found = await town.http.get("/v1/contacts", params={"phone": "+861062345678"})
        assert [contact["id"] for contact in found.json()["contacts"]] == ["ann"]
        assert (await town.http.get("/v1/contacts", params={"phone": PHONE})).json() == {"contacts": []}


async def test_naming_a_known_address_looks_it_over(store: Store) -> None:
    """Whoever names the phone that is known must have it looked over today (S0-2)."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        town.clock.turn(86400 * 200)
        await patched(town, {"quiet": "22:00-08:00"})
        assert (await town.contact("ann")).checked_at == NOON + timedelta(seconds=1)
        await patched(town, {"phone": "138 0013 8000"})
        assert (await town.contact("ann")).checked_at == town.clock()


async def test_person_known_by_the_phone_keeps_it(store: Store) -> None:
    """Whoever is known by the phone, or the mail address, cannot get another one here; the known one can be named."""
    async with running_town(store) as town:
        await town.tell("order.placed", people={"buyer": {"phone": PHONE, "email": "ann@example.com"}})
        await town.tell("order.placed", "A2", people={"buyer": {"email": "Bob@example.com"}})
        (ann,) = await town.people().find_by_phone(PHONE)
        bob = await town.store.pool.fetchval("SELECT contact FROM contact WHERE contact <> $1", ann.id)
        for change in ({"phone": "+8613900139000"}, {"phone": None}):
            field, detail = await refused(town, change, ann.id)
            assert (field, "contact.changed" in detail) == ("phone", True)
        assert (await refused(town, {"email": "eve@example.com"}, bob))[0] == "email"
        await patched(town, {"phone": "0086 13800138000", "email": "other@example.com"}, ann.id)
        await patched(town, {"email": "bob@example.com", "phone": "+8613900139000"}, bob)


async def test_pending_notice_respects_the_new_wish(store: Store) -> None:
    """What waits when a wish comes must follow it: muted topics are dropped, new quiet hours are kept."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        await town.tell("payment.succeeded")
        await town.tell("payment.expired", "A2", people=people())
        await patched(town, {"mute": ["progress"], "quiet": "20:00-21:00"})
        town.clock.turn(2 * 60)
        await town.dispatcher.step()
        waiting = await store.pool.fetch("SELECT due_at FROM queue")
        assert [row["due_at"] for row in waiting] == [NOON + timedelta(hours=1)]
        assert town.channel.got == []
        rows = await store.pool.fetch("SELECT topic, fate, reason FROM notice")
        assert [tuple(row) for row in rows] == [("payment_overdue", "dropped", "muted")]
        await patched(town, {"quiet": None})
        await town.dispatcher.step()
        assert [out.topic for out in town.channel.got] == ["payment_received"]


async def test_muted_channel_of_a_mandatory_category(store: Store) -> None:
    """`transaction:sms` must be spared while another channel reaches the person, and only then."""
    async with running_town(store) as town:
        town.channel.carries = frozenset({"sms", "email"})
        town.dispatcher = type(town.dispatcher)(
            town.dispatcher._ledger, town.shelves, [town.channel], now=town.clock, patience=timedelta(minutes=3)
        )
        await town.tell("order.placed", people=people(email="ann@example.com"))
        await patched(town, {"mute": ["transaction:sms"]})
        await town.tell("payment.failed")
        await town.dispatcher.step()
        assert [out.channel for out in town.channel.got] == ["email"]
        await patched(town, {"email": None})
        await town.tell("payment.failed", "A2", people=people())
        await town.dispatcher.step()
        assert [out.channel for out in town.channel.got] == ["email", "sms"]


async def test_amends_are_paged(store: Store) -> None:
    """Every promise must come once, in order, over pages of any size; a foreign or bad cursor must not pass."""
    async with running_town(store) as town:
        await promised(town, 3)
        whole = (await town.http.get("/v1/amends")).json()
        assert {one["order_no"] for one in whole["amends"]} == {"A0", "A1", "A2"}
        assert whole["amends"][0]["kind"] == "coupon"
        seen, after = [], ""
        while (page := (await town.http.get("/v1/amends", params={"after": after, "limit": 2})).json())["amends"]:
            seen += page["amends"]
            after = page["next"]
        assert (seen, page["next"]) == (whole["amends"], after)
        assert (await town.other.get("/v1/amends")).json() == {"amends": [], "next": "0-0"}
        for query in (
            "after=2026-03-02T20:00:00",
            "after=9-zz",
            f"after={'9' * 40}-00",
            "limit=0",
            "limit=1001",
        ):
            response = await town.http.get(f"/v1/amends?{query}")
            assert (response.status_code, response.json()["field"]) == (422, query.partition("=")[0])
        assert (await town.http.get("/v1/amends?limit=x")).status_code == 422


async def test_amends_go_on_after_a_restore_from_a_dump(store: Store) -> None:
    """A database that was filled from a dump counts its transactions anew: no promise may be lost over that."""
    async with running_town(store) as town:
        await promised(town, 2)
        first = (await town.http.get("/v1/amends", params={"limit": 1})).json()
        place = first["next"].partition("-")[2]
        known = first["amends"][0]["order_no"]
        # The first promise is of the life before, as is the cursor that the shop has; the other one is made in this life.
        ledger = Ledger(store)
        await ledger.notice_restore(NOON)
        await store.pool.execute("UPDATE amends SET xact = '99999999' WHERE order_no = $1", known)
        await store.pool.execute("UPDATE halt SET cluster = '1/1'")
        assert await ledger.notice_restore(NOON)
        later = (await town.http.get("/v1/amends", params={"after": f"99999999-{place}"})).json()
        assert known not in {one["order_no"] for one in later["amends"]}
        assert len(later["amends"]) == 1
        assert (await town.http.get("/v1/amends", params={"after": later["next"]})).json()["amends"] == []
        assert {one["order_no"] for one in (await town.http.get("/v1/amends")).json()["amends"]} == {"A0", "A1"}


async def test_routes_are_described(store: Store) -> None:
    """The document for machines must name every route of people and ask for the key."""
    async with running_town(store) as town:
        paths = (await town.http.get("/schema/openapi.json")).json()["paths"]
    assert {
        "/v1/contacts",
        "/v1/contacts/{contact}",
        "/v1/contacts/{contact}/consents",
        "/v1/amends",
        "/v1/replies",
    } <= set(paths)
    assert paths["/v1/contacts/{contact}"]["patch"]["security"] == [{"key": []}]
    assert {"200", "202", "409", "422"} <= set(paths["/v1/replies"]["post"]["responses"])
    change = paths["/v1/contacts/{contact}"]["patch"]["requestBody"]["content"]["application/merge-patch+json"]
    assert "mute" in change["schema"]["properties"]
