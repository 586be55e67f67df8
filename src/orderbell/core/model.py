"""The nouns of the house: order, notice, contact, message, decision, plan. All are frozen values.

States are stored as msgpack arrays, so fields are only ever appended, with a default.
"""

import hashlib
from collections.abc import Callable, Container, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct

from orderbell.core.events import ChannelName, Event, Frequency, Tier

Light = Literal["red", "yellow", "green"]
Payment = Literal["none", "failed", "expired", "paid", "refunding", "refunded"]
Owner = Literal["warehouse", "finance", "logistics", "service"]
CaseKind = Literal["handle", "call_back"]
CaseState = Literal["open", "acknowledged", "resolved"]
Lane = Literal["critical", "service", "marketing"]
# `verified`: answered from there. `bounced`: the last message did not arrive, so other channels go first. `blocked`:
# the provider will never take one.
EndpointState = Literal["verified", "bounced", "blocked", "landline", "invalid"]
DEAD = frozenset({"blocked", "landline", "invalid"})
Tone = Literal["calm", "sorry", "amends"]
Value = str | int

LANES: tuple[Lane, ...] = ("critical", "service", "marketing")  # stored as their index, most urgent first
BY_DEADLINE = "deadline "  # how the cause of a notice begins that a deadline brought
DISTURBING: frozenset[ChannelName] = frozenset({"sms", "email", "push", "wechat"})  # the inbox waits to be opened
FREQUENCY_RANK: dict[Frequency, int] = {"calm": 0, "normal": 1, "all": 2}


class Reason(StrEnum):
    """Why something was or was not done: the closed list that journal, metrics and screens share."""

    APPLIED = "applied"
    STALE = "stale"  # an older event that came late; newer word is known already
    NOTHING_TO_DO = "nothing_to_do"
    TIMER_GONE = "timer_gone"
    UNDECIDABLE = "undecidable"  # the decision itself failed: kept and shown to the staff
    ALTERED_DUPLICATE = "altered_duplicate"
    UNKNOWN_PLAYBOOK = "unknown_playbook"
    EVENT_SAYS_SO = "event_says_so"
    STAGE_REACHED = "stage_reached"
    DEADLINE_PASSED = "deadline_passed"
    DEADLINE_SET = "deadline_set"
    DEADLINE_MOVED = "deadline_moved"
    DEADLINE_MET = "deadline_met"
    ANOMALY_OPENED = "anomaly_opened"
    ANOMALY_CLEARED = "anomaly_cleared"
    PROGRESS_CLEARS = "progress_clears"
    STAFF_SAYS_SO = "staff_says_so"
    VALUABLE_ORDER = "valuable_order"
    AMENDS_PROMISED = "amends_promised"
    SENT = "sent"
    QUIET_HOURS = "quiet_hours"
    MARKETING_HOURS = "marketing_hours"
    CAPPED = "capped"  # the person has heard enough lately
    WAITING_FOR_RECEIPT = "waiting_for_receipt"
    RECEIPT_CAME = "receipt_came"
    FELL_BACK = "fell_back"  # no receipt came in time: told once more, on the next channel
    FALLBACK_STOPPED = "fallback_stopped"  # what it was about is over, so the next channel is spared
    WITHDRAWN = "withdrawn"  # its reason had gone before anybody was told
    WITHDRAWAL = "withdrawal"
    NEVER_HEARD = "never_heard"  # nobody hears "solved" who never heard "broken"
    REVIEW_DUE = "review_due"
    NO_CONSENT = "no_consent"
    MUTED = "muted"
    TOO_DETAILED = "too_detailed"  # the person asked for fewer messages than this one belongs to
    OUT_OF_DATE = "out_of_date"
    COVERED = "covered"  # another message of the same order says it too
    NO_ENDPOINT = "no_endpoint"
    NO_WORDING = "no_wording"
    NO_TEMPLATE = "no_template"  # no provider has approved any of its texts
    NO_PROVIDER = "no_provider"  # nobody carries a channel to the person's address
    TOO_LONG = "too_long"


