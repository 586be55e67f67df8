"""Web Push: the example of its RFC, which endpoints may be called, what the answers mean, and other people's tools."""

import asyncio
import datetime as dt
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pywebpush  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from py_vapid import Vapid02  # type: ignore[import-untyped]

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict
from orderbell.channels.protocol import Outcome, Scope
from orderbell.channels.webpush import (
    HOSTS,
    Target,
    decode_base64url,
    encode_base64url,
    encrypt,
    is_allowed,
    load_key,
    point_of,
    read_answer,
    read_target,
)
from orderbell.sandbox.simulator import Asked
from orderbell.sandbox.webpush import ERRORS, WebPushSimulator
from orderbell.serving import serving
from tests.channels.rigs.webpush import PRIVATE_KEY, PUBLIC_KEY, now, open_channel, outgoing

Running = tuple[WebPushSimulator, str]
PEERS = Path(__file__).parents[1] / "peers"

# RFC 8291, appendix A.
BROWSER_POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
BROWSER_SECRET = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
ENCRYPTED = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
    "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def subscription(endpoint: str, point: str = BROWSER_POINT, secret: str = BROWSER_SECRET) -> str:
    """Write a subscription as a browser does."""
    return json.dumps({"endpoint": endpoint, "keys": {"p256dh": point, "auth": secret}})


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run a push service; gives it and its address."""
    made = WebPushSimulator()
    async with serving(made, stopping=made.end_waiting) as url:
        yield made, url
        await made.close()


def test_example_of_the_rfc() -> None:
    """The example of RFC 8291 must come out byte for byte."""
    target = Target("", "", decode_base64url(BROWSER_POINT), decode_base64url(BROWSER_SECRET))
    key = load_key(PRIVATE_KEY)
    assert key is not None
    made = encrypt(b"When I grow up, I want to be a watermelon", target, key, decode_base64url(SALT))
    assert encode_base64url(made) == ENCRYPTED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("google gone", Outcome.REJECTED_RECIPIENT),
        ("google other key", Outcome.REJECTED_RECIPIENT),
        ("google bad signature", Outcome.CHANNEL_DOWN),
        ("mozilla unknown", Outcome.REJECTED_RECIPIENT),
        ("mozilla gone", Outcome.REJECTED_RECIPIENT),
        ("mozilla too large", Outcome.REJECTED_CONTENT),
        ("mozilla other key", Outcome.REJECTED_RECIPIENT),
        ("mozilla no signature", Outcome.CHANNEL_DOWN),
        ("mozilla bad header", Outcome.REJECTED_CONTENT),
        ("mozilla busy", Outcome.RETRY_LATER),
        ("mozilla broken", Outcome.UNKNOWN),
        ("apple other key", Outcome.REJECTED_RECIPIENT),
        ("apple bad signature", Outcome.CHANNEL_DOWN),
        ("apple too quick", Outcome.THROTTLED),
        ("apple broken", Outcome.RETRY_LATER),
        ("microsoft too quick", Outcome.THROTTLED),
    ],
)
async def test_send_with_each_error(running: Running, error: str, outcome: Outcome) -> None:
    """Each push service must be understood in its own words, and one that is too quick must not stop the others."""
    simulator, url = running
    simulator.fail_with = error
    channel = open_channel(url)
    (answer,) = await channel.send([outgoing(1, simulator.subscribe(url, PUBLIC_KEY))])
    await channel.close()
    assert answer.outcome is outcome
    assert str(ERRORS[error][0]) in answer.detail
    assert "/wpush/" not in answer.detail
    assert (answer.retry_after_s > 0, answer.scope) == (outcome is Outcome.THROTTLED, Scope.RECIPIENT)


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (Reply(204, b""), Outcome.UNKNOWN),
        (Reply(307, b""), Outcome.UNKNOWN),
        (Reply(500, b'{"x":' + b"[" * 100_000), Outcome.UNKNOWN),
        (Reply(500, b"\xff\xfe"), Outcome.UNKNOWN),
        (Reply(503, b'{"errno":"201"}'), Outcome.UNKNOWN),
        (Reply(400, b""), Outcome.REJECTED_CONTENT),
        (Reply(403, b""), Outcome.CHANNEL_DOWN),
        (NoReply(perhaps_sent=True, detail=""), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=False, detail=""), Outcome.NOT_SENT),
    ],
)
def test_answer_of_any_shape_is_read(answered: Reply | NoReply, outcome: Outcome) -> None:
    """What nobody knows must not be a success."""
    read = read_answer(answered)
    assert isinstance(read, Verdict)
    assert read.outcome is outcome


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def",
        "https://FCM.googleapis.com:443/wp/abc",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAAA==",
        "https://web.push.apple.com/QOq?x=1&y=%20",
        "https://wns2-par02p.notify.windows.com/w/?token=BQ",
        "http://127.0.0.1:8030/x",
    ],
)
def test_known_push_services_are_called(endpoint: str) -> None:
    """The endpoints of the known browsers, and those that the shop allows, must be called."""
    assert is_allowed(endpoint, (*HOSTS, "http://127.0.0.1:8030"))


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "fcm.googleapis.com/x",
        "https://fcm.googleapis.com",
        "http://fcm.googleapis.com/x",
        "https://fcm.googleapis.com:8443/x",
        "https://fcm.googleapis.com./x",
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com/x",
        "https://notify.windows.com.evil.example/x",
        "https://evilnotify.windows.com/x",
        "https://push.apple.com/x",
        "https://user@fcm.googleapis.com/x",
        "https://fcm.googleapis.com@evil.example/x",
        "https://fcm.googleapis.com\\@evil.example/x",
        "https://evil.example\\.push.apple.com/x",
        "https://evil.example#.push.apple.com/x",
        "https://evil.example?.push.apple.com/x",
        "https://evil.example/.push.apple.com/x",
        "https:///fcm.googleapis.com/x",
        "https://fcm.googleapis.com/x y",
        "https://fcm.googleapis.com/x\ny",
        "https://fcm.googleapis.com/\u0000",
        "https://fcm。googleapis。com/x",
        "https://ﬁcm.push.apple.com/x",
        "https://127.0.0.1/x",
        "http://127.0.0.1:8031/x",
        "http://127.0.0.1:80300/x",
        "https://127.0.0.1:8030/x",
        "http://127.0.0.1/x",
        "http://localhost:8030/x",
        "http://[::1]/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "gopher://fcm.googleapis.com/x",
        "//fcm.googleapis.com/x",
        " https://fcm.googleapis.com/x",
        "https://fcm.googleapis.com/" + "x" * 3000,
    ],
)
def test_other_hosts_are_never_called(endpoint: str) -> None:
    """An endpoint that a stranger made up must not make us call anybody else."""
    assert not is_allowed(endpoint, (*HOSTS, "http://127.0.0.1:8030"))


@pytest.mark.parametrize(
    "to",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"x":' + "[" * 100_000,
        '{"endpoint":1,"keys":{}}',
        subscription("https://fcm.googleapis.com/x", "", ""),
        subscription("https://fcm.googleapis.com/x", "é", "é"),
        subscription("https://fcm.googleapis.com/x", BROWSER_POINT, "AAAA"),
        subscription("https://fcm.googleapis.com/x", "BA" * 43 + "A", BROWSER_SECRET),
        subscription("https://evil.example/x", BROWSER_POINT, BROWSER_SECRET),
    ],
)
def test_subscription_that_is_none_is_told(to: str) -> None:
    """Whatever a browser claims to have subscribed with must be read or refused, and never break anything."""
    assert isinstance(read_target(to, HOSTS), str)


def test_origin_has_no_usual_port() -> None:
    """The audience of a signature must be the origin as push services write it."""
    target = read_target(subscription("https://Web.push.apple.com:443/Q"), HOSTS)
    assert isinstance(target, Target)
    assert target.origin == "https://web.push.apple.com"


async def test_impossible_host_is_rejected() -> None:
    """A host that no client can call must be the recipient's fault, and not break the batch."""
    channel = open_channel("http://127.0.0.1:1")
    (answer,) = await channel.send([outgoing(1, subscription("https://xn--a.push.apple.com/Q"))])
    await channel.close()
    assert answer.outcome is Outcome.REJECTED_RECIPIENT


