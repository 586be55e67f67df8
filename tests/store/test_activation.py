"""Activating playbooks: who is quicker wins, what is in use cannot go, and every process follows its own tenant's."""

import asyncio
import copy
from pathlib import Path

import msgspec
import pytest

from orderbell.app.activation import Desk, Following
from orderbell.core.model import SendNotice
from orderbell.core.playbook import Playbook
from orderbell.playbooks import check_draft
from orderbell.store.activation import Activation, Activations, Draft, DraftChanged, VersionChanged, version_of
from orderbell.store.dossier import Archive
from orderbell.store.postgres import Store
from orderbell.web.playbook_desk import Refusal
from tests.dispatch.rig import NOON
from tests.town import people
from tests.web.playbook_site import Site, running_playbooks, shelf

HEAD = "name: retail\nextends: retail\n"
QUICK = HEAD + "notices:\n  shipped: {within: 6m}\n"
SLOW = HEAD + "notices:\n  shipped: {within: 9m}\n"
QUIET = HEAD + "anomalies:\n  stock_short: {tell: []}\n"


def made(text: str) -> Playbook:
    """A playbook without a fault."""
    checked = check_draft(text)
    assert checked.playbook is not None, checked.faults
    assert not checked.faults, [str(fault) for fault in checked.faults]
    return checked.playbook


def shipped() -> Playbook:
    """The playbook that ships."""
    return shelf().playbooks["retail"]


async def activated(site: Site, text: str, *, tenant: str = "acme", name: str = "retail") -> Activation:
    """Let a text count."""
    current = site.following.shelves[tenant].playbooks.get(name)
    done = await site.desk.activate(
        tenant, name, text, expected=current.version if current else "", actor="user:ann"
    )  # fmt: skip
    assert isinstance(done, Activation), done
    return done


async def refused(site: Site, text: str, name: str = "retail", expected: str | None = None) -> Refusal:
    """Have a text refused, and nothing changed."""
    before = dict(site.following.shelves["acme"].playbooks)
    seen = site.version(name) if expected is None else expected
    done = await site.desk.activate("acme", name, text, expected=seen, actor="user:ann")
    assert isinstance(done, Refusal), done
    await site.following.refresh()
    assert site.following.shelves["acme"].playbooks == before
    return done


async def test_activated_version_counts_for_its_tenant_alone(store: Store) -> None:
    """A tenant's own version must decide its orders, and nobody else's, in one process."""
    async with running_playbooks(store) as site:
        await activated(site, QUIET)
        assert site.version() == made(QUIET).version
        assert site.version(tenant="other") == shipped().version
        for tenant in ("acme", "other"):
            await site.tell("order.placed", tenant=tenant, people=people())
            await site.tell("payment.succeeded", tenant=tenant)
            await site.tell("stock.short", tenant=tenant)
        told = {}
        for tenant in ("acme", "other"):
            dossier = await Archive(store, tenant).of_order("A1")
            assert dossier is not None
            sent = [effect for step in dossier.steps for effect in step.effects if isinstance(effect, SendNotice)]
            told[tenant] = {effect.notice.topic for effect in sent}
    assert "stock_short" in told["other"]
    assert "stock_short" not in told["acme"]


async def test_other_process_follows(store: Store) -> None:
    """A process that only reads must come to the same version, and keep the shelves that did not change."""
    async with running_playbooks(store) as site:
        elsewhere = Following(store.pool, shelf())
        await elsewhere.refresh()
        mapping, untouched = elsewhere.shelves, elsewhere.shelves["other"]
        await activated(site, QUICK)
        await elsewhere.refresh()
        assert elsewhere.shelves is mapping
        assert mapping["acme"].playbooks["retail"].version == site.version()
        assert mapping["other"] is untouched
        kept = mapping["acme"]
        await elsewhere.refresh()
        assert mapping["acme"] is kept


async def test_words_of_a_draft_are_told(store: Store) -> None:
    """A draft's own words must lie over those that ship, for every locale that it names."""
    words = "wording:\n  zh-CN: {texts: {shipped: {sms: ['包裹{order_no}上路了。']}}}\n"
    async with running_playbooks(store) as site:
        await activated(site, HEAD + words)
        counting = site.following.shelves["acme"].playbooks["retail"]
        spec = counting.wording["zh-CN"].spec
        assert spec.texts["shipped"].sms == ("包裹{order_no}上路了。",)
        assert counting.wording["en"].spec == shipped().wording["en"].spec
        elsewhere = Following(store.pool, shelf())
        await elsewhere.refresh()
        assert elsewhere.shelves["acme"].playbooks["retail"].wording["zh-CN"].spec == spec


