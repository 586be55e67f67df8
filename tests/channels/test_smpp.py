"""SMPP: what is on the wire, what each status means, and that no receipt or reply is lost on the way."""

import asyncio
import json
import re
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest
import smpp34
from aiosmpplib.codec import find_codec_info  # type: ignore[import-untyped] # annotated, but without py.typed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import ChannelUnavailable, Outcome, Outgoing
from orderbell.channels.smpp import OUTCOMES, SmppChannel, SmppOptions, Unfit, split, to_requests
from orderbell.core.segments import SEPTETS_PART_MAX, measure
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.smsc import SmscSimulator
from tests.channels.rigs.smpp import SmppRig, utc_now

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
PHONE = "+8613800138000"
PEERS = Path(__file__).parents[1] / "peers"
OPTIONS = SmppOptions(host="127.0.0.1", system_id="orderbell", password="dingdong", source="1065")
GSM_TEXTS = st.text("abc @€[]{}^~|\\é", max_size=500)
UCS2_TEXTS = st.text("中a😀é", max_size=240)


@pytest.fixture
async def rig() -> AsyncIterator[SmppRig]:
    """Run an SMSC and channels to it."""
    made = SmppRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def sms(text: str = "【叮咚】已发货", number: int = 1, to: str = PHONE) -> Outgoing:
    """Make a message."""
    return Outgoing(number.to_bytes(16, "big"), "sms", to, text)


async def send(channel: SmppChannel, outgoing: Outgoing) -> tuple[Outcome, str]:
    """Send one message; tell the outcome and the detail."""
    (answer,) = await channel.send([outgoing])
    return answer.outcome, answer.detail


async def lost(channel: SmppChannel) -> None:
    """Wait until the channel knows that its connection is gone."""
    assert channel._session is not None
    await asyncio.wait({channel._session._reading})


# What is on the wire


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("a" * 160, [160]),
        ("a" * 161, [6 + 153, 6 + 8]),
        ("€" * 80, [160]),
        ("€" * 81, [6 + 152, 6 + 10]),
        ("字" * 70, [140]),
        ("字" * 71, [6 + 134, 6 + 8]),
        ("字" * 66 + "😀" * 3, [6 + 132, 6 + 12]),
    ],
)
def test_split_at_the_limits(text: str, lengths: list[int]) -> None:
    """One segment holds 160 septets or 70 units, parts 153 or 67, and no character is torn apart."""
    encoding = "ucs2" if "字" in text else "gsm0338"
    assert [len(part) for part in split(text, encoding, 1)] == lengths


def test_split_writes_the_bytes_of_the_standard() -> None:
    """The alphabet and the header must be those of GSM 03.38 and 03.40."""
    assert split("@$ a€", "gsm0338", 1) == [bytes.fromhex("000220611b65")]
    assert split("已A", "ucs2", 1) == [bytes.fromhex("5df20041")]
    assert [part[:6].hex() for part in split("字" * 140, "ucs2", 0xC7)] == [
        "050003c70301",
        "050003c70302",
        "050003c70303",
    ]
    assert split("", "ucs2", 1) == []


@given(st.one_of(GSM_TEXTS, UCS2_TEXTS))
def test_split_loses_nothing(text: str) -> None:
    """The parts must hold the text, each whole in itself, and be as many as the planner counted."""
    size = measure(text)
    encoding = "gsm0338" if size.gsm else "ucs2"
    parts = split(text, encoding, 1)
    header = 6 if len(parts) > 1 else 0
    decode = find_codec_info(encoding).decode
    assert "".join(decode(part[header:], "strict")[0] for part in parts) == text
    assert len(parts) == (size.parts if text else 0)
    assert all(len(part) - header <= SEPTETS_PART_MAX if size.gsm else len(part) <= 140 for part in parts if header)


async def test_short_text_on_the_wire(rig: SmppRig) -> None:
    """A text of one segment must go out without any header, its receipt asked for, its sender and number as set."""
    channel = rig.make(source="OrderBell", source_ton=5)
    assert await send(channel, sms("Shipped @ 10:00")) == (Outcome.ACCEPTED, "")
    (taken,) = rig.smsc.taken
    assert (taken.to, taken.text) == ("8613800138000", "Shipped @ 10:00")
    assert taken.fields["source"] == "OrderBell"
    assert (taken.fields["esm_class"], taken.fields["coding"], taken.fields["registered_delivery"]) == (0, 0, 1)
    assert (taken.fields["destination_ton"], taken.fields["validity_period"]) == (1, "")


