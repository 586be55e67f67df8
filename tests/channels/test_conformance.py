"""What must hold for every channel, whoever the provider behind it is."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from orderbell.channels.protocol import (
    ChannelUnavailable,
    Fate,
    Outcome,
    Outgoing,
    ReceiptsBy,
    Recovery,
    Unsure,
)
from tests.channels.situations import Rig, Situation


def ids(batch: list[Outgoing]) -> list[bytes]:
    """List the attempt ids of a batch."""
    return [attempt.attempt_id for attempt in batch]


def outgoings(rig: Rig, *numbers: int) -> list[Outgoing]:
    """Make messages as the dispatcher does: each with the reference that is known before it is sent."""
    made = [rig.outgoing(number) for number in numbers]
    return [msgspec.structs.replace(one, ref=rig.channel.ref_of(made[0].attempt_id, one)) for one in made]


def unsure(batch: list[Outgoing]) -> list[Unsure]:
    """What the dispatcher asks about a batch whose answer was lost."""
    now = datetime.now(UTC)
    return [Unsure(o.attempt_id, o.to, now, o.ref, o.text, o.template, o.template_code) for o in batch]


async def test_channel_describes_itself(rig: Rig) -> None:
    """The planner must know the name, the channels, the batch limit, the price and the recovery of each provider."""
    channel = rig.channel
    assert channel.name
    assert channel.carries <= {"sms", "email", "push", "wechat", "staff", "webhook", "inbox"}
    assert channel.carries
    assert channel.batch_max >= 1
    assert channel.price_millifen >= 0
    assert channel.lookup_after_s >= 0


async def test_send_to_healthy_provider(rig: Rig) -> None:
    """Every message must be accepted, answered in the order of the batch, and handed over once."""
    batch = outgoings(rig, 3, 1, 2)
    answers = await rig.channel.send(batch)
    assert [(answer.attempt_id, answer.outcome) for answer in answers] == [
        (attempt_id, Outcome.ACCEPTED) for attempt_id in ids(batch)
    ], answers
    if rig.channel.receipts_by is not ReceiptsBy.NONE:
        assert len({answer.provider_ref for answer in answers}) == 3
    assert sorted(rig.handed_over()) == sorted(ids(batch))


async def test_send_of_nothing(rig: Rig) -> None:
    """An empty batch must have no answer and reach nobody."""
    assert await rig.channel.send([]) == []
    assert rig.handed_over() == []


async def test_send_of_more_than_batch_max(rig: Rig) -> None:
    """A batch above the provider's limit must be cut up, and still be answered one by one in order."""
    batch = outgoings(rig, *range(1, 2 * min(rig.channel.batch_max, 20) + 2))
    answers = await rig.channel.send(batch)
    assert [answer.attempt_id for answer in answers] == ids(batch)
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert sorted(rig.handed_over()) == sorted(ids(batch))


async def test_send_while_others_send(rig: Rig) -> None:
    """Concurrent batches must each get their own answers."""
    batches = [outgoings(rig, *range(10 * batch + 1, 10 * batch + 4)) for batch in range(6)]
    answered = await asyncio.gather(*(rig.channel.send(batch) for batch in batches))
    for batch, answers in zip(batches, answered, strict=True):
        assert [answer.attempt_id for answer in answers] == ids(batch)
        assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert sorted(rig.handed_over()) == sorted(attempt_id for batch in batches for attempt_id in ids(batch))


@pytest.mark.parametrize("situation", [one for one in Situation if one is not Situation.HEALTHY])
async def test_send_in_trouble(rig: Rig, situation: Situation) -> None:
    """Each trouble must have its exact outcome for every message of the batch, and never raise."""
    expected = rig.facts.expectation(situation)
    if expected is None:
        pytest.skip("cannot happen with this provider")
    outcome, taken = expected
    await rig.arrange(situation)
    batch = outgoings(rig, 1, 2)
    channel = rig.impatient if situation is Situation.NEVER_ANSWERS else rig.channel
    answers = await channel.send(batch)
    assert [(answer.attempt_id, answer.outcome) for answer in answers] == [
        (attempt_id, outcome) for attempt_id in ids(batch)
    ], answers
    assert sorted(rig.handed_over()) == (sorted(ids(batch)) if taken else [])


