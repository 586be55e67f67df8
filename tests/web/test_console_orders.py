"""The list of orders and the page of one: what they show, to whom, in which language, and what never gets through."""

import csv
import io
import re

import pytest

from orderbell.store.postgres import Store
from orderbell.store.tracking import Tracking
from orderbell.web.console.placing import order_url, person_url
from tests.town import people
from tests.web.console_site import Console, running_console

EVIL = "<img src=x onerror=alert(1)>"
EVIL_NO = '"><script>x()</script>'


async def _failed_payment(console: Console, order_no: str = "A1") -> None:
    await console.tell("order.placed", order_no, people=people(), title="Green tea", amount_fen=19900)
    await console.tell("payment.failed", order_no, reason="no money")
    await console.settle()


async def test_order_page_tells_how_it_stands_in_both_languages(store: Store) -> None:
    """The customer's sentence, the ladder, money, people, what is wrong, and what was said with its length."""
    async with running_console(store) as console:
        await _failed_payment(console)
        chinese = await console.page("/console/orders/A1")
        english = await console.page("/console/orders/A1", lang="en")
    for word in ("支付未成功，请重新支付", "已下单", "¥199.00", "Green tea", "支付没有成功", "财务", "138****8000"):
        assert word in chinese, word
    assert 'aria-current="step"' in chinese
    assert re.search(r"\d+/70 字", chinese), "the length of the SMS"
    for word in ("Payment failed", "Order placed", "The payment failed", "finance", "What the customer reads"):
        assert word in english, word
    assert "+8613800138000" not in chinese + english


async def test_order_page_says_when_the_next_word_comes(store: Store) -> None:
    """The stage's promise is shown as a moment; once it has passed unkept, that is said."""
    async with running_console(store) as console:
        await console.tell("order.placed", people=people())
        early = await console.page("/console/orders/A1", lang="en")
        console.town.clock.turn(3600)
        late = await console.page("/console/orders/A1", lang="en")
    assert "in 30 minutes" in early
    assert "Overdue" not in early
    assert "Overdue, the customer should hear soon" in late


async def test_order_reason_is_told_in_words(store: Store) -> None:
    """A known code goes by the words that customers read, the code beside it; what nobody named stays as it came."""
    async with running_console(store) as console:
        await console.tell("order.placed", people=people())
        await console.tell("payment.failed", reason="insufficient_funds")
        known = [await console.page("/console/orders/A1", lang=lang) for lang in ("zh", "en")]
        await console.tell("payment.failed", reason="<b>x.y</b>")
        unknown = await console.page("/console/orders/A1", lang="en")
    for page, words in zip(known, ("余额不足", "Insufficient funds"), strict=True):
        assert f'<dd>{words} <code class="muted small">insufficient_funds</code></dd>' in page
    assert "<dd>&lt;b&gt;x.y&lt;/b&gt;</dd>" in unknown


async def test_order_time_line_says_why_somebody_heard_nothing(store: Store) -> None:
    """What was not sent stands there with its reason, and can be looked at alone; so can what was heard."""
    async with running_console(store) as console:
        await _failed_payment(console)
        await console.tell("payment.succeeded")
        await console.tell("parcel.shipped", carrier="SF", tracking_no="SF1")
        await console.settle()
        await console.tell("parcel.scanned", tracking_no="SF1", phase="in_transit")
        await console.settle()
        heard = await console.page("/console/orders/A1?show=heard", lang="en")
        silent = await console.page("/console/orders/A1?show=silent", lang="en")
        everything = await console.page("/console/orders/A1", lang="en")
    assert 'class="bubble"' in heard
    assert 'class="silent"' not in heard
    assert 'class="bubble"' not in silent
    assert "Not sent" in silent
    assert everything.count("<li") > heard.count("<li")


async def test_order_page_shows_what_is_solved(store: Store) -> None:
    """An anomaly that is over is not among the open ones, and its time line says so."""
    async with running_console(store) as console:
        await _failed_payment(console)
        await console.tell("payment.succeeded")
        page = await console.page("/console/orders/A1", lang="en")
    assert "Solved" in page
    assert "Right again: the payment failed" in page


