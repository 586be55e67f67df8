"""Apprise must be optional, quiet, and never believed more than it knows."""

import importlib.util
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest

from orderbell.channels import apprise
from orderbell.channels.apprise import NO_KNOWLEDGE, AppriseChannel, AppriseOptions
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, ReceiptsBy, Recovery
from orderbell.errors import SettingsInvalid
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import utc_now
from tests.channels.rigs.apprise import AppriseRig

ATTEMPT = bytes(range(16))


@pytest.fixture
async def rig() -> AsyncIterator[AppriseRig]:
    """Run the service and a channel to it. It lives in the same event loop: a channel that blocks it gets no answer."""
    made = AppriseRig()
    await made.start()
    yield made
    await made.stop()


def channel_to(**urls: str) -> AppriseChannel:
    """Make a channel."""
    return AppriseChannel(AppriseOptions(urls=urls), name="apprise", now=utc_now, shared=KeptInMemory(utc_now))


def test_channel_without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, it must be said how to get it, before anything is sent."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'orderbell\[apprise\]'"):
        channel_to(staff="json://localhost")


def test_channel_promises_nothing() -> None:
    """No receipts, nothing to be asked afterwards, and only the channels that have an address."""
    channel = channel_to(staff="json://localhost", sms="json://localhost/{to}")
    assert (channel.receipts_by, channel.recovery) == (ReceiptsBy.NONE, Recovery.NONE)
    assert channel.carries == {"staff", "sms"}


async def test_send_says_what_is_not_known(rig: AppriseRig) -> None:
    """A yes must be marked, a no must stay unknown; either is asked for once only."""
    (answer,) = await rig.channel.send([rig.outgoing(1)])
    assert (answer.outcome, answer.detail) == (Outcome.ACCEPTED, NO_KNOWLEDGE)
    rig.service.faults = Faults(refuse=1)
    asked: list[str] = []
    serve = rig.service.answer

    async def count(request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as that of the service
        asked.append(request.path)
        return await serve(request)

    rig.service.answer = count  # type: ignore[method-assign]
    (answer,) = await rig.channel.send([rig.outgoing(2)])
    assert answer.outcome is Outcome.UNKNOWN
    assert answer.detail.endswith(NO_KNOWLEDGE)
    assert len(asked) == 1


async def test_send_carries_title_text_and_link(rig: AppriseRig) -> None:
    """Title, text and link must arrive as they are, whatever looks like markup or an escape in them."""
    text = r"订单 <b>1</b> & \n *2* {name} ${X} :smile: 😀"
    message = msgspec.structs.replace(rig.outgoing(1), text=text, link="https://shop.example/t/1")
    await rig.channel.send([message])
    (taken,) = rig.service.taken
    assert taken.text == f"{text}\nhttps://shop.example/t/1"
    assert taken.fields["title"] == "到货"


@pytest.mark.parametrize("to", ["a?+x=y&format=html", "a%3F", "#general", "a:b@c", "+8613800138000", "群{to}"])
async def test_send_fills_in_recipient_safely(rig: AppriseRig, to: str) -> None:
    """A recipient must stay one part of the address, whatever characters it is made of."""
    (answer,) = await rig.channel.send([Outgoing(ATTEMPT, "staff", to, "到货")])
    assert answer.outcome is Outcome.ACCEPTED
    (taken,) = rig.service.taken
    assert taken.to == to


@pytest.mark.parametrize("to", ["", "a b", "a,b", "a;b", "a/b", "a\nb", "..\\b", "a\u3000b"])
async def test_send_to_what_is_more_than_one(rig: AppriseRig, to: str) -> None:
    """What Apprise might take for several recipients must be rejected."""
    (answer,) = await rig.channel.send([Outgoing(ATTEMPT, "staff", to, "到货")])
    assert answer.outcome is Outcome.REJECTED_RECIPIENT
    assert rig.service.taken == []


async def test_send_writes_no_address_to_the_log(rig: AppriseRig, caplog: pytest.LogCaptureFixture) -> None:
    """Neither tokens nor recipients may come into the log by way of Apprise."""
    caplog.set_level(logging.DEBUG)
    await rig.channel.send([Outgoing(ATTEMPT, "staff", "+8613800138000", "到货")])
    rig.service.faults = Faults(refuse=1)
    await rig.channel.send([Outgoing(ATTEMPT, "staff", "+8613800138000", "到货")])
    # The access log is that of the service, which runs in the same process here.
    written = [record.getMessage() for record in caplog.records if record.name != "uvicorn.access"]
    assert not [line for line in written if "13800138000" in line or "bell" in line]


async def test_send_when_a_service_breaks(rig: AppriseRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside Apprise must be an answer: surely not sent before the call, unknown in it."""

    class Broken:
        async def async_notify(self, *arguments: object, **more: object) -> bool:
            raise RuntimeError("+8613800138000")

    def fail(url: str) -> None:
        raise ImportError(url)

    monkeypatch.setattr(apprise, "_load", lambda _: Broken())
    (answer,) = await rig.channel.send([rig.outgoing(1)])
    assert (answer.outcome, answer.detail) == (Outcome.UNKNOWN, f"Apprise failed: RuntimeError: {NO_KNOWLEDGE}")
    monkeypatch.setattr(apprise, "_load", fail)
    (answer,) = await rig.channel.send([rig.outgoing(1)])
    assert (answer.outcome, answer.detail) == (Outcome.CHANNEL_DOWN, "Apprise cannot be loaded: ImportError")
    (finding,) = await rig.channel.check()
    assert not finding.fine


async def test_check_of_addresses(rig: AppriseRig) -> None:
    """An address that Apprise cannot read must be named by its channel, and no token be repeated."""
    findings = await channel_to(staff="json://localhost/{to}", push="nothing://hush", sms="").check()
    assert [(finding.fine, finding.words.partition(" for ")[2][:4]) for finding in findings] == [
        (False, "push"),
        (False, "sms:"),
        (True, "staf"),
    ]
    assert not any("hush" in finding.words for finding in findings)


@pytest.mark.parametrize("urls", [{}, {"telex": "json://localhost"}])
def test_options_with_unknown_channel(urls: dict[str, str]) -> None:
    """Channels that do not exist must be refused."""
    with pytest.raises(msgspec.ValidationError, match="channels"):
        msgspec.convert({"urls": urls}, AppriseOptions)
