"""Mail must survive every mood of a relay, and every refusal be taken for what it means."""

import asyncio
import datetime as dt
import email
import email.policy
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.mail import DkimKey, MailChannel, MailOptions
from orderbell.channels.protocol import Answer, ChannelUnavailable, Outcome, ReceiptsBy
from orderbell.channels.smtp import Refusal, Stage, outcome_of
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.mail import MailSimulator
from tests.channels.mail_samples import (
    ED25519_KEY,
    ED25519_RECORD,
    RSA_KEY,
    RSA_RECORD,
    find_key,
    letter,
    message,
    now,
)
from tests.raw_server import Behaviour, raw_server, unused_port


def make(port: int, **options: Any) -> MailChannel:  # noqa: ANN401 - options of all kinds
    """Make a channel to a relay on this machine."""
    defaults = {"host": "127.0.0.1", "port": port, "tls": "none", "from_address": "notice@shop.example"}
    return MailChannel(MailOptions(**{**defaults, **options}), name="mail", now=now, shared=KeptInMemory(now))


@asynccontextmanager
async def relay(**arguments: Any) -> AsyncIterator[tuple[MailSimulator, int]]:  # noqa: ANN401 - as above
    """Run a simulated relay; gives it and its port."""
    simulator = MailSimulator(**arguments)
    async with simulator.serving_smtp() as port:
        yield simulator, port


def mails(simulator: MailSimulator) -> list[EmailMessage]:
    """Read the mails that a relay took."""
    return [email.message_from_bytes(taken.fields["raw"], policy=email.policy.default) for taken in simulator.taken]


def outcomes(answers: list[Answer]) -> list[Outcome]:
    """List what came of each."""
    return [answer.outcome for answer in answers]


