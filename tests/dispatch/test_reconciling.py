"""After a restore: what had been sent is found out, nothing is told twice, nothing is lost."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from orderbell.channels.protocol import (
    Answer,
    Channel,
    ChannelUnavailable,
    Fate,
    Found,
    Outcome,
    Outgoing,
    Provider,
    Receipt,
    ReceiptsBy,
    Recovery,
    Unsure,
)
from orderbell.channels.sandbox import SandboxChannel
from orderbell.dispatch import reconciling
from orderbell.dispatch.outcomes import NO_WORD
from orderbell.dispatch.patience import patience_of
from orderbell.dispatch.receiving import Receiver
from orderbell.dispatch.reconciling import Reconciled, reconcile
from orderbell.dispatch.routes import Routes, Terms
from orderbell.errors import DatabaseUnavailable
from tests.dispatch.rig import NOON, House, Scripted, contact, notice
from tests.sandbox_server import RunningSandbox

TABLES = ("contact", "queue", "notice", "message", "attempt", "handle")
HOUR_S = 3600


@dataclass
class Backup:
    """What stood in the tables at a moment."""

    rows: dict[str, list[Any]]

    @classmethod
    async def of(cls, house: House) -> "Backup":
        """Copy the tables."""
        return cls({table: await house.pool.fetch(f"SELECT * FROM {table}") for table in TABLES})

    async def restore(self, house: House) -> None:
        """Put the tables back as they were, and halt as a dispatcher does that notices it."""
        await house.pool.execute(f"TRUNCATE {', '.join(TABLES)}, flight, worker, receipt_cursor, receipt")
        for table, rows in self.rows.items():
            await house.pool.copy_records_to_table(
                table, records=[tuple(row) for row in rows], columns=list(rows[0].keys()) if rows else None
            )
        await house.ledger.halt("restored", house.clock())


class Keyed(Provider):
    """A provider that recognises attempts, or forgets them at once; `told` is what reached people."""

    def __init__(self, name: str = "keyed", *, recovery: Recovery = Recovery.KEY, window_s: float = 0) -> None:
        self.name, self.carries, self.batch_max = name, frozenset({"sms"}), 100
        self.recovery, self.key_window_s = recovery, window_s
        self.receipts_by = ReceiptsBy.CALLBACK
        self.outcomes: list[Outcome] = []
        self.known: set[bytes] = set()
        self.told: list[str] = []

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Take each attempt once."""
        answers = []
        for one in batch:
            outcome = self.outcomes.pop(0) if self.outcomes else Outcome.ACCEPTED
            if outcome is Outcome.ACCEPTED and not (self.recovery is Recovery.KEY and one.attempt_id in self.known):
                self.known.add(one.attempt_id)
                self.told.append(one.order_no)
            answers.append(Answer(one.attempt_id, outcome, one.attempt_id.hex()))
        return answers


class Asked(Keyed):
    """A provider that can be asked about what it took, one that can be away or say nothing clear."""

    def __init__(self, name: str = "asked") -> None:
        super().__init__(name, recovery=Recovery.LOOKUP)
        self.lookup_after_s = 2.0
        self.away = False
        self.unclear = False
        self.fate = Fate.ACCEPTED
        self.asked: list[Unsure] = []

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """Say what is known."""
        if self.away:
            raise ChannelUnavailable("away")
        self.asked += attempts
        if self.unclear:
            return []
        return [
            Found(one.attempt_id, self.fate if one.attempt_id in self.known else Fate.NOT_FOUND, one.attempt_id.hex())
            for one in attempts
        ]