async def test_texts_of_shops_and_customers_come_out_as_text(store: Store) -> None:
    """Nothing that a shop or a customer may write becomes markup, on any page that shows it."""
    who = {"buyer": {"id": EVIL, "phone": "+8613800138000", "email": "a@example.com"}}
    async with running_console(store) as console:
        await console.tell(
            "order.placed", EVIL_NO, people=who, title=EVIL, category=EVIL, amount_fen=100, text=EVIL,
        )  # fmt: skip
        await console.tell("payment.failed", EVIL_NO, reason=EVIL)
        await console.tell("payment.succeeded", EVIL_NO)
        await console.tell("parcel.shipped", EVIL_NO, carrier=EVIL, tracking_no="1<b>")
        await console.tell("parcel.scanned", EVIL_NO, tracking_no="1<b>", phase="in_transit", place=EVIL)
        await console.settle()
        shown = ""
        for path in ("/console", "/console/orders", order_url(EVIL_NO), "/console/messages", "/console/cases",
                     "/console/people?q=8000", person_url(EVIL), f"/console/orders?q={EVIL}"):  # fmt: skip
            for lang in ("zh", "en"):
                page = await console.page(path, lang=lang)
                shown += page
                assert "<img" not in page.replace('<img src="/static/', ""), path
                assert "<script>" not in page, path
                assert "onerror=alert(1)>" not in page, path
    assert shown.count("&lt;img src=x") >= 20, "the texts are there"


async def test_orders_are_found_by_number_and_phone(store: Store) -> None:
    """A number, how one begins, and the last four digits of a phone lead to the order; anything else to a hint."""
    async with running_console(store) as console:
        await console.tell("order.placed", "AB-77", people=people())
        await console.tell("order.placed", "CD-88", people=people(id="bob", phone="+8613900139111"))
        for text, found, other in (("AB-77", "AB-77", "CD-88"), ("CD", "CD-88", "AB-77"), ("9111", "CD-88", "AB-77")):
            page = await console.page(f"/console/orders?q={text}")
            assert f">{found}</a>" in page
            assert f">{other}</a>" not in page
        assert "没有找到订单" in await console.page("/console/orders?q=nothing")


async def test_orders_are_filtered(store: Store) -> None:
    """Light, stage, anomaly and playbook narrow the list; a light that is none narrows nothing."""
    async with running_console(store) as console:
        await _failed_payment(console, "RED1")
        await console.tell("order.placed", "YEL1", people=people())
        await console.tell("payment.succeeded", "YEL1")
        for query, found in (
            ("light=red", {"RED1"}), ("light=yellow", {"YEL1"}), ("light=green", set()), ("stage=paid", {"YEL1"}),
            ("anomaly=payment_failed", {"RED1"}), ("playbook=retail", {"RED1", "YEL1"}), ("light=pink", {"RED1", "YEL1"}),
        ):  # fmt: skip
            page = await console.page(f"/console/orders?{query}")
            assert set(re.findall(r">(RED1|YEL1)</a>", page)) == found, query


async def test_orders_go_on_by_cursor(store: Store) -> None:
    """More rows come by a link, as a piece for htmx and as a page for a browser; each order comes once."""
    async with running_console(store) as console:
        for number in range(60):
            await console.tell("order.placed", f"N{number:03}")
        first = await console.page("/console/orders")
        more = re.search(r'hx-get="([^"]+)"', first)
        assert more is not None
        where = more[1].replace("&amp;", "&")
        piece = (await console.get(where, htmx=True)).text
        page = await console.page(where)
    numbers = re.findall(r">(N\d{3})</a>", first) + re.findall(r">(N\d{3})</a>", piece)
    assert len(numbers) == len(set(numbers)) == 60
    assert "<html" not in piece
    assert "<html" in page
    assert "hx-get" not in piece


async def test_orders_answer_a_made_up_cursor_with_the_beginning(store: Store) -> None:
    """A cursor that nobody here has made is no error for a person."""
    async with running_console(store) as console:
        await console.tell("order.placed")
        assert ">A1</a>" in await console.page("/console/orders?after=%00nonsense")


async def test_orders_export_is_a_file_without_formulas(store: Store) -> None:
    """The file holds what was searched for, and no cell that a spreadsheet would run."""
    async with running_console(store) as console:
        await console.tell("order.placed", "A1", title="=HYPERLINK(1)", amount_fen=12345)
        await console.tell("order.placed", "B1", title="other")
        answer = await console.get("/console/orders.csv?q=A1", lang="en")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.reader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [row[0] for row in rows] == ["number", "A1"]
    assert "'=HYPERLINK(1)" in rows[1]
    assert "123.45" in rows[1]