async def test_message_on_the_wire(running: Running) -> None:
    """The browser must be able to read the message, and the push service its lifetime, urgency and topic."""
    simulator, url = running
    until = now() + dt.timedelta(hours=1)
    message = outgoing(7, f"webpush:{simulator.subscribe(url, PUBLIC_KEY)}")
    message = msgspec.structs.replace(message, urgent=True, link="https://shop.example/7", valid_until=until)
    channel = open_channel(url)
    (answer,) = await channel.send([message])
    await channel.close()
    (taken,) = simulator.taken
    assert answer.provider_ref == taken.ref
    assert taken.fields["message"] == {
        "title": "叮咚",
        "body": "订单 7 已发货",
        "order_no": "7",
        "link": "https://shop.example/7",
    }
    headers = taken.fields["headers"]
    assert headers["urgency"] == "high"
    assert 3500 < int(headers["ttl"]) <= 3600
    assert len(headers["topic"]) == 32
    assert headers["content-type"] == "application/octet-stream"
    # The tool reads the header without the space that RFC 8292 writes.
    assert Vapid02.verify(headers["authorization"].replace(", ", ","))


async def test_longest_message_fits(running: Running) -> None:
    """A message of 3,993 bytes must fit into the 4,096 that push services take, and one more must be refused here."""
    simulator, url = running
    to = simulator.subscribe(url, PUBLIC_KEY)
    empty = msgspec.structs.replace(outgoing(1, to), text="")
    length = 3993 - len(msgspec.json.encode({"title": empty.subject, "body": "", "order_no": "1"}))
    channel = open_channel(url)
    (fits,) = await channel.send([msgspec.structs.replace(empty, text="x" * length)])
    (too_long,) = await channel.send([msgspec.structs.replace(empty, text="x" * (length + 1))])
    await channel.close()
    assert [fits.outcome, too_long.outcome] == [Outcome.ACCEPTED, Outcome.REJECTED_CONTENT]
    assert simulator.taken[0].fields["headers"]["content-length"] == "4096"
    assert simulator.taken[0].text == "x" * length


