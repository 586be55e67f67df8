"""A mail must be signed as the RFCs say, be fit for any relay, and let nobody write headers of his own."""

import email
import email.policy
import subprocess
import sys
from email.message import EmailMessage
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.letters import LetterRefused, Mailbox, Signer, public_key_of, read_mailbox
from orderbell.channels.protocol import Outcome
from tests.channels.mail_samples import (
    ED25519_KEY,
    ED25519_RECORD,
    NOW,
    RSA_KEY,
    RSA_RECORD,
    SIGNED_BY_RFC,
    find_key,
    letter,
    message,
)


def parsed(raw: bytes) -> EmailMessage:
    """Read a mail as a mail program does."""
    return email.message_from_bytes(raw, policy=email.policy.default)


class TestSignatures:
    """DKIM."""

    @pytest.mark.parametrize("index", [0, 1])
    def test_message_of_rfc_verifies(self, index: int) -> None:
        """Both signatures of the RFC's message must verify with what stands in its DNS."""
        assert dkim.DKIM(SIGNED_BY_RFC).verify(idx=index, dnsfunc=find_key)

    @pytest.mark.parametrize(
        ("key", "record"), [(ED25519_KEY, ED25519_RECORD), (RSA_KEY, RSA_RECORD)], ids=["ed25519", "rsa"]
    )
    def test_record_of_key_is_that_of_rfc(self, key: str, record: str) -> None:
        """The record to be published must be the one that the RFC derives from the same private key."""
        signer = Signer("football.example.com", "brisbane", key)
        assert signer.record == record
        assert signer.name == "brisbane._domainkey.football.example.com"
        assert public_key_of(record) == signer.public_key

    @pytest.mark.parametrize(
        ("selector", "key"), [("brisbane", ED25519_KEY), ("test", RSA_KEY)], ids=["ed25519", "rsa"]
    )
    def test_signature_of_ours_verifies(self, selector: str, key: str) -> None:
        """A signature made with the RFC's keys must verify with the RFC's records, and cover what a forger would add."""
        raw = Signer("football.example.com", selector, key).sign(
            letter(message(unsubscribe="https://shop.example/u/1"))
        )
        assert dkim.verify(raw, dnsfunc=find_key)
        assert b"c=relaxed/relaxed" in raw
        assert not dkim.verify(raw.replace(b"To: zhang", b"To: other"), dnsfunc=find_key)
        assert not dkim.verify(raw.replace(b"shop.example/u/1", b"shop.example/u/2"), dnsfunc=find_key)
        assert not dkim.verify(raw.replace(b"From: ", b"From: ceo@shop.example\r\nFrom: ", 1), dnsfunc=find_key)
        assert not dkim.verify(raw[:-20] + b"x" + raw[-20:], dnsfunc=find_key)

    def test_signature_covers_headers_of_one_click(self) -> None:
        """RFC 8058 section 4 wants both headers of unsubscribing signed, and From must be signed twice."""
        raw = Signer("football.example.com", "brisbane", ED25519_KEY).sign(
            letter(message(unsubscribe="https://shop.example/u/1"))
        )
        tags = str(email.message_from_bytes(raw)["DKIM-Signature"]).replace("\r\n", "").replace(" ", "")
        names = dict(tag.split("=", 1) for tag in tags.split(";"))["h"].split(":")
        assert {"list-unsubscribe", "list-unsubscribe-post", "to", "subject", "date", "message-id"} <= set(names)
        assert {"mime-version", "content-type"} <= set(names)
        assert names.count("from") == 2

    def test_key_that_is_none(self) -> None:
        """A key that cannot be used must be refused at once, without being repeated."""
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for key in (
            "",
            "secret key",
            "AAAA",
            ED25519_KEY + "AAAA",
            "-----BEGIN RSA PRIVATE KEY-----\nxx",
            pem.decode(),
        ):
            with pytest.raises(ValueError, match="DKIM key") as caught:
                Signer("a.example", "s", key)
            assert key == "" or key not in str(caught.value)

    def test_record_that_is_none(self) -> None:
        """A TXT record of another kind must not be taken for a key, and a withdrawn key must be told."""
        assert public_key_of("v=spf1 -all") is None
        assert public_key_of("google-site-verification=abc") is None
        assert public_key_of("v=DKIM1; p=") == ""
        assert public_key_of("k=rsa; p=AB CD") == "ABCD"