async def test_send_when_throttled(rig: Rig) -> None:
    """A throttled message must come with the time to wait, where the provider names one."""
    expected = rig.facts.expectation(Situation.THROTTLING)
    if expected is None or expected[0] is not Outcome.THROTTLED or not rig.facts.retry_after:
        pytest.skip("this provider names no time")
    await rig.arrange(Situation.THROTTLING)
    (answer,) = await rig.channel.send(outgoings(rig, 1))
    assert answer.retry_after_s > 0


async def test_send_after_recovery(rig: Rig) -> None:
    """A channel must work again by itself once the provider does."""
    await rig.arrange(Situation.CUTS_ANSWER)
    await rig.channel.send(outgoings(rig, 1))
    await rig.arrange(Situation.HEALTHY)
    (answer,) = await rig.channel.send(outgoings(rig, 2))
    assert answer.outcome is Outcome.ACCEPTED


async def test_send_of_bad_message_among_good(rig: Rig) -> None:
    """A message that cannot be sent must be rejected alone; its neighbours must go out."""
    for place, (bad, outcome) in enumerate(rig.facts.bad):
        first, last = outgoings(rig, 100 * place + 1, 100 * place + 3)
        middle = msgspec.structs.replace(bad, attempt_id=(100 * place + 2).to_bytes(16, "big"))
        before = len(rig.handed_over())
        answers = await rig.channel.send([first, middle, last])
        assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED, outcome, Outcome.ACCEPTED], (bad, answers)
        assert sorted(rig.handed_over()[before:]) == sorted(ids([first, last]))


async def test_send_of_unencodable_message(rig: Rig) -> None:
    """A text that is no Unicode must be rejected without asking the provider."""
    (good,) = outgoings(rig, 1)
    broken = "half a pair \ud83d"
    slots = tuple((name, broken) for name, _ in good.slots)
    bad = msgspec.structs.replace(good, text=broken, subject=broken, template=good.template and broken, slots=slots)
    (answer,) = await rig.channel.send([bad])
    assert answer.outcome is Outcome.REJECTED_CONTENT
    assert rig.handed_over() == []


async def test_send_cancelled(rig: Rig) -> None:
    """Cancelling a send must end it at once and leave the channel usable."""
    if rig.facts.expectation(Situation.NEVER_ANSWERS) is None:
        pytest.skip("this provider always answers")
    await rig.arrange(Situation.NEVER_ANSWERS)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.channel.send(outgoings(rig, 1)), 0.3)
    await rig.arrange(Situation.HEALTHY)
    (answer,) = await rig.channel.send(outgoings(rig, 2))
    assert answer.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("situation", "fates"),
    [
        (Situation.CUTS_ANSWER, {Fate.DELIVERED, Fate.ACCEPTED}),
        (Situation.CANNOT_DELIVER, {Fate.FAILED}),
        (Situation.SERVER_ERROR, {Fate.NOT_FOUND}),
        (Situation.STRANGE_CODE, {Fate.NOT_FOUND}),
    ],
)
async def test_lookup_after_trouble(rig: Rig, situation: Situation, fates: set[Fate]) -> None:
    """Asking later must tell what was taken from what was not."""
    if rig.channel.recovery is not Recovery.LOOKUP or rig.facts.expectation(situation) is None:
        pytest.skip("this provider cannot be asked about it")
    await rig.arrange(situation)
    batch = outgoings(rig, 1, 2)
    await rig.channel.send(batch)
    await rig.arrange(Situation.HEALTHY)
    found = await rig.channel.lookup(unsure(batch))
    assert sorted(one.attempt_id for one in found) == ids(batch)
    assert {one.fate for one in found} <= fates, found


