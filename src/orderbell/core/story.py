"""A story in words: what happened to an order or a person, what was said of it, what was not, and why.

These are the shapes alone, for whoever tells stories (`orderbell.insight`) and for whoever shows them.
"""

from datetime import datetime

from msgspec import Struct


class Sending(Struct, frozen=True, omit_defaults=True):
    """A message that said it; `status` as the ledger has it, the text as it went out, numbers in it masked.

    `id` is that of the message, in hexadecimal digits.
    """

    channel: str
    status: str
    told_at: datetime
    text: str
    subject: str = ""
    settled_at: datetime | None = None
    id: str = ""


class Line(Struct, frozen=True, omit_defaults=True):
    """A line of the story: when (aware UTC), what it is about, and in words what happened and why.

    `kind` is event, consent, anomaly, case, amends or notice; `name` the event type, the anomaly, or the topic; `text`
    the whole of it, `happened` what happened where that stands by itself. Of a notice besides: `who` with a masked
    address, `fate` and `reason` as codes, what was `sent`, and in words its `cause`. `ended`: an anomaly or a case that
    is over.
    """

    at: datetime
    kind: str
    name: str
    what: str
    text: str
    happened: str = ""
    why: str = ""
    order_no: str = ""
    role: str = ""
    contact: str = ""
    who: str = ""
    fate: str = ""
    reason: str = ""
    until: datetime | None = None
    sent: tuple[Sending, ...] = ()
    cause: str = ""
    ended: bool = False