class TestLetters:
    """What goes over the wire."""

    def test_headers(self) -> None:
        """A mail must say who sends it, that a machine did, and which attempt it is."""
        raw = letter(message(), sender_name="叮咚商城", reply_to="help@shop.example", feedback_id="order:shop:ob")
        mail = parsed(raw)
        assert mail["From"].addresses[0].display_name == "叮咚商城"
        assert mail["From"].addresses[0].addr_spec == "notice@shop.example"
        assert mail["To"] == "zhang@mail.example"
        assert mail["Subject"] == "发货通知"
        assert mail["Date"].datetime == NOW
        assert mail["Message-ID"] == "<00000000000000000000000000000001@shop.example>"
        assert mail["Auto-Submitted"] == "auto-generated"
        assert (mail["Reply-To"], mail["Feedback-ID"]) == ("help@shop.example", "order:shop:ob")
        assert mail["List-Unsubscribe"] is None
        assert raw == letter(
            message(), sender_name="叮咚商城", reply_to="help@shop.example", feedback_id="order:shop:ob"
        )

    def test_lines_are_fit_for_any_relay(self) -> None:
        """Nothing but ASCII in lines of at most 998 characters that end in CRLF, whatever the text is."""
        text = "长" * 5000 + "\n.\n..\r\nFrom here\r\x00" + "x" * 5000
        raw = letter(message(text=text, subject="题" * 300, link="https://shop.example/" + "p" * 800))
        assert raw.isascii()
        assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
        assert max(len(line) for line in raw.split(b"\r\n")) <= 998
        assert parsed(raw)["Subject"] == "题" * 300
        body = parsed(raw).get_body(("plain",))
        assert body is not None
        assert "长" * 5000 in body.get_content()

    def test_page_is_safe(self) -> None:
        """Text must stay text in the HTML part, and each paragraph find its own direction."""
        text = 'Dear <script>alert(1)</script> & "you"\nline\n\n\u202eשלום'
        html = parsed(
            letter(message(text=text, link='https://a.example/?a=1&b="2', subject="<i>")).replace(b"\r\n", b"\n")
        )
        page = html.get_body(("html",))
        assert page is not None
        content = page.get_content()
        assert "<script>" not in content
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;you&quot;<br>" in content
        assert 'href="https://a.example/?a=1&amp;b=&quot;2"' in content
        assert "<title>&lt;i&gt;</title>" in content
        assert content.count('<p dir="auto"') == 2

    def test_links(self) -> None:
        """Link and unsubscribing must stand in both parts, in the plain one not twice."""
        outgoing = message(
            text="看 https://a.example/o/1",
            link="https://a.example/o/1",
            unsubscribe="https://a.example/u/1",
            marketing=True,
        )
        mail = parsed(
            letter(outgoing, link_words="查看订单", unsubscribe_words="退订", unsubscribe_mail="u@shop.example")
        )
        plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
        assert plain is not None
        assert page is not None
        assert plain.get_content().count("https://a.example/o/1") == 1
        assert "退订\r\nhttps://a.example/u/1" in plain.get_content()
        assert "查看订单" in page.get_content()
        assert 'href="https://a.example/u/1"' in page.get_content()
        assert mail["List-Unsubscribe"] == "<https://a.example/u/1>, <mailto:u@shop.example>"
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    def test_unsubscribe_header_stands_on_one_line(self) -> None:
        """A long address must reach the reader as it is: folded or encoded, no mail program would find it."""
        url = "https://a.example/u/" + "T" * 800
        assert b"List-Unsubscribe: <" + url.encode() + b">\r\n" in letter(message(unsubscribe=url))

    def test_unsubscribe_without_tls_promises_no_click(self) -> None:
        """RFC 8058 wants https: the header of one-click must be left out without it."""
        mail = parsed(letter(message(unsubscribe="http://a.example/u/1")))
        assert mail["List-Unsubscribe"] == "<http://a.example/u/1>"
        assert mail["List-Unsubscribe-Post"] is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"subject": "a\r\nBcc: other@mail.example"},
            {"subject": "a\nb"},
            {"subject": "a\x00"},
            {"subject": "a\u2028b"},
            {"subject": "a\x85"},
            {"subject": "half \ud83d"},
            {"text": "half \ud83d"},
            {"link": "javascript:alert(1)"},
            {"link": "https://a.example/\r\nBcc: x"},
            {"link": "https://a.example/<b>"},
            {"link": "https://a.example/" + "x" * 900},
            {"link": "https://例子.cn/"},
            {"unsubscribe": "https://a.example/ b"},
            {"unsubscribe": "mailto:a@b.example"},
            {"marketing": True},
        ],
    )
    def test_message_that_cannot_be_a_mail(self, fields: dict[str, Any]) -> None:
        """Line breaks in headers, links that are none and marketing without a way out must be refused as content."""
        with pytest.raises(LetterRefused) as caught:
            letter(message(**fields))
        assert caught.value.outcome is Outcome.REJECTED_CONTENT

    @pytest.mark.parametrize(
        "words", ["=?utf-8?q?a=0D=0ABcc:_other@mail.example?=", "=?utf-8?b?DQpCY2M6IGE=?=", "=?x?q?y?="]
    )
    def test_encoded_word_makes_no_header(self, words: str) -> None:
        """A subject or name that looks like an encoded word must be shown as it is, and never be decoded on the way."""
        raw = letter(message(subject=words), sender_name=words)
        mail = parsed(raw)
        assert mail["Bcc"] is None
        assert mail["Subject"] == words
        assert mail["From"].addresses[0].display_name == words
        assert b"\r\nBcc" not in raw

    def test_other_libraries_change_no_letter(self) -> None:
        """Apprise changes what the standard library does with UTF-8; a process that loads it first must write the same."""
        script = (
            "import sys; from email import charset as c; 'QP' in sys.argv and c.add_charset('utf-8', c.QP, c.QP, 'utf-8');"
            "from tests.channels.mail_samples import letter, message;"
            "print(letter(message(subject='=?utf-8?q?a=0D=0ABcc:_other@mail.example?=', text='订单已发货')).decode())"
        )
        plain, changed = (
            subprocess.run([sys.executable, "-c", script, way], capture_output=True, text=True, check=True).stdout
            for way in ("as it is", "QP")
        )
        assert changed == plain
        assert "Subject: =?utf-8?b?" in plain

    @given(subject=st.text(max_size=200), name=st.text(max_size=60))
    def test_no_text_makes_a_header(self, subject: str, name: str) -> None:
        """Whatever subject or name, the headers must be those that were meant, or the mail be refused."""
        try:
            raw = letter(message(subject=subject), sender_name="".join(name.split()) if name.isprintable() else "x")
        except LetterRefused:
            return
        names = [
            line.partition(b":")[0] for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] not in b" \t"
        ]
        assert sorted(names) == [
            b"Auto-Submitted", b"Content-Type", b"Date", b"From", b"MIME-Version", b"Message-ID", b"Subject", b"To",
            b"X-Recipient-Tag",
        ]  # fmt: skip

    def test_addresses(self) -> None:
        """Domains that are not ASCII must be written as IDNA, local parts that are not need SMTPUTF8."""
        assert read_mailbox("a.b+c@mail.example") == Mailbox("a.b+c@mail.example")
        assert read_mailbox("a@例子.cn") == Mailbox("a@xn--fsqu00a.cn")
        assert read_mailbox("张三@例子.cn") == Mailbox("张三@xn--fsqu00a.cn", international=True)

    @pytest.mark.parametrize(
        "address",
        [
            "", "a", "@b.example", "a@", "a@b@c.example", "a b@c.example", "a@b..example", "<a@b.example>", "a@b.example\r\n", "a@-b.example",
            "a,b@c.example", '"a b"@c.example', "a@[127.0.0.1]", ".a@b.example", "a..b@c.example", "a@b.example, c@d.example",
            "a\x00@b.example", "a" * 65 + "@b.example", "张" * 22 + "@b.example", "a@" + "b" * 64 + ".example", "a\ud83d@b.example",
            "a@\u202eb.example", "a:b@c.example", "a@b.example>\r\nRCPT TO:<c@d.example",
        ],
    )  # fmt: skip
    def test_address_that_is_none(self, address: str) -> None:
        """What is no plain address must be refused before it comes near a command or a header."""
        with pytest.raises(LetterRefused) as caught:
            read_mailbox(address)
        assert caught.value.outcome is Outcome.REJECTED_RECIPIENT
