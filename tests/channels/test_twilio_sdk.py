"""Twilio's official SDK as a witness: the simulator serves it, and signatures are those of its validator."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Callback, Heard
from orderbell.channels.twilio import TwilioChannel, sign
from orderbell.sandbox.simulator import utc_now
from tests.channels.rigs.twilio import TO, TwilioRig

rest = pytest.importorskip("twilio.rest", reason="the official SDK (package twilio) is not installed")
exceptions = pytest.importorskip("twilio.base.exceptions")
request_validator = pytest.importorskip("twilio.request_validator")

URL = "https://shop.example/hook/token/receipts?attempt=00"


@pytest.fixture
async def rig() -> AsyncIterator[TwilioRig]:
    """Run the simulated account, a channel to it, and a listener."""
    made = TwilioRig()
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("algorithm", ["HMAC_SHA1", "HMAC_SHA256"])
def test_sign_as_the_library_does(algorithm: str) -> None:
    """Names in another order, Chinese, empty and repeated values must be signed as the official library does."""
    form = [("b", "2"), ("a", ""), ("文", "订单😀"), ("B", "&=+ %"), ("a", "1"), ("a", "1")]

    class Many(dict[str, str]):
        def getlist(self, name: str) -> list[str]:
            return [value for key, value in form if key == name]

    expected = request_validator.RequestValidator("key").compute_signature(URL, Many(form), algorithm)
    assert sign("key", URL, form, algorithm) == expected


def sdk(rig: TwilioRig, *, wrong: bool = False) -> Any:  # noqa: ANN401 - it has no types
    """Make the official SDK's client to the simulator."""
    client = rest.Client(rig.simulator.account_sid, "wrong" if wrong else "sandbox")
    client.api.base_url = rig.url
    return client


async def test_simulator_serves_official_sdk(rig: TwilioRig) -> None:
    """The official SDK must be able to send, fetch, list with filters and pages, and ask for the account."""
    client = sdk(rig)
    today = utc_now()

    def use() -> None:
        sids = [
            client.messages.create(
                to=TO,
                from_=rig.simulator.sender,
                body=f"订单{number}",
                status_callback=f"{rig.callback_url}?attempt={number:032x}",
                validity_period=60,
            ).sid
            for number in range(3)
        ]
        made = client.messages(sids[1]).fetch()
        assert (made.body, made.status, made.to, made.num_segments) == ("订单1", "delivered", TO, "1")
        assert made.date_created is not None
        assert abs(made.date_created - today) < dt.timedelta(seconds=5)
        listed = client.messages.list(to=TO, date_sent_after=today - dt.timedelta(days=1), page_size=2)
        assert [message.sid for message in listed] == sids[::-1]
        assert client.messages.list(to=TO, date_sent_before=today - dt.timedelta(days=1)) == []
        assert client.messages.list(to="+8613800138001") == []
        assert client.api.accounts(rig.simulator.account_sid).fetch().status == "active"

    await asyncio.to_thread(use)
    assert len(await rig.receipts()) == 3


async def test_simulator_refuses_official_sdk(rig: TwilioRig) -> None:
    """The official SDK must understand the simulator's errors."""
    client = sdk(rig)

    def refused(body: str = "x", **changed: str) -> tuple[int, int]:
        fields = {"to": TO, "from_": rig.simulator.sender, **changed}
        with pytest.raises(exceptions.TwilioRestException) as caught:
            client.messages.create(body=body, **fields)
        return caught.value.status, caught.value.code

    def use() -> None:
        assert refused(to="nobody") == (400, 21211)
        assert refused(body="长" * 1_601) == (400, 21617)
        assert refused(from_="+15550001111") == (400, 21659)
        assert refused(to="+8613800138009") == (400, 21610)
        assert refused(validity_period="36001") == (400, 21624)
        assert refused(status_callback="nowhere") == (400, 21609)
        rig.simulator.fail_with = "20429"
        assert refused() == (429, 20429)

        with pytest.raises(exceptions.TwilioRestException) as caught:
            sdk(rig, wrong=True).api.accounts(rig.simulator.account_sid).fetch()
        assert (caught.value.status, caught.value.code) == (401, 20003)

    await asyncio.to_thread(use)
    assert rig.simulator.taken == []


@pytest.mark.parametrize("shared_key", [None, ("webhooks_sharedkey_1", "s3cret")])
async def test_official_validator_accepts_simulator(rig: TwilioRig, shared_key: tuple[str, str] | None) -> None:
    """The official validator must accept every callback of the simulator, in both kinds of signature, and so must we."""
    options = msgspec.structs.replace(rig.options(), shared_keys=dict([shared_key] if shared_key else []))
    await rig.channel.close()
    rig.channel = TwilioChannel(options, name="twilio", now=utc_now, shared=KeptInMemory(utc_now))
    seen: list[Callback] = []

    def listen(callback: Callback) -> Heard:
        seen.append(callback)
        return TwilioChannel.hear(rig.channel, callback)

    rig.channel.hear = listen  # type: ignore[method-assign]
    rig.simulator.shared_key = shared_key
    await rig.channel.send([rig.outgoing(1)])
    assert await rig.simulator.reply(TO, "到哪了 & when?", opt_out=True) == 200
    assert len(await rig.receipts()) == 1
    validator = request_validator.RequestValidator(shared_key[1] if shared_key else "sandbox")
    assert len(seen) == 3
    for callback in seen:
        algorithm = request_validator.get_signature_algorithm(
            callback.headers.get("x-twilio-webhooks-signature-settings")
        )
        form = dict(parse_qsl(callback.body.decode(), keep_blank_values=True))
        signature = callback.headers["x-twilio-signature"]
        assert algorithm == ("HMAC_SHA256" if shared_key else "HMAC_SHA1")
        assert validator.validate(callback.url, form, signature, algorithm)
        assert not validator.validate(callback.url, {**form, "x": "1"}, signature, algorithm)