class Textual(Asked):
    """A provider that knows nobody's ids: a message is found by its text and its time, if only one is asked about."""

    def __init__(self) -> None:
        super().__init__("textual")
        self.now: Callable[[], datetime] = lambda: NOON
        self.sent: list[tuple[str, str, Any]] = []

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Remember to whom what went when."""
        self.sent += [(one.to, one.text, self.now()) for one in batch]
        return await super().send(batch)

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """Leave out what cannot be told apart."""
        alike = Counter((one.to, one.text) for one in attempts)
        found = []
        for one in attempts:
            if alike[one.to, one.text] == 1 and one.sent_at is not None:
                near = [
                    s
                    for s in self.sent
                    if s[:2] == (one.to, one.text) and abs(s[2] - one.sent_at) <= timedelta(minutes=5)
                ]
                found.append(Found(one.attempt_id, Fate.ACCEPTED if near else Fate.NOT_FOUND))
        return found


async def look_into(house: House, *channels: Channel, ways: Routes | None = None) -> Reconciled:
    """Reconcile as the command does."""
    routes = ways or Routes(channels, house.clock())
    return await reconcile(house.ledger, house.shelves, routes, patience_of(routes.open, {}), house.clock())


async def go_on(house: House, *channels: Channel, ways: Routes | None = None, hours: int = 1) -> None:
    """Resume, and let a dispatcher work for some hours."""
    await house.ledger.resume()
    dispatcher = house.dispatcher(ways or Routes(channels, house.clock()))
    for _ in range(hours * 4):
        for _ in range(3):
            await dispatcher.step()
            await dispatcher.resolve()
        house.clock.turn(HOUR_S / 4)


async def before_the_restore(house: House, channel: Channel, *, orders: int = 6) -> None:
    """Three orders are told, then comes the backup, then three more are told; the last ones never are."""
    dispatcher = house.dispatcher(channel)
    third = orders // 3
    await house.put(*(notice("paid", n, f"A{n}") for n in range(third)))
    await dispatcher.step()
    await house.put(*(notice("paid", n, f"A{n}") for n in range(third, 2 * third)))
    backup = await Backup.of(house)
    await dispatcher.step()
    await backup.restore(house)
    await house.put(*(notice("paid", n, f"A{n}") for n in range(2 * third, orders)))
    house.clock.turn(HOUR_S)
    await house.ledger.halt("restored", house.clock())


async def test_restored_house_tells_nobody_twice(house: House, sandbox: RunningSandbox) -> None:
    """Of many messages, those that were sent must be found, the rest must go out, and each text must leave once."""
    channel = SandboxChannel(sandbox.url)
    await before_the_restore(house, channel, orders=90)
    assert len(sandbox.ledger()) == 60
    found = await look_into(house, channel)
    assert (found.sent, found.not_sent, found.unknowable, found.unasked) == (30, 30, 0, 0)
    assert len(sandbox.ledger()) == 60
    await go_on(house, channel)
    told = Counter((entry.to, entry.text) for entry in sandbox.ledger())
    assert len(told) == 90
    assert set(told.values()) == {1}
    assert set(await house.statuses()) <= {"accepted", "delivered"}
    await channel.close()


async def test_reconciling_begun_again_changes_nothing(house: House, sandbox: RunningSandbox) -> None:
    """A second reconciliation before going on must find nothing left to do."""
    channel = SandboxChannel(sandbox.url)
    await before_the_restore(house, channel)
    await look_into(house, channel)
    before = Counter(await house.statuses())
    assert before["queued"] == 2
    again = await look_into(house, channel)
    assert (again.sent, again.not_sent) == (0, 2)
    assert Counter(await house.statuses()) == before
    await go_on(house, channel)
    assert Counter(entry.to for entry in sandbox.ledger()) == Counter(f"+86138{number:08}" for number in range(6))
    await channel.close()


async def test_carrier_that_is_not_there_any_more(house: House) -> None:
    """What nobody of today's providers could have carried must count as not asked about, and never as not sent."""
    await house.put(notice("paid"))
    await house.dispatcher(Scripted(Outcome.RETRY_LATER)).step()
    await house.ledger.halt("restored", house.clock())
    found = await look_into(house, Scripted(carries=frozenset({"email"})))
    assert (found.unasked, found.not_sent) == (1, 0)
    assert await house.statuses() == ["unknown"]


async def test_progress_is_told(house: House) -> None:
    """Whoever waits for a reconciliation must see how far it is."""
    channel, seen = Asked(), list[tuple[int, int]]()
    await house.put(*(notice("paid", n, f"A{n}") for n in range(3)))
    await house.ledger.halt("restored", NOON)
    routes = Routes([channel], NOON)
    await reconcile(
        house.ledger, house.shelves, routes, patience_of(routes.open, {}), NOON,
        progress=lambda done, whole: seen.append((done, whole)),
    )  # fmt: skip
    assert seen == [(3, 3)]