class Consent(Struct, frozen=True, array_like=True, gc=False):
    """A record of what somebody agreed to or opted out of, when, by which way, and in which words."""

    tenant: str
    contact: str
    scope: str
    given: bool
    at: datetime
    source: str
    words: str = ""


class Amends(Struct, frozen=True, array_like=True, gc=False):
    """Something that a message promised to make up for a trouble, for the shop to hand out (S2-19)."""

    id: bytes
    tenant: str
    order_no: str
    contact: str
    kind: str
    value_fen: int
    topic: str
    promised_at: datetime
    valid_until: datetime


class Party(Struct, frozen=True, array_like=True, gc=False):
    """A person in an order: role, contact, and the tier they had when last heard of."""

    role: str
    contact: str
    tier: Tier = "regular"


class Parcel(Struct, frozen=True, array_like=True, gc=False):
    """A parcel of an order; `at` is the carrier's time of the last word, `moves` counts its running scans."""

    tracking_no: str
    carrier: str
    phase: str
    at: datetime
    moves: int = 0


class Anomaly(Struct, frozen=True, array_like=True, gc=False):
    """Something that is wrong with an order now."""

    name: str
    opened_at: datetime
    cause: str
    anchor: datetime | None = None  # of the deadline that opened it; when the anchor moves, the anomaly is over


class Case(Struct, frozen=True, array_like=True, gc=False):
    """Work for a person."""

    id: bytes
    anomaly: str
    kind: CaseKind
    owner: Owner
    opened_at: datetime
    state: CaseState = "open"


