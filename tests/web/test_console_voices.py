"""What customers wrote, in time lines: who said it and when, as text, and only for those who may see people."""

from orderbell.store.postgres import Store
from orderbell.store.written import Writings
from tests.town import people
from tests.web.console_site import Console, running_console

EVIL = "<script>x()</script> my phone is 13912345678"


async def _written(console: Console) -> None:
    """Two orders of ann: she answers, she complains; the gifted person of the second writes as well."""
    await console.tell("order.placed", "A1", people=people())
    await console.tell("reply.received", "A1", **{"text": EVIL, "from": "buyer"})
    await console.tell("feedback.given", "A1", score=2, text="too slow")
    await console.tell("order.placed", "A2", people={**people(), "friend": {"id": "bob", "phone": "+8613900139111"}})
    await console.tell("reply.received", "A2", **{"text": "bob was here", "from": "friend"})
    await console.tell("reply.received", "A2", text="thanks anyway")


async def test_order_shows_what_customers_wrote(store: Store) -> None:
    """Each reply stands at its event with who wrote it, escaped; a filter leaves only those."""
    async with running_console(store) as console:
        await _written(console)
        page = await console.page("/console/orders/A1", lang="en")
        other = await console.page("/console/orders/A2?show=wrote", lang="en")
    assert "&lt;script&gt;x()&lt;/script&gt; my phone" in page
    assert "<script>x" not in page
    assert "The buyer, in their own words:" in page
    assert "too slow" in page
    assert other.index("thanks anyway") < other.index("bob was here")
    assert other.count('class="bubble wrote"') == 2
    assert "kind_notice" not in other


async def test_order_hides_from_viewers_what_customers_wrote(store: Store) -> None:
    """Words may hold anything, so a viewer learns only that there are some."""
    async with running_console(store) as console:
        await _written(console)
        page = await console.page("/console/orders/A1", role="viewer", lang="en")
        agent = await console.page("/console/orders/A1", role="agent", lang="en")
    assert "13912345678" not in page
    assert "too slow" not in page
    assert page.count("your role does not show it") == 2
    assert "13912345678" in agent


async def test_person_shows_what_they_wrote_over_their_orders(store: Store) -> None:
    """The page of a person has their own words, with the order, and nobody else's."""
    async with running_console(store) as console:
        await _written(console)
        page = await console.page("/console/people/ann", lang="en")
        only = await console.page("/console/people/ann?show=wrote", lang="en")
        bob = await console.page("/console/people/bob?show=wrote", lang="en")
    for words in ("&lt;script&gt;x()", "too slow", "thanks anyway"):
        assert words in page
        assert words in only
    assert "bob was here" not in page
    assert "bob was here" in bob
    assert "too slow" not in bob
    assert "<script>x" not in page + only


async def test_words_of_our_own_page_are_not_a_customers(store: Store) -> None:
    """The reply by which the customer's page tells of a correction holds no words of theirs; other tenants' stay away."""
    async with running_console(store) as console:
        await _written(console)
        await store.pool.execute("UPDATE journal SET source = 'page' WHERE type = 'reply.received' AND order_no = 'A1'")
        found = await Writings(store, "acme").of_orders(["A1", "A2", "\0"])
        theirs = await Writings(store, "other").of_orders(["A1", "A2"])
    assert [(one.order_no, one.role, one.text) for one in found] == [
        ("A2", "", "thanks anyway"), ("A2", "friend", "bob was here"), ("A1", "", "too slow"),
    ]  # fmt: skip
    assert theirs == []