@pytest.mark.parametrize(
    ("fate", "status"), [(Fate.ACCEPTED, "accepted"), (Fate.DELIVERED, "delivered"), (Fate.FAILED, "failed")]
)
async def test_word_of_the_provider_counts(house: House, fate: Fate, status: str) -> None:
    """What the provider says of a message must become its status, under the provider's name and reference."""
    channel = Asked()
    await before_the_restore(house, channel, orders=3)
    channel.fate = fate
    assert (await look_into(house, channel)).sent == 1
    row = await house.pool.fetchrow("SELECT * FROM message WHERE order_no = 'A1'")
    assert row is not None
    assert (row["status"], row["provider"], row["provider_ref"]) == (status, "asked", row["attempt_id"].hex())


async def test_receipt_finds_what_was_reconciled(house: House) -> None:
    """A receipt that comes by the provider's reference must find a message which was found to be sent."""
    channel = Asked()
    await before_the_restore(house, channel, orders=3)
    await look_into(house, channel)
    ref = await house.pool.fetchval("SELECT provider_ref FROM message WHERE order_no = 'A1'")
    receipt = Receipt(b"", ref, delivered=True, detail="", at=house.clock())
    await Receiver(house.ledger, house.clock).take("asked", [receipt])
    assert await house.pool.fetchval("SELECT status FROM message WHERE order_no = 'A1'") == "delivered"


async def test_provider_that_cannot_be_asked(house: House) -> None:
    """While the provider is away its messages must stay unknown; asked again later, all must come right."""
    channel = Asked()
    await before_the_restore(house, channel)
    channel.away = True
    found = await look_into(house, channel)
    assert (found.unasked, found.sent, found.not_sent) == (4, 0, 0)
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(["A0", "A1", "A2", "A3"])
    assert Counter(await house.statuses()) == {"accepted": 2, "unknown": 4}
    channel.away = False
    await house.ledger.halt("restored", house.clock())
    found = await look_into(house, channel)
    assert (found.sent, found.not_sent) == (2, 2)
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(f"A{n}" for n in range(6))


async def test_provider_that_says_nothing_clear(house: House) -> None:
    """A message about which a provider gives no clear word may have been sent: it must stay unknown."""
    channel = Asked()
    await before_the_restore(house, channel)
    channel.unclear = True
    await look_into(house, channel)
    await go_on(house, channel)
    assert max(Counter(channel.told).values()) == 1


async def test_provider_that_finds_by_text(house: House) -> None:
    """Where messages are found by text and time, those that were sent must still not be told twice."""
    channel = Textual()
    channel.now = house.clock
    await before_the_restore(house, channel)
    await look_into(house, channel)
    await go_on(house, channel)
    assert max(Counter(channel.told).values()) == 1


async def test_provider_that_finds_by_text_is_asked_in_time(house: House) -> None:
    """Providers look for a message about the time of its sending: that must be told them, not that of the restore."""
    channel = Asked()
    await before_the_restore(house, channel, orders=3)
    await look_into(house, channel)
    assert {one.sent_at for one in channel.asked} == {NOON}


async def test_provider_that_recognises_attempts(house: House) -> None:
    """The first attempt must come again, which the provider knows: nothing is told twice, and nothing is lost."""
    channel = Keyed()
    await before_the_restore(house, channel)
    found = await look_into(house, channel)
    assert (found.not_sent, found.unknowable) == (4, 0)
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(f"A{n}" for n in range(6))
    assert set(await house.statuses()) == {"accepted"}


async def test_provider_that_recognises_attempts_for_a_while(house: House) -> None:
    """A provider that may have forgotten the attempts by now must not get them again."""
    channel = Keyed(window_s=600)
    await before_the_restore(house, channel)
    assert (await look_into(house, channel)).unknowable == 4
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(f"A{n}" for n in range(4))


async def test_provider_that_nobody_can_ask(house: House) -> None:
    """Where only a receipt can tell, messages must stay unknown and never go out again."""
    channel = Keyed(recovery=Recovery.NONE)
    await before_the_restore(house, channel)
    assert (await look_into(house, channel)).unknowable == 4
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(f"A{n}" for n in range(4))
    details = await house.pool.fetch("SELECT DISTINCT detail FROM message WHERE status = 'unknown'")
    assert [row["detail"] for row in details] == [NO_WORD]


