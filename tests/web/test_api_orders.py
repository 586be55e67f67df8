"""The API around orders: lists in pages, one order with all that is known of it, and what happened to it."""

import msgspec

from orderbell.core.events import ID_MAX, Event, parse_event
from orderbell.store.postgres import Store
from tests.api_site import PHONE, Api, fill, running_api


async def numbers(api: Api, **query: object) -> list[str]:
    """The numbers of the orders that are found."""
    return [one["order_no"] for one in (await api.get("/v1/orders", **query))["items"]]


async def test_orders_are_found_by_what_people_know(store: Store) -> None:
    """Number, beginning, phone, stage, light, anomaly, playbook and day must each find their orders."""
    async with running_api(store) as api:
        await fill(api)
        assert await numbers(api) == ["B1", "A3", "A2", "A1"], "the newest first"
        for query, found in (
            ({"text": "A2"}, ["A2"]),
            ({"text": PHONE[-4:]}, ["A3", "A2", "A1"]),
            ({"stage": "shipped"}, ["A1"]),
            ({"light": "red"}, ["B1", "A2"]),
            ({"anomaly": "stock_short"}, ["A2"]),
            ({"playbook": "digital"}, []),
            ({"opened_from": "2026-03-02T20:00:05+08:00"}, ["B1", "A3"]),
            ({"opened_until": "2026-03-02T12:00:03Z"}, ["A1"]),
            ({"text": "no such order"}, []),
            ({"text": "\0"}, []),
        ):
            assert await numbers(api, **query) == found, query


async def test_pages_hold_every_order_once(store: Store) -> None:
    """Over pages of any size each order must come once, in the same order, and the last page say that it is."""
    async with running_api(store) as api:
        await fill(api)
        whole = await numbers(api)
        for limit in (1, 2, 3):
            seen, after = [], ""
            while True:
                page = await api.get("/v1/orders", limit=limit, after=after)
                assert len(page["items"]) <= limit
                seen += [one["order_no"] for one in page["items"]]
                after = page["next"]
                if not after:
                    break
            assert seen == whole


async def test_order_is_shown_whole(store: Store) -> None:
    """An order must say where it stands in the customer's words, what is wrong, who works on it, and what comes next."""
    async with running_api(store) as api:
        await fill(api)
        order = await api.get("/v1/orders/A2")
        assert (order["light"], order["payment"], order["amount_fen"]) == ("red", "paid", 12900)
        assert order["stage"]["name"] == "paid"
        assert order["stage"]["says"] == {"zh-CN": "暂时缺货，等您选择", "en": "Out of stock, the choice is yours"}
        assert [(one["name"], one["cause"]) for one in order["anomalies"]] == [("stock_short", "stock.short")]
        assert {(one["owner"], one["kind"]) for one in order["cases"]} == {
            ("warehouse", "handle"), ("service", "call_back"),
        }  # fmt: skip
        assert order["next_update_by"] == "2026-03-03T12:00:04Z"
        (buyer,) = order["parties"]
        assert (buyer["role"], buyer["contact"], buyer["tier"]) == ("buyer", "ann", "vip")
        assert buyer["addresses"] == {"sms": "+86 138****8000", "email": "a***@example.com"}
        shipped = await api.get("/v1/orders/A1")
        assert [(one["carrier"], one["tracking_no"]) for one in shipped["parcels"]] == [("SF", "SF100")]
        assert [(one["name"], one["opens"]) for one in shipped["deadlines"]] == [("never_scanned", ["not_picked_up"])]


async def test_order_whose_playbook_is_gone_is_shown_all_the_same(store: Store) -> None:
    """An order must be readable when nobody knows its playbook any more, and be red."""
    async with running_api(store) as api:
        await fill(api)
        shelf = api.front.following.shelves["acme"]
        api.front.following.shelves["acme"] = type(shelf)({}, "none")
        order = await api.get("/v1/orders/A1")
        assert (order["light"], order["stage"]["says"], order["deadlines"]) == ("red", {}, [])
        assert (await api.get("/v1/orders", text="A1"))["items"][0]["says"] == {}


async def test_timeline_tells_events_and_decisions(store: Store) -> None:
    """Every event must stand in the time line once, with what was decided on it and why, over pages of any size."""
    async with running_api(store) as api:
        await fill(api)
        whole = await api.get("/v1/orders/A2/timeline")
        assert [one["type"] for one in whole["items"]] == ["order.placed", "payment.succeeded", "stock.short"]
        last = whole["items"][-1]
        assert (last["source"], last["verdict"], last["version"], last["stage"]) == ("shop", "applied", 3, "paid")
        kinds = {(one["kind"], one.get("name", "")) for one in last["effects"]}
        assert {("open_anomaly", "stock_short"), ("open_case", "stock_short"), ("send_notice", "stock_short")} <= kinds
        assert all(one["reason"] for one in last["effects"])
        seen, after = [], ""
        while True:
            page = await api.get("/v1/orders/A2/timeline", limit=1, after=after)
            seen += page["items"]
            after = page["next"]
            if not after:
                break
        assert seen == whole["items"]