async def test_long_text_on_the_wire(rig: SmppRig) -> None:
    """A long text must go out in parts with headers, and be one message with one receipt."""
    text = "【叮咚】" + "您的包裹😀" * 20
    (answer,) = await rig.channel.send([sms(text)])
    taken = rig.smsc.taken
    assert "".join(one.text for one in taken) == text
    assert {one.fields["esm_class"] for one in taken} == {0x40}
    assert [one.fields["part"][1:] for one in taken] == [(2, 1), (2, 2)]
    assert len({one.fields["part"][0] for one in taken}) == 1
    assert [one.fields["registered_delivery"] for one in taken] == [0, 1]
    (receipt,) = await rig.receipts()
    assert receipt.provider_ref == answer.provider_ref


async def test_long_text_torn_apart(rig: SmppRig) -> None:
    """A message of which a first part is out must be in doubt, and one whose first part was refused must not."""
    rig.smsc.per_second = 1
    rig.smsc.clock = lambda: NOW
    outcome, detail = await send(rig.channel, sms("字" * 100))
    assert outcome is Outcome.UNKNOWN
    assert detail.startswith("part 2 of 2: ESME_RTHROTTLED")
    assert (await send(rig.channel, sms("字" * 100)))[0] is Outcome.THROTTLED


def test_everything_as_ucs2_where_the_alphabet_is_another() -> None:
    """An SMSC whose default alphabet is not GSM 03.38 must get UCS-2 only."""
    (request,) = to_requests(sms("hello"), msgspec.structs.replace(OPTIONS, gsm=False), NOW, 1)
    assert request.encoding == "ucs2"
    assert b"\x00h\x00e\x00l\x00l\x00o" in request.pdu()


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (timedelta(hours=26, minutes=3, seconds=4), "000001020304000R"),
        (timedelta(days=30), "000003000000000R"),  # at most three days
        (timedelta(seconds=-5), "000000000100000R"),
        (None, ""),
    ],
)
def test_validity(left: timedelta | None, expected: str) -> None:
    """How long a message is of interest must be said as a duration, for the SMSC has its own clock."""
    outgoing = msgspec.structs.replace(sms(), valid_until=left and NOW + left)
    submit = smpp34.decode(to_requests(outgoing, OPTIONS, NOW, 1)[0].pdu())
    assert isinstance(submit, smpp34.SubmitSm)
    assert submit.validity_period == expected


@pytest.mark.parametrize(
    ("to", "number", "ton"), [("+8613800138000", "13800138000", 2), ("+12025550123", "12025550123", 1)]
)
def test_numbers_without_their_country(to: str, number: str, ton: int) -> None:
    """Numbers of the SMSC's own country must be written as it wants them, those of others in full."""
    options = msgspec.structs.replace(OPTIONS, country="86", national_ton=2)
    submit = smpp34.decode(to_requests(sms(to=to), options, NOW, 1)[0].pdu())
    assert isinstance(submit, smpp34.SubmitSm)
    assert (submit.destination_addr, submit.dest_addr_ton) == (number, ton)


@pytest.mark.parametrize("text", ["", "a" * 153 * 9, "half \ud83d"])
def test_unfit_text(text: str) -> None:
    """What is no text or too long must be refused before anything is written."""
    with pytest.raises(Unfit) as refused:
        to_requests(sms(text), OPTIONS, NOW, 1)
    assert refused.value.outcome is Outcome.REJECTED_CONTENT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "nine-char"),
        ("system_id", "sixteen-letters!"),
        ("source", "叮咚"),
        ("source_ton", 9),
        ("receipt_zone", "Asia/Atlantis"),
        ("window", 0),
        ("parts_max", 256),
        ("validity_max_s", 1e9),
        ("answer_id", "octal"),
        ("hosts", "x"),
    ],
)
def test_options_that_cannot_be(name: str, value: object) -> None:
    """Options for which SMPP has no room must be refused when they are read, by name."""
    with pytest.raises(msgspec.ValidationError, match=re.escape(name) if name != "source_ton" else "TON"):
        msgspec.convert({**msgspec.to_builtins(OPTIONS), name: value}, SmppOptions)


# What the answers mean