async def test_signature_is_reused_and_renewed(running: Running) -> None:
    """A push service must see one signature for hours, and a new one long before that is over."""
    simulator, url = running
    time = [now()]
    simulator.clock = lambda: time[0]
    to = simulator.subscribe(url, PUBLIC_KEY)
    channel = open_channel(url, clock=lambda: time[0])
    for hours in (0, 5, 2):
        time[0] += dt.timedelta(hours=hours)
        (answer,) = await channel.send([outgoing(1, to)])
        assert answer.outcome is Outcome.ACCEPTED
    await channel.close()
    first, second, third = (taken.fields["headers"]["authorization"] for taken in simulator.taken)
    assert first == second != third


def test_signatures_of_made_up_hosts_are_forgotten() -> None:
    """Names of hosts that strangers make up must not fill the memory."""
    channel, key = open_channel("http://127.0.0.1:1"), load_key(PRIVATE_KEY)
    assert key is not None
    for number in range(450):
        channel._authorize(f"https://{number}.push.apple.com", key)
    assert len(channel._signatures) <= 200


async def test_wrong_clock_is_named(running: Running) -> None:
    """When a signature is refused because of our clock, the detail must say how far it is off."""
    simulator, url = running
    channel = open_channel(url, clock=lambda: now() - dt.timedelta(hours=13))
    (answer,) = await channel.send([outgoing(1, simulator.subscribe(url, PUBLIC_KEY))])
    await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert "s behind the provider's" in answer.detail


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """Write a private key as a PEM text."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_key_is_read_in_both_forms() -> None:
    """A PEM text and 32 bytes in base64url must give the same key."""
    key = load_key(PRIVATE_KEY)
    assert key is not None
    again = load_key(pem_of(key))
    assert again is not None
    assert encode_base64url(point_of(key)) == encode_base64url(point_of(again)) == PUBLIC_KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "é",
        PUBLIC_KEY,
        "A" * 43,
        "-----BEGIN PRIVATE KEY-----",
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        pem_of(rsa.generate_private_key(65_537, 2048)),
    ],
)
async def test_bad_key_is_named(text: str) -> None:
    """A key that is none must stop the channel, be found by the check, and not be repeated."""
    channel = open_channel("http://127.0.0.1:1", vapid_private_key=text, subject="shop@example.com")
    (answer,) = await channel.send([outgoing(1, "{}")])
    key, subject = await channel.check()
    await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert not key.fine
    assert "vapid_private_key" in key.words
    assert "mailto:" in subject.words
    assert channel.public_key == ""


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("ttl", "", 400),
        ("urgency", "very", 400),
        ("topic", "x" * 33, 400),
        ("content-encoding", "aesgcm", 400),
        ("authorization", "", 401),
        ("authorization", f"vapid t=a.b.c, k={PUBLIC_KEY}", 403),
    ],
)
async def test_simulator_checks_headers(running: Running, header: str, value: str, status: int) -> None:
    """The simulator must find what a push service would find."""
    simulator, url = running
    simulator.subscribe(url, PUBLIC_KEY, "browser")
    channel = open_channel(url)
    key = load_key(PRIVATE_KEY)
    assert key is not None
    headers = {"ttl": "0", "content-encoding": "aes128gcm", "host": url.removeprefix("http://")}
    headers["authorization"] = channel._authorize(url, key)
    await channel.close()
    good = Asked("POST", "/wpush/v2/browser", "", headers, b"")
    assert (await simulator.answer(good)).status == 201
    assert (await simulator.answer(msgspec.structs.replace(good, headers={**headers, header: value}))).status == status


async def test_pywebpush_is_understood_by_the_simulator(running: Running) -> None:
    """The usual library must get its message through the simulator, and be told when the subscription has ended."""
    simulator, url = running
    subscribed = json.loads(simulator.subscribe(url, PUBLIC_KEY, "browser"))

    def send() -> int:
        claims: dict[str, str | int] = {"sub": "mailto:shop@example.com"}
        with_key = {"vapid_private_key": PRIVATE_KEY, "vapid_claims": claims}
        done = pywebpush.webpush(subscribed, '{"body":"hello"}', ttl=60, timeout=10, **with_key)
        return int(done.status_code)

    assert await asyncio.to_thread(send) == 201
    assert simulator.taken[0].text == "hello"
    simulator.gone.add("browser")
    with pytest.raises(pywebpush.WebPushException) as raised:
        await asyncio.to_thread(send)
    assert raised.value.status_code == 410


@pytest.fixture
async def peer() -> AsyncIterator[str]:
    """Run the push service of the npm package `web-push-testing`; gives its address."""
    server = PEERS / "node_modules" / "web-push-testing" / "src" / "bin" / "server.js"
    node = shutil.which("node")
    if node is None or not server.is_file():
        pytest.skip("needs node, and `npm ci` in tests/peers")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(node, str(server), str(port), stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    try:
        assert b"running" in await asyncio.wait_for(process.stdout.readline(), 30)
        yield f"http://localhost:{port}"
    finally:
        process.kill()
        await process.communicate()


async def test_independent_push_service_reads_our_messages(peer: str) -> None:
    """A push service that somebody else wrote must accept our signature, decrypt our text, and tell us who has gone."""
    client, channel = HttpClient(peer), open_channel(peer)
    options = msgspec.json.encode({"userVisibleOnly": "true", "applicationServerKey": channel.public_key})
    answered = await client.request("POST", "/subscribe", options)
    assert isinstance(answered, Reply)
    subscribed = json.loads(answered.body)["data"]
    to = f"webpush:{json.dumps(subscribed)}"
    (answer,) = await channel.send([outgoing(1, to)])
    told = msgspec.json.encode({"clientHash": subscribed["clientHash"]})
    read = await client.request("POST", "/get-notifications", told)
    await client.request("POST", f"/expire-subscription/{subscribed['clientHash']}", b"{}")
    (gone,) = await channel.send([outgoing(2, to)])
    await client.close()
    await channel.close()
    assert [answer.outcome, gone.outcome] == [Outcome.ACCEPTED, Outcome.REJECTED_RECIPIENT], answer
    assert isinstance(read, Reply)
    (text,) = json.loads(read.body)["data"]["messages"]
    assert json.loads(text) == {"title": "叮咚", "body": "订单 1 已发货", "order_no": "1"}
