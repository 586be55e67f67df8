"""Looking: lists and searches of one tenant, for the console and the API.

Every list comes in pages (`orderbell.store.pages`). What is looked for may be any text whatever: one that can be the
name of nothing finds nothing. All reads of a page are of one moment, and none may take longer than five seconds.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final, TypeAlias

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from orderbell.core.model import Contact, Order, decode_contact, decode_message, decode_notice, decode_order
from orderbell.core.phones import mask_email, mask_phone
from orderbell.core.turn import Key
from orderbell.store import looks as sql
from orderbell.store import rows
from orderbell.store.lines import (
    AttemptLine,
    CaseFilter,
    CaseLine,
    MessageFilter,
    MessageFull,
    MessageLine,
    NoticeFilter,
    NoticeLine,
    OrderFilter,
    OrderLine,
    PersonLine,
)  # fmt: skip
from orderbell.store.looks import Ask
from orderbell.store.pages import Page, cursor_of, is_storable, micros, moment, read_cursor, within
from orderbell.store.postgres import BREAKS, Connection, Store

STEPS_MAX: Final = 20_000
"""The most rows that are looked at for a page where no index leads to what is wanted."""

MESSAGE_STEPS_MAX: Final = 10_000
PEOPLE_MAX: Final = 1_000
"""The most people that one text may mean: of a million, a hundred end in the same four digits."""

TEXT_LENGTH_MAX: Final = 200

TOKEN_SHOWN: Final = 4
TOKEN_MIN: Final = 12
"""Of tokens of devices and the like, the last signs are shown where enough others are hidden."""

_Spot: TypeAlias = tuple[int, str, str]
"""Microseconds since 1970, an order's number, and the name of an anomaly: where a list of orders goes on behind."""

_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_FIRST_SPOT: Final = (micros(_LATEST), "", "")
_LAST_ID: Final = b"\xff" * 17
_ID_LENGTH: Final = 16
_PHONE_SIGNS: Final = frozenset("0123456789+-() .")


class _Quest(Struct, frozen=True):
    """A search for orders: what is wanted, and whom the text may mean."""

    text: str
    wanted: dict[str, object]
    window: dict[str, object]
    anomaly: str
    contacts: list[str]


class _Portion(Struct, frozen=True):
    """What one way of finding orders gave; `more` says that there is more behind `last`."""

    found: Sequence[asyncpg.Record]
    last: _Spot = _FIRST_SPOT
    more: bool = False
    looked_back_to: datetime | None = None