REFUSALS: list[tuple[Stage, int, str, Outcome | Refusal]] = [
    (Stage.CONNECT, 421, "4.7.0 busy", Outcome.THROTTLED),
    (Stage.CONNECT, 451, "later", Outcome.RETRY_LATER),
    (Stage.CONNECT, 554, "5.7.1 your address is on a list", Outcome.CHANNEL_DOWN),
    (Stage.CONNECT, 0, "no STARTTLS", Outcome.CHANNEL_DOWN),
    (Stage.CONNECT, -1, "nonsense", Outcome.RETRY_LATER),
    (Stage.LOGIN, 535, "5.7.8 wrong", Outcome.CHANNEL_DOWN),
    (Stage.LOGIN, 454, "4.7.0 temporary", Outcome.RETRY_LATER),
    (Stage.LOGIN, 421, "4.7.0 too many logins", Outcome.THROTTLED),
    (Stage.SENDER, 530, "5.7.0 login first", Outcome.CHANNEL_DOWN),
    (Stage.SENDER, 550, "5.7.1 not your address", Outcome.CHANNEL_DOWN),
    (Stage.SENDER, 553, "Mail from must equal authorized user", Outcome.CHANNEL_DOWN),
    (Stage.SENDER, 552, "5.3.4 too large", Outcome.REJECTED_CONTENT),
    (Stage.SENDER, 550, "5.6.7 not ASCII", Outcome.REJECTED_RECIPIENT),
    (Stage.SENDER, 451, "4.3.0 later", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 421, "4.7.0 slow down", Outcome.THROTTLED),
    (Stage.RECIPIENT, 450, "4.2.0 greylisted", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 452, "4.2.2 full", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 550, "5.1.1 no such user", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 550, "5.2.1 disabled", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 556, "5.1.10 takes no mail", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 550, "5.4.1 no such domain", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 550, "5.7.17 another owner", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 550, "5.5.0 mailbox unavailable", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 550, "User not found", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 501, "bad address", Outcome.REJECTED_RECIPIENT),
    (Stage.RECIPIENT, 552, "5.2.2 mailbox full", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 552, "exceeded storage allocation", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 550, "5.3.2 system not accepting", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 550, "5.7.1 refused by policy", Refusal.POLICY),
    (Stage.RECIPIENT, 554, "Relay access denied", Refusal.POLICY),
    (Stage.RECIPIENT, 550, "relay not permitted", Refusal.POLICY),
    (Stage.RECIPIENT, 550, "5.7.26 unauthenticated sender", Outcome.CHANNEL_DOWN),
    (Stage.RECIPIENT, 550, "5.1.8 sender domain", Outcome.CHANNEL_DOWN),
    (Stage.RECIPIENT, 550, "Domain frequency limited", Outcome.THROTTLED),
    (Stage.RECIPIENT, 503, "bad sequence", Outcome.CHANNEL_DOWN),
    (Stage.RECIPIENT, 299, "what", Outcome.RETRY_LATER),
    (Stage.RECIPIENT, 599, "what", Outcome.RETRY_LATER),
    (Stage.DATA, 451, "4.3.0 later", Outcome.RETRY_LATER),
    (Stage.DATA, 554, "5.5.1 no valid recipients", Refusal.POLICY),
    (Stage.CONTENT, 421, "4.3.2 closing", Outcome.THROTTLED),
    (Stage.CONTENT, 451, "4.7.1 greylisted", Outcome.RETRY_LATER),
    (Stage.CONTENT, 550, "5.1.1 no such user", Outcome.REJECTED_RECIPIENT),
    (Stage.CONTENT, 552, "5.2.2 mailbox full", Outcome.RETRY_LATER),
    (Stage.CONTENT, 552, "too large", Outcome.REJECTED_CONTENT),
    (Stage.CONTENT, 554, "transaction failed", Outcome.REJECTED_CONTENT),
    (Stage.CONTENT, 550, "Mail content denied", Outcome.REJECTED_CONTENT),
    (Stage.CONTENT, 554, "5.6.0 bad form", Outcome.REJECTED_CONTENT),
    (Stage.CONTENT, 554, "5.7.1 looks like spam", Refusal.POLICY),
    (Stage.CONTENT, 550, "5.7.20 no signature", Outcome.CHANNEL_DOWN),
    (Stage.CONTENT, 251, "what", Outcome.UNKNOWN),
    (Stage.CONTENT, 354, "what", Outcome.UNKNOWN),
    (Stage.CONTENT, 600, "what", Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("stage", "code", "words", "outcome"), REFUSALS)
def test_outcome_of_refusal(stage: Stage, code: int, words: str, outcome: Outcome | Refusal) -> None:
    """Each reply must mean what its enhanced status says, at the step at which it comes."""
    assert outcome_of(stage, code, words) is outcome


@given(stage=st.sampled_from(Stage), code=st.integers(-1, 999), words=st.text(max_size=40))
def test_outcome_of_any_refusal(stage: Stage, code: int, words: str) -> None:
    """No refusal whatsoever may count as success, and before the message none may be unknown."""
    outcome = outcome_of(stage, code, words)
    assert outcome is not Outcome.ACCEPTED
    assert outcome is not Outcome.UNKNOWN or stage is Stage.CONTENT


class TestSending:
    """Conversations with relays."""

    async def test_channel_of_mail(self) -> None:
        """The planner must know that no bounce is no proof of delivery."""
        channel = make(1)
        assert channel.receipts_by is ReceiptsBy.CALLBACK
        assert channel.confirms_delivery is False

    async def test_mail_arrives_as_it_was_signed(self) -> None:
        """The signature must hold for what the relay got, lines that begin with a dot included; two keys sign twice."""
        keys = (
            DkimKey(domain="football.example.com", selector="brisbane", private_key=ED25519_KEY),
            DkimKey(domain="football.example.com", selector="test", private_key=RSA_KEY),
        )
        async with relay(find_key=find_key) as (simulator, port):
            (answer,) = await make(port, dkim=keys).send([message(text=".\n..\n.end\n" + "." * 3000)])
        assert answer.outcome is Outcome.ACCEPTED, answer
        (taken,) = simulator.taken
        assert answer.provider_ref == taken.ref == "<00000000000000000000000000000001@shop.example>"
        for index in (0, 1):
            assert dkim.DKIM(taken.fields["raw"]).verify(idx=index, dnsfunc=find_key)
        (mail,) = mails(simulator)
        body = mail.get_body(("plain",))
        assert body is not None
        assert body.get_content().replace("\r\n", "\n").startswith(".\n..\n.end\n...")

    async def test_unsigned_mail_is_refused_by_strict_relay(self) -> None:
        """A relay that wants a signature says that it is about us: the channel must be down, not the address bad."""
        async with relay(find_key=find_key) as (_, port):
            (answer,) = await make(port).send([message()])
        assert answer.outcome is Outcome.CHANNEL_DOWN

    async def test_sender_names_the_attempt(self) -> None:
        """With a bounce domain, every mail must be sent from an address of its own, and by name without."""
        async with relay() as (simulator, port):
            await make(port).send([message(1)])
            await make(port, bounce_domain="b.shop.example", bounce_key="k" * 16).send([message(2), message(3)])
        first, *others = [taken.fields["sender"] for taken in simulator.taken]
        assert first == "notice@shop.example"
        assert sorted(sender[:41] for sender in others) == [f"bounces+{number:032x}-" for number in (2, 3)]
        assert all(sender.endswith("@b.shop.example") and len(sender.split("@")[0]) <= 64 for sender in others)

    async def test_connections_are_shared_by_a_batch(self) -> None:
        """A batch must use no more connections than allowed, each for many messages."""
        async with relay() as (simulator, port):
            answers = await make(port, connections_max=3).send([message(number) for number in range(50)])
        assert outcomes(answers) == [Outcome.ACCEPTED] * 50
        assert simulator.connection_count <= 3

    async def test_relay_that_wants_few_messages_per_connection(self) -> None:
        """A connection that the relay has had enough of must be replaced by another, and nothing be refused for it."""
        async with relay() as (simulator, port):
            simulator.messages_per_connection_max = 3
            answers = await make(port, connections_max=2).send([message(number) for number in range(12)])
        assert outcomes(answers) == [Outcome.ACCEPTED] * 12
        assert len(simulator.taken) == 12

    async def test_refused_recipient_alone(self) -> None:
        """Addresses must be judged one by one, over the same connection."""
        async with relay() as (simulator, port):
            simulator.recipients["b@mail.example"] = "550 5.1.1 No such user"
            simulator.recipients["c@mail.example"] = "450 4.2.0 Greylisted"
            batch = [
                message(n, to)
                for n, to in enumerate(["a@mail.example", "b@mail.example", "c@mail.example", "d@mail.example"])
            ]
            answers = await make(port, connections_max=1).send(batch)
        assert outcomes(answers) == [
            Outcome.ACCEPTED,
            Outcome.REJECTED_RECIPIENT,
            Outcome.RETRY_LATER,
            Outcome.ACCEPTED,
        ]
        assert simulator.connection_count == 1

    async def test_policy_against_one_address(self) -> None:
        """A refusal by policy of one address must neither condemn the address nor the relay."""
        async with relay() as (simulator, port):
            simulator.recipients["b@mail.example"] = "554 5.7.1 <b@mail.example>: Relay access denied"
            channel = make(port, connections_max=1)
            for _ in range(4):
                answers = await channel.send([message(1, "b@mail.example"), message(2, "a@mail.example")])
                assert outcomes(answers) == [Outcome.RETRY_LATER, Outcome.ACCEPTED]

    async def test_policy_against_us(self) -> None:
        """When address after address is refused by policy, it is about us: the channel is down, no address is bad."""
        async with relay() as (simulator, port):
            simulator.replies["RCPT"] = "554 5.7.1 Relay access denied"
            answers = await make(port, connections_max=1).send([message(n, f"a{n}@mail.example") for n in range(6)])
        assert outcomes(answers) == [Outcome.RETRY_LATER] * 2 + [Outcome.CHANNEL_DOWN] * 4

    async def test_text_that_looks_like_spam(self) -> None:
        """A text refused by policy must be refused alone; text after text, it is about us."""
        async with relay() as (simulator, port):
            simulator.fail_with = "554 5.7.1 Looks like spam"
            channel = make(port, connections_max=1)
            answers = await channel.send([message(n, f"a{n}@mail.example") for n in range(3)])
        assert outcomes(answers) == [Outcome.REJECTED_CONTENT] * 2 + [Outcome.CHANNEL_DOWN]

    @pytest.mark.parametrize(
        ("step", "reply", "outcome"),
        [
            ("greeting", "421 4.3.2 Too many connections", Outcome.THROTTLED),
            ("greeting", "554 5.7.1 Your address is blocked", Outcome.CHANNEL_DOWN),
            ("EHLO", "550 5.7.1 Who are you", Outcome.CHANNEL_DOWN),
            ("MAIL", "553 5.7.1 Not your address", Outcome.CHANNEL_DOWN),
            ("MAIL", "451 4.3.0 Later", Outcome.RETRY_LATER),
            ("content", "451 4.3.0 Later", Outcome.RETRY_LATER),
            ("content", "421 4.3.2 Closing", Outcome.THROTTLED),
            ("content", "554 5.6.0 Bad form", Outcome.REJECTED_CONTENT),
            ("content", "200 what", Outcome.UNKNOWN),
        ],
    )
    async def test_relay_that_refuses(self, step: str, reply: str, outcome: Outcome) -> None:
        """A refusal at any step must have its outcome for all messages, and quote the relay."""
        async with relay() as (simulator, port):
            simulator.replies[step] = reply
            answers = await make(port, slow_down_s=7).send([message(1), message(2)])
        assert outcomes(answers) == [outcome] * 2, answers
        assert reply.partition(" ")[2] in answers[0].detail
        assert answers[0].retry_after_s == (7 if outcome is Outcome.THROTTLED else 0)

    async def test_wrong_password_is_tried_once_per_connection(self) -> None:
        """A wrong password must bring the channel down without locking the account, and never be shown."""
        async with relay(username="shop", password="right") as (simulator, port):
            channel = make(port, username="shop", password="a wrong password", connections_max=2)
            answers = await channel.send([message(number) for number in range(30)])
        assert outcomes(answers) == [Outcome.CHANNEL_DOWN] * 30
        assert simulator.connection_count <= 2
        assert all("535" in answer.detail and "a wrong password" not in answer.detail for answer in answers)

    async def test_login_that_is_not_offered(self) -> None:
        """A relay without login must be told from one that refuses the password."""
        async with relay() as (_, port):
            (answer,) = await make(port, username="shop", password="right").send([message()])
        assert answer.outcome is Outcome.CHANNEL_DOWN
        assert "no login" in answer.detail

    async def test_international_address(self) -> None:
        """An address that is not ASCII must go out with SMTPUTF8, and be refused where the relay has none."""
        async with relay() as (simulator, port):
            batch = [message(1, "张三@例子.cn"), message(2, "a@例子.cn")]
            answers = await make(port).send(batch)
            assert outcomes(answers) == [Outcome.ACCEPTED] * 2
            assert sorted(taken.to for taken in simulator.taken) == ["a@xn--fsqu00a.cn", "张三@xn--fsqu00a.cn"]
            simulator.accepts_utf8 = False
            answers = await make(port).send(batch)
            assert outcomes(answers) == [Outcome.REJECTED_RECIPIENT, Outcome.ACCEPTED]

    async def test_relay_that_vanishes(self) -> None:
        """Nobody there must be not sent."""
        answers = await make(unused_port()).send([message(1), message(2)])
        assert outcomes(answers) == [Outcome.NOT_SENT] * 2

    async def test_slow_relay_holds_up_no_batch(self) -> None:
        """After an unknown answer the rest of the batch must be given back unsent instead of waiting in vain."""
        async with relay() as (simulator, port):
            simulator.faults = Faults(timeout_after_accept=1)
            channel = make(port, timeout_s=0.5, connect_timeout_s=0.4, connections_max=2)
            answers = await channel.send([message(number) for number in range(20)])
        assert sorted(outcomes(answers)) == [Outcome.NOT_SENT] * 18 + [Outcome.UNKNOWN] * 2
        assert len(simulator.taken) == 2

    @pytest.mark.parametrize(
        ("steps", "outcome"),
        [
            ([], Outcome.NOT_SENT),
            (["220 hello"], Outcome.NOT_SENT),
            (["220 hello", "250 hello"], Outcome.NOT_SENT),
            (["220 hello", "250 hello", "250 sender"], Outcome.NOT_SENT),
            (["220 hello", "250 hello", "250 sender", "250 recipient"], Outcome.NOT_SENT),
            (["220 hello", "250 hello", "250 sender", "250 recipient", "354 go on"], Outcome.UNKNOWN),
            (["220 hello", "250 hello", "250 sender", "250 recipient", "354 go on", "25"], Outcome.UNKNOWN),
            (["220 hello", "250 hello", "250 sender", "250 recipient", "354 go on", "what is this"], Outcome.UNKNOWN),
            (["220 hello", "250 hello", "250 sender", "250 recipient", "354 go on", "250 taken"], Outcome.ACCEPTED),
            (["220 hello", "250 hello", "250 sender", "250 recipient", "250 what"], Outcome.RETRY_LATER),
            (["what is this"], Outcome.RETRY_LATER),
            (["220 " + "x" * 100_000], Outcome.RETRY_LATER),
        ],
    )
    @pytest.mark.parametrize("cut", [True, False])
    async def test_connection_lost(self, steps: list[str], outcome: Outcome, *, cut: bool) -> None:
        """Lost or silent before the last dot is surely not sent; after it, unknown."""
        async with raw_server(_scripted(steps, cut=cut)) as url:
            channel = make(int(url.rpartition(":")[2]), timeout_s=0.4, connect_timeout_s=0.4)
            (answer,) = await channel.send([message()])
        assert answer.outcome is outcome, answer


async def test_simulator_is_a_relay_to_others() -> None:
    """The standard library's client must get from the simulated relay what it gets from real ones."""
    async with relay(username="shop", password="right") as (simulator, port):
        simulator.recipients["b@mail.example"] = "550 5.1.1 No such user here"

        def send() -> dict[str, tuple[int, bytes]]:
            with smtplib.SMTP("127.0.0.1", port, "shop.example", 10) as client:
                with pytest.raises(smtplib.SMTPSenderRefused):
                    client.sendmail("a@shop.example", ["a@mail.example"], letter(message()))
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.login("shop", "wrong")
                client.login("shop", "right")
                return client.sendmail("a@shop.example", ["a@mail.example", "b@mail.example"], letter(message()))

        refused = await asyncio.to_thread(send)
    assert refused == {"b@mail.example": (550, b"5.1.1 No such user here")}
    assert [(taken.to, taken.text) for taken in simulator.taken] == [("a@mail.example", "您的订单已发货\r\n")]


def _scripted(steps: list[str], *, cut: bool) -> Behaviour:
    """Say one line at a time, reading a command in between; then hang up, or fall silent."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place, step in enumerate(steps):
            if place:
                await reader.readuntil(b"\r\n.\r\n" if steps[place - 1].startswith("354") else b"\r\n")
            writer.write(step.encode() + (b"" if step == "25" else b"\r\n"))
            await writer.drain()
        if steps and steps[-1].startswith("354"):
            await reader.readuntil(b"\r\n.\r\n")
        if not cut:
            await asyncio.Event().wait()

    return behave


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """Give a server's TLS context for localhost, and the certificate to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = Path(tmp_path_factory.mktemp("tls")) / "server.pem"
    path.write_bytes(pem + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, pem.decode()


class TestTls:
    """Encrypted connections."""

    @pytest.mark.parametrize("way", ["starttls", "implicit"])
    async def test_trusted_relay(self, way: str, certificate: tuple[ssl.SSLContext, str]) -> None:
        """Mail and password must go through TLS, in either way of beginning it."""
        context, pem = certificate
        async with relay(username="shop", password="right", tls=context, implicit_tls=way == "implicit") as (
            simulator,
            port,
        ):
            channel = make(port, host="localhost", tls=way, ca_pem=pem, username="shop", password="right")
            answers = await channel.send([message(1), message(2)])
            findings = await channel.check()
        assert outcomes(answers) == [Outcome.ACCEPTED] * 2, answers
        assert all(finding.fine for finding in findings), findings
        assert len(simulator.taken) == 2

    @pytest.mark.parametrize("way", ["starttls", "implicit"])
    async def test_stranger(self, way: str, certificate: tuple[ssl.SSLContext, str]) -> None:
        """A certificate that nobody vouches for must get neither password nor mail."""
        async with relay(username="shop", password="right", tls=certificate[0], implicit_tls=way == "implicit") as (
            simulator,
            port,
        ):
            channel = make(port, host="localhost", tls=way, username="shop", password="right")
            (answer,) = await channel.send([message()])
            (finding, *_) = await channel.check()
        assert answer.outcome is Outcome.NOT_SENT
        assert "ertificate" in answer.detail
        assert not finding.fine
        assert simulator.taken == []

    async def test_relay_without_tls(self) -> None:
        """A relay that offers no STARTTLS must get nothing: somebody may have taken the offer out."""
        async with relay() as (simulator, port):
            (answer,) = await make(port, tls="starttls").send([message()])
        assert answer.outcome is Outcome.CHANNEL_DOWN
        assert "STARTTLS" in answer.detail
        assert simulator.taken == []


class TestCheck:
    """Findings about the account."""

    KEY = DkimKey(domain="shop.example", selector="brisbane", private_key=ED25519_KEY)

    @pytest.mark.parametrize(
        ("records", "fine", "words"),
        [
            ([ED25519_RECORD], True, "is ours"),
            (["v=spf1 -all", ED25519_RECORD], True, "is ours"),
            ([], False, "there is none"),
            ([RSA_RECORD], False, "it is another"),
            (["v=DKIM1; p="], False, "withdrawn"),
        ],
    )
    async def test_key_in_dns(self, records: list[str], fine: bool, words: str) -> None:
        """The published key must be compared with ours, and what to publish be told."""

        async def resolve(name: str) -> list[str]:
            assert name == "brisbane._domainkey.shop.example"
            return records

        async with relay() as (_, port):
            channel = make(port, dkim=(self.KEY,))
            channel.resolve_txt = resolve
            _, finding, _ = await channel.check()
        assert finding.fine is fine
        assert words in finding.words
        assert fine or ED25519_RECORD in finding.words

    async def test_dns_that_cannot_be_asked(self) -> None:
        """A DNS out of reach must be told as such, and not as a wrong key."""

        async def resolve(name: str) -> list[str]:
            raise ChannelUnavailable("the DNS could not be asked: Timeout")

        async with relay() as (_, port):
            channel = make(port, dkim=(self.KEY,))
            channel.resolve_txt = resolve
            _, finding, _ = await channel.check()
        assert finding.fine
        assert "not checked" in finding.words

    @pytest.mark.parametrize(
        ("domain", "fine"),
        [("shop.example", True), ("m.shop.example", True), ("myshop.example", False)],
    )
    async def test_alignment(self, domain: str, fine: bool) -> None:
        """A signature of another house must be named as one that DMARC does not count."""
        key = DkimKey(domain=domain, selector="s", private_key=ED25519_KEY)
        channel = make(unused_port(), dkim=(key,))

        async def resolve(name: str) -> list[str]:
            return [ED25519_RECORD]

        channel.resolve_txt = resolve
        assert (await channel.check())[-1].fine is fine

    async def test_troubles_of_relay(self) -> None:
        """What is wrong must be named with the option to look at."""
        (unreachable, _) = await make(unused_port()).check()
        assert not unreachable.fine
        assert "`host`" in unreachable.words
        async with relay(username="shop", password="right") as (_, port):
            (refused, _) = await make(port, username="shop", password="wrong").check()
        assert not refused.fine
        assert "`password`" in refused.words

    async def test_password_in_clear(self) -> None:
        """A password that leaves the machine without TLS must be warned of."""
        findings = await make(
            25, host="relay.invalid", username="shop", password="right", connect_timeout_s=0.1
        ).check()
        assert any("in clear" in finding.words and not finding.fine for finding in findings)


@pytest.mark.parametrize(
    "options",
    [
        {"from_address": "nobody"},
        {"from_name": "a\r\nBcc: b"},
        {"reply_to": "a\r\nb@c.example"},
        {"reply_to": "a"},
        {"unsubscribe_mail": "a"},
        {"feedback_id": "a\nb"},
        {"hello_name": "a b"},
        {"host": "a\r\n"},
        {"connections_max": 0},
        {"timeout_s": 0},
        {"connect_timeout_s": -1.0},
        {"bounce_domain": "b.example"},
        {"bounce_domain": "b.example", "bounce_key": "short"},
        {"bounce_domain": "b.example", "bounce_key": "k" * 16, "bounce_mailbox": "far too long a name"},
        {"dkim": (DkimKey(domain="a.example", selector="s", private_key="x"),)},
        {"tls": "starttls", "ca_pem": "x"},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """A wrong option must be told at the start, and not by a mail that fails."""
    with pytest.raises(ValueError, match=r"`\w+`|DKIM"):
        make(25, **options)
