"""What customers wrote about their orders, in their own words, read from the journal: replies, complaints, opinions.

The words stand there as they came and may hold anything, so they are for those alone who may see people.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from orderbell.store.pages import is_storable
from orderbell.store.postgres import Store
from orderbell.store.tracking import PAGE_SOURCE

TYPES: Final = ("reply.received", "complaint.opened", "feedback.given")
"""The events that hold words of a customer."""

_READ: Final = """
SELECT at, order_no, type, source, event FROM journal
WHERE tenant = $1 AND order_no = ANY ($2::text[]) AND type = ANY ($3::text[])
ORDER BY at DESC, version DESC LIMIT $4
"""


class _Data(Struct, frozen=True):
    text: str = ""
    sender: str = msgspec.field(default="", name="from")


class _Said(Struct, frozen=True):
    data: _Data = _Data()


_decode = msgspec.json.Decoder(_Said).decode


class Written(Struct, frozen=True):
    """Words of a customer; `role` is theirs in the order, empty where the event did not say it."""

    at: datetime
    order_no: str
    type: str
    source: str
    role: str
    text: str


class Writings:
    """What the customers of one tenant wrote. The read raises DatabaseUnavailable as all reads do."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    async def of_orders(self, order_nos: Iterable[str], limit: int = 100) -> list[Written]:
        """The last `limit` of what was written about these orders, the newest first."""
        names = [one for one in order_nos if is_storable(one)]
        async with self._store.connection() as connection:
            rows = await connection.fetch(_READ, self._tenant, names, list(TYPES), limit)
        found = []
        for at, order_no, kind, source, event in rows:
            data = _decode(event).data
            # what our own page says of a correction is not the customer's; their words stand with the corrections
            if data.text and not (kind == "reply.received" and source == PAGE_SOURCE):
                found.append(Written(at, order_no, kind, source, data.sender, data.text))
        return found