async def test_every_status(rig: SmppRig) -> None:
    """Each status must have the outcome of the table, any other be unknown, and none break the connection."""
    for status in (*range(1, 0x101), 0x400, 0x4FF, 0xFFFF_FFFF):
        rig.smsc.fail_with = status
        outcome, detail = await send(rig.channel, sms())
        assert outcome is OUTCOMES.get(status, Outcome.UNKNOWN), hex(status)
        assert outcome is not Outcome.ACCEPTED
        assert f"0x{status:X}" in detail
    assert len(rig.smsc.bound) == 1
    assert rig.smsc.taken == []


def test_statuses_of_the_reference() -> None:
    """The statuses that decide about retries must be mapped as the manual and the field know them."""
    expected = {
        Outcome.THROTTLED: {0x58, 0x14},
        Outcome.REJECTED_RECIPIENT: {0x0B},
        Outcome.RETRY_LATER: {0x08, 0x45, 0xFF, 0x64, 0x04},
        Outcome.ACCEPTED: {0},
    }
    for outcome, statuses in expected.items():
        assert {status for status, mapped in OUTCOMES.items() if mapped is outcome} == statuses
    assert {OUTCOMES[status] for status in (0x0E, 0x0F, 0x0D, 0x05)} == {Outcome.CHANNEL_DOWN}


@pytest.mark.parametrize(
    ("status", "word"), [(0x0E, "password"), (0x0F, "system_id"), (0x05, "close it"), (0x0D, "IP")]
)
async def test_bind_refused(rig: SmppRig, status: int, word: str) -> None:
    """A refused bind must take the channel down, say what to do, and not be tried again for a while."""
    rig.smsc.bind_with = status
    for _ in range(3):
        outcome, detail = await send(rig.channel, sms())
        assert outcome is Outcome.CHANNEL_DOWN
        assert word in detail
        assert rig.options.password not in detail
    assert rig.smsc.refused == [status]
    (finding,) = await rig.channel.check()
    assert not finding.fine
    assert word in finding.words
    rig.smsc.bind_with = 0
    assert [finding.fine for finding in await rig.channel.check()] == [True]
    assert (await send(rig.channel, sms()))[0] is Outcome.ACCEPTED


async def test_bind_refused_for_now(rig: SmppRig) -> None:
    """An SMSC that is too busy to bind must leave the message free to go elsewhere."""
    rig.smsc.bind_with = 0x58
    assert (await send(rig.channel, sms()))[0] is Outcome.NOT_SENT


async def test_bind_not_answered(rig: SmppRig) -> None:
    """An SMSC that does not answer a bind must leave the message free to go elsewhere."""
    rig.smsc.is_silent = True
    assert await send(rig.impatient, sms()) == (
        Outcome.NOT_SENT,
        f"127.0.0.1:{rig.options.port} cannot be bound to: no answer to bind",
    )


async def test_back_off(rig: SmppRig) -> None:
    """After a failed connection the next must wait, unless a person asks; a lost one is made anew at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    channel = rig.make(port=port, reconnect_s=3600.0, reconnect_max_s=3600.0)
    assert (await send(channel, sms()))[0] is Outcome.NOT_SENT
    async with rig.smsc.listening(port=port):
        assert (await send(channel, sms()))[0] is Outcome.NOT_SENT
        with pytest.raises(ChannelUnavailable):
            await channel.receipts(1)
        assert rig.smsc.bound == []
        assert [finding.fine for finding in await channel.check()] == [True]
        assert (await send(channel, sms()))[0] is Outcome.ACCEPTED
        await channel.close()


@pytest.mark.parametrize("lose", [SmscSimulator.drop, SmscSimulator.unbind])
async def test_connection_lost_between_messages(rig: SmppRig, lose: Callable[[SmscSimulator], None]) -> None:
    """A connection that the SMSC ended must be made anew for the next message."""
    assert (await send(rig.channel, sms()))[0] is Outcome.ACCEPTED
    lose(rig.smsc)
    await lost(rig.channel)
    assert (await send(rig.channel, sms()))[0] is Outcome.ACCEPTED
    assert len(rig.smsc.bound) == 2


def self_signed(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a certificate for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "smsc")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(utc_now() - timedelta(days=1))
    made = made.not_valid_after(utc_now() + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "both.pem")
    return context, pem.decode()


async def test_tls(rig: SmppRig, tmp_path: Path) -> None:
    """Over TLS only an SMSC whose certificate is trusted must be given the password and the messages."""
    context, pem = self_signed(tmp_path)
    async with rig.smsc.listening(tls=context) as port:
        stranger, friend = rig.make(port=port, tls=True), rig.make(port=port, tls=True, ca_pem=pem)
        outcome, detail = await send(stranger, sms())
        assert outcome is Outcome.NOT_SENT
        assert "certificate" in detail
        assert rig.smsc.bound == []
        assert (await send(friend, sms()))[0] is Outcome.ACCEPTED
        await friend.close()


@pytest.mark.parametrize("length", [0, 15, 0x7FFF_FFFF])
async def test_pdu_of_impossible_length(length: int) -> None:
    """A PDU whose length makes no sense must end the connection, with what was under way in doubt."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(struct.pack("!IIII", 18, 0x8000_0002, 0, 1) + b"x\0")
        await reader.read(1000)
        writer.write(struct.pack("!IIII", length, 0x8000_0004, 0, 2))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    options = msgspec.structs.replace(OPTIONS, port=server.sockets[0].getsockname()[1])
    channel = SmppChannel(options, name="smpp", now=utc_now, shared=KeptInMemory(utc_now))
    outcome, detail = await send(channel, sms())
    assert outcome is Outcome.UNKNOWN
    assert f"a PDU of {length} bytes" in detail
    await channel.close()
    server.close()
    await server.wait_closed()


