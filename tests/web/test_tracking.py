"""The customer's page: what it says, what it keeps to itself, and what can be done on it."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
import structlog

from orderbell.engine import IntakeBusy
from orderbell.observe import counts, set_up_logging
from orderbell.store.brand import Brand, Brands
from orderbell.store.postgres import Store
from orderbell.web import rendering
from orderbell.web.guest.desk import MISSES_MAX, Guesses
from tests.dispatch.rig import NOON
from tests.guests import PHONE, Pages, buyer, people_of, running_pages

STATIC = Path(rendering.__file__).parent / "static"
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}</script>"
SELLER = "+8613900139000"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note what stands in a script."""
        if self.found and self.found[-1][0] == "script":
            self.scripts.append(data)


@asynccontextmanager
async def written_logs() -> AsyncIterator[None]:
    """Logs as in production; the browser of the test may know where it goes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    set_up_logging("DEBUG", "json")
    talking = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("http")]
    for one in talking:
        one.disabled = True
    try:
        yield
    finally:
        for one in talking:
            one.disabled = False
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


async def consigned(pages: Pages) -> tuple[str, str]:
    """An item with a price that waits for its consignor; the paths of consignor and buyer."""
    people = {"consignor": {"id": "bo", "phone": SELLER}, "buyer": {"id": "ann", "phone": PHONE}}
    await pages.tell(
        "item.received", "C3", playbook="consignment", title="百达翡丽 5711", category="watch", people=people
    )
    await pages.tell("item.approved", "C3")
    await pages.tell("item.price_proposed", "C3", price_fen=2888000)
    return await pages.path("C3"), await pages.path("C3", "buyer")


async def test_page_says_how_it_stands(store: Store) -> None:
    """Stage, light, times, promise, parcel and next word must stand there in plain words, in both languages."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", title="手工紫砂壶", people=buyer())
        await pages.tell("payment.succeeded", amount_fen=59900)
        await pages.tell("parcel.promised", by="2026-03-06")
        await pages.tell("parcel.shipped", carrier="SF", tracking_no="SF1234567890123")
        path = await pages.path()
        chinese = (await pages.http.get(path)).text
        for words in (
            "已交给快递，在路上",
            "正常进行中",
            "3月6日",
            "顺丰",
            "单号尾号 0123",
            "手工紫砂壶",
            "今天 20:00",
            "最晚3月4日 20:00",
        ):
            assert words in chinese
        english = (await pages.http.get(f"{path}?lang=en")).text
        for words in (
            "With the courier, on its way",
            "All going well",
            "6 March",
            "SF Express",
            "number ends in 0123",
            "by 4 Mar 20:00",
        ):
            assert words in english
        assert "SF1234567890123" not in chinese + english