class Order(Struct, frozen=True, array_like=True, gc=False):
    """Any tracked promise: a retail order, a digital order, a consigned item.

    `stage` climbs the playbook's ladder and never goes back; the light and the customer's sentence are derived.
    `timers` are the deadlines now armed, `fired` the anchors for which a deadline has already fired.
    """

    tenant: str
    no: str
    playbook: str
    version: int
    stage: str
    stage_at: datetime
    opened_at: datetime
    updated_at: datetime
    payment: Payment = "none"
    amount_fen: int = 0
    price_fen: int = 0  # the last price proposed, offered, changed or reached
    sum_fen: int = 0  # the last money that moved: payment, refund, payout, withdrawal
    title: str = ""
    category: str = ""
    tier: Tier = "regular"
    key: Literal["", "issued", "failed", "revealed", "redeemed"] = ""
    phase: str = ""
    moves: int = 0
    carrier: str = ""
    tracking_no: str = ""
    place: str = ""
    reason: str = ""
    promised_by: datetime | None = None
    until: datetime | None = None
    text: str = ""
    parties: tuple[Party, ...] = ()
    parcels: tuple[Parcel, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    cases: tuple[Case, ...] = ()
    marks: dict[str, datetime] = {}
    timers: dict[str, datetime] = {}
    fired: dict[str, datetime] = {}
    payment_at: datetime | None = None
    amends: tuple[str, ...] = ()  # the contacts that have been promised amends: once per order

    def anomaly(self, name: str) -> Anomaly | None:
        """The open anomaly of that name."""
        return next((found for found in self.anomalies if found.name == name), None)

    def suffers(self, names: frozenset[str]) -> bool:
        """Whether one of these anomalies is open."""
        return any(anomaly.name in names for anomaly in self.anomalies)

    @property
    def next_due_at(self) -> datetime | None:
        """When the first of its timers falls due."""
        return min(self.timers.values()) if self.timers else None


class Try(Struct, frozen=True, array_like=True, gc=False):
    """A message that has gone out for a notice, on a channel."""

    channel: ChannelName
    message_id: bytes
    at: datetime


class Notice(Struct, frozen=True, array_like=True, gc=False):
    """What one person should be told, and by when; words and channel are the second stage's business.

    `values` feed the wording: text and codes as they are, money in fen, times as whole seconds since 1970. `held` is
    why it last had to wait, `tried` what has gone out while it waits for a receipt. One that `withdraws` topics tells
    nothing: it takes back what waits of them for the same order.
    """

    id: bytes
    tenant: str
    contact: str
    order_no: str
    role: str
    playbook: str
    topic: str
    created_at: datetime
    due_at: datetime
    tell_by: datetime
    valid_until: datetime
    tone: Tone = "calm"
    values: dict[str, Value] = {}
    held: str = ""
    cause: str = ""  # the type of the event, or `deadline NAME`
    tried: tuple[Try, ...] = ()
    withdraws: tuple[str, ...] = ()
    version: int = 0  # of the order, when it was decided
    cap: str = ""  # the cap that was full


class Contact(Struct, frozen=True, array_like=True, gc=False):
    """A person of a tenant: where they can be reached and what they wish to hear."""

    tenant: str
    id: str
    phone: str = ""
    email: str = ""
    app: str = ""
    wechat: str = ""
    tier: Tier = "regular"
    locale: str = ""
    timezone: str = ""
    quiet: str = ""
    mute: tuple[str, ...] = ()  # categories, or `category:channel`
    frequency: Frequency = "normal"
    marketing: Literal["", "yes", "no"] = ""  # the last consent or opt-out; no word means none
    states: dict[ChannelName, EndpointState] = {}
    checked_at: datetime | None = None  # when an endpoint was last changed, or confirmed by the person
    tier_set: bool = False  # by the shop: then the playbook's rules leave it alone
    order_count: int = 0
    spent_fen: int = 0
    marketing_at: datetime | None = None  # when the last consent or opt-out was heard

    @property
    def key(self) -> tuple[str, str]:
        """The key of the contact."""
        return (self.tenant, self.id)

    def addresses(self) -> dict[ChannelName, str]:
        """The addresses that work, by channel; everybody has an inbox."""
        named: tuple[tuple[ChannelName, str], ...] = (
            ("sms", self.phone), ("email", self.email), ("push", self.app), ("wechat", self.wechat), ("inbox", self.id),
        )  # fmt: skip
        states = self.states
        return {channel: address for channel, address in named if address and states.get(channel) not in DEAD}

    def endpoint(self, channel: ChannelName) -> str:
        """The address on a channel, empty where there is none that works."""
        return self.addresses().get(channel, "")


class SendNotice(Struct, frozen=True, tag=True):
    """Tell a person something."""

    notice: Notice
    reason: Reason


class SetTimer(Struct, frozen=True, tag=True):
    """Wake the order at a time."""

    name: str
    due_at: datetime
    reason: Reason


class ClearTimer(Struct, frozen=True, tag=True):
    """Do not wake the order for this any more."""

    name: str
    reason: Reason


class OpenAnomaly(Struct, frozen=True, tag=True):
    """Something went wrong."""

    name: str
    reason: Reason


class CloseAnomaly(Struct, frozen=True, tag=True):
    """It is right again."""

    name: str
    reason: Reason


class OpenCase(Struct, frozen=True, tag=True):
    """A person must do something."""

    case: Case
    reason: Reason


class CloseCase(Struct, frozen=True, tag=True):
    """Nobody needs to do anything about it any more."""

    id: bytes
    reason: Reason


class WithdrawNotice(Struct, frozen=True, tag=True):
    """Take back what waits to be told: its reason has gone."""

    notice: Notice
    reason: Reason


class Compensate(Struct, frozen=True, tag=True):
    """Hand out what a message promises."""

    amends: Amends
    reason: Reason


Effect = (
    WithdrawNotice | Compensate | SendNotice | SetTimer | ClearTimer | OpenAnomaly | CloseAnomaly | OpenCase | CloseCase
)


class Decision(Struct, frozen=True):
    """What an event changed: the new order, the effects each with its reason, and a verdict on the event itself."""

    order: Order
    effects: tuple[Effect, ...]
    verdict: Reason


class Entry(Struct, frozen=True, gc=False):
    """One line of the journal: an event and what was decided on it.

    `version` is the order's after it (unchanged where nothing was decided), `decision` the effects as JSON.
    """

    event: Event
    at: datetime
    version: int
    stage: str
    verdict: Reason
    decision: bytes
    detail: str = ""


class Message(Struct, frozen=True, array_like=True, gc=False):
    """A text for a person on a channel; `notices` are the ids of what it says."""

    id: bytes
    tenant: str
    contact: str
    channel: ChannelName
    to: str
    topic: str
    category: str
    lane: Lane
    order_no: str
    text: str
    subject: str
    notices: tuple[bytes, ...]
    created_at: datetime
    told_at: datetime
    valid_until: datetime
    tone: Tone = "calm"
    cause: str = ""
    template: str = ""  # for providers that send approved templates only: the text with {names}, without signature
    slots: tuple[tuple[str, str], ...] = ()
    marketing: bool = False
    resend: bool = False  # where nobody can find out whether it was taken: rather twice than never


class Told(Struct, frozen=True, array_like=True, gc=False):
    """That a person was told something, on the channel that disturbs most; later news may refer to it (`referred`)."""

    at: datetime
    order_no: str
    topic: str
    lane: Lane
    channel: ChannelName
    referred: bool = False


class History(Struct, frozen=True, array_like=True, gc=False):
    """What a person heard lately, the newest last: what caps count and what later news may refer to."""

    told: tuple[Told, ...] = ()
    reviewed_at: datetime | None = None


NOTHING_HEARD = History()


class Outlook(Struct, frozen=True):
    """What the second stage knows of the world: who has a provider, how long its receipts take, what came of tries.

    `patience` holds the open channels, each with how long a receipt is waited for before another one is tried;
    `statuses` those of the messages in `Notice.tried`, by id. `templated` are the channels where some provider sends
    approved templates only, `approved` holds the templates of those where every provider does. On `silent` channels
    nobody ever says that a message arrived, so acceptance must do.
    `reaches` tells whether anybody carries a channel to an address; None where everybody goes everywhere.
    """

    patience: Mapping[ChannelName, timedelta]
    statuses: Mapping[bytes, str] = {}
    templated: frozenset[ChannelName] = frozenset()
    approved: Mapping[ChannelName, Container[str]] = {}
    silent: frozenset[ChannelName] = frozenset()
    reaches: Callable[[ChannelName, str], bool] | None = None


class Fate(Struct, frozen=True, array_like=True, gc=False):
    """What became of a notice in the second stage.

    It was sent, held until a time (perhaps after a first try), merged into another, dropped, or, if it withdraws
    others, done.
    """

    notice: Notice
    kind: Literal["sent", "held", "merged", "dropped", "done"]
    reason: Reason
    until: datetime | None = None
    into: bytes = b""


class Plan(Struct, frozen=True):
    """For one contact: the messages that go out now, what became of every notice looked at, what was heard so far."""

    messages: tuple[Message, ...]
    fates: tuple[Fate, ...]
    history: History = NOTHING_HEARD


def derive_id(at: datetime, *parts: str | int) -> bytes:
    """Sixteen bytes that depend on the inputs alone: 6 bytes of milliseconds since 1970, 10 of BLAKE2b.

    The time in front keeps new ids side by side in an index; a replay gives the same ids.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=10).digest()
    return int(at.timestamp() * 1000).to_bytes(6, "big") + digest


encode_state = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_notice = msgspec.msgpack.Decoder(Notice).decode
decode_contact = msgspec.msgpack.Decoder(Contact).decode
decode_history = msgspec.msgpack.Decoder(History).decode
decode_message = msgspec.msgpack.Decoder(Message).decode
