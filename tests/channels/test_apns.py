"""Apple Push Notification service: its reasons, its provider tokens, and what goes over the wire."""

import datetime as dt
import ipaddress
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from orderbell.channels.apns import _REMEDIES, OUTCOMES, ApnsOptions, read_answer
from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Scope
from orderbell.sandbox.apns import STATUSES, ApnsSimulator
from orderbell.sandbox.http2 import serving_http2
from orderbell.sandbox.simulator import Asked
from orderbell.serving import serving
from tests.channels.rigs.apns import GONE, KEY, PHONE, TEAM, TOPIC, now, open_channel, outgoing

Running = tuple[ApnsSimulator, str]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run APNs; gives it and its address."""
    made = ApnsSimulator(TEAM, KEY, TOPIC)
    async with serving_http2(made, stopping=made.end_waiting) as url:
        yield made, url
        await made.close()


def test_reasons_are_all_known() -> None:
    """Every reason of Apple's manual must have its meaning, and none of them may be a success."""
    assert set(OUTCOMES) == {reason for reasons in STATUSES.values() for reason in reasons}
    assert Outcome.ACCEPTED not in OUTCOMES.values()
    assert set(_REMEDIES) <= set(OUTCOMES)


@pytest.mark.parametrize("reason", sorted(OUTCOMES))
async def test_send_with_each_reason(running: Running, reason: str) -> None:
    """Each reason must come out as the manual means it."""
    simulator, url = running
    simulator.fail_with = reason
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is OUTCOMES[reason]
    assert reason in answer.detail
    assert simulator.taken == []
    if answer.outcome is Outcome.THROTTLED:
        assert answer.scope is (Scope.RECIPIENT if reason == "TooManyRequests" else Scope.PROVIDER)
        assert answer.retry_after_s > 0


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(200, b'{"reason":"InNoManual"}'), Outcome.UNKNOWN),
        (Reply(200, b"<html>"), Outcome.UNKNOWN),
        (Reply(200, b'{"x":' + b"[" * 100_000), Outcome.UNKNOWN),
        (Reply(204, b""), Outcome.UNKNOWN),
        (Reply(400, b'{"reason":"InNoManual"}'), Outcome.UNKNOWN),
        (Reply(410, b'{"reason":"Unregistered","timestamp":99999999999999999999}'), Outcome.REJECTED_RECIPIENT),
        (Reply(410, b'{"reason":"Unregistered","timestamp":9999999999999999}'), Outcome.REJECTED_RECIPIENT),
        (Reply(410, b'{"reason":"Unregistered","timestamp":"?"}'), Outcome.REJECTED_RECIPIENT),
        (Reply(503, b""), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=True, detail=""), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=False, detail=""), Outcome.NOT_SENT),
    ],
)
def test_answer_of_any_shape_is_read(reply: Reply | NoReply, outcome: Outcome) -> None:
    """What nobody knows must not be a success, and a nonsense of a time must not break anything."""
    read = read_answer(reply).read
    assert isinstance(read, Verdict)
    assert read.outcome is outcome


async def test_message_on_the_wire(running: Running) -> None:
    """Title, text, extras and all headers must arrive as Apple wants them, named by the attempt."""
    simulator, url = running
    until = now() + dt.timedelta(hours=1)
    message = msgspec.structs.replace(outgoing(7), urgent=True, link="https://shop.example/7", valid_until=until)
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([message])
    await channel.close()
    (taken,) = simulator.taken
    assert answer.provider_ref == taken.ref == str(uuid.UUID(int=7))
    assert taken.to == PHONE.removeprefix("apns:")
    assert taken.fields["payload"] == {
        "aps": {"alert": {"title": "叮咚", "body": "订单 7 已发货"}, "sound": "default"},
        "order_no": "7",
        "link": "https://shop.example/7",
    }
    headers = taken.fields["headers"]
    assert headers["apns-topic"] == TOPIC
    assert headers["apns-push-type"] == "alert"
    assert headers["apns-priority"] == "10"
    assert headers["apns-expiration"] == str(int(until.timestamp()))


