"""What comes back must be told apart: failures, confirmations, complaints, noise, and forgeries."""

import asyncio
import datetime as dt
import email.utils
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.bounces import RAW_BYTES_MAX, BounceListener, BounceReader, Tags
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.mail import MailChannel, MailOptions
from orderbell.channels.protocol import Callback, CallbackRefused, Heard, Outcome, Outgoing
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.mail import MailSimulator, delivery_status, feedback_report
from orderbell.sandbox.simulator import Taken
from orderbell.serving import bind

NOW = dt.datetime(2026, 11, 22, 1, 2, 3, tzinfo=dt.UTC)
ATTEMPT = bytes(range(16))
OTHER = bytes(16)
TO = "zhang@mail.example"
KEY = "k" * 16
TAGS = Tags(KEY, "bounces", "b.shop.example")
ADDRESS = TAGS.bounce_address(ATTEMPT)


def now() -> dt.datetime:
    """Tell a time that stands still."""
    return NOW


READER = BounceReader(TAGS, "shop.example", now)


async def sent(to: str = TO, attempt_id: bytes = ATTEMPT) -> tuple[MailSimulator, Taken]:
    """Send a mail with a real channel to a relay; gives what the relay took."""
    simulator = MailSimulator(clock=now)
    async with simulator.serving_smtp() as port:
        channel = make(port)
        (answer,) = await channel.send([Outgoing(attempt_id, "email", to, "您的订单已发货", "发货")])
    assert answer.outcome is Outcome.ACCEPTED
    return simulator, simulator.taken[0]


def make(port: int, key: str = KEY, listen: str = "") -> MailChannel:
    """Make a channel, with a bounce domain if there is a key."""
    options = MailOptions(
        host="127.0.0.1",
        port=port,
        tls="none",
        from_address="notice@shop.example",
        bounce_domain="b.shop.example" if key else "",
        bounce_key=key,
        bounce_listen=listen,
    )
    return MailChannel(options, name="mail", now=now, shared=KeptInMemory(now))


@pytest.fixture
async def taken() -> Taken:
    """A mail that a relay took."""
    return (await sent())[1]


def posted(raw: bytes, kind: str = "bounces", method: str = "POST", **query: str) -> Callback:
    """What a mail server posts."""
    return Callback(method, "https://shop.example/hear/secret/bounces", {}, query, raw, kind)


