"""What must hold for every channel, whoever the provider behind it is."""

import asyncio

import pytest

from orderbell.channels.protocol import ChannelUnavailable, Fate, Outcome, Outgoing
from tests.channels.conftest import Rig, Situation


def outgoing(number: int, *, to: str = "+8613800138000", text: str = "【叮咚】已发货") -> Outgoing:
    """Make an SMS attempt whose id is derived from its number."""
    return Outgoing(attempt_id=number.to_bytes(16, "big"), channel="sms", to=to, text=text, topic="shipped")


def ids(batch: list[Outgoing]) -> list[bytes]:
    """List the attempt ids of a batch."""
    return [attempt.attempt_id for attempt in batch]


async def test_channel_describes_itself(rig: Rig) -> None:
    """The planner must know the name, the channels, the batch limit, the price and the recovery of each provider."""
    channel = rig.channel
    assert channel.name
    assert channel.carries <= {"sms", "email", "push", "wechat", "inbox"}
    assert channel.carries
    assert channel.batch_max >= 1
    assert channel.price_millifen >= 0
    assert channel.lookup_after_s >= 0


async def test_send_to_healthy_provider(rig: Rig) -> None:
    """Every message must be accepted with a reference of its own, answered in the order of the batch."""
    batch = [outgoing(number) for number in (3, 1, 2)]
    answers = await rig.channel.send(batch)
    assert [answer.attempt_id for answer in answers] == ids(batch)
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert len({answer.provider_ref for answer in answers}) == 3
    assert rig.handed_over() == ids(batch)


async def test_send_of_nothing(rig: Rig) -> None:
    """An empty batch must have no answer and reach nobody."""
    assert await rig.channel.send([]) == []
    assert rig.handed_over() == []


async def test_send_of_more_than_batch_max(rig: Rig) -> None:
    """A batch above the provider's limit must be cut up, and still be answered one by one in order."""
    batch = [outgoing(number) for number in range(2 * rig.channel.batch_max + 1)]
    answers = await rig.channel.send(batch)
    assert [answer.attempt_id for answer in answers] == ids(batch)
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert rig.handed_over() == ids(batch)


async def test_send_while_others_send(rig: Rig) -> None:
    """Concurrent batches must each get their own answers."""
    batches = [[outgoing(10 * batch + number) for number in range(3)] for batch in range(20)]
    answered = await asyncio.gather(*(rig.channel.send(batch) for batch in batches))
    for batch, answers in zip(batches, answered, strict=True):
        assert [answer.attempt_id for answer in answers] == ids(batch)
        assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert sorted(rig.handed_over()) == sorted(attempt_id for batch in batches for attempt_id in ids(batch))


@pytest.mark.parametrize(
    ("situation", "outcome", "taken"),
    [
        (Situation.ERROR_503, Outcome.UNKNOWN, False),
        (Situation.THROTTLING, Outcome.THROTTLED, False),
        (Situation.NEVER_ANSWERS, Outcome.UNKNOWN, True),
        (Situation.CUTS_ANSWER, Outcome.UNKNOWN, True),
        (Situation.STRANGE_CODE, Outcome.UNKNOWN, False),
        (Situation.CANNOT_DELIVER, Outcome.ACCEPTED, True),
        (Situation.LOSES_RECEIPTS, Outcome.ACCEPTED, True),
        (Situation.GONE, Outcome.NOT_SENT, False),
    ],
)
async def test_send_in_trouble(rig: Rig, situation: Situation, outcome: Outcome, taken: bool) -> None:
    """Each trouble must have its exact outcome for every message of the batch, and never raise."""
    await rig.arrange(situation)
    batch = [outgoing(1), outgoing(2)]
    channel = rig.impatient if situation is Situation.NEVER_ANSWERS else rig.channel
    answers = await channel.send(batch)
    assert [(answer.attempt_id, answer.outcome) for answer in answers] == [
        (attempt_id, outcome) for attempt_id in ids(batch)
    ]
    assert rig.handed_over() == (ids(batch) if taken else [])


async def test_send_when_throttled(rig: Rig) -> None:
    """A throttled message must come with the time to wait."""
    await rig.arrange(Situation.THROTTLING)
    (answer,) = await rig.channel.send([outgoing(1)])
    assert answer.retry_after_s > 0


