"""The API of playbooks: what it shows, what it refuses, and that no text brings it down."""

import asyncio
from typing import Any

import pytest

from orderbell.store.keys import SCOPES
from orderbell.store.postgres import Store
from tests.web.playbook_site import Site, running_playbooks

QUICK = "name: retail\nextends: retail\nnotices:\n  shipped: {within: 6m}\n"
SLOW = "name: retail\nextends: retail\nnotices:\n  shipped: {within: 9m}\n"
PROBLEM = "application/problem+json"

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 6)}]\n" for i in range(1, 15))
HOSTILE = {
    "aliases that unfold without end": BOMB,
    "a name that is a bomb": "a0: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 25))
    + "? *a24\n: 1\n",
    "a list that holds itself": "&a [*a]",
    "a megabyte": "x" * 1_000_000,
    "brackets": "[" * 60_000,
    "braces": "{a: " * 30_000,
    "steps": "\n".join(" " * depth + "a:" for depth in range(300)),
    "a zero byte": "name: a\0b",
    "a number without end": "name: retail\nextends: retail\namends: {value_fen: " + "9" * 50_000 + "}",
    "a number in sixties": "name: retail\nextends: retail\namends: {value_fen: " + ":".join(["1"] * 60_000) + "}",
    "code": "!!python/object/apply:os.system [ls]",
    "bytes": "name: !!binary aGk=\nextends: retail",
    "a date": "name: 2026-01-01\nextends: retail",
    "no mapping": "- 1",
    "nothing": "",
    "words that are none": "name: retail\nextends: retail\nwording: {zh-CN: 5}",
    "a path": "name: retail\nextends: ../../etc/passwd",
    "thousands of stages": "name: retail\nextends: retail\nstages:\n" + "".join(f"  s{i}: {{}}\n" for i in range(4000)),
}