def plain(subject: str, text: str = "", sender: str = "MAILER-DAEMON@mail.example", **headers: str) -> bytes:
    """Write a mail that is no report."""
    lines = [f"From: {sender}", f"To: {ADDRESS}", f"Subject: {subject}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


class TestTags:
    """Addresses that only we can make."""

    def test_address_names_its_attempt(self) -> None:
        """The attempt must be read from its address, whatever the case in which a mail server writes it."""
        assert ADDRESS.startswith(f"bounces+{ATTEMPT.hex()}-")
        assert TAGS.attempt_of(ADDRESS) == TAGS.attempt_of(ADDRESS.upper()) == ATTEMPT

    def test_address_of_others(self) -> None:
        """An address of another mailbox, domain or form is none of ours."""
        for address in (
            "",
            "a@b.example",
            "bounces@b.shop.example",
            ADDRESS.replace("bounces", "x"),
            f"{ADDRESS}.example",
        ):
            assert TAGS.attempt_of(address) is None

    def test_forged_tag(self) -> None:
        """Not a single other tag may pass, nor that of another attempt, key or purpose."""
        local, _, domain = ADDRESS.partition("@")
        stem, _, tag = local.partition("-")
        wrong = {tag[:place] + digit + tag[place + 1 :] for place in range(16) for digit in "0123456789abcdef"} - {tag}
        wrong |= {TAGS.bounce_address(OTHER).partition("-")[2].partition("@")[0], TAGS.recipient_tag(ATTEMPT, TO)}
        wrong.add(Tags("another key", "bounces", "b.shop.example").bounce_address(ATTEMPT)[-31:-15])
        for one in wrong:
            with pytest.raises(CallbackRefused) as caught:
                TAGS.attempt_of(f"{stem}-{one}@{domain}")
            assert caught.value.status == 403


class TestReports:
    """Delivery status notifications (RFC 3464)."""

    @pytest.mark.parametrize(
        ("action", "status", "delivered"),
        [
            ("failed", "5.1.1", False),
            ("failed", "5.2.2", False),
            ("failed", "4.4.7", False),
            ("Failed (permanent)", "5.0.0", False),
            ("delivered", "2.0.0", True),
            ("relayed", "2.0.0", True),
            ("expanded", "2.0.0", True),
            ("delayed", "4.4.1", None),
            ("what", "5.1.1", None),
        ],
    )
    def test_action(self, taken: Taken, action: str, status: str, delivered: bool | None) -> None:
        """Failures and confirmations must be told with the attempt and the reason; a delay is neither."""
        heard = READER.read(delivery_status(taken, action, status, f"550 {status} the reason", NOW).as_bytes())
        if delivered is None:
            assert heard == Heard()
            return
        (receipt,) = heard.receipts
        assert (receipt.attempt_id, receipt.delivered, receipt.at) == (ATTEMPT, delivered, NOW)
        assert receipt.provider_ref == taken.ref == f"<{ATTEMPT.hex()}@shop.example>"
        assert receipt.detail == f"{status} 550 {status} the reason"

    @pytest.mark.parametrize("status", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"])
    def test_mailbox_that_is_no_more(self, taken: Taken, status: str) -> None:
        """An address that does not exist must be given up, for our returned headers prove that we wrote to it."""
        heard = READER.read(delivery_status(taken, "failed", status, "no such user", NOW).as_bytes())
        assert [receipt.gone for receipt in heard.receipts] == [True]

    @pytest.mark.parametrize("status", ["5.2.2", "5.2.1", "5.7.1", "4.4.7", "5.0.0", "5.3.0", ""])
    def test_trouble_of_today(self, taken: Taken, status: str) -> None:
        """A full mailbox, a policy or an outage must fail the message and spare the address."""
        heard = READER.read(delivery_status(taken, "failed", status, "today", NOW).as_bytes())
        assert [receipt.gone for receipt in heard.receipts] == [False]

    def test_report_without_our_headers(self, taken: Taken) -> None:
        """Without proof that we wrote to it, no address may be given up, yet the failure stands."""
        raw = delivery_status(taken, "failed", "5.1.1", "no such user", NOW).as_bytes()
        heard = READER.read(raw.replace(b"X-Recipient-Tag", b"X-Nothing"))
        assert [(receipt.attempt_id, receipt.gone) for receipt in heard.receipts] == [(ATTEMPT, False)]

    def test_report_about_somebody_else(self, taken: Taken) -> None:
        """Who got a mail of ours must not be able to silence another address with its report."""
        raw = delivery_status(taken, "failed", "5.1.1", "no such user", NOW).as_bytes()
        (receipt,) = READER.read(raw.replace(TO.encode(), b"victim@mail.example")).receipts
        assert not receipt.gone

    def test_several_recipients(self, taken: Taken) -> None:
        """Where one of several mailboxes behind an address fails, the message must count as failed."""
        raw = delivery_status(taken, "delivered", "2.0.0", "fine", NOW).as_bytes()
        more = (
            b"Action: delivered\nStatus: 2.0.0\nDiagnostic-Code: smtp; fine\n\nFinal-Recipient: rfc822; x@y.example\n"
        )
        raw = raw.replace(b"Action: delivered\n", more + b"Action: failed\n")
        (receipt,) = READER.read(raw).receipts
        assert not receipt.delivered

    def test_report_named_by_envelope_or_header(self, taken: Taken) -> None:
        """The attempt must be found by the envelope, any header of delivery, or the returned headers with their tag."""
        raw = delivery_status(taken, "failed", "5.2.2", "full", NOW).as_bytes()
        stranger = raw.replace(f"To: {ADDRESS}".encode(), b"To: bounces@elsewhere.example")
        assert stranger != raw
        bare = stranger.replace(taken.ref.encode(), b"<x@y>")
        for found in (
            READER.read(raw),
            READER.read(stranger),
            READER.read(bare, [ADDRESS]),
            READER.read(b"Delivered-To: " + ADDRESS.encode() + b"\n" + bare),
            READER.read(b"X-Original-To: <" + ADDRESS.upper().encode() + b">\n" + bare),
        ):
            assert [receipt.attempt_id for receipt in found.receipts] == [ATTEMPT]
        with pytest.raises(CallbackRefused):
            READER.read(bare)
        with pytest.raises(CallbackRefused):
            READER.read(stranger.replace(b"X-Recipient-Tag: ", b"X-Recipient-Tag: 0"))

    def test_forged_report(self, taken: Taken) -> None:
        """A report to an address whose tag is wrong must be refused, whatever it returns."""
        raw = delivery_status(taken, "failed", "5.1.1", "no such user", NOW).as_bytes()
        forged = raw.replace(ADDRESS.encode(), ADDRESS.replace(ATTEMPT.hex(), OTHER.hex()).encode())
        with pytest.raises(CallbackRefused) as caught:
            READER.read(forged)
        assert caught.value.status == 403

    async def test_address_wins_over_returned_headers(self, taken: Taken) -> None:
        """A right address with the headers of another message is about the message of the address, and proves nothing."""
        _, other = await sent("other@mail.example", OTHER)
        raw = delivery_status(other, "failed", "5.1.1", "no such user", NOW).as_bytes()
        heard = READER.read(raw.replace(TAGS.bounce_address(OTHER).encode(), ADDRESS.encode()))
        assert [(receipt.attempt_id, receipt.gone) for receipt in heard.receipts] == [(ATTEMPT, False)]

    @pytest.mark.parametrize(
        ("date", "at"),
        [
            (email.utils.format_datetime(NOW - dt.timedelta(hours=1)), NOW - dt.timedelta(hours=1)),
            ("Sun, 22 Nov 2026 08:02:03 +0800", NOW - dt.timedelta(hours=1)),
            (email.utils.format_datetime(NOW + dt.timedelta(days=1)), NOW),
            ("Sun, 22 Nov 2026 00:02:03", NOW - dt.timedelta(hours=1)),
            ("nonsense", NOW),
            ("Mon, 01 Jan 0001 00:00:00 +2300", NOW),
            ("", NOW),
        ],
    )
    def test_time(self, taken: Taken, date: str, at: dt.datetime) -> None:
        """A receipt must have the time of the report, or the present where that is nonsense."""
        report = delivery_status(taken, "failed", "5.2.2", "full", NOW)
        del report["Date"]
        report["Date"] = date
        (receipt,) = READER.read(report.as_bytes()).receipts
        assert receipt.at == at
        assert receipt.at.utcoffset() == dt.timedelta()

    def test_detail_is_one_short_line(self, taken: Taken) -> None:
        """Whatever a stranger's server says must fit into a column."""
        raw = delivery_status(taken, "failed", "5.1.1", "x\n \x1b[31m" + "长" * 5000, NOW)
        (receipt,) = READER.read(raw.as_string().encode()).receipts
        assert len(receipt.detail) <= 200
        assert receipt.detail.isprintable()

    async def test_channel_without_tags(self) -> None:
        """Without a bounce domain the returned Message-ID must do, and no address be given up for it."""
        simulator = MailSimulator(clock=now)
        async with simulator.serving_smtp() as port:
            channel = make(port, "")
            await channel.send([Outgoing(ATTEMPT, "email", TO, "text")])
        raw = delivery_status(simulator.taken[0], "failed", "5.1.1", "no such user", NOW).as_bytes()
        heard = channel.hear(posted(raw))
        assert [(receipt.attempt_id, receipt.gone) for receipt in heard.receipts] == [(ATTEMPT, False)]
        with pytest.raises(CallbackRefused):
            channel.hear(posted(raw.replace(b"@shop.example>", b"@other.example>")))


class TestComplaints:
    """Feedback reports (RFC 5965)."""

    def test_complaint(self, taken: Taken) -> None:
        """Who complains must get no more mail, and the message did not fail."""
        assert READER.read(feedback_report(taken, NOW).as_bytes()) == Heard(complaints=(ATTEMPT,))

    def test_complaint_to_another_mailbox(self, taken: Taken) -> None:
        """Complaints go to an address that was registered with the provider, so the returned headers must do."""
        raw = feedback_report(taken, NOW).as_bytes().replace(f"To: {ADDRESS}".encode(), b"To: abuse@shop.example")
        assert READER.read(raw).complaints == (ATTEMPT,)

    def test_complaint_with_hidden_recipient(self, taken: Taken) -> None:
        """Where the returned header hides the address, the field of the report must do if it can be proven."""
        raw = feedback_report(taken, NOW).as_bytes().replace(f"\nTo: {TO}".encode(), b"\nTo: redacted")
        assert READER.read(raw).complaints == (ATTEMPT,)
        hidden = raw.replace(f"<{TO}>".encode(), b"<redacted>")
        assert READER.read(hidden) == Heard()

    def test_complaint_about_somebody_else(self, taken: Taken) -> None:
        """A complaint in another's name must silence nobody."""
        raw = feedback_report(taken, NOW).as_bytes()
        assert READER.read(raw.replace(TO.encode(), b"victim@mail.example")).complaints == ()
        with pytest.raises(CallbackRefused):
            READER.read(raw.replace(ADDRESS.encode(), b"abuse@shop.example").replace(b"X-Recipient-Tag", b"X-Nothing"))


class TestOthers:
    """Mails that follow no standard."""

    @pytest.mark.parametrize(
        ("raw", "detail"),
        [
            (plain("Undelivered Mail Returned to Sender", "Sorry:\n550 5.1.1 No such user\n"), "550 5.1.1 No such user"),
            (plain("failure notice", "Hi. This is the qmail-send program.\n<a@b>:\n1.2.3.4 said: 554 no\n"), "1.2.3.4 said: 554 no"),
            (plain("=?utf-8?b?57O757uf6YCA5L+h?=", sender="PostMaster@qq.example"), "=?utf-8?b?57O757uf6YCA5L+h?="),
            (plain("x", sender="robot@b.example", X_Failed_Recipients=TO), "x"),
            (plain("", sender="postmaster@b.example"), "returned without a reason"),
        ],
    )  # fmt: skip
    def test_bounce_in_free_text(self, raw: bytes, detail: str) -> None:
        """Most old servers bounce in words: with a right address that is a failure, with the line that says why."""
        (receipt,) = READER.read(raw).receipts
        assert (receipt.attempt_id, receipt.delivered, receipt.detail) == (ATTEMPT, False, detail)

    @pytest.mark.parametrize(
        "raw",
        [
            plain("Auto: on holiday", "550 5.1.1", sender=TO, Auto_Submitted="auto-replied"),
            plain("Undeliverable: your mail", sender="postmaster@b.example", Auto_Submitted="auto-replied (vacation)"),
            plain("Out of office: delivery failure of everything", sender=TO, X_Autoreply="yes"),
            plain("Warning: could not send message for past 4 hours"),
            plain("Delivery delayed"),
            plain("Re: 发货了", "谢谢!", sender=TO),
            plain("", sender=""),
        ],
    )
    def test_noise(self, raw: bytes) -> None:
        """Answering machines, delays and answers of people must be taken and mean nothing."""
        assert READER.read(raw) == Heard()

    async def test_answering_machine(self) -> None:
        """The simulated answering machine must mean nothing."""
        simulator, taken = await sent()
        told: list[bytes] = []

        async def keep(raw: bytes, *_: object, **__: object) -> int:
            told.append(raw)
            return 200

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulator, "call", keep)
            simulator.callback_url = "https://shop.example/bounces"
            await simulator.answer_automatically(taken)
        assert [READER.read(raw) for raw in told] == [Heard()]


class TestHostile:
    """Whatever is posted, nothing but `CallbackRefused` may come of it."""

    @given(st.binary(max_size=2000))
    def test_any_bytes(self, raw: bytes) -> None:
        """Bytes that are no mail must be refused, and be no receipt."""
        with pytest.raises(CallbackRefused):
            READER.read(raw)

    async def test_broken_reports(self) -> None:
        """A report with bytes changed, cut out or doubled must be read or refused; replays from the seed."""
        _, taken = await sent()
        dice = random.Random(7)
        sources = [
            delivery_status(taken, "failed", "5.1.1", "no", NOW).as_bytes(),
            feedback_report(taken, NOW).as_bytes(),
        ]
        spices = [
            b"\0",
            b"\xff\xfe",
            b"\r",
            b"\n\n",
            b"--",
            b"=?utf-8?q?",
            b";",
            b'"',
            b"charset=\0",
            b"Content-Type: message/rfc822\n\n",
            b": ",
        ]
        for _ in range(1500):
            raw = bytearray(dice.choice(sources))
            for _ in range(dice.randint(1, 8)):
                place = dice.randrange(len(raw))
                end = place + dice.choice([0, 0, 1, 5, 60])
                raw[place:end] = dice.choice(spices) if dice.random() < 0.6 else raw[place:end] * 2
            try:
                heard = READER.read(bytes(raw))
            except CallbackRefused:
                continue
            assert {receipt.attempt_id for receipt in heard.receipts} <= {ATTEMPT}
            assert set(heard.complaints) <= {ATTEMPT}

    @pytest.mark.parametrize(
        "body",
        [
            b"Content-Type: multipart/report; report-type=delivery-status\n\nno boundary",
            b'Content-Type: multipart/report; boundary=""\n\n--\n\n----\n',
            b'Content-Type: text/plain; charset="utf-8\0"\n\n\0\0\0',
            b"Content-Type: text/plain; charset*=utf\0-8''%00\n\nx",
            b"Content-Type: multipart/mixed; boundary*0=a; boundary*2=c\n\n--ac\n\n--ac--",
            b"Content-Type: text/plain; charset=no-such-charset\nContent-Transfer-Encoding: base64\n\n!!!!",
            b"Content-Type: message/delivery-status\n\nAction failed\n\n\n: :\n\nAction: \xff\xff",
            b"Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\nQWN0aW9uOiBmYWlsZWQ=",
            b"Content-Type: message/rfc822\n\n" * 500,
            b"Subject: =?x?b?" + b"=?" * 20_000,
            b"Subject: =?\xff?q?\xff?=",
            b"To: " + b"<" * 50_000,
            b"To: " + ADDRESS.encode() * 3_000,
            b"X: y\n" * 40_000,
            b"\n" * RAW_BYTES_MAX,
            b"\0" * RAW_BYTES_MAX,
        ],
        ids=range(16),
    )
    def test_malformed(self, body: bytes) -> None:
        """Broken structure, strange charsets, zero bytes and sheer length must do no harm, with a right address or none."""
        for head in (b"", f"To: {ADDRESS}\n".encode()):
            raw = (head + body)[:RAW_BYTES_MAX]
            try:
                heard = READER.read(raw, [ADDRESS])
            except CallbackRefused:
                continue
            assert {receipt.attempt_id for receipt in heard.receipts} <= {ATTEMPT}

    @pytest.mark.parametrize("depth", [19, 21, 400, 5000])
    def test_deep_nesting(self, depth: int) -> None:
        """Parts within parts within parts must be refused, or read to the bottom, without end of time or stack."""
        raw = f"To: {ADDRESS}\n".encode()
        raw += b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level) for level in range(depth)
        )
        raw += b"\n" * (RAW_BYTES_MAX - len(raw))
        if depth > 20:
            with pytest.raises(CallbackRefused):
                READER.read(raw)
        else:
            assert READER.read(raw) == Heard()

    def test_too_long(self) -> None:
        """More than 1 MB must be refused unread."""
        with pytest.raises(CallbackRefused) as caught:
            READER.read(b"x" * (RAW_BYTES_MAX + 1))
        assert caught.value.status == 413


