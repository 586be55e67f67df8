"""JPush: what goes over the wire, what its codes mean, and what its cid is good for."""

import datetime as dt
from collections.abc import AsyncIterator

import msgspec
import pytest

from orderbell.channels.http import NoReply, Reply, Verdict
from orderbell.channels.jpush import OUTCOMES, JpushOptions, read_answer
from orderbell.channels.protocol import Outcome, Scope
from orderbell.channels.push import strip_kind
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.jpush import ERRORS, JpushSimulator
from orderbell.sandbox.simulator import Answered, Asked
from orderbell.serving import serving
from tests.channels.rigs.jpush import APP_KEY, PHONE, SECRET, now, open_channel, outgoing


class ForgetfulSimulator(JpushSimulator):
    """JPush whose first answer to a push gets lost."""

    lost = Faults(cut_after_accept=1)

    async def answer(self, asked: Asked) -> Answered:
        """Strike once."""
        self.faults = self.lost if asked.method == "POST" and not self.taken else Faults()
        return await super().answer(asked)


@pytest.fixture
async def simulator() -> AsyncIterator[JpushSimulator]:
    """Run JPush; its address is `callback_url`."""
    made = JpushSimulator(APP_KEY, SECRET)
    async with serving(made, stopping=made.end_waiting) as made.callback_url:
        yield made
        await made.close()


def test_codes_are_all_known() -> None:
    """Every code of JPush's manual must have its meaning, and none of them may be a success."""
    assert set(OUTCOMES) == set(ERRORS)
    assert Outcome.ACCEPTED not in OUTCOMES.values()


@pytest.mark.parametrize("code", sorted(ERRORS))
async def test_send_with_each_code(simulator: JpushSimulator, code: int) -> None:
    """Each code must come out as the manual means it, with the words of JPush and without our secret."""
    channel = open_channel(simulator.callback_url)
    simulator.fail_with = str(code)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is OUTCOMES[code]
    assert str(code) in answer.detail
    assert SECRET not in answer.detail
    assert simulator.taken == []


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"sendno":"0","msg_id":"18"}', None),
        (200, b'{"msg_id":18}', None),
        (200, b'{"msg_id":"18","error":{"code":4711}}', Outcome.UNKNOWN),
        (200, b'{"msg_id":""}', Outcome.UNKNOWN),
        (200, b"{}", Outcome.UNKNOWN),
        (200, b"<html>", Outcome.UNKNOWN),
        (200, b'{"x":' + b"[" * 100_000, Outcome.UNKNOWN),
        (502, b"<html>", Outcome.UNKNOWN),
        (500, b'{"error":{"code":4711,"message":"?"}}', Outcome.UNKNOWN),
        (400, b'{"error":{"code":4711,"message":"?"}}', Outcome.REJECTED_CONTENT),
        (400, b'{"error":{"code":1003,"message":"registration_id is wrong"}}', Outcome.REJECTED_RECIPIENT),
        (401, b"", Outcome.CHANNEL_DOWN),
    ],
)
def test_answer_of_any_shape_is_read(status: int, body: bytes, outcome: Outcome | None) -> None:
    """Only a message id without an error may be a success; an unknown code is worth its HTTP status at most."""
    read = read_answer(Reply(status, body))
    assert read == "18" if outcome is None else isinstance(read, Verdict) and read.outcome is outcome


def test_lost_answer_is_read() -> None:
    """No answer must stay unknown, unless surely nothing was sent."""
    lost, unsent = (
        read_answer(NoReply(perhaps_sent=True, detail="")),
        read_answer(NoReply(perhaps_sent=False, detail="")),
    )
    assert isinstance(lost, Verdict)
    assert isinstance(unsent, Verdict)
    assert [lost.outcome, unsent.outcome] == [Outcome.UNKNOWN, Outcome.NOT_SENT]


async def test_payload_on_the_wire(simulator: JpushSimulator) -> None:
    """Title, text, extras, priority, lifetime and collapse id must arrive on both systems."""
    channel = open_channel(
        simulator.callback_url, apns_production=False, third_party_channel={"huawei": {"category": "EXPRESS"}}
    )
    until = now() + dt.timedelta(hours=1)
    message = msgspec.structs.replace(outgoing(7), urgent=True, link="https://shop.example/7", valid_until=until)
    plain = msgspec.structs.replace(outgoing(8), subject="", order_no="", valid_until=until - dt.timedelta(days=1))
    assert {answer.outcome for answer in await channel.send([message])} == {Outcome.ACCEPTED}
    assert {answer.outcome for answer in await channel.send([plain])} == {Outcome.ACCEPTED}
    await channel.close()
    first, second = (taken.fields for taken in simulator.taken)
    extras = {"order_no": "7", "link": "https://shop.example/7"}
    assert first["notification"] == {
        "android": {"title": "叮咚", "alert": "订单 7 已发货", "priority": 1, "extras": extras},
        "ios": {"alert": {"title": "叮咚", "body": "订单 7 已发货"}, "sound": "default", "extras": extras},
    }
    assert 3500 < first["options"]["time_to_live"] <= 3600
    assert first["options"]["apns_production"] is False
    assert first["options"]["third_party_channel"] == {"huawei": {"category": "EXPRESS"}}
    assert len(first["options"]["apns_collapse_id"]) == 64
    assert second["notification"]["ios"]["alert"] == "订单 8 已发货"
    assert second["options"]["time_to_live"] == 0
    assert "apns_collapse_id" not in second["options"]