async def test_message_that_is_rather_told_twice(house: House) -> None:
    """What a shop would rather tell twice than never must go out where nobody can be asked."""
    house.set_doubt("resend")
    channel = Keyed(recovery=Recovery.NONE)
    await before_the_restore(house, channel)
    assert (await look_into(house, channel)).unknowable == 0
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(A0=1, A1=1, A2=2, A3=2, A4=1, A5=1)


async def test_receipt_ends_the_doubt(house: House) -> None:
    """Where only a receipt can tell, one that comes after the restore must end the doubt."""
    channel = Keyed(recovery=Recovery.NONE)
    await before_the_restore(house, channel, orders=3)
    await look_into(house, channel)
    row = await house.pool.fetchrow("SELECT attempt_id FROM message WHERE order_no = 'A1'")
    assert row is not None
    assert row["attempt_id"] in channel.known
    receipt = Receipt(row["attempt_id"], "", delivered=True, detail="", at=house.clock())
    await Receiver(house.ledger, house.clock).take("keyed", [receipt])
    assert await house.pool.fetchval("SELECT status FROM message WHERE order_no = 'A1'") == "delivered"


async def test_two_providers_that_recognise_attempts(house: House) -> None:
    """What one of two providers carried must not be carried by the other one afterwards."""
    first, second = Keyed("first"), Keyed("second")
    await before_the_restore(house, first)
    await look_into(house, first, second)
    await go_on(house, first, second)
    assert max(Counter(first.told + second.told).values()) == 1


async def test_one_that_recognises_and_one_that_can_be_asked(house: House) -> None:
    """That the one that can be asked knows nothing must not make it send what the other one had carried."""
    keyed, asked = Keyed(), Asked()
    await before_the_restore(house, keyed)
    await look_into(house, keyed, asked)
    await go_on(house, keyed, asked)
    assert max(Counter(keyed.told + asked.told).values()) == 1


async def test_two_that_can_be_asked(house: House) -> None:
    """Whichever of two providers had a message: it must be found, and the rest must go out once."""
    first, second = Asked("first"), Asked("second")
    await before_the_restore(house, second)
    found = await look_into(house, first, second)
    assert (found.sent, found.not_sent) == (2, 2)
    await go_on(house, first, second)
    assert Counter(first.told + second.told) == Counter(f"A{n}" for n in range(6))


async def test_message_tried_often_before_the_backup(house: House) -> None:
    """The attempt that got through after the backup must be asked about, however many there were before."""
    channel = Asked()
    channel.outcomes = [Outcome.RETRY_LATER] * 3
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    for _ in range(3):
        await dispatcher.step()
        house.clock.turn(60)
    assert await house.pool.fetchval("SELECT attempt_no FROM message") == 3
    backup = await Backup.of(house)
    await dispatcher.step()
    assert channel.told == ["A1"]
    await backup.restore(house)
    assert (await look_into(house, channel)).sent == 1
    await go_on(house, channel)
    assert channel.told == ["A1"]


async def test_retried_message_that_was_never_sent(house: House) -> None:
    """A message that waited for another try in the backup must go out under an attempt that nobody has seen."""
    channel = Asked()
    channel.outcomes = [Outcome.RETRY_LATER] * 4
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    for _ in range(4):
        await dispatcher.step()
        house.clock.turn(60)
    backup = await Backup.of(house)
    await backup.restore(house)
    assert (await look_into(house, channel)).not_sent == 1
    await go_on(house, channel)
    assert channel.told == ["A1"]
    assert await house.statuses() == ["accepted"]
    assert await house.pool.fetchval("SELECT attempt_no FROM message") > 4


async def test_doubt_of_before_the_backup(house: House) -> None:
    """A doubt that was resolved after the backup must not be resolved a second time by sending again."""
    channel = Asked()
    channel.outcomes = [Outcome.UNKNOWN]
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    backup = await Backup.of(house)
    house.clock.turn(60)
    await dispatcher.resolve()
    await dispatcher.step()
    assert channel.told == ["A1"]
    await backup.restore(house)
    await look_into(house, channel)
    await go_on(house, channel)
    assert channel.told == ["A1"]


async def test_request_under_way_at_the_backup(house: House) -> None:
    """What stood as being sent in the backup must be asked about, whatever its worker had been."""
    channel = Asked()
    await house.put(notice("paid"))
    await house.dispatcher(channel).step()
    await house.pool.execute("UPDATE message SET status = 'sending', provider_ref = ''")
    await house.ledger.halt("restored", house.clock())
    assert (await look_into(house, channel)).sent == 1
    assert await house.statuses() == ["accepted"]