class TestHearing:
    """The callback of a mail server that pipes bounces to us."""

    def test_path_and_method(self, taken: Taken) -> None:
        """Bounces must be posted to their own address, by nobody's browser."""
        raw = delivery_status(taken, "failed", "5.1.1", "no", NOW).as_bytes()
        channel = make(1)
        assert channel.hear(posted(raw)).receipts[0].attempt_id == ATTEMPT
        for callback in (posted(raw, kind="receipts"), posted(raw, kind=""), posted(raw, method="GET")):
            with pytest.raises(CallbackRefused) as caught:
                channel.hear(callback)
            assert caught.value.status == 404

    def test_recipient_in_query(self) -> None:
        """A mail server may name the recipient of its envelope in the address it posts to."""
        raw = plain("Mail delivery failed", "550 no").replace(ADDRESS.encode(), b"undisclosed")
        assert make(1).hear(posted(raw, to=ADDRESS)).receipts[0].attempt_id == ATTEMPT
        with pytest.raises(CallbackRefused):
            make(1).hear(posted(raw))


@asynccontextmanager
async def listening(fail: bool = False) -> AsyncIterator[tuple[int, list[Heard]]]:
    """Run the bounce listener; gives its port and what it told."""
    told: list[Heard] = []

    async def tell(heard: Heard) -> None:
        if fail:
            raise OSError("the database is away with all its secrets")
        told.append(heard)

    async with BounceListener(READER, tell).listening() as port:
        yield port, told


