"""The oracle of the fault test: what PostgreSQL and the sandbox hold at the end, against the pure core.

It takes from the database only when each event came in (the clock of a web process) and which events count; what
the orders, timers, notices, anomalies and cases must be then, it finds out by itself, order by order.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from orderbell.core.events import OWN_SOURCE, Event, Settled, encode_json, parse_event, wire_of
from orderbell.core.model import (
    Contact,
    Entry,
    Message,
    Order,
    Reason,
    decode_contact,
    decode_notice,
    encode_state,
)  # fmt: skip
from orderbell.core.turn import Key, Shelf, Turn, contact_keys, run_turn
from orderbell.store.vault import SEALED, Vault
from tests.faults.feeder import Feeder
from tests.faults.rig import SECRET, TENANT
from tests.sandbox_server import read_ledger

SHOWN_MAX = 5
Rows = list[Any]
_decode_message = msgspec.msgpack.Decoder(Message).decode

JOURNAL = """SELECT order_no, version, at, type, source, event_id, verdict, stage, event, decision
    FROM journal WHERE tenant = $1 AND verdict <> $2 ORDER BY order_no, version"""
ALTERED = "SELECT event_id FROM journal WHERE tenant = $1 AND verdict = $2"
KEYS = "SELECT event_id, received_at FROM event_key WHERE tenant = $1 AND source <> $2"
ORDERS = "SELECT order_no, state, t.due_at FROM orders o LEFT JOIN timer t USING (tenant, order_no) WHERE o.tenant = $1"
CONTACTS = "SELECT contact, body FROM contact WHERE tenant = $1"
NOTICES = "SELECT notice_id, order_no, contact, topic, fate FROM notice WHERE tenant = $1"
QUEUE = "SELECT notice_id, contact, due_at, body FROM queue WHERE tenant = $1"
ANOMALIES = "SELECT order_no, name, opened_at, closed_at FROM anomaly WHERE tenant = $1"
AMENDS = "SELECT amends_id, order_no, contact, kind, value_fen, topic FROM amends WHERE tenant = $1"
CASES = "SELECT case_id, order_no, anomaly, kind, owner, state, opened_at, closed_at FROM cases WHERE tenant = $1"
BODIES = "SELECT message_id, body FROM message WHERE tenant = $1"
MESSAGES = "SELECT message_id, status, attempt_id, attempt_no, provider, detail FROM message WHERE tenant = $1"
ATTEMPTS = "SELECT attempt_id, message_id, attempt_no, outcome, detail FROM attempt WHERE tenant = $1"


class _Said(msgspec.Struct):
    """What a line of the journal says of a message."""

    time: datetime
    data: Settled


@dataclass
class Findings:
    """What is wrong, by kind, and numbers for the report."""

    wrong: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, object] = field(default_factory=dict)

    def expect(self, kind: str, problems: Iterator[str] | list[str]) -> None:
        """Note problems, the first ones in words and the others as a number."""
        found = list(problems)
        if found:
            more = [f"… {len(found)} in all"] if len(found) > SHOWN_MAX else []
            self.wrong.setdefault(kind, []).extend(found[:SHOWN_MAX] + more)


@dataclass
class Truth:
    """What must be, by the core alone."""

    journal: Rows = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    contacts: dict[Key, Contact] = field(default_factory=dict)
    notices: set[tuple[Any, ...]] = field(default_factory=set)
    anomalies: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    cases: dict[bytes, tuple[Any, ...]] = field(default_factory=dict)
    amends: set[tuple[Any, ...]] = field(default_factory=set)


class Judge:
    """Reads the database and the ledger once everything stands still, and compares."""

    def __init__(self, feeder: Feeder, shelf: Shelf, drained_at: datetime) -> None:
        self.feeder, self.shelves, self.drained_at = feeder, {TENANT: shelf}, drained_at
        self.findings = Findings()
        self.vault = Vault(SECRET)

    async def judge(self, connection: "asyncpg.Connection[asyncpg.Record]", ledger: Path) -> Findings:
        """Check everything that the fault test promises."""
        journal = [tuple(row) for row in await connection.fetch(JOURNAL, TENANT, Reason.ALTERED_DUPLICATE)]
        received_at: dict[str, datetime] = {row[0]: row[1] for row in await connection.fetch(KEYS, TENANT, OWN_SOURCE)}
        self._count_events(journal, received_at)
        altered = Counter(row[0] for row in await connection.fetch(ALTERED, TENANT, Reason.ALTERED_DUPLICATE))
        # an answer that was lost is told again, so there may be more lines than answers
        self.findings.expect("altered", [i for i, times in self.feeder.altered.items() if altered[i] < times])
        self.findings.expect("altered", [i for i in altered if i not in self.feeder.altered])
        truth = self._replay(journal, received_at)
        self.findings.expect("journal", _differences(list(map(_comparable, journal)), truth.journal))
        await self._compare_projections(connection, truth)
        await self._compare_notices(connection, truth)
        await self._compare_messages(connection, ledger)
        return self.findings

    def _count_events(self, journal: Rows, received_at: Mapping[str, datetime]) -> None:
        """Nothing accepted lost, nothing taken twice, nothing unexpected, and in the order in which it was told."""
        heard: dict[str, list[str]] = {}
        for order_no, _, _, _, source, event_id, *_ in journal:
            if source != OWN_SOURCE:
                heard.setdefault(order_no, []).append(event_id)
        times = Counter(event_id for ids in heard.values() for event_id in ids)
        taken = self.feeder.taken
        expect = self.findings.expect
        expect("lost", [i for i in taken if i not in times or i not in received_at])
        expect("unexpected", [i for i in (times.keys() | received_at.keys()) if i not in taken])
        expect("taken twice", [i for i, count in times.items() if count != 1])
        expect("order", [no for no, ids in self.feeder.sequence.items() if heard.get(no) != ids])
        own = Counter(row[3] for row in journal if row[4] == OWN_SOURCE)
        self.findings.numbers |= {"journal lines": len(journal), "of OrderBell itself": dict(own)}

    def _replay(self, journal: Rows, received_at: Mapping[str, datetime]) -> Truth:
        truth = Truth()
        told: list[Event] = []
        until: dict[str, datetime] = {}
        for order_no, _, at, kind, _, event_id, _, _, body, _ in journal:
            until[order_no] = max(at, self.drained_at)
            if kind == "message.settled":
                said = msgspec.json.decode(body, type=_Said)
                event: object = Event(TENANT, OWN_SOURCE, event_id, kind, order_no, said.time, at, said.data)
            elif event_id in self.feeder.taken:
                event = parse_event(self.feeder.taken[event_id], TENANT, received_at[event_id])
            else:
                continue
            assert isinstance(event, Event), event
            # what fired before it was decided, fired before `at`
            told.append(msgspec.structs.replace(event, received_at=at))
        # all orders side by side, because people have several; what is sorted already stays so within an order
        for event in sorted(told, key=lambda event: event.received_at):
            self._turn(truth, [event], event.order_no, None)
        for order_no, at in until.items():
            # what was due while the workers ran must have fired; what fell due while they stopped may have
            self._turn(truth, [], order_no, at)
        truth.journal.sort(key=lambda line: line[:2])
        return truth

    def _turn(self, truth: Truth, events: list[Event], order_no: str, until: datetime | None) -> None:
        key = (TENANT, order_no)
        orders = {key: truth.orders[order_no]} if order_no in truth.orders else {}
        keys = contact_keys(self.shelves, events, orders, self.vault.index_key)
        people = {key: truth.contacts[key] for key in keys if key in truth.contacts}
        turn = run_turn(self.shelves, events, orders, people, [key], until, self.vault.index_key)
        truth.journal += (_comparable(_line(entry)) for entry in turn.entries)
        truth.orders |= {no: order for (_, no), order in turn.orders.items()}
        truth.contacts |= turn.contacts
        _project(truth, turn)

    async def _compare_projections(self, connection: "asyncpg.Connection[asyncpg.Record]", truth: Truth) -> None:
        expect = self.findings.expect
        rows = await connection.fetch(ORDERS, TENANT)
        expect("orders", _differences(
            sorted((row[0], row[1]) for row in rows), sorted((no, encode_state(o)) for no, o in truth.orders.items())
        ))  # fmt: skip
        due = {no: order.next_due_at for no, order in truth.orders.items()}
        expect("timers", [f"{row[0]}: {row[2]}, not {due.get(row[0])}" for row in rows if row[2] != due.get(row[0])])
        await self._compare_contacts(connection, truth)
        anomalies = {tuple(row) for row in await connection.fetch(ANOMALIES, TENANT)}
        expect("anomalies", map(str, sorted(anomalies ^ set(truth.anomalies.values()), key=str)))
        cases = {tuple(row) for row in await connection.fetch(CASES, TENANT)}
        expect("cases", map(str, sorted(cases ^ set(truth.cases.values()), key=str)))
        self.findings.numbers |= {"orders": len(rows), "anomalies": len(anomalies), "cases": len(cases)}

    async def _compare_contacts(self, connection: "asyncpg.Connection[asyncpg.Record]", truth: Truth) -> None:
        """Everybody as they must be, but for the moment of the first word: which order was first, the oracle knows not."""
        expect = self.findings.expect
        rows = await connection.fetch(CONTACTS, TENANT)
        expect("contacts in the clear", [row[0] for row in rows if row[1][:1] != SEALED])
        contacts = {row[0]: decode_contact(self.vault.open(TENANT, row[0], row[1])) for row in rows}
        expect("contacts unexpected", [name for name in contacts if (TENANT, name) not in truth.contacts])
        expect("contacts", _differences(
            [_timeless(contacts.get(name)) for _, name in truth.contacts], list(map(_timeless, truth.contacts.values()))
        ))  # fmt: skip
        amends = {tuple(row) for row in await connection.fetch(AMENDS, TENANT)}
        expect("amends", map(str, sorted(amends ^ truth.amends, key=str)))
        self.findings.numbers |= {"contacts": len(contacts), "amends": len(amends)}

    async def _compare_notices(self, connection: "asyncpg.Connection[asyncpg.Record]", truth: Truth) -> None:
        expect = self.findings.expect
        fates = await connection.fetch(NOTICES, TENANT)
        waiting = await connection.fetch(QUEUE, TENANT)
        ids = Counter(row[0] for row in (*fates, *waiting))
        wanted = {notice[0] for notice in truth.notices}
        expect("notices lost", [i.hex() for i in wanted - ids.keys()])
        expect("notices unexpected", [i.hex() for i in ids.keys() - wanted])
        expect("notices with two fates", [i.hex() for i, count in ids.items() if count > 1])
        expect("notices altered", map(str, {tuple(row)[:4] for row in fates} - truth.notices))
        expect("notices overdue", [f"{row[0].hex()} due {row[2]}" for row in waiting if row[2] <= self.drained_at])
        bodies = await connection.fetch(BODIES, TENANT)
        messages = (_decode_message(self.vault.open(TENANT, name, body)) for name, body in bodies)
        told = {notice for message in messages for notice in message.notices}
        expect(
            "notices sent without a message", [row[0].hex() for row in fates if row[4] == "sent" and row[0] not in told]
        )
        gone = {row[0] for row in fates if row[4] in ("sent", "merged")}
        tried = {row[0] for row in waiting if decode_notice(row[3]).tried}  # their receipts may still come
        expect("tried, but not told", [notice.hex() for notice in tried - told])
        expect("messages about nothing", [notice.hex() for notice in told - gone - tried])
        self.findings.numbers |= {
            "notices": len(wanted), "fates": dict(Counter(row[4] for row in fates)), "notices waiting": len(waiting),
        }  # fmt: skip

    async def _compare_messages(self, connection: "asyncpg.Connection[asyncpg.Record]", ledger: Path) -> None:
        """The sandbox' ledger against ours: everything once, and nothing that only one of them knows."""
        expect = self.findings.expect
        rows = [row for row in await connection.fetch(MESSAGES, TENANT) if row[4] != "inbox"]
        tries = await connection.fetch(ATTEMPTS, TENANT)
        handed = Counter(bytes.fromhex(entry.attempt_id) for entry in read_ledger(ledger))
        expect(
            "messages unsettled",
            [f"{r[0].hex()} {r[1]} {r[5]}" for r in rows if r[1] in ("queued", "sending", "unknown")],
        )
        expect("attempts handed over twice", [i.hex() for i, count in handed.items() if count > 1])
        message_of = {row[2]: row[0] for row in rows} | {row[0]: row[1] for row in tries}
        expect("handed over, but not ours", [i.hex() for i in handed if i not in message_of])
        live = {row[2]: row[1] for row in rows}
        expect("accepted, but not handed over", [
            i.hex() for i, status in live.items() if status in ("accepted", "delivered") and i not in handed
        ])  # fmt: skip
        expect("handed over, but not accepted", [
            f"{i.hex()} {status}" for i, status in live.items()
            if i in handed and status not in ("accepted", "delivered", "failed")
        ])  # fmt: skip
        # an attempt that was taken although it had been given up: the ledger must say so
        late = {row[0]: row[3] for row in tries if row[0] in handed}
        expect("given up, but handed over in silence", [
            f"{i.hex()} {outcome}" for i, outcome in late.items() if not outcome.endswith("_late")
        ])  # fmt: skip
        doubles = Counter(message_of[i] for i in handed if i in message_of)
        self.findings.numbers |= {
            "messages": len(rows),
            "message statuses": dict(Counter(row[1] for row in rows)),
            "attempts given up": dict(Counter(row[3] for row in tries)),
            "handed over": sum(handed.values()),
            "messages handed over twice": sum(count > 1 for count in doubles.values()),
        }


