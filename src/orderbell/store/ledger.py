"""The ledger: what waits in the queue, what left for a provider, and what came of it.

Every method is one short transaction over a batch; none of them waits for anything but the database. What is to
be decided inside a transaction is handed in as a pure function, so no request to a provider can slip into one.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Literal, TypeVar

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from orderbell.core.events import ChannelName
from orderbell.core.model import (
    LANES,
    NOTHING_HEARD,
    Contact,
    Fate,
    History,
    Message,
    Notice,
    decode_contact,
    decode_history,
    decode_message,
    decode_notice,
    encode_state,
)  # fmt: skip
from orderbell.core.turn import Key
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count, failpoint
from orderbell.store import changes, statements
from orderbell.store import departures as sql
from orderbell.store.links import with_code
from orderbell.store.postgres import BREAKS, Connection, Store
from orderbell.store.rows import columns, contact_columns
from orderbell.store.statements import ADD_CONTACTS

Status = Literal["queued", "sending", "accepted", "delivered", "failed", "rejected", "unknown"]
Result = TypeVar("Result")

INBOX = "inbox"
"""The provider of messages that only need to be kept: the inbox is ours."""

TRIES_MAX = 5
ATTEMPT_ID_BYTES = 16
REAPED_FLIGHTS_MAX = 100
HANDLES_KEPT = timedelta(days=8)
"""How long a receipt is waited for; the longest that a provider tries to deliver is three days."""

TALLIES_KEPT = timedelta(days=31)
WORDS_KEPT = timedelta(days=3)
"""How long a receipt that nobody knows is kept; providers bring theirs within two days."""

EARLY_MAX = 5000

LANE_NUMBERS = {lane: number for number, lane in enumerate(LANES)}
ALL_LANES = tuple(range(len(LANES)))


class Pending(Struct, frozen=True):
    """A contact whose row is locked, with every notice that waits for it, due or not.

    `statuses` are those of the messages that have gone out for notices which wait for a receipt.
    """

    contact: Contact
    history: History
    notices: list[Notice]
    statuses: dict[bytes, str] = {}


class Departure(Struct, frozen=True):
    """One attempt to hand over one message; `repeat` if the same attempt may have been taken before.

    `ref` is by what the provider will speak of it, where that is known already; `code` its approved template;
    `tried` are the providers that failed the message before.
    """

    message: Message
    attempt_id: bytes
    attempt_no: int
    repeat: bool = False
    ref: str = ""
    code: str = ""
    tried: tuple[str, ...] = ()


class Request(Struct, frozen=True):
    """Attempts that go to a provider together, and the worker whose lease they were written under."""

    provider: str
    worker: int
    departures: list[Departure]

    @property
    def id(self) -> bytes:
        """The id of the request among those under way: that of its first attempt."""
        return self.departures[0].attempt_id


class Delayed(Struct, frozen=True):
    """A message that no provider may carry yet, from when one may, and why it waits."""

    departure: Departure
    due_at: datetime
    detail: str


class Planned(Struct):
    """What a batch of plans comes to.

    `fates` are the final ones, each with the moment of its plan; `held` go back to the queue with their new time;
    `inbox` are delivered by being written; `delayed` wait for a provider; `given_up` are messages that need not leave
    any more, if they still wait; `doubtful` may have gone out before the
    database was restored; `histories` replace what the contacts had heard.
    """

    fates: list[tuple[Fate, datetime]] = []
    held: list[Notice] = []
    requests: list[Request] = []
    inbox: list[Departure] = []
    delayed: list[Delayed] = []
    given_up: list[tuple[str, bytes]] = []
    doubtful: list[Departure] = []
    histories: dict[Key, History] = {}


class Waiting(Struct, frozen=True):
    """A message that waits for something: another try (`queued`) or certainty (`unknown`).

    `tried` are the providers that failed it, `ref` is by what the last of them speaks of it.
    """

    message: Message
    attempt_id: bytes
    attempt_no: int
    provider: str
    sending_at: datetime
    tried: tuple[str, ...] = ()
    ref: str = ""
    detail: str = ""
    due_at: datetime | None = None


class Move(Struct, frozen=True):
    """Where a waiting message goes: a new try at a provider, the end, or more waiting."""

    waiting: Waiting
    status: Status
    attempt_id: bytes
    attempt_no: int
    due_at: datetime | None = None
    detail: str = ""
    provider: str = ""
    ref: str = ""
    code: str = ""


class Moves(Struct):
    """What is decided of a batch of waiting messages."""

    moves: list[Move] = []
    requests: list[Request] = []


class Settlement(Struct, frozen=True):
    """What an answer makes of a message; `outcome` is kept with the attempt, empty if the attempt is still open.

    `blames` names a provider that is not drawn again for this message while another one is left; with a `!` behind it,
    never again.
    """

    attempt_id: bytes
    status: Status
    due_at: datetime | None = None
    provider_ref: str = ""
    detail: str = ""
    outcome: str = ""
    blames: str = ""


class Word(Struct, frozen=True):
    """A provider's final word on an attempt, by receipt; `at` is the provider's time.

    The attempt is named by its id, or, where that is empty, by the provider's reference alone. `gone`: its address will
    never take another message.
    """

    attempt_id: bytes
    delivered: bool
    provider_ref: str
    detail: str
    at: datetime
    gone: bool = False


class Recipient(Struct, frozen=True):
    """Whom an attempt was for, and what it told when."""

    attempt_id: bytes
    tenant: str
    contact: str
    order_no: str
    topic: str
    channel: ChannelName
    told_at: datetime


class Claim(Struct, frozen=True):
    """What may be claimed: what is due at `now`, at most `limit` of it, of these tenants or providers, by a worker."""

    now: datetime
    limit: int
    names: list[str]
    worker: int
    lanes: Sequence[int] = ALL_LANES


class Look(Struct, frozen=True):
    """Whether anything is due now, and whether sending is halted."""

    notices: bool
    queued: bool
    halted: bool = False


class Backlog(Struct, frozen=True):
    """How much waits: notices that are due and all, messages for another try and in doubt, requests under way."""

    due: int
    pending: int
    queued: int
    unknown: int
    requests: int


class Tally(Struct, frozen=True):
    """What became lately of the messages of a provider: taken, confirmed by receipts, and the mean delay of those."""

    provider: str
    accepted: int
    received: int
    delay_s: float


class Standing(Struct, frozen=True):
    """How a provider stands with a worker: its breaker, why it opened and until when, and the last trouble."""

    provider: str
    state: str
    reason: str = ""
    detail: str = ""
    retry_at: datetime | None = None
    at: datetime | None = None


class Ledger:
    """The tables of sending, in the database of a store.

    Every method raises DatabaseUnavailable when the connection breaks; then nobody knows whether the transaction
    counts.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._pool, self._vault = store, store.pool, store.vault
        self._turn = 0

    def as_sent(self, message: Message) -> Message:
        """A message as it leaves and as its provider knows it: see `with_code`."""
        return with_code(self._vault, message)

    async def look(self, now: datetime, lanes: Sequence[int] = ALL_LANES) -> Look:
        """Say whether anything is due: cheaper than claiming it in vain."""
        row = await self._tried(lambda c: c.fetchrow(sql.LOOK, now, lanes))
        return Look(**row) if row is not None else Look(notices=False, queued=False)

    async def next_due_at(self, tenants: Iterable[str]) -> datetime | None:
        """When the first notice or queued message falls due."""
        due_at: datetime | None = await self._tried(lambda c: c.fetchval(sql.NEXT_DUE, ALL_LANES, list(tenants)))
        return due_at

    async def plan_due(self, claim: Claim, plan: Callable[[list[Pending]], Planned]) -> Planned:
        """Claim contacts of tenants with notices that are due, plan all that waits for them, write the outcome.

        The limit counts due notices; a contact that anybody else holds is left alone. On return everything in
        `requests` stands in the ledger as `sending`.
        """
        try:
            return await self._tried(lambda c: self._plan_due(c, claim, plan))
        except asyncpg.UniqueViolationError:
            done = await self._tried(lambda c: c.execute(sql.DROP_PLANNED, claim.now, claim.lanes))
            count("dispatch.planned_before", int(done.rpartition(" ")[2]))
            return await self._tried(lambda c: self._plan_due(c, claim, plan))

    async def claim_waiting(
        self, status: Literal["queued", "unknown", "orphaned"], claim: Claim, decide: Callable[[list[Waiting]], Moves]
    ) -> Moves:
        """Claim messages that wait in `status` and are due, and write what `decide` makes of them.

        `claim.names` are channels of those that are queued and providers of those in doubt; `orphaned` are those in
        doubt of all other providers.
        """
        return await self._tried(lambda c: self._claim_waiting(c, status, claim, decide))

    async def settle(
        self,
        request: Request | None,
        provider: str,
        settlements: Sequence[Settlement],
        now: datetime,
        *,
        named: bool = False,
    ) -> tuple[int, int]:
        """Write the answers to a request, or to a look-up where it is None.

        `named`: the provider will speak of these attempts by its own references, which are kept to find them again.
        Returns how many counted, and how many acceptances came for attempts that had been given up.
        """
        return await self._tried(lambda c: self._settle(c, request, provider, settlements, now, named=named))

    async def receipt_cursor(self, provider: str, worker: int) -> str | None:
        """How far the receipts have been read; None while another worker reads them."""
        return await self._tried(lambda c: _receipt_cursor(c, provider, worker))

    async def recipients(self, provider: str, attempt_ids: Sequence[bytes]) -> list[Recipient]:
        """Whom attempts are about whose failure has not been written yet."""
        found = await self._tried(lambda c: c.fetch(sql.RECIPIENTS, provider, list(attempt_ids)))
        return [Recipient(**row) for row in found]

    async def recipients_of(self, provider: str, attempt_ids: Sequence[bytes]) -> list[Recipient]:
        """Whom attempts are about, whatever became of them."""
        found = await self._tried(lambda c: c.fetch(sql.RECIPIENTS_OF, provider, list(attempt_ids)))
        return [Recipient(**row) for row in found]

    async def receive(
        self, provider: str, words: Sequence[Word], cursor: str, after: str, *, learn: bool = True
    ) -> tuple[int, int] | None:
        """Write receipts together with the cursor behind them; None if somebody else has moved it from `after`.

        `learn` how long they took. Returns how many messages changed, and how many words were of attempts that had
        been given up.
        """
        return await self._tried(lambda c: self._receive(c, provider, words, cursor, after, learn=learn))

    async def take_words(self, provider: str, words: Sequence[Word], *, learn: bool = True) -> tuple[int, int]:
        """Write receipts that a provider brought by itself; those that nobody knows yet are kept for `match_words`.

        Returns how many messages changed, and how many words were of attempts that had been given up.
        """
        return await self._tried(lambda c: self._take_words(c, provider, words, learn=learn))

    async def early_words(self, within: timedelta = WORDS_KEPT) -> dict[str, list[Word]]:
        """Receipts that came before the answers which say whose they are, and are known by now; by provider.

        Those that came lately, the oldest first, at most `EARLY_MAX`.
        """
        found: dict[str, list[Word]] = {}
        rows = await self._tried(lambda c: c.fetch(sql.EARLY, within, EARLY_MAX))
        for provider, attempt_id, delivered, ref, detail, at in rows:
            found.setdefault(provider, []).append(Word(attempt_id, delivered, ref, detail, at))
        return found

    async def match_words(self, provider: str, words: Sequence[Word], *, learn: bool = True) -> tuple[int, int]:
        """Write such receipts of one provider; returns what `take_words` does."""
        return await self._tried(lambda c: self._match_words(c, provider, words, learn=learn))

    async def notices_told(self, provider: str, attempt_ids: Sequence[bytes]) -> dict[bytes, tuple[bytes, ...]]:
        """Which notices the messages of these attempts tell."""
        query = "SELECT tenant, attempt_id, message_id, body FROM message WHERE attempt_id = ANY ($2) AND provider = $1"
        found = await self._tried(lambda c: c.fetch(query, provider, list(attempt_ids)))
        opened = ((row[1], self._vault.open(row[0], row[2], row[3])) for row in found)
        return {attempt_id: decode_message(body).notices for attempt_id, body in opened}

    async def attempts_named(self, provider: str, refs: Sequence[str]) -> dict[str, bytes]:
        """The attempts of which a provider speaks by these references."""
        found = await self._tried(lambda c: c.fetch(sql.NAMED, provider, list(refs)))
        return {row["ref"]: row["attempt_id"] for row in found}

    async def tallies(self, now: datetime, since: timedelta, until: timedelta) -> list[Tally]:
        """What became of the messages of each provider that were taken between two ages."""
        found = await self._tried(lambda c: c.fetch(sql.TALLIES, now - since, now - until))
        return [Tally(**row) for row in found]

    async def tidy(self, now: datetime) -> None:
        """Forget by what names providers spoke of attempts that are long settled, and counts of long ago."""
        await self._tried(lambda c: c.execute(sql.FORGET_HANDLES, now - HANDLES_KEPT))
        await self._tried(lambda c: c.execute(sql.FORGET_TALLIES, now - TALLIES_KEPT))
        await self._tried(lambda c: c.execute(sql.FORGET_EARLY, WORDS_KEPT))
        await self._tried(lambda c: c.execute(sql.FORGET_STANDINGS))

    async def put_standings(self, worker: int, standings: Sequence[Standing], now: datetime) -> None:
        """Write down how a worker finds its providers."""
        rows = [(s.provider, s.state, s.reason, s.detail, s.retry_at) for s in standings]
        await self._tried(lambda c: c.execute(sql.PUT_STANDINGS, worker, now, *columns(rows, 5)))

    async def standings(self) -> list[Standing]:
        """How those who send find their providers, each as the worker sees it that is worst off with it."""
        found: dict[str, Standing] = {}
        for row in await self._tried(lambda c: c.fetch(sql.STANDINGS)):
            found.setdefault(row["provider"], Standing(**row))
        return list(found.values())

    async def used(self) -> set[str]:
        """The providers that have been handed messages in the last month."""
        return {row["provider"] for row in await self._tried(lambda c: c.fetch(sql.USED))}

    async def worker_count(self) -> int:
        """How many workers hold a lease."""
        count_: int = await self._tried(lambda c: c.fetchval(sql.WORKERS))
        return count_

    async def halt(self, reason: str, now: datetime) -> None:
        """Stop sending, on every worker, until `resume`; where it is halted already, only a reason is new.

        Without a `reason` it is halted by hand, or stays so for the reason that there was.
        """
        await self._tried(lambda c: c.execute(sql.HALT, reason, now))

    async def resume(self) -> None:
        """Let sending go on."""
        await self._tried(lambda c: c.execute(sql.RESUME))

    async def halted(self) -> tuple[bool, str, datetime | None]:
        """Whether sending is halted, why, and since when."""
        row = await self._tried(lambda c: c.fetchrow(sql.HALTED))
        return (row["halted"], row["reason"], row["since"]) if row is not None else (False, "", None)

    async def notice_restore(self, now: datetime) -> bool:
        """Halt sending if this database has been restored from a backup since it last ran; returns whether it has.

        What was sent after the backup looks unsent here: sent again blindly, it would be told twice.
        """
        return bool(await self._tried(lambda c: c.fetchval(sql.NOTICE_RESTORE, now)))

    async def doubt_everything(self, now: datetime) -> int:
        """Make everything unknown that waits for a try or is on its way; returns how many messages."""
        return await self._tried(lambda c: self._doubt_everything(c, now))

    async def restored(self) -> list[Waiting]:
        """The messages that may have gone out in the time that this database does not know."""
        found = await self._tried(lambda c: c.fetch(sql.RESTORED))
        return [self._waiting(row) for row in found]

    async def reconcile(self, moves: Sequence[Move], now: datetime) -> int:
        """Write what was found out about such messages; returns how many counted."""
        rows = sorted(
            (m.waiting.message.tenant, m.waiting.message.id, m.status, m.attempt_id, m.attempt_no, m.provider, m.ref,
             m.due_at, m.detail)
            for m in moves
        )  # fmt: skip
        return await self._tried(lambda c: self._reconcile(c, now, rows))

    async def backlog(self, now: datetime) -> Backlog:
        """How much waits."""
        row = await self._tried(lambda c: c.fetchrow(sql.BACKLOG, now))
        return Backlog(**row) if row is not None else Backlog(0, 0, 0, 0, 0)

    async def take_lease(self, name: str, lease: timedelta) -> int:
        """Become a worker, for the length of a lease by the database's clock; returns its number."""
        worker: int = await self._tried(lambda c: c.fetchval(sql.TAKE_LEASE, name, lease))
        return worker

    async def renew_lease(self, worker: int, lease: timedelta) -> bool:
        """Prolong the lease; False when it was over already, and then for good."""
        return await self._tried(lambda c: c.execute(sql.RENEW_LEASE, worker, lease)) == "UPDATE 1"

    async def give_up_lease(self, worker: int) -> None:
        """Go, unless something of this worker is still under way; then the lease runs out by itself."""
        await self._tried(lambda c: c.execute(sql.GIVE_UP_LEASE, worker))

    async def doubt_left_behind(self, grace: timedelta, now: datetime, ask_at: Mapping[str, datetime | None]) -> int:
        """Make everything unknown that a worker without a lease left in `sending`; returns how many messages.

        `ask_at` says by provider when a look-up may be believed, None where there is nobody to ask.
        """
        return await self._tried(lambda c: self._doubt(c, grace, now, ask_at))

    async def paces(self) -> dict[str, tuple[float, int]]:
        """How long receipts take by channel: 95 % come within so many seconds, and how many that is known from."""
        found = await self._tried(lambda c: c.fetch(sql.PACES))
        return {channel: (delay_s, receipts) for channel, delay_s, receipts in found}

    async def _plan_due(
        self, connection: Connection, claim: Claim, plan: Callable[[list[Pending]], Planned]
    ) -> Planned:
        statuses: dict[bytes, str] = {}  # one for all: ids of messages are nobody else's
        pendings = await self._claim_contacts(connection, claim, statuses)
        if not pendings:
            await self._introduce_strangers(connection, claim)
            return Planned()
        tries: list[tuple[str, bytes]] = []
        for tenant, name, body in await connection.fetch(sql.PENDING, *columns(pendings, 2)):
            notice = decode_notice(body)
            pendings[tenant, name].notices.append(notice)
            tries += [(tenant, one.message_id) for one in notice.tried]
        if tries:
            found = await connection.fetch(sql.STATUSES, *columns(tries, 2))
            statuses.update({row["message_id"]: row["status"] for row in found})
        planned = plan([pending for pending in pendings.values() if pending.notices])
        await self._write_plan(connection, claim, planned)
        return planned

    async def _write_plan(self, connection: Connection, claim: Claim, planned: Planned) -> None:
        fates = [_fate_row(fate, at) for fate, at in planned.fates]
        messages = [self._message_row(d, claim, "delivered", INBOX) for d in planned.inbox]
        messages += [
            self._message_row(d, claim, "sending", sent.provider) for sent in planned.requests for d in sent.departures
        ]
        messages += [
            self._message_row(one.departure, claim, "queued", "", one.due_at, one.detail) for one in planned.delayed
        ]
        messages += [self._message_row(one, claim, "unknown", "", None, "restored") for one in planned.doubtful]
        await connection.execute(
            sql.WRITE_PLAN,
            *columns((row[:3] for row in fates), 3),
            *columns(((n.tenant, n.contact, n.id, n.due_at, encode_state(n)) for n in planned.held), 5),
            *columns((_flight_row(request) for request in planned.requests), 3),
            claim.worker,
            *columns(((*key, encode_state(history)) for key, history in planned.histories.items()), 3),
        )
        if planned.given_up:
            await connection.execute(sql.GIVE_UP, *columns(planned.given_up, 2), claim.now)
            await self._note_messages(connection, planned.given_up)
        await connection.copy_records_to_table("notice", records=fates, columns=sql.NOTICE_COLUMNS)
        await connection.copy_records_to_table("message", records=messages, columns=sql.MESSAGE_COLUMNS)
        await self._note(connection, (one.attempt_id for one in (*planned.inbox, *planned.doubtful)))

    async def _claim_contacts(
        self, connection: Connection, claim: Claim, statuses: dict[bytes, str]
    ) -> dict[Key, Pending]:
        pendings: dict[Key, Pending] = {}
        rest = claim.limit
        for lane in claim.lanes:
            if rest > 0:
                found = await self._fair_share(connection, lane, claim, rest)
                rest -= len(found)
                for tenant, name, body, heard in found:
                    if (tenant, name) not in pendings:
                        contact = decode_contact(self._vault.open(tenant, name, body))
                        history = decode_history(heard) if heard else NOTHING_HEARD
                        pendings[tenant, name] = Pending(contact, history, [], statuses)
        return pendings

    async def _fair_share(
        self, connection: Connection, lane: int, claim: Claim, limit: int
    ) -> Sequence[asyncpg.Record]:
        """Claim what is due in a lane: the same share of every tenant, so that nobody waits for a neighbour's flood."""
        if len(claim.names) > 1:
            due = [row["tenant"] for row in await connection.fetch(sql.TENANTS_DUE, lane, claim.now, claim.names)]
            if len(due) > 1:
                share = max(limit // len(due), 1)
                first = self._turn % len(due)  # where not all have a place, everybody's turn comes
                self._turn += limit
                served = (due[first:] + due[:first])[:limit]
                return await connection.fetch(sql.CLAIM_SHARES, lane, claim.now, share, served)
        return await connection.fetch(sql.CLAIM_CONTACTS, lane, claim.now, limit, claim.names)

    async def _introduce_strangers(self, connection: Connection, claim: Claim) -> None:
        """Give contacts that have notices but no row their row: it is the lock, and everybody has an inbox."""
        found = await connection.fetch(sql.STRANGERS, claim.now, claim.lanes, claim.limit, claim.names)
        strangers = [Contact(tenant, name) for tenant, name in sorted({(row[0], row[1]) for row in found})]
        if strangers:
            count("dispatch.strangers", len(strangers))
            await connection.execute(ADD_CONTACTS, *contact_columns(strangers, claim.now, self._vault))

    async def _claim_waiting(
        self, connection: Connection, status: str, claim: Claim, decide: Callable[[list[Waiting]], Moves]
    ) -> Moves:
        waiting: list[Waiting] = []
        query = {"queued": sql.CLAIM_QUEUED, "unknown": sql.CLAIM_UNKNOWN, "orphaned": sql.CLAIM_ORPHANS}[status]
        for lane in claim.lanes:
            rest = claim.limit - len(waiting)
            if rest > 0:
                found = await connection.fetch(query, lane, claim.now, rest, claim.names)
                waiting += [self._waiting(row) for row in found]
        if not waiting:
            return Moves()
        decided = decide(waiting)
        await connection.execute(
            sql.MOVE,
            *columns((_flight_row(request) for request in decided.requests), 3),
            claim.worker,
            claim.now,
            *columns((_move_row(move) for move in decided.moves), 9),
        )
        await self._note(connection, (move.attempt_id for move in decided.moves))
        return decided

    def _waiting(self, row: asyncpg.Record) -> Waiting:
        tenant, name, body, attempt_id, attempt_no, provider, at, tried, ref, detail, due_at = row
        message = decode_message(self._vault.open(tenant, name, body))
        return Waiting(message, attempt_id, attempt_no, provider, at, tuple(tried.split()), ref, detail, due_at)

    def _message_row(
        self,
        departure: Departure,
        claim: Claim,
        status: Status,
        provider: str,
        due_at: datetime | None = None,
        detail: str = "",
    ) -> tuple[object, ...]:
        m = departure.message
        return (
            m.tenant, m.id, m.order_no, m.contact, m.topic, m.channel, LANE_NUMBERS[m.lane], m.text,
            self._vault.seal(m.tenant, m.id, encode_state(m)), m.created_at, m.told_at, m.valid_until, status,
            departure.attempt_no, departure.attempt_id, provider, claim.worker, claim.now,
            claim.now if status == "delivered" else None, due_at, departure.ref, detail,
        )  # fmt: skip

    async def _settle(
        self,
        connection: Connection,
        request: Request | None,
        provider: str,
        settlements: Sequence[Settlement],
        now: datetime,
        *,
        named: bool,
    ) -> tuple[int, int]:
        rows = [(s.attempt_id, s.status, s.due_at, s.provider_ref, s.detail, s.outcome, s.blames) for s in settlements]
        rows.sort(key=lambda row: row[0])
        worker, flight = (request.worker, request.id) if request is not None else (None, None)
        counted: int = await connection.fetchval(sql.SETTLE, *columns(rows, 7), worker, now, flight, provider, named)
        failpoint("ledger.settle_written")
        await self._note(connection, (row[0] for row in rows))
        if counted == len(rows):
            return counted, 0
        accepted = sorted(s.attempt_id for s in settlements if s.status == "accepted")
        late = [(attempt_id, "accepted_late") for attempt_id in accepted]
        return counted, await _mark_late(connection, provider, late)

    async def _receive(
        self, connection: Connection, provider: str, words: Sequence[Word], cursor: str, after: str, *, learn: bool
    ) -> tuple[int, int] | None:
        # The cursor first: its row also keeps two readers apart.
        if await connection.execute(sql.MOVE_CURSOR, provider, after, cursor) != "UPDATE 1":
            return None
        return await self._take_words(connection, provider, words, learn=learn)

    async def _write_words(
        self, connection: Connection, provider: str, words: Sequence[Word], *, learn: bool
    ) -> tuple[int, int]:
        first = {word.attempt_id: word for word in reversed(words)}  # the first word on an attempt is final
        rows = sorted(
            (w.attempt_id, "delivered" if w.delivered else "failed", w.provider_ref, w.detail, w.at)
            for w in first.values()
        )
        found = await connection.fetch(sql.RECEIVE, provider, *columns(rows, 5))
        await self._note(connection, (row[0] for row in rows))
        counted = sum(row["receipts"] for row in found)
        if found and learn:
            await connection.execute(sql.LEARN_PACE, *columns(((r[0], r[2] or 0.0, r[1]) for r in found), 3))
        if counted == len(rows):
            return counted, 0
        late = [(row[0], "delivered_late") for row in rows if row[1] == "delivered"]
        return counted, await _mark_late(connection, provider, late)

    async def _take_words(
        self, connection: Connection, provider: str, words: Sequence[Word], *, learn: bool
    ) -> tuple[int, int]:
        refs = sorted({word.provider_ref for word in words if not word.attempt_id and word.provider_ref})
        found = await connection.fetch(sql.NAMED, provider, refs) if refs else []
        known = {row["ref"]: row["attempt_id"] for row in found}
        early = [w for w in words if not w.attempt_id and w.provider_ref and w.provider_ref not in known]
        if early:
            rows = sorted({(w.provider_ref, w.delivered): (w.detail, w.at) for w in early}.items())
            kept = [(*key, *rest) for key, rest in rows]
            await connection.execute(sql.KEEP_WORDS, provider, *columns(kept, 4))
            count("dispatch.receipts_early", len(kept))
        mine = [
            replace(w, attempt_id=w.attempt_id or known[w.provider_ref])
            for w in words
            if w.attempt_id or w.provider_ref in known
        ]
        return await self._write_words(connection, provider, mine, learn=learn) if mine else (0, 0)

    async def _match_words(
        self, connection: Connection, provider: str, words: Sequence[Word], *, learn: bool
    ) -> tuple[int, int]:
        await connection.execute(sql.DROP_EARLY, provider, sorted({word.provider_ref for word in words}))
        return await self._write_words(connection, provider, words, learn=learn)

    async def _doubt(
        self, connection: Connection, grace: timedelta, now: datetime, ask_at: Mapping[str, datetime | None]
    ) -> int:
        flights = await connection.fetch(sql.LEFT_BEHIND, grace, REAPED_FLIGHTS_MAX)
        if not flights:
            await connection.execute(sql.FORGET_LEASES, grace)
            return 0
        rows = [(own, worker, ask_at.get(provider, now)) for _, worker, provider, ids in flights for own in _cut(ids)]
        rows.sort(key=lambda row: row[0])
        found: int = await connection.fetchval(sql.DOUBT, now, *columns(rows, 3), [row["flight"] for row in flights])
        await self._note(connection, (row[0] for row in rows))
        return found

    async def _doubt_everything(self, connection: Connection, now: datetime) -> int:
        done = await connection.execute(sql.DOUBT_ALL, now)
        if tenants := self._listeners():
            await connection.execute(changes.NOTE_ALL_DOUBTED, tenants, changes.TOLD_STATUSES)
        return int(done.rpartition(" ")[2])

    async def _reconcile(self, connection: Connection, now: datetime, rows: Sequence[tuple[object, ...]]) -> int:
        counted: int = await connection.fetchval(sql.RECONCILE, now, *columns(rows, 9))
        await self._note_messages(connection, ((row[0], row[1]) for row in rows))
        return counted

    def _listeners(self) -> list[str]:
        """The tenants with a webhook that wants to hear what becomes of messages."""
        return sorted(self._store.watched.get("message.changed", ()))

    async def _note(self, connection: Connection, attempt_ids: Iterable[bytes]) -> None:
        """Put down for webhooks what this transaction made of messages, by their live attempts."""
        if tenants := self._listeners():
            await connection.execute(changes.NOTE_ATTEMPTS, tenants, changes.TOLD_STATUSES, list(attempt_ids))

    async def _note_messages(self, connection: Connection, keys: Iterable[tuple[object, object]]) -> None:
        """Do the same for messages by tenant and id."""
        if tenants := self._listeners():
            await connection.execute(changes.NOTE_MESSAGES, tenants, changes.TOLD_STATUSES, *columns(keys, 2))

    async def _tried(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        for attempt in itertools.count(1):
            try:
                async with self._pool.acquire() as connection, _transaction(connection):
                    return await work(connection)
            except asyncpg.TransactionRollbackError as race:
                count("ledger.races")
                if attempt >= TRIES_MAX:
                    raise DatabaseUnavailable(f"the ledger lost {attempt} races in a row: {race}") from race
            except BREAKS as problem:
                raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem
        raise AssertionError


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    await connection.execute(statements.BEGIN)
    try:
        yield
        await connection.execute("COMMIT")
    except BaseException:
        if not connection.is_closed():
            with suppress(*BREAKS, asyncpg.PostgresError):
                await connection.execute("ROLLBACK")
        raise


async def _receipt_cursor(connection: Connection, provider: str, worker: int) -> str | None:
    cursor: str | None = await connection.fetchval(sql.CURSOR, provider, worker)
    return cursor if cursor is not None else await connection.fetchval(sql.TAKE_CURSOR, provider, worker)


async def _mark_late(connection: Connection, provider: str, rows: Sequence[tuple[bytes, str]]) -> int:
    if not rows:
        return 0
    return int((await connection.execute(sql.MARK_LATE, provider, *columns(rows, 2))).rpartition(" ")[2])


def _cut(ids: bytes) -> Iterable[bytes]:
    return (ids[start : start + ATTEMPT_ID_BYTES] for start in range(0, len(ids), ATTEMPT_ID_BYTES))


def _fate_row(fate: Fate, at: datetime) -> tuple[object, ...]:
    n = fate.notice
    return (
        n.tenant, n.contact, n.id, n.order_no, n.topic, fate.kind, fate.reason, fate.into or None, n.created_at, at,
        encode_state(n),
    )  # fmt: skip


def _flight_row(request: Request) -> tuple[object, ...]:
    return (request.id, request.provider, b"".join(departure.attempt_id for departure in request.departures))


def _move_row(move: Move) -> tuple[object, ...]:
    message = move.waiting.message
    return (
        message.tenant, message.id, move.status, move.attempt_id, move.attempt_no, move.due_at, move.detail,
        move.provider or move.waiting.provider, move.ref if move.status == "sending" else move.waiting.ref,
    )  # fmt: skip