async def test_send_after_recovery(rig: Rig) -> None:
    """A channel must work again by itself once the provider does."""
    await rig.arrange(Situation.CUTS_ANSWER)
    await rig.channel.send([outgoing(1)])
    await rig.arrange(Situation.HEALTHY)
    (answer,) = await rig.channel.send([outgoing(2)])
    assert answer.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("bad", "outcome"),
    [
        (outgoing(2, to="nobody"), Outcome.REJECTED_RECIPIENT),
        (outgoing(2, text="长" * 71), Outcome.REJECTED_CONTENT),
        (outgoing(2, text="half a pair \ud83d"), Outcome.REJECTED_CONTENT),
    ],
)
async def test_send_of_bad_message_among_good(rig: Rig, bad: Outgoing, outcome: Outcome) -> None:
    """A message that cannot be sent must be rejected alone; its neighbours must go out."""
    answers = await rig.channel.send([outgoing(1), bad, outgoing(3)])
    assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED, outcome, Outcome.ACCEPTED]
    assert rig.handed_over() == ids([outgoing(1), outgoing(3)])


async def test_send_of_unencodable_message_alone(rig: Rig) -> None:
    """A text that is no Unicode must be rejected without asking the provider."""
    (answer,) = await rig.channel.send([outgoing(1, text="\udfff")])
    assert answer.outcome is Outcome.REJECTED_CONTENT
    assert rig.handed_over() == []


async def test_send_cancelled(rig: Rig) -> None:
    """Cancelling a send must end it at once and leave the channel usable."""
    await rig.arrange(Situation.NEVER_ANSWERS)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.channel.send([outgoing(1)]), 0.3)
    await rig.arrange(Situation.HEALTHY)
    (answer,) = await rig.channel.send([outgoing(2)])
    assert answer.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("situation", "fate"),
    [
        (Situation.CUTS_ANSWER, Fate.DELIVERED),
        (Situation.LOSES_RECEIPTS, Fate.DELIVERED),
        (Situation.CANNOT_DELIVER, Fate.FAILED),
        (Situation.ERROR_503, Fate.NOT_FOUND),
        (Situation.STRANGE_CODE, Fate.NOT_FOUND),
    ],
)
async def test_lookup_after_trouble(rig: Rig, situation: Situation, fate: Fate) -> None:
    """Asking later must tell what was taken from what was not."""
    await rig.arrange(situation)
    batch = [outgoing(1), outgoing(2)]
    await rig.channel.send(batch)
    found = await rig.channel.lookup(ids(batch))
    assert [(one.attempt_id, one.fate) for one in found] == [(attempt_id, fate) for attempt_id in ids(batch)]


async def test_lookup_of_nothing(rig: Rig) -> None:
    """Asking about no attempt must find nothing."""
    assert await rig.channel.lookup([]) == []


async def test_receipts_in_pages(rig: Rig) -> None:
    """Reading on from the cursor of the last receipt must give each receipt once, in order."""
    batch = [outgoing(number) for number in range(7)]
    answers = await rig.channel.send(batch)
    read = []
    cursor = ""
    while page := await rig.channel.receipts(3, cursor):
        assert len(page) <= 3
        read += page
        cursor = page[-1].cursor
    assert [(one.attempt_id, one.provider_ref, one.delivered) for one in read] == [
        (answer.attempt_id, answer.provider_ref, True) for answer in answers
    ]
    assert all(one.at.utcoffset() is not None for one in read)


async def test_receipts_not_stored(rig: Rig) -> None:
    """A reader that died before storing a page must get the same page again."""
    await rig.channel.send([outgoing(number) for number in range(4)])
    first = await rig.channel.receipts(2)
    assert await rig.channel.receipts(2) == first
    assert len(await rig.channel.receipts(9, first[-1].cursor)) == 2


async def test_receipts_of_undeliverable_message(rig: Rig) -> None:
    """A message that could not be delivered must be told of, with the reason."""
    await rig.arrange(Situation.CANNOT_DELIVER)
    await rig.channel.send([outgoing(1)])
    (receipt,) = await rig.channel.receipts(10)
    assert not receipt.delivered
    assert receipt.detail


async def test_receipts_lost(rig: Rig) -> None:
    """A lost receipt must not hold up those after it."""
    await rig.arrange(Situation.LOSES_RECEIPTS)
    await rig.channel.send([outgoing(1)])
    await rig.arrange(Situation.HEALTHY)
    await rig.channel.send([outgoing(2)])
    assert [receipt.attempt_id for receipt in await rig.channel.receipts(10)] == ids([outgoing(2)])


async def test_questions_to_provider_that_is_gone(rig: Rig) -> None:
    """Asking a provider that is gone must say so, and not look like an answer."""
    await rig.arrange(Situation.GONE)
    with pytest.raises(ChannelUnavailable):
        await rig.channel.receipts(10)
    with pytest.raises(ChannelUnavailable):
        await rig.channel.lookup([bytes(16)])