async def test_silent_line_is_found_dead(rig: SmppRig) -> None:
    """A connection over which nothing is answered any more must be given up without a message being risked on it."""
    channel = rig.make(enquire_link_s=0.05, timeout_s=0.2)
    assert (await send(channel, sms()))[0] is Outcome.ACCEPTED
    rig.smsc.is_silent = True
    await rig.smsc.until(lambda: not rig.smsc.is_connected)
    rig.smsc.is_silent = False
    assert (await send(channel, sms()))[0] is Outcome.ACCEPTED


async def test_window(rig: SmppRig) -> None:
    """No more messages than the window may be unanswered; what finds no place in time is surely not sent."""
    rig.smsc.faults = Faults(timeout_after_accept=1)
    channel = rig.make(window=2, timeout_s=0.3)
    sending = asyncio.create_task(channel.send([sms(number=number) for number in range(1, 4)]))
    await rig.smsc.until(lambda: len(rig.smsc.taken) == 2)
    assert [finding.fine for finding in await channel.check()] == [True]  # all that was written has been read
    assert len(rig.smsc.taken) == 2
    answers = await sending
    assert [answer.outcome for answer in answers[:2]] == [Outcome.UNKNOWN] * 2
    assert answers[2].outcome in {Outcome.UNKNOWN, Outcome.NOT_SENT}
    assert (answers[2].outcome is Outcome.UNKNOWN) == (len(rig.smsc.taken) == 3)


async def test_late_answer_names_the_receipt(rig: SmppRig) -> None:
    """An answer that comes too late must not be lost: the receipt of its message names the attempt."""
    rig.smsc.withhold = True
    channel = rig.make(timeout_s=0.3)
    assert await send(channel, sms(number=9)) == (Outcome.UNKNOWN, "no answer to submit_sm")
    rig.smsc.release()
    await channel.check()
    (receipt,) = await channel.receipts(10)
    assert receipt.attempt_id == (9).to_bytes(16, "big")
    assert receipt.delivered


# Receipts


async def listen(rig: SmppRig, channel: SmppChannel | None = None) -> SmppChannel:
    """Make the channel one that receives."""
    channel = channel or rig.channel
    assert await channel.receipts(10) == []
    assert rig.smsc.bound[-1] == "transceiver"
    return channel


@pytest.mark.parametrize("style", ["both", "options", "text"])
@pytest.mark.parametrize("seconds", [False, True])
async def test_receipt_by_number(rig: SmppRig, style: str, seconds: bool) -> None:
    """A receipt must find its message though answer and receipt write its number differently."""
    rig.smsc.answer_ids, rig.smsc.receipt_ids = "hex", "decimal"
    rig.smsc.receipt_style, rig.smsc.with_seconds = style, seconds  # type: ignore[assignment]
    channel = rig.make(answer_id="hex", receipt_id="decimal")
    (answer,) = await channel.send([sms()])
    (receipt,) = await channel.receipts(10)
    assert receipt.provider_ref == answer.provider_ref != ""
    assert receipt.delivered
    assert utc_now() - receipt.at < timedelta(seconds=61 if not seconds else 5)


