"""Webhooks must be signed as Standard Webhooks says, keep their id, and treat each receiver's word as its own."""

import datetime as dt
from collections.abc import AsyncIterator

import msgspec
import pytest
from standardwebhooks import Webhook

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Answer, Outcome, Outgoing, Recovery, Scope
from orderbell.channels.webhook import WebhookChannel, WebhookOptions, headers_of, key_of, outcome_of, sign
from orderbell.sandbox.simulator import Asked, utc_now
from orderbell.sandbox.webhook import RETRY_AFTER_S, WebhookReceiver
from orderbell.serving import serving
from tests.raw_server import answering, http_answer, raw_server, unused_port

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
ATTEMPT = bytes(range(16))
BODY = '{"type": "order.delivered", "data": {"text": "您的包裹已签收 😀"}}'


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[WebhookReceiver, str]]:
    """Run a receiver that knows the new secret; gives it and its address."""
    made = WebhookReceiver(secrets=(NEW,))
    async with serving(made, stopping=made.end_waiting) as url:
        yield made, url
        await made.close()


async def send(
    url: str, *secrets: str, text: str = BODY, allowed: bool = True, now: dt.datetime | None = None
) -> Answer:
    """Send one webhook over a channel of its own."""
    allow_hosts = (url.removeprefix("http://").partition("/")[0],) if allowed else ()
    options = WebhookOptions(endpoints={url: secrets}, allow_hosts=allow_hosts, connect_timeout_s=1, timeout_s=5)
    channel = WebhookChannel(options, name="webhook", now=lambda: now or utc_now(), shared=KeptInMemory(utc_now))
    (answer,) = await channel.send([Outgoing(ATTEMPT, "webhook", url, text)])
    await channel.close()
    return answer


def test_sign_golden_vector() -> None:
    """The example of the specification must come out."""
    signature = sign(key_of(OLD), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_headers_as_the_library_makes_them() -> None:
    """The reference library must make the same signatures, one for each secret."""
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
    headers = headers_of([key_of(NEW), key_of(OLD)], ATTEMPT, now, BODY.encode())
    assert headers["webhook-id"] == f"msg_{ATTEMPT.hex()}"
    assert headers["webhook-timestamp"] == "1767323045"
    assert headers["webhook-signature"] == " ".join(
        Webhook(secret).sign(headers["webhook-id"], now, BODY) for secret in (NEW, OLD)
    )


async def test_send_is_verified_by_the_library(receiver: tuple[WebhookReceiver, str]) -> None:
    """What arrives must satisfy the reference library with the old and the new secret, byte for byte."""
    simulator, url = receiver
    assert (await send(url, NEW, OLD)).outcome is Outcome.ACCEPTED
    (asked,) = simulator.seen
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(asked.body, dict(asked.headers)) == msgspec.json.decode(BODY)
    assert asked.body == BODY.encode()
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"] == "OrderBell"


async def test_receiver_accepts_the_library(receiver: tuple[WebhookReceiver, str]) -> None:
    """The simulator must take what the reference library signs, and refuse each thing that it refuses."""
    simulator, _ = receiver
    now = utc_now()
    good = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v2,AAAA v1a,BBBB {Webhook(NEW).sign('msg_1', now, BODY)}",
    }

    def what_is_wrong(body: str = BODY, **changed: str) -> str:
        headers = {**good, **{f"webhook-{name}": value for name, value in changed.items()}}
        return simulator.what_is_wrong(Asked("POST", "/", "", headers, body.encode()))

    assert what_is_wrong() == ""
    assert what_is_wrong(body=BODY + " ") == "no matching signature"
    assert what_is_wrong(id="msg_2") == "no matching signature"
    assert what_is_wrong(id="") == "missing required headers"
    assert what_is_wrong(signature=Webhook(OLD).sign("msg_1", now, BODY)) == "no matching signature"
    for timestamp in ("soon", str(int(now.timestamp()) - 310), str(int(now.timestamp()) + 310)):
        assert what_is_wrong(timestamp=timestamp) == "timestamp too old or too new"


async def test_send_again(receiver: tuple[WebhookReceiver, str]) -> None:
    """The same attempt must have the same id and a fresh time, and be recognised."""
    simulator, url = receiver
    now = utc_now()
    assert WebhookChannel.recovery is Recovery.KEY
    await send(url, NEW, now=now - dt.timedelta(seconds=100))
    assert (await send(url, NEW, now=now)).outcome is Outcome.ACCEPTED
    first, second = (asked.headers for asked in simulator.seen)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 100
    assert first["webhook-signature"] != second["webhook-signature"]
    assert (len(simulator.taken), simulator.repeats) == (1, 1)


async def test_send_while_receiver_changes_secret(receiver: tuple[WebhookReceiver, str]) -> None:
    """During a change either secret must do; afterwards the old one alone must be refused, and tried again."""
    simulator, url = receiver
    for known in (OLD, NEW):
        simulator.secrets = (known,)
        assert (await send(url, NEW, OLD)).outcome is Outcome.ACCEPTED
    answer = await send(url, OLD)
    assert answer.outcome is Outcome.RETRY_LATER
    assert "secret" in answer.detail
    assert OLD not in answer.detail