async def test_orders_of_another_tenant_are_not_there(store: Store) -> None:
    """They are answered exactly like orders that do not exist, on every way to one."""
    async with running_console(store, page_of=Tracking(store).token_for) as console:
        await console.tell("order.placed", "A1", people=people())
        for path in ("/console/orders/A1", "/console/order?no=A1"):
            theirs = await console.get(path, tenant="other")
            nothing = await console.get(path.replace("A1", "A2"), tenant="other")
            assert (theirs.status_code, nothing.status_code) == (404, 404)
            assert theirs.text.replace("A1", "A2") == nothing.text
        assert "A1</a>" not in await console.page("/console/orders?q=A1", tenant="other")
        assert "A1" not in (await console.get("/console/orders.csv", tenant="other")).text
        assert (await console.get("/console/people/ann", tenant="other")).status_code == 404


@pytest.mark.parametrize("order_no", ["A/1", "..", ".", "50%", "a b?c#d&e", "%2F", "'\"", "<b>"])
async def test_order_of_any_number_has_an_address(store: Store, order_no: str) -> None:
    """Whatever a shop calls its orders, the list leads to the order's page."""
    async with running_console(store) as console:
        await console.tell("order.placed", order_no)
        assert "已下单，等待付款" in await console.page(order_url(order_no))


async def test_viewer_sees_no_way_to_people(store: Store) -> None:
    """A viewer reads the order with the address masked, and has no link to the person or the customer's page."""

    async def page_of(tenant: str, order_no: str, role: str) -> str:
        return f"/t/{tenant}-{order_no}{role}"

    async with running_console(store, page_of=page_of) as console:
        await console.tell("order.placed", people=people())
        viewer = await console.page("/console/orders/A1", role="viewer")
        agent = await console.page("/console/orders/A1", role="agent")
        refused = await console.post("/console/order/page", {"no": "A1"}, role="viewer")
    assert "138****8000" in viewer
    assert "/console/people" not in viewer
    assert "/console/order/page" not in viewer
    assert 'href="/console/people/ann"' in agent
    assert "/console/order/page" in agent
    assert refused.status_code == 403


async def test_customers_page_is_handed_out_by_a_form(store: Store) -> None:
    """Opening it is a change that the trail keeps; an order that is not there leads nowhere."""

    async def page_of(tenant: str, order_no: str, role: str) -> str:
        return f"/t/{tenant}-{order_no}{role}" if order_no == "A1" else ""

    async with running_console(store, page_of=page_of) as console:
        await console.tell("order.placed", people=people())
        answer = await console.post("/console/order/page", {"no": "A1"}, role="agent")
        missing = await console.post("/console/order/page", {"no": "A2"}, role="agent")
        strange = await console.post("/console/order/page", {"no": "\0"}, role="agent")
        trail = await store.pool.fetch("SELECT actor, action, object FROM trail WHERE tenant = 'acme'")
    assert (answer.status_code, answer.headers["location"]) == (303, "/t/acme-A1")
    assert (missing.status_code, strange.status_code) == (404, 404)
    assert [tuple(row) for row in trail] == [("user:agent-name", "link.make", "A1")]


async def test_looking_changes_nothing(store: Store) -> None:
    """However often pages are asked for, no table of the tenant is written to."""
    tables = ("orders", "journal", "contact", "message", "notice", "trail", "tracking", "consent", "queue")
    count = "SELECT " + ", ".join(f"(SELECT count(*) FROM {name})" for name in tables)
    newest = "SELECT max(xmin::text::bigint) FROM orders"
    async with running_console(store) as console:
        await _failed_payment(console)
        before = await store.pool.fetchrow(count), await store.pool.fetchval(newest)
        for path in ("/console", "/console/figures", "/console/orders?q=A1", "/console/orders/A1", "/console/orders.csv",
                     "/console/people?q=8000", "/console/people/ann", "/console/messages", "/console/cases"):  # fmt: skip
            await console.get(path)
        after = await store.pool.fetchrow(count), await store.pool.fetchval(newest)
    assert before == after