async def test_collapse_id_joins_messages_of_one_topic(running: Running) -> None:
    """News of one order and topic must replace each other, others not, and a message without order nothing."""
    simulator, url = running
    first = outgoing(1)
    same = msgspec.structs.replace(outgoing(2), order_no=first.order_no)
    other = msgspec.structs.replace(outgoing(3), order_no=first.order_no, topic="delayed")
    alone = msgspec.structs.replace(outgoing(4), order_no="")
    channel = open_channel(simulator, url)
    for message in (first, same, other, alone):
        await channel.send([message])
    await channel.close()
    ids = [taken.fields["headers"].get("apns-collapse-id") for taken in simulator.taken]
    assert ids[0] == ids[1] != ids[2]
    assert ids[3] is None
    assert len(ids[0]) == 64


async def test_message_that_is_over_is_tried_once(running: Running) -> None:
    """A message whose time is over must not be kept for a phone that is off; a calm one has the low priority."""
    simulator, url = running
    channel = open_channel(simulator, url)
    await channel.send([msgspec.structs.replace(outgoing(1), valid_until=now() - dt.timedelta(days=1))])
    await channel.close()
    headers = simulator.taken[0].fields["headers"]
    assert (headers["apns-expiration"], headers["apns-priority"]) == ("0", "5")


async def test_provider_token_is_shared(running: Running) -> None:
    """All channels of an installation must use one token: Apple refuses too many."""
    simulator, url = running
    simulator._counts_tokens = True
    shared = KeptInMemory(now)
    first, second = open_channel(simulator, url, shared=shared), open_channel(simulator, url, shared=shared)
    answers = await first.send([outgoing(number) for number in range(30)])
    answers += await second.send([outgoing(30)])
    await first.close()
    await second.close()
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert len(simulator.tokens) == 1


async def test_provider_token_is_renewed_in_time(running: Running) -> None:
    """A token must serve at least 20 minutes and less than an hour."""
    simulator, url = running
    time = [now()]
    simulator.clock = lambda: time[0]
    simulator._counts_tokens = True
    channel = open_channel(simulator, url, clock=lambda: time[0])
    seen = []
    for minutes in (0, 21, 18, 2, 50, 59):
        time[0] += dt.timedelta(minutes=minutes)
        (answer,) = await channel.send([outgoing(1)])
        assert answer.outcome is Outcome.ACCEPTED
        seen.append(len(simulator.tokens))
    await channel.close()
    assert seen == [1, 1, 1, 2, 3, 4]


async def test_expired_provider_token_is_made_anew(running: Running) -> None:
    """A token that Apple finds too old must be made anew once, and the message must go out."""
    simulator, url = running
    shared = KeptInMemory(now)
    early = now() - dt.timedelta(hours=2)
    old = open_channel(simulator, url, clock=lambda: early, shared=shared)
    await shared.token(old._sign)
    # The shared token is an old one that nobody knows to be over: a clock was put right in between.
    kept = shared._token
    assert kept is not None
    shared._token = msgspec.structs.replace(kept, good_until=now() + dt.timedelta(minutes=5))
    channel = open_channel(simulator, url, shared=shared)
    answers = await channel.send([outgoing(number) for number in range(5)])
    await old.close()
    await channel.close()
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert len(simulator.tokens) == 1


@pytest.mark.parametrize(("minutes", "words"), [(10, "ahead of"), (-120, "behind")])
async def test_wrong_clock_is_named(running: Running, minutes: int, words: str) -> None:
    """When Apple refuses the token because of our clock, the detail must say how far it is off."""
    simulator, url = running
    channel = open_channel(simulator, url, clock=lambda: now() + dt.timedelta(minutes=minutes))
    (answer,) = await channel.send([outgoing(1)])
    await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert f"s {words} the provider's" in answer.detail