async def test_send_with_clock_off(receiver: tuple[WebhookReceiver, str]) -> None:
    """A receiver must refuse a webhook of ten minutes ago, which is no success."""
    _, url = receiver
    answer = await send(url, NEW, now=utc_now() - dt.timedelta(minutes=10))
    assert answer.outcome is Outcome.RETRY_LATER


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.ACCEPTED),
        (202, Outcome.ACCEPTED),
        (204, Outcome.ACCEPTED),
        (299, Outcome.ACCEPTED),
        (300, Outcome.UNKNOWN),
        (301, Outcome.UNKNOWN),
        (303, Outcome.UNKNOWN),
        (304, Outcome.UNKNOWN),
        (308, Outcome.UNKNOWN),
        (400, Outcome.RETRY_LATER),
        (401, Outcome.RETRY_LATER),
        (403, Outcome.RETRY_LATER),
        (404, Outcome.RETRY_LATER),
        (408, Outcome.RETRY_LATER),
        (410, Outcome.REJECTED_RECIPIENT),
        (413, Outcome.REJECTED_CONTENT),
        (415, Outcome.REJECTED_CONTENT),
        (422, Outcome.RETRY_LATER),
        (429, Outcome.THROTTLED),
        (499, Outcome.RETRY_LATER),
        (500, Outcome.UNKNOWN),
        (503, Outcome.UNKNOWN),
        (599, Outcome.UNKNOWN),
        (600, Outcome.UNKNOWN),
        (999, Outcome.UNKNOWN),
        (100, Outcome.UNKNOWN),
    ],
)
def test_outcome_of_status(status: int, outcome: Outcome) -> None:
    """Every status must have one meaning; only the 200s are success."""
    assert outcome_of(status)[0] is outcome
    assert bool(outcome_of(status)[1]) is (outcome is not Outcome.ACCEPTED)


@pytest.mark.parametrize("status", [302, 410, 429, 500])
async def test_send_to_failing_receiver(receiver: tuple[WebhookReceiver, str], status: int) -> None:
    """A failure must be told as it was answered, once, and be about this receiver alone."""
    simulator, url = receiver
    simulator.fail_with = status
    answer = await send(url, NEW)
    assert answer.outcome is outcome_of(status)[0]
    assert answer.scope is Scope.RECIPIENT
    assert answer.retry_after_s == (RETRY_AFTER_S if status == 429 else 0)
    assert len(simulator.seen) == 1, "redirects must not be followed"
    assert simulator.taken == []


async def test_send_with_long_answer(receiver: tuple[WebhookReceiver, str]) -> None:
    """However much a receiver has to say, its status must count."""
    simulator, url = receiver
    simulator.padding = 1_000_000
    assert (await send(url, NEW)).outcome is Outcome.ACCEPTED


async def test_send_to_receiver_of_another_protocol() -> None:
    """Garbage for an answer must leave it unknown."""
    async with raw_server(answering(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")) as url:
        assert (await send(url, NEW)).outcome is Outcome.UNKNOWN


async def test_send_without_being_allowed() -> None:
    """An address inside must be rejected before anybody connects to it."""
    async with raw_server(answering(http_answer(b"secret"))) as url:
        for address in (
            url,
            url.replace("http:", "https:"),
            "https://169.254.169.254/latest",
            "https://127.0.0.1/",
        ):
            answer = await send(address, NEW, allowed=False)
            assert answer.outcome is Outcome.REJECTED_RECIPIENT, answer
            assert "secret" not in answer.detail


async def test_send_without_secret(receiver: tuple[WebhookReceiver, str]) -> None:
    """Nothing may leave unsigned."""
    simulator, url = receiver
    answer = await send(url)
    assert answer.outcome is Outcome.REJECTED_RECIPIENT
    assert "secret" in answer.detail
    assert simulator.seen == []


async def test_send_with_secret_for_all(receiver: tuple[WebhookReceiver, str]) -> None:
    """An address without a secret of its own must have the one for all."""
    _, url = receiver
    options = WebhookOptions(secrets=(NEW,), endpoints={url: ()}, allow_hosts=(url.removeprefix("http://"),))
    channel = WebhookChannel(options, name="webhook", now=utc_now, shared=KeptInMemory(utc_now))
    answers = await channel.send([Outgoing(ATTEMPT, "webhook", to, "{}") for to in (url, f"{url}/other?key=1")])
    await channel.close()
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}


@pytest.mark.parametrize("text", ["", "{", "words", '{"a": NaN}', '"\ud83d"'])
async def test_send_of_what_is_no_json(receiver: tuple[WebhookReceiver, str], text: str) -> None:
    """What is no JSON must not be sent."""
    simulator, url = receiver
    assert (await send(url, NEW, text=text)).outcome is Outcome.REJECTED_CONTENT
    assert simulator.seen == []


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_AAAA", "whsec_" + "A" * 88, "whsec_不是", "no base64 at all, but long enough"]
)
def test_options_with_bad_secret(secret: str) -> None:
    """A secret that is none must be found when the options are read, and not be repeated."""
    with pytest.raises(ValueError, match="24 to 64 bytes") as caught:
        msgspec.convert({"endpoints": {"https://shop.example/": [secret]}}, WebhookOptions)
    assert secret in "whsec_" or secret not in str(caught.value)


async def test_check_of_endpoints() -> None:
    """A check must say for each endpoint what to do, call none, and not repeat what may be secret in an address."""
    own = f"http://127.0.0.1:{unused_port()}/"
    options = WebhookOptions(
        endpoints={
            own: (NEW,),
            "https://127.0.0.1/hush": (NEW,),
            "http://x/hush": (),
            "https://a.invalid/hush": (NEW,),
            "hush": (NEW,),
        },
        allow_hosts=(own.removeprefix("http://").strip("/"),),
    )
    channel = WebhookChannel(options, name="webhook", now=utc_now, shared=KeptInMemory(utc_now))
    findings = await channel.check()
    await channel.close()
    assert [finding.fine for finding in findings] == [True, False, False, False, False]
    words = [finding.words for finding in findings]
    assert "allow_hosts" in words[1]
    assert "set a secret" in words[2]
    assert "cannot be resolved" in words[3]
    assert "hush" not in "".join(words)