async def test_receipt_before_the_answer(rig: SmppRig) -> None:
    """A receipt that overtakes the answer must be given out like any other."""
    rig.smsc.receipts_first = True
    channel = await listen(rig)
    (answer,) = await channel.send([sms()])
    (receipt,) = await channel.receipts(10)
    assert receipt.provider_ref == answer.provider_ref


async def test_receipt_from_the_future(rig: SmppRig) -> None:
    """A time zone that is set wrong must not put a receipt into the future."""
    await rig.channel.send([sms()])
    (receipt,) = await rig.make(receipt_zone="America/Los_Angeles").receipts(10)
    assert receipt.at <= utc_now()


async def test_receipt_is_answered_once_it_is_stored(rig: SmppRig) -> None:
    """The SMSC must keep a receipt until a cursor says that it is stored; another object gets it from there."""
    await rig.channel.send([sms(number=number) for number in (1, 2, 3)])
    read = await rig.channel.receipts(10)
    assert rig.smsc.unstored == 3
    await rig.channel.close()  # as a crash would

    second = rig.make()
    again = await second.receipts(10, read[-1].cursor)  # a cursor of the first says nothing about the second
    assert [one.provider_ref for one in again] == [one.provider_ref for one in read]
    assert await second.receipts(10, again[1].cursor) == [again[2]]
    await second.check()
    assert rig.smsc.unstored == 1
    assert await second.receipts(10, again[2].cursor) == []
    assert rig.smsc.unstored == 0


async def test_more_receipts_than_the_window(rig: SmppRig) -> None:
    """Receipts beyond those that the SMSC gives at once must follow as soon as the first are stored."""
    rig.smsc.window = 2
    await rig.channel.send([sms(number=number) for number in range(1, 8)])
    read = page = await rig.channel.receipts(100)
    while page := await rig.channel.receipts(100, page[-1].cursor):
        read = read + page
    assert len({one.provider_ref for one in read}) == 7


async def test_receipt_not_stored_in_time(rig: SmppRig) -> None:
    """A receipt that is not stored in time must be put off, and be one and the same when it comes again."""
    channel = rig.make(hold_s=0.1, transmitter=False)
    await channel.send([sms()])
    (receipt,) = await channel.receipts(10)
    await rig.smsc.until(lambda: len(rig.smsc.put_off) == 1)
    rig.smsc.bring_again()
    await channel.check()
    assert await channel.receipts(10) == [receipt]
    assert await channel.receipts(10, receipt.cursor) == []
    await channel.check()
    assert rig.smsc.unstored == 0


async def test_receipt_stored_while_the_line_was_lost(rig: SmppRig) -> None:
    """A receipt that was stored when its connection was gone must be answered when it comes again, and not be told."""
    await rig.channel.send([sms()])
    (receipt,) = await rig.channel.receipts(10)
    rig.smsc.drop()
    await lost(rig.channel)
    assert await rig.channel.receipts(10, receipt.cursor) == []
    await rig.channel.check()
    assert rig.smsc.unstored == 0


async def test_channel_that_is_not_asked_receives_nothing(rig: SmppRig) -> None:
    """Who only sends must not be given receipts; who asks for them must, until it asks no more."""
    sender, reader = rig.make(), rig.make(hold_s=0.1)
    await sender.send([sms(number=1)])
    assert len(await reader.receipts(10)) == 1
    assert rig.smsc.bound == ["transmitter", "transceiver"]
    await rig.smsc.until(lambda: len(rig.smsc.put_off) == 1)
    await rig.smsc.until(lambda: not rig.smsc.is_receiving)  # it gave up its connection
    (answer,) = await reader.send([sms(number=2)])
    assert answer.outcome is Outcome.ACCEPTED
    assert rig.smsc.bound[2:] == ["transmitter"]
    assert len(await sender.receipts(10)) == 2


async def test_channel_begins_to_receive_amid_a_message(rig: SmppRig) -> None:
    """A channel that binds anew, to receive, must not tear a long message apart."""
    rig.smsc.withhold = True
    sending = asyncio.create_task(rig.channel.send([sms("字" * 100)]))
    await rig.smsc.until(lambda: len(rig.smsc.taken) == 1)
    receiving = asyncio.create_task(rig.channel.receipts(10))
    rig.smsc.release()
    (answer,) = await sending
    assert answer.outcome is Outcome.ACCEPTED
    assert [receipt.provider_ref for receipt in await receiving] == [answer.provider_ref]
    assert rig.smsc.bound == ["transmitter", "transceiver"]