async def deliver(port: int, to: str, raw: bytes, sender: str = "") -> aiosmtplib.SMTPResponse:
    """Deliver a mail as a mail server does; gives the last reply."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="mx.example") as client:
        try:
            await client.sendmail(sender, [to], raw)
        except aiosmtplib.SMTPRecipientsRefused as refused:
            return aiosmtplib.SMTPResponse(refused.recipients[0].code, refused.recipients[0].message)
        except aiosmtplib.SMTPResponseException as refused:
            return aiosmtplib.SMTPResponse(refused.code, refused.message)
        return aiosmtplib.SMTPResponse(250, "")


class TestListener:
    """The mail server of the bounce domain."""

    async def test_bounces_come_home(self) -> None:
        """A message that a relay accepts and cannot deliver must come back as a failure of this attempt, by mail."""
        async with listening() as (bounce_port, told):
            simulator = MailSimulator(clock=now, bounce_mx=("127.0.0.1", bounce_port))
            async with simulator.serving_smtp() as port:
                simulator.faults = Faults(fail_recipients=frozenset({TO}))
                answers = await make(port).send(
                    [Outgoing(ATTEMPT, "email", TO, "x"), Outgoing(OTHER, "email", "a@b.example", "x")]
                )
                await simulator.told()
                await simulator.complain(next(taken for taken in simulator.taken if taken.to == "a@b.example"))
        assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED] * 2
        bounce, complaint = told
        assert [(receipt.attempt_id, receipt.delivered) for receipt in bounce.receipts] == [(ATTEMPT, False)]
        assert bounce.receipts[0].gone
        assert complaint.complaints == (OTHER,)

    @pytest.mark.parametrize(
        "to",
        [
            "bounces@b.shop.example",
            "notice@shop.example",
            "a@b.example",
            ADDRESS.replace("-", "-0")[:57] + "@b.shop.example",
        ],
    )
    async def test_mail_for_others(self, to: str) -> None:
        """Only addresses with a right tag may be taken: the listener is no relay and has no other mailboxes."""
        async with listening() as (port, told):
            response = await deliver(port, to, plain("Undeliverable"))
        assert response.code == 550
        assert told == []

    async def test_mail_too_long(self) -> None:
        """More than 1 MB must be refused, and not for our own faults' sake asked for again."""
        async with listening() as (port, told):
            line = b"x" * 70 + b"\r\n"
            response = await deliver(port, ADDRESS, plain("Undeliverable") + line * (RAW_BYTES_MAX // len(line) + 1))
        assert response.code == 552
        assert told == []

    async def test_unreadable_mail(self) -> None:
        """What cannot be read must be refused for good."""
        async with listening() as (port, told):
            response = await deliver(port, ADDRESS, b"Content-Type: multipart/mixed; boundary=a\r\n" * 30 + b"\r\n")
        assert response.code == 550
        assert told == []

    async def test_bounce_that_cannot_be_stored(self) -> None:
        """While it cannot be stored, a bounce must be left with the mail server that brings it, without saying why."""
        async with listening(fail=True) as (port, _):
            response = await deliver(port, ADDRESS, plain("Undeliverable"))
        assert response.code == 451
        assert "database" not in response.message

    async def test_same_bounce_for_many(self) -> None:
        """One mail for ever more addresses must be taken for a few only."""
        async with listening() as (port, told):
            client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="mx.example")
            async with client:
                addresses = [TAGS.bounce_address(bytes([number]) * 16) for number in range(15)]
                errors, _ = await client.sendmail("", addresses, plain("Undeliverable"))
        assert {response.code for response in errors.values()} == {452}
        assert len(errors) == 5
        assert len({receipt.attempt_id for heard in told for receipt in heard.receipts}) == 10

    async def test_channel_that_listens(self) -> None:
        """A mail provider with `bounce_listen` must be the mail server of its bounce domain, in several processes."""
        with bind("127.0.0.1", 0, shared=True) as held:
            port = held.getsockname()[1]
        told: list[Heard] = []

        async def tell(heard: Heard) -> None:
            told.append(heard)

        one, other = make(1, listen=f"127.0.0.1:{port}"), make(1, listen=f"127.0.0.1:{port}")
        async with one.listening(tell), other.listening(tell), make(1).listening(tell):
            for _ in range(4):
                assert (await deliver(port, ADDRESS, plain("Undeliverable", "550 no"))).code == 250
        assert {receipt.attempt_id for heard in told for receipt in heard.receipts} == {ATTEMPT}
        assert len(told) == 4

    @pytest.mark.parametrize("listen", ["25", ":25", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:smtp"])
    def test_address_that_is_none(self, listen: str) -> None:
        """An address that cannot be listened on must be refused at the start, with an example."""
        with pytest.raises(ValueError, match=r"such as `0\.0\.0\.0:25`"):
            make(1, listen=listen)

    def test_nothing_to_listen_for(self) -> None:
        """Without a bounce domain there is nothing to take."""
        with pytest.raises(ValueError, match="`bounce_listen` needs `bounce_domain`"):
            make(1, key="", listen="127.0.0.1:25")

    async def test_stop_with_open_connections(self) -> None:
        """The listener must stop although somebody keeps a connection open."""
        async with listening() as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.readline()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 1)