class Looking:
    """Lists and searches of one tenant.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer within five seconds, and those that take
    a cursor (`after`) raise ValueError `cursor` for one that nobody here has made. `limit` is kept between 1 and
    `pages.LIMIT_MAX`; a page may hold less and still have a next one.
    """

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant

    async def orders(self, find: OrderFilter, after: str = "", limit: int = 50) -> Page[OrderLine]:
        """Orders, the newest opened first.

        By `text`: first the one of exactly this number, then those of people whose phone ends so (the newest opened
        first), then those whose number begins so (by number). With `anomaly` or red light: those with an open anomaly,
        the one with the newest trouble first; that an order is red because its playbook is gone is seen in lists only.
        """
        way, spot = _read_spot(after)
        text = find.text.strip()
        if not _fits(text, find.stage, find.anomaly, find.playbook):
            return Page([])
        ways = [self._numbered, self._of_people, self._by_number] if text else [self._newest]
        if not text and (find.anomaly or find.light == "red"):
            ways = [self._troubled]
        if way >= len(ways):
            raise ValueError("cursor")
        limit = within(limit)
        lines: list[OrderLine] = []
        async with self._snapshot() as connection:
            contacts = [row["contact"] for row in await self._meant(connection, text)] if text else []
            quest = _quest(find, text, contacts)
            for way_no, look in list(enumerate(ways))[way:]:
                if len(lines) == limit:
                    return Page(lines, cursor_of(way_no, *_FIRST_SPOT))
                portion = await look(connection, quest, spot, limit - len(lines))
                lines += [OrderLine(decode_order(row["state"]), row["light"]) for row in portion.found]
                if portion.more:
                    return Page(lines, cursor_of(way_no, *portion.last), portion.looked_back_to)
                spot = _FIRST_SPOT
        return Page(lines)

    async def orders_of(self, contact: str, after: str = "", limit: int = 50) -> Page[OrderLine]:
        """The orders in which somebody has, or once had, a part; the newest opened first."""
        way, spot = _read_spot(after)
        if way:
            raise ValueError("cursor")
        if not contact or not _fits(contact):
            return Page([])
        async with self._snapshot() as connection:
            quest = _quest(OrderFilter(), "", [contact])
            portion = await self._of_people(connection, quest, spot, within(limit))
        lines = [OrderLine(decode_order(row["state"]), row["light"]) for row in portion.found]
        return Page(lines, cursor_of(0, *portion.last) if portion.more else "")

    async def orders_named(self, order_nos: Iterable[str]) -> dict[str, Order]:
        """The orders of these numbers; those that are not there are left out."""
        names = [one for one in order_nos if _fits(one)]
        async with self._snapshot() as connection:
            rows = await connection.fetch(sql.NAMED_ORDERS, self._tenant, names)
        return {order.no: order for order in (decode_order(row["state"]) for row in rows)}

    async def messages(self, find: MessageFilter, after: str = "", limit: int = 50) -> Page[MessageLine]:
        """Messages with their text as the person saw it, by the news that they tell: what arose last comes first."""
        key, limit = _read_id(after), within(limit)
        if not _fits(find.channel, find.topic, find.provider, find.order_no, find.contact):
            return Page([])
        ask = Ask(self._tenant, key)
        window = {"from_id": _id_at(find.created_from), "until_id": _id_at(find.created_until)}
        wanted: dict[str, object] = {
            "status": "queued" if find.state == "waiting" else find.state, "channel": find.channel,
            "topic": find.topic, "provider": find.provider, "order_no": find.order_no, "contact": find.contact,
            **window,
        }  # fmt: skip
        async with self._snapshot() as connection:
            query, last = await self._way_to_messages(connection, find)
            pieces = {
                "limit": ask.put(limit + 1), "wanted": ask.all_of(sql.OF_MESSAGE, wanted),
            }  # fmt: skip
            if "{steps}" in query:
                pieces["steps"] = ask.put(MESSAGE_STEPS_MAX)
            if "{window}" in query:
                pieces["window"] = ask.all_of(sql.OF_MESSAGE, dict(window))
            if "{contact}" in query:
                pieces["contact"] = ask.put(find.contact)
            found = await connection.fetch(query.format(**pieces), *ask.values)
            lines = [self._message(row).line for row in found[:limit]]
            if len(found) > limit:
                return Page(lines, cursor_of(found[limit - 1]["message_id"]))
            end = await self._last_step(connection, last, key, MESSAGE_STEPS_MAX, dict(window)) if last else None
        return Page(lines, cursor_of(end), _moment_of(end)) if end is not None else Page(lines)

    async def message(self, name: str) -> MessageFull | None:
        """The message of an id, with its tries; None where the tenant has none."""
        message_id = _id(name)
        if message_id is None:
            return None
        async with self._snapshot() as connection:
            row = await connection.fetchrow(sql.MESSAGE, self._tenant, message_id)
            if row is None:
                return None
            tries = await connection.fetch(sql.ATTEMPTS, self._tenant, message_id)
        full = self._message(row)
        return replace(full, attempts=[AttemptLine(one[0].hex(), *tuple(one)[1:]) for one in tries])

    async def unknowns(self, limit: int = 50) -> list[MessageLine]:
        """Messages of which nobody knows whether they were taken, the oldest first, as of the last count."""
        async with self._snapshot() as connection:
            found = await connection.fetch(sql.OLDEST_IN_DOUBT, self._tenant, within(limit))
        return [self._message(row).line for row in found]

    async def notices(self, find: NoticeFilter, after: str = "", limit: int = 50) -> Page[NoticeLine]:
        """Notices and what became of them, the newest first.

        Those that wait (`fate="waiting"`) come soonest due first, at most `LIMIT_MAX`, on one page.
        """
        key, limit = _read_id(after), within(limit)
        if not _fits(find.order_no, find.contact, find.topic):
            return Page([])
        async with self._snapshot() as connection:
            if find.fate == "waiting":
                return await self._waiting(connection, find, limit)
            ask = Ask(self._tenant, key)
            wanted: dict[str, object] = {
                "order_no": find.order_no, "contact": find.contact, "topic": find.topic, "fate": find.fate,
            }  # fmt: skip
            narrow = bool(find.order_no or find.contact)
            pieces = {"limit": ask.put(limit + 1), "wanted": ask.all_of(sql.OF_NOTICE, wanted)}
            query = sql.NOTICES_OF if narrow else sql.NEWEST_NOTICES
            if not narrow:
                pieces["steps"] = ask.put(STEPS_MAX)
            found = await connection.fetch(query.format(**pieces), *ask.values)
            lines = [_notice(*row) for row in found[:limit]]
            if len(found) > limit:
                return Page(lines, cursor_of(found[limit - 1]["notice_id"]))
            end = None if narrow else await self._last_step(connection, sql.LAST_OF_NOTICES, key, STEPS_MAX)
        return Page(lines, cursor_of(end), _moment_of(end)) if end is not None else Page(lines)

    async def cases(self, find: CaseFilter, after: str = "", limit: int = 50) -> Page[CaseLine]:
        """Cases, the newest first."""
        key, limit = _read_id(after), within(limit)
        if not _fits(find.owner, find.kind, find.order_no):
            return Page([])
        ask = Ask(self._tenant, key)
        wanted: dict[str, object] = {
            "state": find.state if find.state != "unresolved" else "", "owner": find.owner, "kind": find.kind,
            "order_no": find.order_no,
        }  # fmt: skip
        conditions = ask.all_of(sql.OF_CASE, wanted)
        unresolved = find.state in ("unresolved", "open", "acknowledged")
        if unresolved:
            conditions += " AND c.closed_at IS NULL"
        narrow = bool(find.order_no) or unresolved
        pieces = {"limit": ask.put(limit + 1), "wanted": conditions}
        query = sql.CASES_OF if narrow else sql.NEWEST_CASES
        if not narrow:
            pieces["steps"] = ask.put(STEPS_MAX)
        async with self._snapshot() as connection:
            found = await connection.fetch(query.format(**pieces), *ask.values)
            lines = [_case(row) for row in found[:limit]]
            if len(found) > limit:
                return Page(lines, cursor_of(found[limit - 1]["case_id"]))
            end = None if narrow else await self._last_step(connection, sql.LAST_OF_CASES, key, STEPS_MAX)
        return Page(lines, cursor_of(end), _moment_of(end)) if end is not None else Page(lines)

    async def case(self, name: str) -> CaseLine | None:
        """The case of an id; None where the tenant has none."""
        case_id = _id(name)
        if case_id is None:
            return None
        async with self._snapshot() as connection:
            row = await connection.fetchrow(sql.CASE, self._tenant, case_id)
        return _case(row) if row is not None else None

    async def people(self, text: str, after: str = "", limit: int = 50) -> Page[PersonLine]:
        """People by phone, at least the last four digits of it, mail address, or how their id begins.

        Those found by an address come first, in one go, however many they are (at most `PEOPLE_MAX`).
        """
        key = read_cursor(after, tuple[str]) or ("",)
        text = text.strip()
        if not text or not _fits(text):
            return Page([])
        limit = within(limit)
        async with self._snapshot() as connection:
            meant = await self._meant(connection, text)
            known = {row["contact"] for row in meant}
            lines = [self._person(row) for row in meant] if not after else []
            room = max(limit - len(lines), 1)
            found = await connection.fetch(sql.PEOPLE_BY_ID, self._tenant, _prefix(text), key[0], room + 1)
        lines += [self._person(row) for row in found[:room] if row["contact"] not in known]
        return Page(lines, cursor_of(found[room - 1]["contact"]) if len(found) > room else "")

    async def _numbered(self, connection: Connection, quest: _Quest, _spot: _Spot, _limit: int) -> _Portion:
        ask = Ask(self._tenant)
        query = sql.ORDER_OF_NUMBER.format(text=ask.put(quest.text), wanted=ask.all_of(sql.OF_ORDER, quest.wanted))
        return _Portion(await connection.fetch(query, *ask.values))

    async def _of_people(self, connection: Connection, quest: _Quest, spot: _Spot, limit: int) -> _Portion:
        if not quest.contacts:
            return _Portion([])
        ask = Ask(self._tenant, moment(spot[0]), spot[1])
        query = sql.ORDERS_OF_PEOPLE.format(
            contacts=ask.put(quest.contacts), text=ask.put(quest.text), steps=ask.put(STEPS_MAX),
            limit=ask.put(limit + 1), wanted=ask.all_of(sql.OF_ORDER, quest.wanted),
        )  # fmt: skip
        return _portion(await connection.fetch(query, *ask.values), limit)

    async def _by_number(self, connection: Connection, quest: _Quest, spot: _Spot, limit: int) -> _Portion:
        ask = Ask(self._tenant, spot[1])
        query = sql.ORDERS_BY_NUMBER.format(
            prefix=ask.put(_prefix(quest.text)), text=ask.put(quest.text), contacts=ask.put(quest.contacts),
            steps=ask.put(STEPS_MAX), limit=ask.put(limit + 1), wanted=ask.all_of(sql.OF_ORDER, quest.wanted),
        )  # fmt: skip
        portion = _portion(await connection.fetch(query, *ask.values), limit)
        if portion.more or not any(quest.wanted.values()):
            return portion
        ask = Ask(self._tenant, spot[1])
        query = sql.LAST_BY_NUMBER.format(prefix=ask.put(_prefix(quest.text)), steps=ask.put(STEPS_MAX))
        return _stopped(portion, await connection.fetchrow(query, *ask.values))

    async def _newest(self, connection: Connection, quest: _Quest, spot: _Spot, limit: int) -> _Portion:
        ask = Ask(self._tenant, moment(spot[0]), spot[1])
        query = sql.NEWEST_ORDERS.format(
            window=ask.all_of(sql.OF_ORDER, quest.window), wanted=ask.all_of(sql.OF_ORDER, quest.wanted),
            steps=ask.put(STEPS_MAX), limit=ask.put(limit + 1),
        )  # fmt: skip
        portion = _portion(await connection.fetch(query, *ask.values), limit)
        if portion.more:
            return portion
        ask = Ask(self._tenant, moment(spot[0]), spot[1])
        query = sql.LAST_OF_NEWEST.format(
            window=ask.all_of(sql.OF_ORDER, quest.window), steps=ask.put(STEPS_MAX)
        )  # fmt: skip
        return _stopped(portion, await connection.fetchrow(query, *ask.values))

    async def _troubled(self, connection: Connection, quest: _Quest, spot: _Spot, limit: int) -> _Portion:
        ask = Ask(self._tenant, moment(spot[0]), spot[1], spot[2])
        named = f"a.name = {ask.put(quest.anomaly)}" if quest.anomaly else "true"
        query = sql.TROUBLED_ORDERS.format(
            named=named, steps=ask.put(STEPS_MAX), limit=ask.put(limit + 1),
            wanted=ask.all_of(sql.OF_ORDER, {**quest.wanted, "anomaly": ""}),
        )  # fmt: skip
        portion = _portion(await connection.fetch(query, *ask.values), limit)
        if not quest.anomaly:
            portion = replace(portion, found=[row for row in portion.found if _leads(row)])
        if portion.more:
            return portion
        ask = Ask(self._tenant, moment(spot[0]), spot[1], spot[2])
        named = f"a.name = {ask.put(quest.anomaly)}" if quest.anomaly else "true"
        query = sql.LAST_OF_TROUBLED.format(named=named, steps=ask.put(STEPS_MAX))
        return _stopped(portion, await connection.fetchrow(query, *ask.values))

    async def _meant(self, connection: Connection, text: str) -> list[asyncpg.Record]:
        """The contacts that a phone, its last digits, or a mail address may mean."""
        key = self._vault.index_key(self._tenant)
        if "@" in text:
            return await connection.fetch(sql.PEOPLE_BY_MAIL, self._tenant, rows.mail_key(key, text), PEOPLE_MAX)
        digits = _digits(text)
        if len(digits) < rows.TAIL_LENGTH:
            return []
        tail = rows.tail_key(key, digits)
        found = await connection.fetch(sql.PEOPLE_BY_TAIL, self._tenant, tail, PEOPLE_MAX)
        if len(digits) == rows.TAIL_LENGTH:
            return found
        return [row for row in found if self._contact(row).phone.endswith(digits)]

    async def _way_to_messages(self, connection: Connection, find: MessageFilter) -> tuple[str, str]:
        """The statement for what is wanted, and the one that tells how far it has looked, if it looks step by step."""
        if find.order_no:
            return sql.MESSAGES_OF_ORDER, ""
        if find.contact:
            return sql.MESSAGES_OF_CONTACT, ""
        if find.state == "unknown":
            return sql.MESSAGES_IN_DOUBT, ""
        if find.state == "waiting":
            waiting = await connection.fetchval(sql.WAITING_COUNT, MESSAGE_STEPS_MAX)
            if waiting < MESSAGE_STEPS_MAX:
                return sql.MESSAGES_WAITING, ""
        return sql.NEWEST_MESSAGES, sql.LAST_OF_MESSAGES

    async def _last_step(
        self,
        connection: Connection,
        query: str,
        key: bytes,
        steps: int,
        window: dict[str, object] | None = None,
    ) -> bytes | None:
        ask = Ask(self._tenant, key)
        pieces = {"steps": ask.put(steps)}
        if window is not None:
            pieces["window"] = ask.all_of(sql.OF_MESSAGE, window)
        end: bytes | None = await connection.fetchval(query.format(**pieces), *ask.values)
        return end

    async def _waiting(self, connection: Connection, find: NoticeFilter, limit: int) -> Page[NoticeLine]:
        ask = Ask(self._tenant)
        names = [find.contact] if find.contact else []
        if find.order_no and not names:
            state = await connection.fetchval(sql.CONTACTS_OF_ORDER, self._tenant, find.order_no)
            names = [party.contact for party in decode_order(state).parties] if state is not None else []
            if not names:
                return Page([])
        wanted = f"q.contact = ANY ({ask.put(names)}::text[])" if names else "true"
        query = sql.NOTICES_WAITING.format(wanted=wanted, steps=ask.put(STEPS_MAX))
        waiting = [decode_notice(row["body"]) for row in await connection.fetch(query, *ask.values)]
        lines = [
            NoticeLine(
                id=n.id.hex(), order_no=n.order_no, contact=n.contact, role=n.role, topic=n.topic,
                playbook=n.playbook, fate="waiting", reason=n.held, tone=n.tone, cause=n.cause, into="",
                created_at=n.created_at, due_at=n.due_at, tell_by=n.tell_by,
            )
            for n in waiting
            if not n.withdraws and find.order_no in ("", n.order_no) and find.topic in ("", n.topic)
        ]  # fmt: skip
        return Page(lines[:limit])

    def _contact(self, row: asyncpg.Record) -> Contact:
        return decode_contact(self._vault.open(self._tenant, row["contact"], row["body"]))

    def _person(self, row: asyncpg.Record) -> PersonLine:
        c = self._contact(row)
        return PersonLine(
            c.id, mask_phone(c.phone) if c.phone else "", mask_email(c.email) if c.email else "", c.tier, c.locale,
            c.frequency, c.marketing, c.order_count, c.spent_fen, row["updated_at"],
        )  # fmt: skip

    def _message(self, row: asyncpg.Record) -> MessageFull:
        m = decode_message(self._vault.open(self._tenant, row["message_id"], row["body"]))
        line = MessageLine(
            id=m.id.hex(), order_no=m.order_no, contact=m.contact, channel=m.channel, to=_masked(m.channel, m.to),
            topic=m.topic, category=m.category, lane=m.lane, tone=m.tone, cause=m.cause, subject=m.subject, text=m.text,
            status=row["status"], provider=row["provider"], attempt_no=row["attempt_no"], detail=row["detail"],
            created_at=m.created_at, told_at=m.told_at, valid_until=m.valid_until, sending_at=row["sending_at"],
            settled_at=row["settled_at"], due_at=row["due_at"],
        )  # fmt: skip
        notices = [notice.hex() for notice in m.notices]
        return MessageFull(line, [], notices, row["provider_ref"], m.marketing)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        async with self._store.connection() as connection, look(connection):
            yield connection