async def test_restore_in_the_quiet_hours(house: House) -> None:
    """What was told before the quiet hours must not be told again after them, though the restore fell into them."""
    channel = Asked()
    await house.put(notice("shipped"), contacts=[contact(quiet="13:00-20:00")])
    backup = await Backup.of(house)
    await house.dispatcher(channel).step()
    assert channel.told == ["A1"]
    await backup.restore(house)
    house.clock.turn(2 * HOUR_S)
    await house.ledger.halt("restored", house.clock())
    await look_into(house, channel)
    await go_on(house, channel, hours=9)
    assert channel.told == ["A1"]


async def test_contact_that_somebody_holds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody holds a contact, nothing may be called looked into: it must be said, and succeed afterwards."""
    monkeypatch.setattr(reconciling, "HELD_TRIES", 2)
    monkeypatch.setattr(reconciling, "HELD_PAUSE_S", 0)
    channel = Asked()
    await before_the_restore(house, channel, orders=3)
    async with house.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM contact WHERE contact = 'c1' FOR UPDATE")
        with pytest.raises(DatabaseUnavailable, match="begin again"):
            await look_into(house, channel)
    assert (await house.ledger.halted())[0]
    await look_into(house, channel)
    await go_on(house, channel)
    assert Counter(channel.told) == Counter(["A0", "A1", "A2"])


async def test_contact_that_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact that somebody holds for a moment must be looked into right after."""
    channel = Asked()
    await before_the_restore(house, channel, orders=3)
    async with house.pool.acquire() as other:
        holding = other.transaction()
        await holding.start()
        await other.execute("SELECT FROM contact WHERE contact = 'c1' FOR UPDATE")

        async def let_go(_: float) -> None:
            await holding.rollback()

        monkeypatch.setattr("orderbell.dispatch.reconciling.asyncio.sleep", let_go)
        found = await look_into(house, channel)
    assert (found.sent, found.not_sent) == (1, 1)


async def test_somebody_whom_nobody_knows_yet(house: House) -> None:
    """A notice for a contact without a row must be planned like the others: it lies in the inbox."""
    await house.put(notice("paid"), contacts=[])
    await house.ledger.halt("restored", house.clock())
    assert await look_into(house, Asked()) == Reconciled()
    assert (await house.waiting(), await house.statuses()) == (0, ["delivered"])


async def test_message_that_nobody_wants_to_read_any_more(house: House) -> None:
    """What was never sent and is out of date by the restore must end as failed."""
    channel = Asked()
    channel.outcomes = [Outcome.RETRY_LATER]
    await house.put(notice("shipped", valid_s=HOUR_S))
    await house.dispatcher(channel).step()
    house.clock.turn(2 * HOUR_S)
    await house.ledger.halt("restored", house.clock())
    assert (await look_into(house, channel)).not_sent == 1
    await go_on(house, channel)
    assert (await house.statuses(), channel.told) == (["failed"], [])


async def test_what_is_due_later_waits(house: House) -> None:
    """What was not due at the restore was not sent: it must stay in the queue and go out in its time."""
    channel = Asked()
    await house.put(notice("paid", wait_s=HOUR_S / 2))
    await house.ledger.halt("restored", house.clock())
    assert await look_into(house, channel) == Reconciled()
    assert await house.waiting() == 1
    await go_on(house, channel)
    assert channel.told == ["A1"]


async def test_inbox_is_ours(house: House) -> None:
    """What only lies in the inbox needs nobody's word: it must be there once."""
    channel = Asked()
    await house.put(notice("paid"), contacts=[contact(phone="")])
    await house.ledger.halt("restored", house.clock())
    assert await look_into(house, channel) == Reconciled()
    rows = await house.pool.fetch("SELECT channel, status FROM message")
    assert [tuple(row) for row in rows] == [("inbox", "delivered")]