async def test_lookup_of_nothing(rig: Rig) -> None:
    """Asking about no attempt must find nothing."""
    assert await rig.channel.lookup([]) == []


async def test_receipts_name_their_messages(rig: Rig) -> None:
    """Each message must have its receipt, told from the others by attempt or by the reference of the answer."""
    if rig.channel.receipts_by is ReceiptsBy.NONE:
        pytest.skip("this provider gives no receipts")
    batch = outgoings(rig, *range(1, 8))
    answers = await rig.channel.send(batch)
    by_ref = {answer.provider_ref: answer.attempt_id for answer in answers}
    receipts = await rig.receipts()
    assert {one.attempt_id or by_ref[one.provider_ref] for one in receipts if one.delivered} == set(ids(batch))
    assert all(one.at.utcoffset() is not None for one in receipts)


async def test_receipts_in_pages(rig: Rig) -> None:
    """Reading on from the cursor of the last receipt must give each receipt once; unstored pages come again."""
    if rig.channel.receipts_by is not ReceiptsBy.PULL:
        pytest.skip("receipts of this provider are not asked for")
    batch = outgoings(rig, *range(1, 8))
    await rig.channel.send(batch)
    first = await rig.channel.receipts(3)
    assert await rig.channel.receipts(3) == first
    read, cursor = list(first), first[-1].cursor
    while page := await rig.channel.receipts(3, cursor):
        assert len(page) <= 3
        read += page
        cursor = page[-1].cursor
    assert len(read) == len({one.attempt_id or one.provider_ref for one in read}) == 7


async def test_receipts_of_undeliverable_message(rig: Rig) -> None:
    """A message that could not be delivered must be told of, with the reason."""
    if rig.channel.receipts_by is ReceiptsBy.NONE or rig.facts.expectation(Situation.CANNOT_DELIVER) is None:
        pytest.skip("this provider gives no such receipts")
    await rig.arrange(Situation.CANNOT_DELIVER)
    await rig.channel.send(outgoings(rig, 1))
    (receipt,) = await rig.receipts()
    assert not receipt.delivered
    assert receipt.detail


async def test_receipts_lost(rig: Rig) -> None:
    """A lost receipt must not hold up those after it."""
    if rig.channel.receipts_by is ReceiptsBy.NONE or rig.facts.expectation(Situation.LOSES_RECEIPTS) is None:
        pytest.skip("this provider gives no receipts")
    await rig.arrange(Situation.LOSES_RECEIPTS)
    await rig.channel.send(outgoings(rig, 1))
    await rig.arrange(Situation.HEALTHY)
    (answer,) = await rig.channel.send(outgoings(rig, 2))
    (receipt,) = await rig.receipts()
    assert answer.attempt_id == receipt.attempt_id or answer.provider_ref == receipt.provider_ref


async def test_questions_to_provider_that_is_gone(rig: Rig) -> None:
    """Asking a provider that is gone must say so, and not look like an answer."""
    await rig.arrange(Situation.GONE)
    if rig.channel.receipts_by is ReceiptsBy.PULL:
        with pytest.raises(ChannelUnavailable):
            await rig.channel.receipts(10)
    if rig.channel.recovery is Recovery.LOOKUP:
        with pytest.raises(ChannelUnavailable):
            await rig.channel.lookup(unsure(outgoings(rig, 1)))


async def test_check_tells_right_from_wrong(rig: Rig) -> None:
    """A check must be content with a healthy account and name what is wrong with a refused one, sending nothing."""
    assert all(finding.fine for finding in await rig.channel.check())
    if rig.facts.expectation(Situation.BAD_CREDENTIALS) is not None and await rig.channel.check():
        await rig.arrange(Situation.BAD_CREDENTIALS)
        findings = await rig.channel.check()
        assert any(not finding.fine and finding.words for finding in findings), findings
    assert rig.handed_over() == []
