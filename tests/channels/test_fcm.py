"""Firebase Cloud Messaging: its error model, its access tokens, and what goes over the wire."""

import datetime as dt
from collections.abc import AsyncIterator

import jwt
import msgspec
import pytest

from orderbell.channels.fcm import OUTCOMES, FcmOptions, ServiceAccount, read_answer
from orderbell.channels.http import NoReply, Reply, Verdict
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Scope
from orderbell.sandbox.fcm import _PLAIN, ERRORS, PROJECT, FcmSimulator
from orderbell.sandbox.simulator import Asked
from orderbell.serving import serving
from tests.channels.rigs.fcm import GONE, PHONE, now, open_channel, outgoing

Running = tuple[FcmSimulator, str]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run FCM; gives it and its address."""
    made = FcmSimulator()
    async with serving(made, stopping=made.end_waiting) as url:
        yield made, url
        await made.close()


def test_codes_are_all_known() -> None:
    """Every code of Google's manual must have its meaning, and none of them may be a success."""
    assert set(OUTCOMES) == {*ERRORS, *_PLAIN, "RESOURCE_EXHAUSTED"}
    assert Outcome.ACCEPTED not in OUTCOMES.values()


@pytest.mark.parametrize("code", sorted({*ERRORS, *_PLAIN} - {"INVALID_ARGUMENT"}))
async def test_send_with_each_code(running: Running, code: str) -> None:
    """Each code must come out as the manual means it."""
    simulator, url = running
    simulator.fail_with = code
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is OUTCOMES[code]
    assert code in answer.detail
    assert "PRIVATE KEY" not in answer.detail
    assert simulator.taken == []


def error(status: int, code: str, message: str = "", **detail: object) -> Reply:
    """Write an error as Google does; `detail` without an errorCode stands for other kinds of details."""
    details = [detail] if detail else []
    return Reply(
        status, msgspec.json.encode({"error": {"code": status, "message": message, "status": code, "details": details}})
    )


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (
            error(400, "INVALID_ARGUMENT", "The registration token is not valid", errorCode="INVALID_ARGUMENT"),
            Outcome.REJECTED_RECIPIENT,
        ),
        (error(400, "INVALID_ARGUMENT", fieldViolations=[{"field": "message.token"}]), Outcome.REJECTED_RECIPIENT),
        (error(400, "INVALID_ARGUMENT", fieldViolations=[{"field": "message.android.ttl"}]), Outcome.REJECTED_CONTENT),
        (
            error(400, "INVALID_ARGUMENT", "Android message is too big", errorCode="INVALID_ARGUMENT"),
            Outcome.REJECTED_CONTENT,
        ),
        (error(400, "INVALID_ARGUMENT"), Outcome.REJECTED_CONTENT),
        (error(404, "NOT_FOUND"), Outcome.CHANNEL_DOWN),
        (error(404, "NOT_FOUND", errorCode="UNREGISTERED"), Outcome.REJECTED_RECIPIENT),
        (error(418, "TEAPOT", errorCode="IN_NO_MANUAL"), Outcome.UNKNOWN),
        (error(200, ""), Outcome.UNKNOWN),
        (Reply(200, b'{"name":""}'), Outcome.UNKNOWN),
        (Reply(200, b"[]"), Outcome.UNKNOWN),
        (Reply(200, b'{"x":' + b"[" * 100_000), Outcome.UNKNOWN),
        (Reply(502, b"<html>"), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=True, detail=""), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=False, detail=""), Outcome.NOT_SENT),
    ],
)
def test_answer_of_any_shape_is_read(reply: Reply | NoReply, outcome: Outcome) -> None:
    """A bad token must be told from a bad message, and what nobody knows must not be a success."""
    read = read_answer(reply).read
    assert isinstance(read, Verdict)
    assert read.outcome is outcome


@pytest.mark.parametrize(("code", "wait_s"), [("QUOTA_EXCEEDED", 60), ("UNAVAILABLE", 30), ("INTERNAL", 10)])
async def test_waiting_time_is_honoured(running: Running, code: str, wait_s: float) -> None:
    """Retry-After must be kept, and the least that Google asks for where it is shorter or missing."""
    simulator, url = running
    simulator.fail_with = code
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert (answer.retry_after_s, answer.scope) == (wait_s, Scope.PROVIDER)


async def test_quota_of_device_concerns_nobody_else(running: Running) -> None:
    """A device that gets too much must not hold up the others."""
    simulator, url = running
    simulator.fail_with, simulator.about_device = "QUOTA_EXCEEDED", True
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert (answer.outcome, answer.scope) == (Outcome.THROTTLED, Scope.RECIPIENT)


async def test_payload_on_the_wire(running: Running) -> None:
    """Title, text, data, priority and lifetime must arrive for both systems."""
    simulator, url = running
    until = now() + dt.timedelta(hours=2)
    message = msgspec.structs.replace(outgoing(7), urgent=True, link="https://shop.example/7", valid_until=until)
    channel = open_channel(simulator, url, android_channel_id="orders")
    (answer,) = await channel.send([message])
    await channel.close()
    assert answer.provider_ref == simulator.taken[0].ref
    taken = simulator.taken[0].fields["message"]
    assert taken.token == PHONE.removeprefix("fcm:")
    assert taken.notification == {"title": "OrderBell", "body": "Order 7 has been shipped"}
    assert taken.data == {"order_no": "7", "link": "https://shop.example/7"}
    assert taken.android["priority"] == "HIGH"
    assert 7100 < int(taken.android["ttl"].removesuffix("s")) <= 7200
    assert taken.android["notification"] == {"channel_id": "orders"}
    assert taken.apns == {"headers": {"apns-priority": "10", "apns-expiration": str(int(until.timestamp()))}}