async def test_attempts_keep_their_ids(house: House) -> None:
    """The provider must be asked by the id that the first attempt had before the restore."""
    channel = Asked()
    await before_the_restore(house, channel, orders=3)
    sent = set(channel.known)
    await look_into(house, channel)
    assert sent & {one.attempt_id for one in channel.asked}
    assert len({one.attempt_id for one in channel.asked}) == len(channel.asked)
    row = await house.pool.fetchrow("SELECT attempt_no, attempt_id FROM message WHERE order_no = 'A1'")
    assert row is not None
    assert row["attempt_no"] == 1
    assert row["attempt_id"] in sent


async def fallback_before_the_restore(house: House, push: Asked, sms: Asked, *, hours: int) -> None:
    """Somebody is told on push, and where no receipt comes by SMS; the backup is older than both."""
    push.carries, sms.carries = frozenset({"push"}), frozenset({"sms"})
    await house.put(notice("arrived"), contacts=[contact(app="device")])
    backup = await Backup.of(house)
    dispatcher = house.dispatcher(push, sms)
    for _ in range(hours + 1):
        await dispatcher.step()
        house.clock.turn(HOUR_S)
    await backup.restore(house)


async def test_fallback_stops_where_the_first_channel_arrived(house: House) -> None:
    """What was delivered on the first channel before the restore must not be told on the next one after it."""
    push, sms = Asked("push"), Asked("sms")
    await fallback_before_the_restore(house, push, sms, hours=0)
    push.fate = Fate.DELIVERED
    await look_into(house, push, sms)
    await go_on(house, push, sms)
    assert (len(push.told), len(sms.told)) == (1, 0)


async def test_fallback_of_before_the_restore_is_found(house: House) -> None:
    """Who was told on the second channel, too, before the restore must not be told there again."""
    push, sms = Asked("push"), Asked("sms")
    await fallback_before_the_restore(house, push, sms, hours=1)
    assert (len(push.told), len(sms.told)) == (1, 1)
    assert (await look_into(house, push, sms)).sent == 2
    await go_on(house, push, sms)
    assert (len(push.told), len(sms.told)) == (1, 1)


async def test_fallback_waits_for_what_was_never_sent(house: House) -> None:
    """What goes out on the first channel only now must have its time before the second one is used."""
    push, sms = Asked("push"), Asked("sms")
    push.carries, sms.carries = frozenset({"push"}), frozenset({"sms"})
    await house.put(notice("arrived"), contacts=[contact(app="device")])
    house.clock.turn(HOUR_S)
    await house.ledger.halt("restored", house.clock())
    assert (await look_into(house, push, sms)).not_sent == 1
    await house.ledger.resume()
    dispatcher = house.dispatcher(push, sms)
    house.clock.turn(1)
    await dispatcher.step()
    assert (len(push.told), len(sms.told)) == (1, 0)
    await go_on(house, push, sms)
    assert (len(push.told), len(sms.told)) == (1, 1)


async def test_only_who_may_have_carried_it_is_asked(house: House) -> None:
    """A provider that is used for other numbers must neither learn of a message nor keep it unknown."""
    asked, abroad = Asked(), Keyed("abroad", recovery=Recovery.NONE)
    stranger = Asked("stranger")
    terms = {"abroad": Terms(prefixes=("+1",)), "stranger": Terms(tenants=frozenset({"other"}))}
    await before_the_restore(house, asked, orders=3)
    found = await look_into(house, ways=Routes([asked, abroad, stranger], house.clock(), terms))
    assert (found.sent, found.not_sent, found.unknowable) == (1, 1, 0)
    assert stranger.asked == []


async def test_word_of_one_provider_outweighs_the_silence_of_another(house: House) -> None:
    """A message that one provider has must count as sent, though another one cannot be asked."""
    away, asked = Asked("away"), Asked()
    away.away = True
    await before_the_restore(house, asked, orders=3)
    found = await look_into(house, away, asked)
    assert (found.sent, found.unasked) == (1, 1)


async def test_scripted_provider_is_asked_once(house: House) -> None:
    """What the provider of the other tests says must be believed as well."""
    channel = Scripted()
    await house.put(notice("paid"))
    backup = await Backup.of(house)
    await house.dispatcher(channel).step()
    await backup.restore(house)
    channel.found = [Found(channel.got[0].attempt_id, Fate.DELIVERED, "ref-1")]
    assert (await look_into(house, channel)).sent == 1
    await go_on(house, channel)
    assert (await house.statuses(), len(channel.got)) == (["delivered"], 1)