async def test_stage_that_few_orders_pass_is_shown_when_it_is_reached(store: Store) -> None:
    """What the playbook calls optional must not be promised as something to come, and must be told when it is there."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        await pages.tell("payment.succeeded")
        await pages.tell("parcel.shipped", carrier="SF", tracking_no="SF100")
        path = await pages.path()
        before = (await pages.http.get(path)).text
        assert ("已送达" in before, "已到取件点" in before) == (True, False)
        await pages.tell("parcel.scanned", carrier="SF", tracking_no="SF100", phase="available_for_pickup")
        reached = (await pages.http.get(path)).text
        assert "已到取件点" in reached
        assert "https://schema.org/OrderPickupAvailable" in reached


async def test_page_holds_nothing_of_a_person(store: Store) -> None:
    """Name, phone, mail and the name of consigned goods must not be on any page (S3-31)."""
    async with running_pages(store) as pages:
        mine, _ = await consigned(pages)
        await pages.tell("contact.changed", "C3", people={"consignor": {"id": "bo", "email": "bo@example.com"}})
        for tail in ("", "/part", "/wishes", "/choice?ask=price&option=confirm_price"):
            text = (await pages.http.get(mine + tail)).text
            for secret in (SELLER[3:], SELLER[-4:], PHONE[3:], "bo@example.com", "百达翡丽", ">bo<"):
                assert secret not in text
        assert "您寄售的" in (await pages.http.get(mine)).text


async def test_page_headers(store: Store) -> None:
    """Nothing may be kept, told to other sites, indexed or framed, and only our own scripts may run."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        for address in (path, f"{path}/part", f"{path}/wishes", "/t/" + "x" * 22, "/track"):
            headers = (await pages.http.get(address)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-robots-tag"] == "noindex"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


async def test_page_weighs_little(store: Store) -> None:
    """Page, style and script together must stay within 60 kB, and nothing comes from elsewhere."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        text = (await pages.http.get(path)).text
        found = Elements(text).found
        fetched = [
            a.get("src") or a.get("href")
            for tag, a in found
            if tag in ("script", "link", "img") and ("src" in a or "href" in a)
        ]
        assert all(address and address.startswith("/static/") for address in fetched)
        size = len(text.encode()) + sum(
            (STATIC / str(a).split("/static/")[1].split("?")[0]).stat().st_size for a in fetched
        )
        assert size <= 60_000, size


async def test_markup_is_valid_json_and_names_nobody(store: Store) -> None:
    """The schema.org markup must be JSON of an Order, with a nonce, whatever the shop wrote."""
    async with running_pages(store) as pages:
        await Brands(store).set("acme", Brand(name="</script><b>"), NOON)
        await pages.tell("order.placed", "<A&'1>", title=EVIL, people=buyer())
        await pages.tell("parcel.shipped", "<A&'1>", carrier=EVIL, tracking_no="SF12345")
        response = await pages.http.get(await pages.path("<A&'1>"))
        page = Elements(response.text)
        attributes = [a for tag, a in page.found if tag == "script"]
        assert attributes[0]["type"] == "application/ld+json"
        assert f"'nonce-{attributes[0]['nonce']}'" in response.headers["content-security-policy"]
        order = json.loads(page.scripts[0])
        assert (order["@context"], order["@type"], order["orderNumber"]) == ("https://schema.org", "Order", "<A&'1>")
        assert order["merchant"]["name"] == "</script><b>"
        assert order["orderDelivery"]["@type"] == "ParcelDelivery"
        assert order["orderStatus"].startswith("https://schema.org/Order")
        assert "trackingNumber" not in response.text


async def test_hostile_words_are_shown_as_words(store: Store) -> None:
    """No field that a shop or customer fills may become an element or an attribute of a page."""
    async with running_pages(store) as pages:
        await Brands(store).set("acme", Brand(name=EVIL, phone=EVIL, website="https://x.example/"), NOON)
        who = {"buyer": {"id": EVIL, "phone": PHONE, "locale": "zh", "quiet": "01:00-02:00", "mute": [EVIL]}}
        await pages.tell("order.placed", "A\"'<b>1", title=EVIL, category=EVIL, people=who)
        await pages.tell("stock.short", "A\"'<b>1", title=EVIL)
        await pages.tell(
            "parcel.scanned", "A\"'<b>1", phase="in_transit", carrier=EVIL, place=EVIL, reason=EVIL, text=EVIL
        )
        await pages.tell("complaint.opened", "A\"'<b>1", text=EVIL)
        path = await pages.path("A\"'<b>1")
        odd = f"/choice?ask={EVIL}&option={EVIL}&days={EVIL}"
        for address in (
            path,
            f"{path}/part",
            f"{path}/wishes",
            f"{path}?x={EVIL}",
            path + odd,
            f"/track?shop={EVIL}",
            f"/t/{EVIL[:9]}",
        ):
            page = Elements((await pages.http.get(address)).text)
            assert {tag for tag, _ in page.found}.isdisjoint({"img", "b", "iframe"})
            assert not [a for _, a in page.found if any(name.startswith("on") or name == "style" for name in a)]
            assert all("alert" not in script or "\\u003c" in script for script in page.scripts)


async def test_token_that_opens_nothing(store: Store) -> None:
    """Unknown, malformed and foreign tokens must be the same 404, in the language of the browser."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        answers = []
        for token in ("x" * 22, "x", "x" * 5000, "%00" * 22, "../" * 7, path[3:-1], path[3:].swapcase()):
            for tail in ("", "/part", "/live", "/wishes", "/choice", "/address"):
                response = await pages.http.get(f"/t/{token.replace('/', '%2F')}{tail}")
                assert response.status_code in (404, 429)
                if response.status_code == 404 and "track_" not in response.text and "这个链接打不开" in response.text:
                    answers.append(re.sub(r'nonce="[^"]*"|href="/t/[^"]*"', "", response.text))
        assert len(set(answers)) == 1


async def test_guessing_is_noticed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Who tries many tokens must be asked to wait, the log must say so once a minute, and a good token still opens."""
    async with written_logs(), running_pages(store) as pages:
        path = await pages.short_stock()
        before = counts().get("tracking.missed", 0)
        statuses = [(await pages.http.get(f"/t/{number:022d}")).status_code for number in range(MISSES_MAX + 5)]
        assert statuses == [404] * MISSES_MAX + [429] * 5
        assert counts()["tracking.missed"] == before + MISSES_MAX + 5
        assert (await pages.http.get(path)).status_code == 200
        pages.clock.turn(61)
        assert (await pages.http.get(f"/t/{1:022d}")).status_code == 404
        guesses = Guesses()
        for number in range(1000):
            guesses.missed(str(number), NOON)
    assert capsys.readouterr().err.count("somebody guesses") == 1


async def test_token_reaches_no_log(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither token nor what people write may stand in a log line, whatever goes wrong."""
    async with written_logs(), running_pages(store) as pages:
        path = await pages.short_stock()
        version = await pages.version()
        pages.failures += [IntakeBusy("busy"), RuntimeError("broken")]
        assert (await pages.choose(path, "wait", version)).status_code == 503
        assert (await pages.choose(path, "wait", version)).status_code == 500
        assert (await pages.http.post(f"{path}/choice", content=b"\xff")).status_code == 400
        await pages.store.pool.close()
        assert (await pages.http.get(path)).status_code == 503
    said = capsys.readouterr().err
    assert "request failed" in said
    assert path[3:] not in said


async def test_get_changes_nothing(store: Store) -> None:
    """Every address of a page, opened by whatever opens links, must leave every table as it was."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        mine, other = await consigned(pages)
        before = await pages.contents()
        for address in (path, mine, other):
            for tail in (
                "",
                "/part",
                "/choice?ask=stock&option=refund",
                "/choice?ask=price&option=confirm_price",
                "/address",
                "/wishes",
                "?lang=en",
            ):
                assert (await pages.http.get(address + tail)).status_code in (200, 409)
        assert (await pages.http.get("/track")).status_code == 200
        assert await pages.contents() == before


async def test_choice_is_one_event_however_often_pressed(store: Store) -> None:
    """Two clicks, one after the other and at once, must be one event and both lead back to the page."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        version = await pages.version()
        both = await asyncio.gather(*(pages.choose(path, "refund", version) for _ in range(4)))
        later = await pages.choose(path, "refund", version)
        assert {(r.status_code, r.headers["location"]) for r in (*both, later)} == {(303, path)}
        assert await pages.page_events() == [("choice.made", {"option": "refund"})]
        text = (await pages.http.get(path)).text
        assert "您选了“退款”" in text
        assert "退款办理中" in text
        assert "继续等货" not in text


async def test_choice_may_be_changed_while_it_is_open(store: Store) -> None:
    """Who waits may ask for the money later, by the page as it is then."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        assert (await pages.choose(path, "wait", await pages.version())).status_code == 303
        assert (await pages.choose(path, "refund", await pages.version())).status_code == 303
        assert [data["option"] for _, data in await pages.page_events()] == ["wait", "refund"]


async def test_choice_that_is_not_offered(store: Store) -> None:
    """What no open question offers, or a page of tomorrow asks for, must be refused and change nothing."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        version = await pages.version()
        for option, number, ask, more in [
            ("free_car", version, "stock", {}), ("refund", version, "lost", {}), ("refund", version + 1, "stock", {}),
            ("refund", 0, "stock", {}), ("extend", version, "stock", {"days": "30"}),
            ("refund", version, "stock", {"price": "1"}), ("refund", version, "x" * 3000, {}), ("refund", version, "\x00", {}),
        ]:  # fmt: skip
            form = {"days": "0", **more}
            assert (await pages.choose(path, option, number, ask, **form)).status_code == 409
        for said in ("1e9", "", "-1", "٣", "9" * 40):
            odd = await pages.http.post(f"{path}/choice", data={"ask": "stock", "option": "refund", "version": said})
            assert odd.status_code == 409
        await pages.tell("stock.restored")
        late = await pages.choose(path, "refund", version)
        assert (late.status_code, "已经处理好了" in late.text) == (409, True)
        assert await pages.page_events() == []


async def test_choice_from_another_site(store: Store) -> None:
    """A form of another site must be refused; a browser that hides where it comes from may answer."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        form = {"ask": "stock", "option": "refund", "version": str(await pages.version()), "price": "0"}
        for tail in ("/choice", "/wishes", "/address"):
            for headers in (
                {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
                {"sec-fetch-site": "cross-site", "origin": "null"}, {"origin": "https://evil.example"},
            ):  # fmt: skip
                assert (await plain_post(pages, path + tail, form, headers)).status_code == 403
        assert await pages.page_events() == []
        assert (await plain_post(pages, f"{path}/choice", form, {"origin": "null"})).status_code == 303


async def plain_post(pages: Pages, path: str, form: dict[str, str], headers: dict[str, str]) -> httpx.Response:
    """Post with no other headers than these."""
    async with httpx.AsyncClient(base_url=pages.url, trust_env=False) as http:
        return await http.post(path, data=form, headers=headers)


async def test_price_is_the_consignors_to_confirm(store: Store) -> None:
    """The buyer of a consigned item must neither see the question nor be able to answer it."""
    async with running_pages(store) as pages:
        mine, other = await consigned(pages)
        assert "建议售价 ¥28,880" in (await pages.http.get(mine)).text
        assert "¥28,880" not in (await pages.http.get(other)).text
        version = await pages.version("C3")
        form = {"ask": "price", "price": "2888000"}
        assert (await pages.choose(other, "confirm_price", version, **form)).status_code == 409
        assert (await pages.choose(mine, "confirm_price", version, "price", price="2000000")).status_code == 409
        assert await pages.page_events() == []
        assert (await pages.choose(mine, "confirm_price", version, **form)).status_code == 303
        assert await pages.page_events() == [("choice.made", {"option": "confirm_price"})]
        assert "您选了" in (await pages.http.get(mine)).text
        assert "您选了" not in (await pages.http.get(other)).text


async def test_consignment_is_extended(store: Store) -> None:
    """Three lengths are offered, and the chosen one moves the day."""
    async with running_pages(store) as pages:
        await pages.tell(
            "item.received", "C4", playbook="consignment", people={"consignor": {"id": "bo", "phone": SELLER}}
        )
        await pages.tell("item.expiring", "C4", until="2026-03-10")
        path = await pages.path("C4")
        text = (await pages.http.get(path)).text
        assert [f"延长 {days} 天" in text for days in (7, 15, 30)] == [True] * 3
        assert (await pages.choose(path, "extend", await pages.version("C4"), "expiry", days="31")).status_code == 409
        assert (await pages.choose(path, "extend", await pages.version("C4"), "expiry", days="15")).status_code == 303
        assert "3月25日" in (await pages.http.get(path)).text


async def test_never_more_than_three_choices(store: Store) -> None:
    """However many questions are open, one is asked, with three ways out at most (S3-30)."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        await pages.tell("parcel.scanned", phase="exception", reason="carrier.lost")
        await pages.tell("parcel.scanned", phase="exception", reason="carrier.damaged")
        await pages.tell("address.undeliverable", reason="recipient.bad_address")
        found = Elements((await pages.http.get(path)).text).found
        ways = [a for tag, a in found if tag == "a" and "/choice?" in (a.get("href") or "")]
        assert 1 <= len(ways) <= 3


async def test_address_is_put_right_without_being_journalled(store: Store) -> None:
    """The staff must hear of it, the shop can read it, and no journal, log or page holds it."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        path = await pages.path()
        assert (await pages.http.get(f"{path}/address")).status_code == 409
        await pages.tell("address.undeliverable", reason="recipient.bad_address")
        assert "更正收货地址" in (await pages.http.get(path)).text
        new = "浙江省杭州市西湖区龙井路 88 号"
        for wrong in ("", "短", "x" * 301):
            assert (await pages.http.post(f"{path}/address", data={"address": wrong})).status_code == 422
        for _ in range(2):
            assert (await pages.http.post(f"{path}/address", data={"address": new})).status_code == 303
        ((kind, data),) = await pages.page_events()
        assert (kind, data["from"]) == ("reply.received", "buyer")
        assert "龙井路" not in repr(await pages.contents())
        assert (
            await store.pool.fetchval("SELECT count(*) FROM cases WHERE anomaly = 'question' AND closed_at IS NULL")
            == 1
        )
        text = (await pages.http.get(path)).text
        assert "您的新地址已收到" in text
        assert "龙井路" not in text
        (kept,) = (await pages.api.get("/v1/orders/A1/corrections")).json()["corrections"]
        assert kept["text"] == new


async def test_wishes_are_the_persons_own(store: Store) -> None:
    """Frequency, hours and categories change for whose page it is; what is mandatory cannot be turned off."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer(mute=["transaction:sms"], marketing=True))
        path = await pages.path()
        form = {"frequency": "calm", "quiet": "21:00-09:00", "category": ["transaction"], "marketing": "off"}
        response = await pages.http.post(f"{path}/wishes", data=form)
        assert (response.status_code, response.headers["location"]) == (303, f"{path}/wishes?saved=1")
        ann = await people_of(store).find("ann")
        assert ann is not None
        assert (ann.frequency, ann.quiet, ann.marketing) == ("calm", "21:00-09:00", "no")
        assert set(ann.mute) == {"transaction:sms", "progress"}
        consents = await people_of(store).consents("ann", 9)
        assert (consents[0].given, consents[0].source) == (False, "customer page")
        saved = await pages.http.get(f"{path}/wishes?saved=1")
        assert "已保存" in saved.text
        for wrong in ({"frequency": "never"}, {"quiet": "25:00-08:00"}, {"quiet": "<b>"}):
            assert (await pages.http.post(f"{path}/wishes", data={"frequency": "normal", **wrong})).status_code == 422
        assert await people_of(store).find("ann") == ann


async def test_page_ends_thirty_days_after_the_order(store: Store) -> None:
    """Thirty days after all is well the page must be gone like one that never was; not while something is wrong."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        pages.clock.turn(86400 * 60)
        assert (await pages.http.get(path)).status_code == 200, "an order that is not done does not end"
        await pages.tell("stock.restored")
        await pages.tell("parcel.scanned", phase="delivered")
        await pages.tell("complaint.opened", text="坏了")
        pages.clock.turn(86400 * 40)
        assert (await pages.http.get(path)).status_code == 200
        await pages.tell("complaint.closed")
        pages.clock.turn(86400 * 30 - 5)
        assert (await pages.http.get(path)).status_code == 200
        pages.clock.turn(10)
        gone = await pages.http.get(path)
        assert gone.status_code == 404
        never = await pages.http.get("/t/" + "x" * 22)
        assert re.sub(r'nonce="[^"]*"|href="/t/[^"]*"', "", gone.text) == re.sub(
            r'nonce="[^"]*"|href="/t/[^"]*"', "", never.text
        )
        assert (await pages.choose(path, "refund", 3)).status_code == 404


async def test_language_of_the_page(store: Store) -> None:
    """What was chosen here counts most, then the shop's record, then the browser."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer(locale="en"))
        await pages.tell("order.placed", "A2", people={"buyer": {"id": "bob", "phone": SELLER}})
        ann, bob = await pages.path(), await pages.path("A2")
        german = {"accept-language": "de, en;q=0.5"}
        assert 'lang="en"' in (await pages.http.get(ann)).text.partition("<head>")[0]
        assert 'lang="zh-CN"' in (await pages.http.get(bob)).text.partition("<head>")[0]
        assert 'lang="en"' in (await pages.http.get(bob, headers=german)).text.partition("<head>")[0]
        assert 'lang="zh-CN"' in (await pages.http.get(f"{ann}?lang=zh")).text.partition("<head>")[0]


async def test_forms_are_counted(store: Store) -> None:
    """Somebody who sends form after form must be asked to wait, in kind words."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        path = await pages.path()
        for _ in range(30):
            assert (await pages.http.post(f"{path}/wishes", data={"frequency": "calm"})).status_code == 303
        response = await pages.http.post(f"{path}/wishes", data={"frequency": "calm"})
        assert (response.status_code, response.headers["retry-after"].isdecimal()) == (429, True)
        huge = await pages.http.post(f"{path}/wishes", data={"frequency": "x" * 50_000})
        assert huge.status_code == 413


async def test_link_over_the_api(store: Store) -> None:
    """The address must open the page; of another tenant's order, or role, there is none; the trail has a line."""
    async with running_pages(store, ("acme", "other")) as pages:
        await pages.tell("order.placed", people=buyer())
        await pages.tell("order.placed", "B1", tenant="other")
        made = (await pages.api.post("/v1/orders/A1/link")).json()["url"]
        assert made == pages.url + await pages.path()
        assert (await pages.http.get(made)).status_code == 200
        for address in ("/v1/orders/B1/link", "/v1/orders/nothing/link", "/v1/orders/A1/link?role=consignor"):
            response = await pages.api.post(address)
            assert (response.status_code, response.json()["reason"]) == (404, "unknown_order")
        assert await store.pool.fetchval("SELECT count(*) FROM trail WHERE action = 'link.make' AND object = 'A1'") == 1
        assert (await pages.api.get("/v1/metrics/links")).json()["rates"] == []
        assert (await pages.api.get("/v1/metrics/links?days=0")).status_code == 422


async def test_order_without_people_has_a_page(store: Store) -> None:
    """A shop may link a page before it says whose the order is, and the link goes on working."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed")
        path = await pages.path()
        assert (await pages.http.get(path)).status_code == 200
        assert (await pages.http.get(f"{path}/wishes")).status_code == 404
        await pages.tell("payment.succeeded", people=buyer())
        assert (await pages.http.get(path)).status_code == 200
        assert (await pages.http.get(f"{path}/wishes")).status_code == 200