@pytest.mark.parametrize("fault", [Faults(cut_after_accept=1), Faults(timeout_after_accept=1), Faults(refuse=1)])
async def test_lost_answer_is_asked_for_again(fault: Faults) -> None:
    """An answer that was lost must be asked for once more under the same cid, which makes no second message."""
    simulator = ForgetfulSimulator(APP_KEY, SECRET)
    simulator.lost = fault
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = open_channel(url, connect_timeout_s=0.5, timeout_s=1)
        if fault.refuse:
            # A refused push leaves nothing behind, so the second try is refused as well.
            (answer,) = await channel.send([outgoing(1)])
            assert (answer.outcome, simulator.taken) == (Outcome.UNKNOWN, [])
        else:
            (answer,) = await channel.send([outgoing(1)])
            assert (answer.outcome, answer.provider_ref) == (Outcome.ACCEPTED, simulator.taken[0].ref)
            assert (len(simulator.taken), simulator.repeated) == (1, 1)
        await channel.close()


async def test_lost_answer_without_cid_stays_unknown() -> None:
    """Without a cid a second request would be a second message: it must not be made."""
    simulator = ForgetfulSimulator(APP_KEY, SECRET)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = open_channel(url, cids=0)
        (answer,) = await channel.send([outgoing(1)])
        await channel.close()
    assert answer.outcome is Outcome.UNKNOWN
    assert len(simulator.taken) == 1


async def test_cids_are_fetched_in_batches(simulator: JpushSimulator) -> None:
    """Each message must have a cid of its own, fetched ten at a time."""
    channel = open_channel(simulator.callback_url)
    fetched: list[str] = []
    answer = simulator.answer

    async def count(asked: Asked) -> Answered:
        fetched.extend([asked.path] if asked.method == "GET" else [])
        return await answer(asked)

    simulator.answer = count  # type: ignore[method-assign]
    answers = await channel.send([outgoing(number) for number in range(25)])
    await channel.close()
    assert {one.outcome for one in answers} == {Outcome.ACCEPTED}
    assert len({taken.fields["cid"] for taken in simulator.taken}) == 25
    assert len(fetched) == 3


async def test_send_when_cids_fail(simulator: JpushSimulator) -> None:
    """Without its cid a message has surely not been sent."""
    simulator.fail_cids = True
    channel = open_channel(simulator.callback_url)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is Outcome.NOT_SENT
    assert simulator.taken == []


async def test_send_above_limit() -> None:
    """The limit of a minute must be told with the time until it is over."""
    simulator = JpushSimulator(APP_KEY, SECRET, per_minute=3)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = open_channel(url)
        answers = [answer for number in range(3) for answer in await channel.send([outgoing(number)])]
        await channel.close()
    assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.THROTTLED]
    assert 0 < answers[-1].retry_after_s <= 60
    assert answers[-1].scope is Scope.PROVIDER


async def test_check_names_the_remedy(simulator: JpushSimulator) -> None:
    """A check of a wrong key must say where the right one is, and not repeat it."""
    channel = open_channel(simulator.callback_url, master_secret="of somebody else")
    (finding,) = await channel.check()
    await channel.close()
    assert not finding.fine
    assert "console" in finding.words
    assert "somebody" not in finding.words


@pytest.mark.parametrize(
    ("to", "kind", "stripped"),
    [
        (PHONE, "jpush", "1507bfd3f7c466c355c"),
        ("1507bfd3f7c466c355c", "jpush", "1507bfd3f7c466c355c"),
        (PHONE, "fcm", None),
        ("webpush:{}", "jpush", None),
        ("fcm:a:b", "fcm", "a:b"),
        ("a:b", "fcm", "a:b"),
        ("", "fcm", ""),
    ],
)
def test_address_says_whose_it_is(to: str, kind: str, stripped: str | None) -> None:
    """An address of another kind must not be taken; one of no kind is anybody's."""
    assert strip_kind(to, kind) == stripped


async def test_channel_takes_its_kind(simulator: JpushSimulator) -> None:
    """The channel must say which addresses are its own."""
    channel = open_channel(simulator.callback_url)
    assert [channel.takes(to) for to in (PHONE, "1507", "apns:aa", "", "jpush:")] == [True, True, False, False, False]
    await channel.close()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b'{"platform":"all","audience":"all","notification":1}', b"\xff"]
)
async def test_simulator_answers_garbage(simulator: JpushSimulator, body: bytes) -> None:
    """Whatever is sent, the simulator must answer with an error of JPush."""
    headers = {"authorization": simulator._authorization}
    answered = await simulator.answer(Asked("POST", "/v3/push", "", headers, body))
    assert answered.status == 400
    assert b'"error"' in answered.body


def test_options_default_to_the_real_address() -> None:
    """Without an address, messages must go to JPush itself."""
    assert JpushOptions(app_key="a", master_secret="b").url == "https://api.jpush.cn"