@asynccontextmanager
async def look(connection: Connection) -> AsyncIterator[None]:
    """Read in one snapshot, with plans made for what is asked, for at most five seconds a statement."""
    try:
        await connection.execute(sql.BEGIN)
        yield
        await connection.execute("COMMIT")
    except BREAKS:
        connection.terminate()
        raise
    except BaseException:
        with suppress(asyncpg.PostgresError, *BREAKS):
            await connection.execute("ROLLBACK")
        raise


async def order_versions(store: Store, keys: Iterable[Key]) -> dict[Key, int]:
    """The versions of many orders, by tenant and number, in one statement; those that are not there are left out."""
    wanted = [key for key in keys if _fits(*key)]
    async with store.connection() as connection:
        found = await connection.fetch(sql.VERSIONS, *rows.columns(wanted, 2))
    return {(row[0], row[1]): row[2] for row in found}


def _quest(find: OrderFilter, text: str, contacts: list[str]) -> _Quest:
    window: dict[str, object] = {"opened_from": find.opened_from, "opened_until": find.opened_until}
    wanted = {**window, "stage": find.stage, "light": find.light, "playbook": find.playbook, "anomaly": find.anomaly}
    return _Quest(text, wanted, window, find.anomaly, contacts)


def _portion(found: Sequence[asyncpg.Record], limit: int) -> _Portion:
    if len(found) <= limit:
        return _Portion(found)
    return _Portion(found[:limit], _spot_of(found[limit - 1]), more=True)


