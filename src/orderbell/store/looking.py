"""Looking: lists and searches of one tenant, for the console and the API.

Every list comes in pages (`orderbell.store.pages`). What is looked for may be any text whatever: one that can be the
name of nothing finds nothing. All reads of a page are of one moment, and none may take longer than five seconds.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import asyncpg
from msgspec import Struct

from orderbell.core.model import Contact, decode_contact, decode_message, decode_notice, decode_order
from orderbell.core.phones import mask_email, mask_phone
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
from orderbell.store.pages import Page, cursor_of, is_storable, moment, read_cursor, within
from orderbell.store.postgres import BREAKS, Connection, Store

STEPS_MAX: Final = 20_000
"""The most rows that are looked at for a page where no index leads to what is wanted."""

MESSAGE_STEPS_MAX: Final = 10_000
PEOPLE_MAX: Final = 1_000
"""The most people that one text may mean: of a million, a hundred end in the same four digits."""

TEXT_LENGTH_MAX: Final = 200

_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_LAST_NAME: Final = "\U0010ffff"
_LAST_ID: Final = b"\xff" * 17
_ID_LENGTH: Final = 16
_PHONE_SIGNS: Final = frozenset("0123456789+-() .")


class _Portion(Struct, frozen=True):
    """Some rows of one way to find orders; `after` is where it goes on, None at its end."""

    found: Sequence[asyncpg.Record]
    after: "_OrderKey | None" = None
    looked_back_to: datetime | None = None


class _OrderKey(Struct, frozen=True, array_like=True):
    """Where a list of orders goes on: in which way of finding them, and behind which row."""

    way: int
    at: int
    order_no: str
    name: str = ""

    @property
    def moment(self) -> datetime:
        """The moment of the row."""
        return moment(self.at)


class _Quest(Struct, frozen=True):
    """A search for orders on its way: what is wanted besides the text, and whom the text may mean."""

    text: str
    wanted: dict[str, object]
    window: dict[str, object]
    contacts: list[str] = []


class Looking:
    """Lists and searches of one tenant.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer within five seconds, and those that take
    a cursor (`after`) raise ValueError `cursor` for one that nobody here has made. `limit` is kept between 1 and
    `pages.LIMIT_MAX`.
    """

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant

    async def orders(self, find: OrderFilter, after: str = "", limit: int = 50) -> Page[OrderLine]:
        """Orders, the newest opened first.

        By `text`: first the one of exactly this number, then those of people whose phone ends so (the newest opened
        first), then those whose number begins so (by number). With `anomaly` or red light: those with an open anomaly,
        the one with the newest trouble first.
        """
        key = read_cursor(after, _OrderKey)
        at = key.moment if key is not None else _LATEST
        limit = within(limit)
        text = find.text.strip()
        window = {"opened_from": find.opened_from, "opened_until": find.opened_until}
        wanted = window | {"stage": find.stage, "light": find.light, "playbook": find.playbook}
        if not _all_storable(text, find.stage, find.anomaly, find.playbook):
            return Page([])
        async with self._snapshot() as connection:
            if text:
                contacts = [row["contact"] for row in await self._meant(connection, text)]
                quest = _Quest(text, wanted | {"anomaly": find.anomaly}, window, contacts)
                ways = [self._of_number, self._of_people, self._by_number]
            else:
                quest = _Quest(text, wanted | {"anomaly": find.anomaly}, window)
                ways = [self._troubled if find.anomaly or find.light == "red" else self._newest]
            lines: list[OrderLine] = []
            way = key.way if key is not None else 0
            if not 0 <= way < len(ways):
                raise ValueError("cursor")
            while True:
                portion = await ways[way](connection, quest, key, at, limit - len(lines), way)
                lines += [OrderLine(decode_order(row["state"]), row["light"]) for row in portion.found]
                if portion.after is not None:
                    return Page(lines, cursor_of(portion.after), portion.looked_back_to)
                way, key, at = way + 1, None, _LATEST
                if way == len(ways):
                    return Page(lines)
                if len(lines) == limit:
                    return Page(lines, cursor_of(_OrderKey(way, -1, "")))