async def test_race_of_two(store: Store) -> None:
    """Of two who saw the same version one must win, and the other be told which one counts."""
    async with running_playbooks(store) as site:
        seen = site.version()
        both = await asyncio.gather(*(
            site.desk.activate("acme", "retail", text, expected=seen, actor="user:ann") for text in (QUICK, SLOW)
        ))  # fmt: skip
        won = [one for one in both if isinstance(one, Activation)]
        lost = [one for one in both if isinstance(one, Refusal)]
        assert len(won) == len(lost) == 1
        assert (lost[0].why, lost[0].detail) == ("changed", won[0].version)
        assert site.version() == won[0].version
        history = await site.desk.of("acme").history("retail")
    assert [line.version for line in history] == [won[0].version]


async def test_race_at_the_row(store: Store) -> None:
    """Even where both read the same row at once, only one may write."""
    async with running_playbooks(store) as site:
        activations, filed = site.desk.of("acme"), site.version()
        versions = [version_of(made(text), text, NOON) for text in (QUICK, SLOW)]

        async def one(number: int) -> str:
            try:
                await Activations(store, "acme").activate(
                    versions[number % 2], expected=filed, from_files=filed, follow=False, at=NOON, actor="key:x"
                )
            except VersionChanged:
                return "lost"
            return "won"

        outcomes = await asyncio.gather(*(one(number) for number in range(8)))
        assert sorted(outcomes).count("won") == 1
        assert len(await activations.history("retail")) == 1


async def test_same_version_again(store: Store) -> None:
    """Activating what counts already must change nothing and leave no line."""
    async with running_playbooks(store) as site:
        first = await activated(site, QUICK)
        again = await site.desk.activate("acme", "retail", QUICK, expected=first.version, actor="user:ann")
        assert again is None
        assert len(await site.desk.of("acme").history("retail")) == 1


async def test_rolling_back(store: Store) -> None:
    """An older version must come back as it was, and the files' version follow the files again."""
    async with running_playbooks(store) as site:
        filed, first = site.version(), await activated(site, QUICK)
        second = await activated(site, SLOW)
        change = {"expected": second.version, "actor": "user:bob"}
        back = await site.desk.activate_again("acme", "retail", first.version, **change)
        assert isinstance(back, Activation)
        assert (back.version, back.number, site.version()) == (first.version, 3, first.version)
        home = await site.desk.activate_again("acme", "retail", filed, expected=first.version, actor="user:bob")
        assert isinstance(home, Activation)
        assert (home.follows, site.version()) == (True, filed)
        assert await store.pool.fetchval("SELECT version FROM active WHERE tenant = 'acme'") == ""
        unknown = await site.desk.activate_again("acme", "retail", "0" * 12, expected=filed, actor="user:bob")
        assert isinstance(unknown, Refusal)
        assert unknown.why == "unknown_version"
        nobodys = await site.desk.activate_again("other", "retail", first.version, expected=filed, actor="user:bob")
        assert isinstance(nobodys, Refusal), "a version of another tenant is none"
        kept = await site.desk.of("acme").version("retail", filed)
    assert kept is not None, "what counted before the first activation can be compared"


async def test_new_name(store: Store) -> None:
    """A name that the files do not have must be the tenant's alone, and be followed by orders that name it."""
    text = "name: vip-line\nextends: retail\n"
    async with running_playbooks(store) as site:
        assert (await refused_new(site, text, expected="something")).detail == ""
        await activated(site, text, name="vip-line")
        await site.tell("order.placed", playbook="vip-line", people=people())
        dossier = await Archive(store, "acme").of_order("A1")
        assert dossier is not None
        assert dossier.orders["A1"].playbook == "vip-line"
        assert "vip-line" not in site.following.shelves["other"].playbooks


async def refused_new(site: Site, text: str, expected: str) -> Refusal:
    """Have a text of a new name refused."""
    done = await site.desk.activate("acme", "vip-line", text, expected=expected, actor="user:ann")
    assert isinstance(done, Refusal)
    return done


async def test_faults_and_other_names_are_refused(store: Store) -> None:
    """What lint finds anything in, or calls itself otherwise, must not count."""
    async with running_playbooks(store) as site:
        faulty = await refused(site, HEAD + "stages:\n  lost: {}\n")
        assert (faulty.why, faulty.faults[0].line) == ("faults", 4)
        other = await refused(site, "name: digital\nextends: digital\n")
        assert (other.why, other.detail) == ("other_name", "digital")