def _line(entry: Entry) -> tuple[Any, ...]:
    event = entry.event
    return (
        event.order_no, entry.version, entry.at, event.type, event.source, event.id, entry.verdict, entry.stage,
        encode_json(wire_of(event)), entry.decision,
    )  # fmt: skip


def _comparable(line: tuple[Any, ...]) -> tuple[Any, ...]:
    """A line of the journal; what a worker said of a message is known from that line alone, and not compared."""
    return (*line[:8], b"", line[9]) if line[3] == "message.settled" else line


def _project(truth: Truth, turn: Turn) -> None:
    for n in turn.notices:
        truth.notices.add((n.id, n.order_no, n.contact, n.topic))
    for key, a in turn.anomalies.items():
        truth.anomalies[key] = (a.order_no, a.name, a.opened_at, a.closed_at)
    for what in turn.amends:
        truth.amends.add((what.id, what.order_no, what.contact, what.kind, what.value_fen, what.topic))
    for line in turn.cases.values():
        c = line.case
        truth.cases[c.id] = (c.id, line.order_no, c.anomaly, c.kind, c.owner, c.state, c.opened_at, line.closed_at)


def _timeless(contact: Contact | None) -> Contact | None:
    return contact and msgspec.structs.replace(contact, checked_at=None)


def _differences(found: Rows, wanted: Rows) -> Iterator[str]:
    for line, right in zip(found, wanted, strict=False):
        if line != right:
            yield f"{line}\n  must be {right}"
    if len(found) != len(wanted):
        yield f"{len(found)} lines, not {len(wanted)}"