def _stopped(portion: _Portion, last: asyncpg.Record | None) -> _Portion:
    """A portion that is not full because the look ended at `last`; None where it went to the end."""
    return (
        portion if last is None else replace(portion, last=_spot_of(last), more=True, looked_back_to=last["opened_at"])
    )


def _leads(row: asyncpg.Record) -> bool:
    """Whether an order is listed by this anomaly: by its oldest, so one more that opens meanwhile moves it nowhere."""
    open_now = [(one.opened_at, one.name) for one in decode_order(row["state"]).anomalies]
    own = (row["opened_at"], row["name"])
    return own not in open_now or own == min(open_now)


def _spot_of(row: asyncpg.Record) -> _Spot:
    return micros(row["opened_at"]), row["order_no"], row["name"]


def _read_spot(after: str) -> tuple[int, _Spot]:
    way, at, order_no, name = read_cursor(after, tuple[int, int, str, str]) or (0, *_FIRST_SPOT)
    if way < 0:
        raise ValueError("cursor")
    moment(at)
    return way, (at, order_no, name)


def _read_id(after: str) -> bytes:
    key = read_cursor(after, tuple[bytes])
    if key is not None and len(key[0]) != _ID_LENGTH:
        raise ValueError("cursor")
    return key[0] if key is not None else _LAST_ID