async def problem(site: Site, path: str, body: object, status: int, **headers: str) -> dict[str, Any]:
    """Post something that is refused, and read why."""
    response = await site.api.post(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == PROBLEM
    found: dict[str, Any] = response.json()
    return found


async def test_playbooks_are_listed_and_shown(store: Store) -> None:
    """What counts must be listed with its version and source, and shown whole."""
    async with running_playbooks(store) as site:
        listed = (await site.api.get("/v1/playbooks")).json()["playbooks"]
        assert [(one["name"], one["source"], one["default"]) for one in listed] == [
            ("retail", "shipped", True), ("digital", "shipped", False), ("consignment", "shipped", False),
        ]  # fmt: skip
        shown = await site.api.get("/v1/playbooks/retail")
        assert shown.headers["etag"] == f'"{site.version()}"'
        assert shown.json()["spec"]["stages"]["placed"]["next_update"] == "30m"
        assert "wording:" in shown.json()["yaml"]
        texts = (await site.api.get("/v1/playbooks/retail/texts?topic=shipped&channel=sms&locale=zh-CN")).json()
        assert {text["topic"] for text in texts["texts"]} == {"shipped"}
        assert texts["texts"][-1]["worst"]["units"] <= 70
        wrong = await site.api.get("/v1/playbooks/retail/texts?topic=shiped")
        assert (wrong.status_code, "did you mean" in wrong.json()["detail"]) == (422, True)
        assert (await site.api.get("/v1/playbooks/nobodys")).json()["reason"] == "unknown_playbook"
        assert (await site.api.get("/v1/playbooks/a%00b")).status_code == 404
        assert (await site.api.get("/v1/playbooks/retail/versions/a%00b")).status_code == 404


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_text_is_told_what_is_wrong(store: Store, what: str) -> None:
    """Whatever is sent as a playbook, the answer must say what is wrong with it, soon, and nothing may break."""
    async with running_playbooks(store) as site, asyncio.timeout(30):
        answer = await site.api.post("/v1/playbooks/lint", json={"text": HOSTILE[what]})
        assert answer.status_code == 200, answer.text[:300]
        found = answer.json()
        assert not found["ok"]
        assert found["problems"][0]["message"]
        assert found["problems"][0]["line"] >= 1
        body = {"text": HOSTILE[what] or "#", "expected_version": site.version()}
        assert (await site.api.post("/v1/playbooks/retail/activate", json=body)).status_code == 422
        preview = await site.api.post("/v1/playbooks/preview", json={"text": HOSTILE[what], "topic": "shipped"})
        assert preview.status_code in (200, 422)


async def test_lint_names_line_and_remedy(store: Store) -> None:
    """A fault must come with its line, its place and what to do; in what is extended, with the file's bare name."""
    async with running_playbooks(store) as site:
        answer = await site.api.post("/v1/playbooks/lint", json={"text": QUICK + "stages:\n  lost: {}\n"})
        (fault,) = answer.json()["problems"]
        assert (fault["line"], fault["where"], fault["file"]) == (6, "stages.lost", "")
        assert fault["remedy"] == "add a rule with `stage: lost`"
        brand = {"text": "name: own\nextends: retail\nbrand: {en: '', zh-CN: x}\n"}
        said = (await site.api.post("/v1/playbooks/lint", json=brand)).text
        assert "/src/" not in said
        clean = (await site.api.post("/v1/playbooks/lint", json={"text": QUICK})).json()
        assert (clean["ok"], clean["name"], len(clean["version"])) == (True, "retail", 12)


async def test_activation_is_compare_and_set(store: Store) -> None:
    """Who names the version that counts must win; who names another gets 412 with the one that does."""
    async with running_playbooks(store) as site:
        path, shipped = "/v1/playbooks/retail/activate", site.version()
        assert (await problem(site, path, {"text": QUICK}, 428))["reason"] == "no_expected_version"
        both = {"text": QUICK, "version": shipped, "expected_version": shipped}
        assert (await problem(site, path, both, 422))["field"] == "text"
        done = await site.api.post(path, json={"text": QUICK}, headers={"if-match": f'"{shipped}"'})
        assert done.status_code == 200, done.text
        version = done.json()["version"]
        assert (done.json()["changed"], done.headers["etag"], site.version()) == (True, f'"{version}"', version)
        late = await site.api.post(path, json={"text": SLOW, "expected_version": shipped})
        assert (late.status_code, late.json()["reason"], late.headers["etag"]) == (
            412, "version_changed", f'"{version}"',
        )  # fmt: skip
        again = (await site.api.post(path, json={"text": QUICK, "expected_version": version})).json()
        assert (again["changed"], again["version"]) == (False, version)
        back = await site.api.post(path, json={"version": shipped, "expected_version": version})
        assert (back.json()["version"], site.version()) == (shipped, shipped)
        lines = (await site.api.get("/v1/playbooks/retail/versions")).json()
        assert [(one["number"], one["follows"]) for one in lines["versions"]] == [(2, True), (1, False)]
        old = (await site.api.get(f"/v1/playbooks/retail/versions/{version}")).json()
        assert old["source"] == QUICK
        diff = (await site.api.get(f"/v1/playbooks/retail/diff?old={shipped}&new={version}")).json()["diff"]
        assert "-    within: 10m" in diff
        assert "+    within: 6m" in diff
        assert [action for _, action, _ in await site.actions()] == ["playbook.activate"] * 2
        assert all(actor.startswith("key:") for actor, _, _ in await site.actions())


async def test_refused_activation_says_why(store: Store) -> None:
    """Faults, another name and an unknown version must be told apart, and change nothing."""
    async with running_playbooks(store) as site:
        path, seen = "/v1/playbooks/retail/activate", site.version()
        for body, status, reason in (
            ({"text": "name: digital\nextends: digital\n"}, 422, "other_name"),
            ({"text": QUICK + "stages: {lost: {}}\n"}, 422, "invalid_playbook"),
            ({"version": "0" * 12}, 404, "unknown_version"),
            ({"version": "a\0"}, 404, "unknown_version"),
        ):
            found = await problem(site, path, {**body, "expected_version": seen}, status)
            assert found["reason"] == reason
        assert site.version() == seen
        assert await site.actions() == []


async def test_two_at_once(store: Store) -> None:
    """Of two requests at once with the same version exactly one must go through."""
    async with running_playbooks(store) as site:
        seen = site.version()
        answers = await asyncio.gather(*(
            site.api.post("/v1/playbooks/retail/activate", json={"text": text, "expected_version": seen})
            for text in (QUICK, SLOW)
        ))  # fmt: skip
        assert sorted(answer.status_code for answer in answers) == [200, 412]


async def test_keys_need_their_scope(store: Store) -> None:
    """Without playbooks:write nothing is activated, without playbooks:read nothing seen, and tenants see their own."""
    async with running_playbooks(store) as site:
        body = {"text": QUICK, "expected_version": site.version()}
        reader, stranger = await site.key("playbooks:read"), await site.key("orders:read")
        other = await site.key("playbooks:read", "playbooks:write", tenant="other")
        no = await site.api.post("/v1/playbooks/retail/activate", json=body, headers=reader)
        assert (no.status_code, no.json()["reason"]) == (403, "missing_scope")
        for path in ("", "/retail", "/retail/versions", "/retail/texts", "/retail/diff"):
            assert (await site.api.get(f"/v1/playbooks{path}", headers=stranger)).status_code == 403
        assert (await site.api.post("/v1/playbooks/lint", json={"text": QUICK}, headers=stranger)).status_code == 403
        done = (await site.api.post("/v1/playbooks/retail/activate", json=body)).json()
        theirs = await site.api.get("/v1/playbooks/retail", headers=other)
        assert theirs.json()["source"] == "shipped"
        hidden = await site.api.get(f"/v1/playbooks/retail/versions/{done['version']}", headers=other)
        assert (hidden.status_code, hidden.json()["reason"]) == (404, "unknown_version")
        assert {"playbooks:read", "playbooks:write"} <= set(SCOPES)