async def test_timeline_tells_deadlines_and_what_came_late(store: Store) -> None:
    """A deadline that passed and an event that counted no more must stand there too."""
    async with running_api(store) as api:
        await fill(api)
        await store.fire_due(api.front.shelves, api.clock.at.replace(month=4))
        steps = (await api.get("/v1/orders/A1/timeline"))["items"]
        fired = [one for one in steps if one["type"] == "timer.due"]
        assert fired[0]["data"] == {"name": "never_scanned"}
        assert ("open_anomaly", "not_picked_up") in {(one["kind"], one.get("name")) for one in fired[0]["effects"]}


async def test_orders_of_another_tenant(store: Store) -> None:
    """A foreign order must be answered exactly like one that does not exist, wherever it is asked for."""
    async with running_api(store) as api:
        await fill(api)
        assert (await api.other.get("/v1/orders")).json()["items"] == []
        assert (await api.other.get("/v1/orders", params={"text": PHONE[-4:]})).json()["items"] == []
        for path in ("", "/timeline", "/explain"):
            foreign = await api.other.get(f"/v1/orders/A1{path}")
            nobody = await api.http.get(f"/v1/orders/nothing{path}")
            assert (foreign.status_code, foreign.json()) == (404, nobody.json())
            assert foreign.json()["reason"] == "unknown_order"


async def test_bad_questions_are_refused_by_name(store: Store) -> None:
    """A cursor, limit, light or moment that is none must be refused with the field's name."""
    async with running_api(store) as api:
        await fill(api)
        foreign = (await api.get("/v1/notices", limit=1))["next"]
        assert foreign
        for query, field in (
            ("after=nonsense", "after"), (f"after={foreign}", "after"), ("limit=0", "limit"), ("limit=201", "limit"),
            ("limit=x", "limit"), ("light=blue", "light"), ("opened_from=yesterday", "opened_from"),
            ("opened_from=2026-03-02T10:00:00", "opened_from"), ("opened_until=0.5", "opened_until"),
            (f"text={'x' * 101}", "text"),
        ):  # fmt: skip
            response = await api.http.get(f"/v1/orders?{query}")
            assert (response.status_code, response.json().get("field")) == (422, field), query
            assert response.json()["reason"] == "wrong_value"
        assert (await api.http.get("/v1/orders/A1/timeline?after=x")).json()["field"] == "after"


async def test_scope_is_needed(store: Store) -> None:
    """A key without the scope must be told which one is missing."""
    async with running_api(store) as api:
        key = await api.key_for({"cases:read"})
        for path in ("/v1/orders", "/v1/orders/A1", "/v1/orders/A1/timeline"):
            response = await api.http.get(path, headers={"authorization": f"Bearer {key}"})
            assert (response.status_code, response.json()["reason"]) == (403, "missing_scope")
            assert "orders:read" in response.json()["detail"]


async def test_no_address_leaves_in_clear(store: Store) -> None:
    """No answer about orders may hold a phone or a mail address as it is."""
    async with running_api(store) as api:
        await fill(api)
        for path in ("/v1/orders", "/v1/orders/A1", "/v1/orders/A1/timeline", "/v1/messages", "/v1/notices"):
            text = (await api.http.get(path)).text
            assert PHONE[3:] not in text
            assert "ann@example.com" not in text


async def test_timeline_goes_on_behind_the_longest_names(store: Store) -> None:
    """However long the names are by which a shop calls its events, the next page must be had with the cursor."""
    kinds = ["order.placed", "payment.succeeded", "parcel.packed"]
    async with running_api(store) as api:
        for place, kind in enumerate(kinds):
            name = "订" * (ID_MAX - place)
            wire = {"id": name, "source": name, "type": kind, "subject": "A1", "data": {}}
            event = parse_event(msgspec.json.encode(wire), "acme", api.clock())
            assert isinstance(event, Event), event
            await store.turn(api.front.shelves, [event])
        found, after = [], ""
        for _ in kinds:
            page = await api.get("/v1/orders/A1/timeline", limit=1, after=after)
            found += [step["type"] for step in page["items"]]
            after = page["next"]
    assert (found, after) == (kinds, "")