def _id(name: str) -> bytes | None:
    try:
        read = bytes.fromhex(name)
    except ValueError:
        return None
    return read if len(read) == _ID_LENGTH else None


def _id_at(at: datetime | None) -> bytes | None:
    """How ids of a moment begin."""
    return max(int(at.timestamp() * 1000), 0).to_bytes(6, "big") if at is not None else None


def _moment_of(row_id: bytes) -> datetime:
    return moment(int.from_bytes(row_id[:6], "big") * 1000)


def _fits(*texts: str) -> bool:
    """Whether these can be in the database at all."""
    return all(len(text) <= TEXT_LENGTH_MAX and is_storable(text) for text in texts)


def _prefix(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"


def _digits(text: str) -> str:
    """The digits of a text that may be a phone, or the end of one; empty where it has other signs."""
    if not _PHONE_SIGNS.issuperset(text):
        return ""
    return "".join(sign for sign in text if sign.isdigit()).removeprefix("00")


def _masked(channel: str, address: str) -> str:
    if channel == "sms":
        return mask_phone(address)
    if channel == "email":
        return mask_email(address)
    return "" if channel == "inbox" else "***" + (address[-TOKEN_SHOWN:] if len(address) >= TOKEN_MIN else "")


def _notice(
    notice_id: bytes, fate: str, reason: str, into: bytes | None, planned_at: datetime, body: bytes
) -> NoticeLine:
    n = decode_notice(body)
    return NoticeLine(
        id=notice_id.hex(), order_no=n.order_no, contact=n.contact, role=n.role, topic=n.topic, playbook=n.playbook,
        fate=fate, reason=reason, tone=n.tone, cause=n.cause, into=into.hex() if into else "", created_at=n.created_at,
        due_at=n.due_at, tell_by=n.tell_by, planned_at=planned_at,
    )  # fmt: skip


def _case(row: asyncpg.Record) -> CaseLine:
    return CaseLine(row[0].hex(), *tuple(row)[1:])
