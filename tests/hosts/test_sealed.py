"""Nobody who reads the database learns a phone or a mail address: it lies nowhere in the clear, in any column."""

import base64
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest

from orderbell.app.virtual import VirtualHost
from orderbell.channels.protocol import Channel
from orderbell.core.events import Event, Person
from orderbell.core.model import decode_contact
from orderbell.core.turn import contact_id
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox.faults import Faults
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.store.witness import check_secret
from tests.database import VAULT
from tests.sandbox_server import RunningSandbox
from tests.shop import NOON, event
from tests.streams import START, random_stream

TENANT = "acme"
SEED = 4
BUYER = {
    "phone": "+8613812341234",
    "email": "ann.known@example.com",
    "app": "app-device-ann",
    "wechat": "openid-wechat-ann",
}
OTHERS = {"family": {"phone": "0571-88881234", "email": "gran@example.org"}, "office": {"phone": "12345"}}
LATER_S = 40 * 86_400
COLUMNS = """SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"""


def forms_of(secret: str) -> Iterator[bytes]:
    """How a text may stand in a column; msgpack and JSON write it as UTF-8."""
    for encoded in (secret.encode(), secret.encode("utf-16-le"), secret[::-1].encode()):
        yield encoded
        yield encoded.hex().encode()
        for start in range(3):  # a text inside a longer one begins at any of three places of base64
            coded = base64.b64encode(b"\0" * start + encoded)
            yield coded[4 if start else 0 : -4]


def bytes_of(value: object) -> bytes:
    """A value as it may be searched, in small letters."""
    return (value if isinstance(value, bytes) else str(value).encode()).lower()


async def contents(store: Store) -> dict[str, list[bytes]]:
    """Every value of every column of every table, by `table.column`."""
    found: dict[str, list[bytes]] = {}
    for table, column in await store.pool.fetch(COLUMNS):
        rows = await store.pool.fetch(f'SELECT "{column}" FROM "{table}"')
        found[f"{table}.{column}"] = [bytes_of(row[0]) for row in rows if row[0] is not None]
    return found


def leaks(found: dict[str, list[bytes]], secrets: set[str]) -> set[tuple[str, str]]:
    """Where one of the secrets stands."""
    forms = {form.lower(): secret for secret in secrets for form in forms_of(secret)}
    joined = {where: b"\xff\xff".join(values) for where, values in found.items()}
    return {(where, secret) for where, text in joined.items() for form, secret in forms.items() if form in text}


def secrets_of(people: list[Person]) -> set[str]:
    """What must not be found of people: phones without their country code, mail and other addresses."""
    phones = {person.phone.removeprefix("+86").removeprefix("0571-") for person in people if len(person.phone) > 5}
    return (phones | {a for person in people for a in (person.email, person.app, person.wechat)}) - {""}


def known_story() -> list[Event]:
    """The orders of known people: what goes wrong, what is answered, what is changed."""
    people = {"buyer": BUYER, **OTHERS}
    changed = {"buyer": {"phone": "+8613899990000", "email": "ann.new@example.com"}}
    return [
        event("1", after_s=LATER_S, people=people, amount_fen=100),
        event("2", kind="payment.failed", after_s=LATER_S + 1),
        event("3", kind="reply.received", after_s=LATER_S + 2, text="TD"),
        event("4", kind="reply.received", after_s=LATER_S + 3, text="1"),
        event("5", kind="contact.changed", after_s=LATER_S + 4, people=changed),
        event("6", kind="payment.succeeded", after_s=LATER_S + 5, amount_fen=100),
        event("6", kind="payment.succeeded", after_s=LATER_S + 5, amount_fen=200),
        event("7", kind="order.cancelled", after_s=LATER_S + 6, by="merchant"),
        event("8", "A2", after_s=LATER_S + 7, people={"buyer": {"email": "only.mail@example.com"}}),
        event("9", "A2", "payment.failed", after_s=LATER_S + 8),
    ]  # fmt: skip


@pytest.mark.parametrize("faults", [Faults(), Faults(fail_delivery=0.5, error_body=0.2, refuse=0.2, lose_receipts=0.2)])
async def test_no_address_stands_anywhere_in_the_clear(
    store: Store, channel: Channel, sandbox: RunningSandbox, faults: Faults
) -> None:
    """After a run with known phones and addresses, also one in which the provider refuses and fails, none is found."""
    await sandbox.set_faults(faults)
    shelf = shipped_shelf()
    await add_tenant(store.pool, TENANT, shelf)
    await check_secret(store.pool, VAULT)
    host = VirtualHost(store, {TENANT: shelf}, [channel], start=START)
    told: list[Person] = []
    moments = [*random_stream(SEED, TENANT), (NOON + timedelta(seconds=LATER_S), known_story())]
    for at, events in moments:
        await host.advance(at)
        await host.feed(events)
        told += (person for each in events for person in (each.people or {}).values())
    await host.advance(moments[-1][0] + timedelta(hours=1))
    for _ in range(2):
        await host.dispatcher.resolve()
        await host.advance(moments[-1][0] + timedelta(hours=2))
    found = await contents(store)
    await host.close()
    assert {
        "journal.event",
        "contact.body",
        "message.body",
        "queue.body",
        "notice.body",
        "orders.state",
    } <= found.keys()
    assert all(found[f"{table}.body"] for table in ("contact", "message", "notice"))
    secrets = secrets_of(told)
    assert {"13812341234", "88881234", "ann.known@example.com", "app-device-ann"} <= secrets
    assert leaks(found, secrets) == set()
    # nor what everybody can compute from a phone: ids are blind without the key of the tenant
    assert leaks(found, {contact_id("A1", "buyer", Person(phone=BUYER["phone"]))}) == set()
    await _all_open(store)


async def _all_open(store: Store) -> None:
    """They are there all the same, for whoever has the secret."""
    people = await store.pool.fetch("SELECT tenant, contact, body FROM contact")
    contacts = [decode_contact(VAULT.open(*row)) for row in people]
    assert {BUYER["phone"], "+8613899990000"} <= {contact.phone for contact in contacts}
    texts = " ".join(row[0] for row in await store.pool.fetch("SELECT text FROM message"))
    assert "A1" in texts


def test_search_finds_what_is_hidden_badly() -> None:
    """The search itself works: a phone in base64, in hexadecimal or inside msgpack is found."""
    phone = "13812341234"
    for hidden in (
        base64.b64encode(f'{{"phone": "+86{phone}"}}'.encode()), phone.encode().hex().encode(),
        msgspec.msgpack.encode(["ann", phone]), f"+86{phone}".encode("utf-16-le"), b"no such mail address: " + phone.encode(),
    ):  # fmt: skip
        assert leaks({"x": [hidden.lower()]}, {phone}) == {("x", phone)}, hidden
    assert leaks({"x": [b"1381234", VAULT.seal("acme", "c", phone.encode())]}, {phone}) == set()