async def test_unreadable_deliver_is_refused(rig: SmppRig) -> None:
    """A deliver_sm that contradicts itself must be refused for good, and those after it be heard."""
    channel = await listen(rig)
    rig.smsc.bring(source_addr="1", destination_addr="2", short_message=b"\xff", esm_class=0x40)
    rig.smsc.reply("8613800138000", "R")
    await channel.check()
    assert rig.smsc.rejected == [0x65]
    assert [reply.text for reply in await channel.inbound()] == ["R"]


# Replies


@pytest.mark.parametrize(
    ("text", "gsm"), [("退订", False), ("TD", True), ("收到，谢谢！😀" * 20, False), ("Thank you [really] " * 12, True)]
)
async def test_reply(rig: SmppRig, text: str, gsm: bool) -> None:
    """A reply must come out whole, with its sender in E.164, and stay with the SMSC until it is stored."""
    channel = await listen(rig)
    rig.smsc.reply("8613800138000", text, gsm=gsm)
    await channel.check()
    (reply,) = await channel.inbound()
    assert (reply.sender, reply.text) == (PHONE, text)
    assert await channel.inbound() == [reply]
    assert rig.smsc.unstored > 0
    assert await channel.inbound(after=reply.id) == []
    assert rig.smsc.unstored == 0


async def test_same_reply_twice(rig: SmppRig) -> None:
    """Who says the same twice must be heard twice; what the SMSC brings twice must be heard once."""
    channel = await listen(rig)
    rig.smsc.reply("8613800138000", "1")
    rig.smsc.reply("8613800138000", "1")
    await channel.check()
    first, second = await channel.inbound()
    assert first.id != second.id
    rig.smsc.drop()
    await lost(rig.channel)
    await channel.check()
    assert len(await channel.inbound()) == 2
    assert await channel.inbound(after=second.id) == []
    await channel.check()
    assert rig.smsc.unstored == 0


async def test_reply_with_a_missing_part(rig: SmppRig) -> None:
    """A reply whose part never comes must be heard all the same after a while, with a gap."""
    now = NOW
    channel = SmppChannel(rig.options, name="smpp", now=lambda: now, shared=KeptInMemory(utc_now))
    await channel.receipts(1)
    part = bytes((5, 0, 3, 1, 2, 2)) + "不要了".encode("utf-16-be")
    rig.smsc.bring(
        source_addr="8613800138000", destination_addr="1065", short_message=part, esm_class=0x40, data_coding=8
    )
    await channel.check()
    assert await channel.inbound() == []
    now += timedelta(minutes=6)
    (reply,) = await channel.inbound()
    assert reply.text == "[…]不要了"
    assert await channel.inbound(after=reply.id) == []
    assert rig.smsc.unstored == 0
    await channel.close()


# Other people's implementations