def without(stage: str) -> str:
    """Retail without one of its stages, written out."""
    spec = msgspec.to_builtins(shipped().spec)
    del spec["stages"][stage]
    spec["rules"] = [rule for rule in spec["rules"] if rule.get("stage") != stage]
    for deadline in spec["deadlines"].values():
        if deadline and not isinstance(deadline.get("in", ""), str):
            deadline["in"] = [name for name in deadline["in"] if name != stage]
    spec["anomalies"] = {
        name: {**found, "clears_at": "shipped"} if found and found.get("clears_at") == stage else found
        for name, found in spec["anomalies"].items()
    }
    return msgspec.json.encode(spec).decode()


async def test_stage_of_a_live_order_cannot_go(store: Store) -> None:
    """A stage must stay while a live order stands in it; without such orders it may go."""
    text = without("packed")
    made(text)
    async with running_playbooks(store) as site:
        await site.tell("order.placed", people=people())
        await site.tell("payment.succeeded")
        await site.tell("parcel.packed")
        refusal = await refused(site, text)
        assert (refusal.why, refusal.missed.stages) == ("missed", ("packed",))
        await site.tell("parcel.shipped")
        await activated(site, text)


async def test_stage_that_another_process_brought_cannot_go(store: Store) -> None:
    """What counts since a moment, by the doing of another process, must be kept as well as what this one knows of."""
    more = HEAD + "stages:\n  wrapped: {says: {zh-CN: 已包好, en: Wrapped}}\n"
    more += "rules:\n  - {on: parcel.packed, stage: wrapped}\n"
    async with running_playbooks(store) as site:
        elsewhere = Desk(store, Following(store.pool, shelf()), "", site.clock)
        done = await elsewhere.activate("acme", "retail", more, expected=shipped().version, actor="user:bob")
        assert isinstance(done, Activation), done
        await site.following.refresh()
        await site.tell("order.placed", people=people())
        await site.tell("payment.succeeded")
        await site.tell("parcel.packed")
        behind = Desk(store, Following(store.pool, shelf()), "", site.clock)
        refusal = await behind.activate("acme", "retail", QUICK, expected=done.version, actor="user:ann")
        assert isinstance(refusal, Refusal), refusal
        assert (refusal.why, refusal.missed.stages) == ("missed", ("wrapped",))


async def test_anomaly_and_topic_in_use_cannot_go(store: Store) -> None:
    """An open anomaly, and a topic that somebody still waits to be told, must stay."""
    retail = shipped()
    poorer = copy.copy(retail)
    object.__setattr__(poorer, "anomalies", {})
    object.__setattr__(poorer, "notices", {})
    async with running_playbooks(store) as site:
        await site.tell("order.placed", people=people())
        await site.tell("payment.succeeded")
        await site.tell("stock.short")
        missed = await site.desk.of("acme").missed([retail], poorer, site.clock())
        others = await site.desk.of("other").missed([retail], poorer, site.clock())
    assert missed.anomalies == ("stock_short",)
    assert "stock_short" in missed.topics
    assert not others, "nothing of another tenant keeps a version from counting"


async def test_version_that_this_release_refuses(store: Store) -> None:
    """One that cannot be compiled any more must be left out, so that the tenant follows the files."""
    async with running_playbooks(store) as site:
        done = await activated(site, QUICK)
        await store.pool.execute("UPDATE playbook SET body = '{\"name\": 5}' WHERE version = $1", done.version)
        elsewhere = Following(store.pool, shelf())
        await elsewhere.refresh()
        assert elsewhere.shelves["acme"].playbooks["retail"].version == shipped().version


async def test_draft_that_somebody_else_saved(store: Store) -> None:
    """Who saves over a draft that they have not seen must be told, and overwrite nothing."""
    activations = Activations(store, "acme")
    mine = Draft("retail", "a", "v", NOON, "user:ann")
    await activations.put_draft(mine, None)
    with pytest.raises(DraftChanged):
        await activations.put_draft(Draft("retail", "b", "v", NOON, "user:bob"), None)
    assert await activations.draft("retail") == mine
    assert await Activations(store, "other").draft("retail") is None
    assert await activations.drop_draft("retail")
    assert not await activations.drop_draft("retail")


def test_own_files_lie_under_drafts(tmp_path: Path) -> None:
    """A draft must lie over the installation's own file of its name, where there is one."""
    (tmp_path / "retail.yaml").write_text(HEAD + "notices:\n  shipped: {within: 7m}\n", encoding="utf-8")
    checked = check_draft(HEAD, str(tmp_path))
    assert checked.playbook is not None
    assert checked.playbook.spec.notices["shipped"].within == "7m"