async def test_device_that_is_gone_is_told_with_the_moment(running: Running) -> None:
    """Since when a device has not had the app must be told: it may have come back later."""
    simulator, url = running
    simulator.gone[GONE] = 1_767_323_045_000
    channel = open_channel(simulator, url)
    (answer,) = await channel.send([msgspec.structs.replace(outgoing(1), to=f"apns:{GONE}")])
    await channel.close()
    assert answer.outcome is Outcome.REJECTED_RECIPIENT
    assert answer.detail == "Unregistered since 2026-01-02T03:04:05+00:00"


async def test_unreadable_private_key_is_named(running: Running) -> None:
    """A key that was spoilt must be named, and not repeated."""
    simulator, url = running
    channel = open_channel(simulator, url, private_key="no key at all")
    (answer,) = await channel.send([outgoing(1)])
    (finding,) = await channel.check()
    await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert ".p8" in answer.detail
    assert "no key" not in answer.detail
    assert not finding.fine


@pytest.mark.parametrize("wrong", [{"topic": "com.example.other"}, {"team_id": "OTHER"}, {"key_id": "OTHER"}])
async def test_check_tells_what_is_wrong(running: Running, wrong: dict[str, Any]) -> None:
    """A check must find a wrong topic, team or key."""
    simulator, url = running
    channel = open_channel(simulator, url, **wrong)
    (finding,) = await channel.check()
    await channel.close()
    assert not finding.fine
    assert ":" in finding.words


async def test_simulator_speaks_http2_only() -> None:
    """Whoever speaks HTTP/1.1 must be refused, as Apple does."""
    simulator = ApnsSimulator(TEAM, KEY, TOPIC)
    async with serving(simulator) as url:
        client = HttpClient(url)
        answered = await client.request("POST", f"/3/device/{GONE}", b"{}")
        await client.close()
    assert isinstance(answered, Reply)
    assert answered.status == 505


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("apns-id", "7", "BadMessageId"),
        ("apns-expiration", "tomorrow", "BadExpirationDate"),
        ("apns-priority", "7", "BadPriority"),
        ("apns-push-type", "", "InvalidPushType"),
        ("apns-push-type", "background", "BadPriority"),
        ("apns-collapse-id", "x" * 65, "BadCollapseId"),
        ("apns-topic", "", "MissingTopic"),
        ("authorization", "", "MissingProviderToken"),
        ("authorization", "bearer a.b.c", "InvalidProviderToken"),
        (
            "authorization",
            "bearer " + jwt.encode({"iss": TEAM, "iat": 1}, "0" * 32, headers={"kid": KEY}),
            "InvalidProviderToken",
        ),
    ],
)
async def test_simulator_checks_headers(header: str, value: str, reason: str) -> None:
    """The simulator must find what Apple would find."""
    simulator = ApnsSimulator(TEAM, KEY, TOPIC)
    token = jwt.encode({"iss": TEAM, "iat": int(now().timestamp())}, simulator.private_key, "ES256", {"kid": KEY})
    headers = {"authorization": f"bearer {token}", "apns-topic": TOPIC, "apns-push-type": "alert"}
    good = Asked("POST", f"/3/device/{GONE}", "", headers, b'{"aps":{"alert":"x"}}')
    bad = msgspec.structs.replace(good, headers={**headers, header: value})
    assert (await simulator.answer(good)).status == 200
    assert reason.encode() in (await simulator.answer(bad)).body


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of this machine that vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now() - dt.timedelta(days=1))
        .not_valid_after(now() + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


async def test_http2_over_tls(tmp_path: Path) -> None:
    """Over TLS, as Apple wants it, the channel must speak HTTP/2 as well."""
    simulator = ApnsSimulator(TEAM, KEY, TOPIC)
    files = write_certificate(tmp_path)
    async with serving_http2(simulator, certificate=files) as url:
        channel = open_channel(simulator, url, ca_pem=files[0].read_text())
        (answer,) = await channel.send([outgoing(1)])
        await channel.close()
    assert url.startswith("https:")
    assert answer.outcome is Outcome.ACCEPTED, answer


def test_options_default_to_the_real_address() -> None:
    """Without an address, messages must go to Apple's production service."""
    assert ApnsOptions(team_id="t", key_id="k", private_key="p", topic="b").url == "https://api.push.apple.com"
