"""The API around notices, messages, cases and figures."""

from orderbell.store.postgres import Store
from tests.api_site import fill, running_api


async def test_messages_are_found_and_shown_with_their_tries(store: Store) -> None:
    """Filters must find their messages; one of them must come with its notices and every try."""
    async with running_api(store) as api:
        await fill(api)
        whole = (await api.get("/v1/messages"))["items"]
        assert {one["order_no"] for one in whole} >= {"A2", "A3", "B1"}
        for query in (
            {"order_no": "A2"}, {"contact": "ann"}, {"topic": "stock_short"}, {"channel": "sms"},
            {"state": "accepted"}, {"provider": "scripted"}, {"created_from": "2026-03-02T12:00:09Z"},
        ):  # fmt: skip
            found = (await api.get("/v1/messages", **query))["items"]
            assert found, query
            for name, value in query.items():
                field = "status" if name == "state" else name
                assert name == "created_from" or {one[field] for one in found} == {value}
        assert (await api.get("/v1/messages", state="failed"))["items"] == []
        shown = await api.get(f"/v1/messages/{whole[0]['id']}")
        assert shown["message"] == whole[0]
        assert (shown["attempts"], len(shown["notices"]), shown["marketing"]) == ([], 1, False)


async def test_notices_say_what_became_of_them(store: Store) -> None:
    """Notices must be found by order, person, topic and fate, in pages."""
    async with running_api(store) as api:
        await fill(api)
        whole = (await api.get("/v1/notices"))["items"]
        assert {one["fate"] for one in whole} <= {"sent", "merged", "dropped"}
        assert {one["topic"] for one in (await api.get("/v1/notices", order_no="A2"))["items"]} >= {"stock_short"}
        assert (await api.get("/v1/notices", fate="sent", topic="stock_short"))["items"][0]["contact"] == "ann"
        first = await api.get("/v1/notices", limit=1)
        second = await api.get("/v1/notices", limit=1, after=first["next"])
        assert [*first["items"], *second["items"]] == whole[:2]


async def test_cases_are_listed_and_shown(store: Store) -> None:
    """Cases must be found by state, owner, kind and order, and each be readable by its id."""
    async with running_api(store) as api:
        await fill(api)
        for query, count in (
            ({}, 3), ({"state": "unresolved"}, 3), ({"state": "resolved"}, 0), ({"owner": "warehouse"}, 1),
            ({"kind": "call_back"}, 2), ({"order_no": "A2"}, 2),
        ):  # fmt: skip
            found = (await api.get("/v1/cases", **query))["items"]
            assert len(found) == count, query
        case = (await api.get("/v1/cases"))["items"][0]
        assert await api.get(f"/v1/cases/{case['id']}") == case


async def test_things_of_another_tenant(store: Store) -> None:
    """A foreign message or case must be answered exactly like one that does not exist."""
    async with running_api(store) as api:
        await fill(api)
        message = (await api.get("/v1/messages"))["items"][0]["id"]
        case = (await api.get("/v1/cases"))["items"][0]["id"]
        for path, name in (("/v1/messages", message), ("/v1/cases", case)):
            foreign = await api.other.get(f"{path}/{name}")
            for nothing in ("0" * 32, "zz", "%00"):
                nobody = await api.http.get(f"{path}/{nothing}")
                assert (foreign.status_code, foreign.json()) == (404, nobody.json())
            assert (await api.other.get(path)).json()["items"] == []


async def test_figures_say_how_things_stand(store: Store) -> None:
    """What is open now must be counted exactly, of this tenant alone."""
    async with running_api(store) as api:
        await fill(api)
        figures = await api.get("/v1/metrics")
        assert (figures["red"], figures["anomalies"]["stock_short"], figures["cases"]["warehouse"]) == (2, 1, 1)
        other = (await api.other.get("/v1/metrics")).json()
        assert (other["red"], other["anomalies"], other["cases"]) == (0, {}, {})


async def test_each_list_needs_its_scope(store: Store) -> None:
    """A key must read only what its scopes name."""
    async with running_api(store) as api:
        scopes = {
            "/v1/messages": "messages:read", "/v1/notices": "messages:read", "/v1/cases": "cases:read",
            "/v1/metrics": "metrics:read", "/v1/orders": "orders:read",
        }  # fmt: skip
        for scope in set(scopes.values()):
            key = await api.key_for({scope})
            for path, needed in scopes.items():
                response = await api.http.get(path, headers={"authorization": f"Bearer {key}"})
                assert response.status_code == (200 if needed == scope else 403), (path, scope)