async def test_lifetime_is_cut_to_the_longest(running: Running) -> None:
    """Four weeks are the most that Google keeps a message."""
    simulator, url = running
    channel = open_channel(simulator, url)
    message = msgspec.structs.replace(outgoing(7), valid_until=now() + dt.timedelta(days=90))
    (answer,) = await channel.send([message])
    await channel.close()
    assert answer.outcome is Outcome.ACCEPTED
    assert simulator.taken[0].fields["message"].android["ttl"] == "2419200s"


async def test_access_token_is_shared(running: Running) -> None:
    """All channels of an installation must use one access token."""
    simulator, url = running
    shared = KeptInMemory(now)
    first, second = open_channel(simulator, url, shared=shared), open_channel(simulator, url, shared=shared)
    await first.send([outgoing(number) for number in range(20)])
    await second.send([outgoing(20)])
    await first.close()
    await second.close()
    assert (simulator.granted, len(simulator.taken)) == (1, 21)


async def test_access_token_that_google_forgot(running: Running) -> None:
    """A token that is refused must be fetched anew, once, and the message must go out."""
    simulator, url = running
    channel = open_channel(simulator, url)
    await channel.send([outgoing(1)])
    simulator.access_tokens.clear()
    answers = await channel.send([outgoing(number) for number in range(2, 8)])
    await channel.close()
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert simulator.granted == 2


async def test_access_token_is_renewed_in_time(running: Running) -> None:
    """A token must be given up before it is over."""
    simulator, url = running
    later = [now()]
    channel = open_channel(simulator, url, clock=lambda: later[0])
    await channel.send([outgoing(1)])
    simulator.clock = lambda: later[0]
    later[0] += dt.timedelta(seconds=3500)
    await channel.send([outgoing(2)])
    await channel.close()
    assert simulator.granted == 2


@pytest.mark.parametrize(
    ("fail_tokens", "outcome"), [("invalid_grant", Outcome.CHANNEL_DOWN), ("503", Outcome.NOT_SENT)]
)
async def test_send_without_access_token(running: Running, fail_tokens: str, outcome: Outcome) -> None:
    """Without a token nothing has been sent: it is the account's fault, or the token service was away."""
    simulator, url = running
    simulator.fail_tokens = fail_tokens
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is outcome
    assert simulator.taken == []


@pytest.mark.parametrize(("minutes", "words"), [(10, "ahead of"), (-90, "behind")])
async def test_wrong_clock_is_named(running: Running, minutes: int, words: str) -> None:
    """When Google refuses the signature because of our clock, the detail must say how far it is off."""
    simulator, url = running
    channel = open_channel(simulator, url, clock=lambda: now() + dt.timedelta(minutes=minutes))
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert f"s {words} the provider's" in answer.detail


async def test_unreadable_private_key_is_named(running: Running) -> None:
    """A key file that was spoilt must be named, and not repeated."""
    simulator, url = running
    account = {**simulator.service_account(url), "private_key": "no key at all"}
    channel = open_channel(simulator, url, service_account=account)
    (answer,) = await channel.send([outgoing(1)])
    (finding,) = await channel.check()
    await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert "private key" in answer.detail
    assert "no key" not in answer.detail
    assert not finding.fine


async def test_check_sends_nothing(running: Running) -> None:
    """A check must be content with the right account, name a wrong project, and send nothing."""
    simulator, url = running
    channel = open_channel(simulator, url)
    (fine,) = await channel.check()
    await channel.close()
    account = {**simulator.service_account(url), "project_id": "of-somebody-else"}
    channel = open_channel(simulator, url, service_account=account)
    (finding,) = await channel.check()
    await channel.close()
    assert fine.fine
    assert PROJECT in fine.words
    assert not finding.fine
    assert simulator.taken == []


async def test_simulator_refuses_foreign_signature(running: Running) -> None:
    """An assertion that was not signed by the account must get no token."""
    simulator, url = running
    assertion = jwt.encode({"iss": "somebody"}, "0" * 32, algorithm="HS256")
    body = f"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}".encode()
    answered = await simulator.answer(Asked("POST", "/token", "", {"host": url.removeprefix("http://")}, body))
    assert answered.status == 400
    assert b"invalid_grant" in answered.body
    assert simulator.access_tokens == {}


async def test_dead_token_is_told(running: Running) -> None:
    """A token of an app that was removed must be rejected as a recipient."""
    simulator, url = running
    simulator.gone.add(GONE)
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([msgspec.structs.replace(outgoing(1), to=GONE)])
    await channel.close()
    assert answer.outcome is Outcome.REJECTED_RECIPIENT
    assert "UNREGISTERED" in answer.detail


def test_options_default_to_the_real_addresses() -> None:
    """Without addresses, messages and keys must go to Google itself."""
    account = ServiceAccount(project_id="p", client_email="e", private_key="k")
    assert account.token_uri == "https://oauth2.googleapis.com/token"
    assert FcmOptions(service_account=account).url == "https://fcm.googleapis.com"