async def test_channel_with_a_server_of_others() -> None:
    """The channel must work with the server of smpp34, which knows nothing of our simulator."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = smpp34.Server("127.0.0.1", port, system_id="OTHER")
    await server.start()
    channel = SmppChannel(
        msgspec.structs.replace(OPTIONS, port=port, transmitter=False),
        name="smpp",
        now=utc_now,
        shared=KeptInMemory(utc_now),
    )
    async with asyncio.timeout(10):
        sending = asyncio.create_task(channel.send([sms("字" * 71)]))
        esme = await server.next()
        assert isinstance(esme, smpp34.Esme)
        for number in (1, 2):
            event = await server.next()
            assert isinstance(event, smpp34.SubmitSmEvent)
            assert event.short_message[:6] == bytes((5, 0, 3, event.short_message[3], 2, number))
            event.accept(f"m{number}")
        (answer,) = await sending
        assert (answer.outcome, answer.provider_ref) == (Outcome.ACCEPTED, "m2")
        bringing = asyncio.ensure_future(
            esme.deliver_sm("1065", b"id:m2 stat:DELIVRD", source_addr="8613800138000", esm_class=4)
        )
        while not (receipts := await channel.receipts(10)):
            await channel.check()
        assert [receipt.provider_ref for receipt in receipts] == ["m2"]
        assert await channel.receipts(10, receipts[-1].cursor) == []
        assert (await bringing).is_success
    await channel.close()
    await server.stop()


async def test_simulator_with_a_client_of_others(rig: SmppRig) -> None:
    """The simulator must work with the client of smpp34, which knows nothing of our channel."""
    client = smpp34.Client("127.0.0.1", rig.options.port, "orderbell", "dingdong", bind_type="TRX")
    async with asyncio.timeout(10):
        smsc = await client.connect()
        answer = await smsc.submit_sm("8613800138000", b"hi", source_addr="1065", registered_delivery=1)
        event = await smsc.next()
        assert isinstance(event, smpp34.DeliverSmEvent)
        assert f"id:{answer.message_id} ".encode() in event.short_message
        refused = await smsc.submit_sm("nobody", b"hi")
        assert refused.command_status == 0x0B
        await smsc.unbind()
        await client.stop()


class Peer:
    """A program in node that prints a JSON line for each thing that happens to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdout is not None
        self._lines = process.stdout

    @classmethod
    async def start(cls, name: str, *arguments: str) -> "Peer":
        """Start it, or skip the test where it is not installed."""
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        if not (PEERS / "node_modules" / "smpp").is_dir():
            pytest.skip("the npm package smpp is not installed: npm ci --prefix tests/peers")
        process = await asyncio.create_subprocess_exec(
            node, str(PEERS / name), *arguments, stdout=asyncio.subprocess.PIPE
        )
        return cls(process)

    async def tells(self) -> dict[str, object]:
        """Wait for its next line; empty at the end."""
        line = await self._lines.readline()
        told: dict[str, object] = json.loads(line or "{}")
        return told

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


async def test_channel_with_the_smsc_of_npm() -> None:
    """The channel must work with an SMSC that is written in another language by others."""
    peer = await Peer.start("smsc.js")
    port = (await peer.tells())["port"]
    options = msgspec.structs.replace(OPTIONS, port=port, answer_id="hex", receipt_id="decimal")
    channel = SmppChannel(options, name="smpp", now=utc_now, shared=KeptInMemory(utc_now))
    wrong = SmppChannel(
        msgspec.structs.replace(options, password="wrong"), name="smpp", now=utc_now, shared=KeptInMemory(utc_now)
    )
    async with asyncio.timeout(20):
        assert (await send(wrong, sms()))[0] is Outcome.CHANNEL_DOWN
        assert await channel.receipts(10) == []
        assert await peer.tells() == {"bound": "bind_transceiver"}
        text = "【叮咚】" + "您的包裹已发货。" * 9
        (answer,) = await channel.send([msgspec.structs.replace(sms(text), valid_until=utc_now() + timedelta(hours=1))])
        assert answer.outcome is Outcome.ACCEPTED
        first, last = await peer.tells(), await peer.tells()
        assert str(first["text"]) + str(last["text"]) == text
        assert [first["esm_class"], first["coding"], first["to"]] == [0x40, 8, "8613800138000"]
        assert [first["registered"], last["registered"], last["validity"]] == [0, 1, True]
        await channel.check()
        (receipt,) = await channel.receipts(10)
        assert (receipt.provider_ref, receipt.delivered) == (answer.provider_ref, True)
        assert receipt.at == datetime(2026, 11, 21, 17, 2, 3, tzinfo=UTC)
        (reply,) = await channel.inbound()
        assert (reply.sender, reply.text) == (PHONE, "收到，谢谢！" * 15)
        assert await channel.receipts(10, receipt.cursor) == []
        assert await peer.tells() == {"stored": 0}
        assert (await send(channel, sms("slow down")))[0] is Outcome.THROTTLED
        await channel.close()
    await peer.stop()


async def test_simulator_with_the_customer_of_npm(rig: SmppRig) -> None:
    """The simulator must work with a customer that is written in another language by others."""
    peer = await Peer.start("esme.js", str(rig.options.port))
    async with asyncio.timeout(20):
        assert await peer.tells() == {"bind": 0x0E}
        assert await peer.tells() == {"bind": 0}
        submitted = await peer.tells()
        assert submitted["submit"] == 0
        receipt = await peer.tells()
        assert (receipt["kind"], receipt["from"], receipt["ref"]) == (4, "8613800138000", submitted["ref"])
        rig.smsc.reply("8613800138000", "退订")
        assert (await peer.tells())["text"] == "退订"
        assert await peer.tells() == {}
    assert [taken.text for taken in rig.smsc.taken] == ["您的订单已发货"]
    assert rig.smsc.unstored == 0
    await peer.stop()
