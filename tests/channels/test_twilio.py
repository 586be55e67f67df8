"""Twilio: its codes and statuses, its signatures, and what its list can tell."""

import datetime as dt
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest

from orderbell.channels.http import Reply
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import (
    Answer,
    Callback,
    CallbackRefused,
    Fate,
    Heard,
    Outcome,
    Outgoing,
    ReceiptsBy,
    Unsure,
)
from orderbell.channels.twilio import TwilioChannel, TwilioOptions, _read_answer, sign, with_and_without_port
from orderbell.channels.twilio_codes import CODES, outcome_of, words_of
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import Asked, utc_now
from orderbell.sandbox.twilio import TwilioSimulator
from tests.channels.rigs.twilio import TO, TwilioRig

ATTEMPT = bytes(range(16))
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
URL = f"https://shop.example/hook/token/receipts?attempt={ATTEMPT.hex()}"


@pytest.fixture
async def rig() -> AsyncIterator[TwilioRig]:
    """Run the simulated account, a channel to it, and a listener."""
    made = TwilioRig()
    await made.start()
    yield made
    await made.stop()


def channel_at(now: dt.datetime = NOW, *, shared_keys: dict[str, str] | None = None) -> TwilioChannel:
    """Make a channel that is only asked what it hears."""
    options = TwilioOptions(
        account_sid="AC1", auth_token="12345", sender="+15005550006", shared_keys=shared_keys or {}, callback_url=URL
    )
    return TwilioChannel(options, name="twilio", now=lambda: now, shared=KeptInMemory(utc_now))


def called(
    form: dict[str, str],
    *,
    url: str = URL,
    signature: str | None = None,
    settings: str = "",
    body: bytes | None = None,
) -> Callback:
    """Make a callback, signed with the token."""
    if signature is None:
        signature = sign("12345", url, form.items())
    headers = {"x-twilio-signature": signature}
    if settings:
        headers["x-twilio-webhooks-signature-settings"] = settings
    query = dict(parse_qsl(url.partition("?")[2]))
    return Callback("POST", url, headers, query, urlencode(form).encode() if body is None else body, "receipts")


def hear(form: dict[str, str], **more: str) -> Heard:
    """Let a channel hear a good callback."""
    return channel_at().hear(called(form, **more))  # type: ignore[arg-type]


def test_sign_golden_vector() -> None:
    """The example of Twilio's documentation must come out."""
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675309",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert sign("12345", url, form.items()) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def test_sign_with_unknown_algorithm() -> None:
    """An algorithm that is not known must be refused, and not be guessed."""
    with pytest.raises(ValueError, match="unknown algorithm"):
        sign("key", URL, [], "HMAC_MD5")


@pytest.mark.parametrize(
    ("url", "both"),
    [
        ("https://shop.example/a?b=1", ("https://shop.example:443/a?b=1", "https://shop.example/a?b=1")),
        ("https://shop.example:8443/a", ("https://shop.example:8443/a", "https://shop.example/a")),
        ("http://shop.example/a", ("http://shop.example:80/a", "http://shop.example/a")),
        ("https://me:it@shop.example/a", ("https://me:it@shop.example:443/a", "https://me:it@shop.example/a")),
        ("http://[::1]:8000/a", ("http://[::1]:8000/a", "http://[::1]/a")),
        ("http://[::1]/a", ("http://[::1]:80/a", "http://[::1]/a")),
    ],
)
def test_url_with_and_without_port(url: str, both: tuple[str, str]) -> None:
    """Both spellings of an address must be tried, as Twilio signs either."""
    assert with_and_without_port(url) == both


@pytest.mark.parametrize("signed", ["https://shop.example:443/hook", "https://shop.example/hook"])
@pytest.mark.parametrize("seen", ["https://shop.example:443/hook", "https://shop.example/hook"])
def test_hear_with_and_without_port(signed: str, seen: str) -> None:
    """A callback must be believed whichever spelling Twilio signed."""
    form = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    signature = sign("12345", signed, form.items())
    assert channel_at().hear(called(form, url=seen, signature=signature)).receipts


OUTCOMES = {
    Outcome.THROTTLED: (14107, 20429, 21611, 30001, 30022, 63017, 63018),
    Outcome.RETRY_LATER: (21730,),
    Outcome.CHANNEL_DOWN: (
        10001, 20003, 20004, 20005, 20006, 20008, 20404, 21601, 21603, 21606, 21607, 21609, 21659, 21660, 21661, 21701, 21703,
        21705, 21718, 30002, 30034, 30038,
    ),
    Outcome.REJECTED_RECIPIENT: (
        21211, 21214, 21217, 21265, 21408, 21604, 21608, 21610, 21612, 21614, 21635, 30004, 30005, 30006,
    ),
    Outcome.REJECTED_CONTENT: (21602, 21605, 21617, 21618, 21619, 21624, 30007, 30036, 90007, 90014),
}  # fmt: skip


def test_codes_are_all_tested() -> None:
    """The table of this test must be the whole table."""
    assert {code: outcome for code, (outcome, _) in CODES.items()} == {
        code: outcome for outcome, codes in OUTCOMES.items() for code in codes
    }


@pytest.mark.parametrize(
    ("code", "outcome"), [(code, outcome) for outcome, codes in OUTCOMES.items() for code in codes]
)
def test_answer_with_code(code: int, outcome: Outcome) -> None:
    """Each code must have its outcome, with words; a throttle a time to wait."""
    status = 429 if outcome is Outcome.THROTTLED else 400
    body = msgspec.json.encode({"code": code, "message": f"about {TO}", "more_info": "", "status": status})
    answer = _read_answer(ATTEMPT, Reply(status, body))
    assert answer.outcome is outcome
    assert answer.detail.startswith(f"{code} ")
    assert len(answer.detail) > 10
    assert TO not in answer.detail
    assert (answer.retry_after_s > 0) is (outcome is Outcome.THROTTLED)
    assert answer.attempt_id == ATTEMPT


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.REJECTED_CONTENT),
        (401, Outcome.CHANNEL_DOWN),
        (403, Outcome.CHANNEL_DOWN),
        (404, Outcome.REJECTED_CONTENT),
        (429, Outcome.THROTTLED),
        (500, Outcome.UNKNOWN),
        (503, Outcome.UNKNOWN),
    ],
)
def test_outcome_of_unknown_code(status: int, outcome: Outcome) -> None:
    """A code that is in no manual must never be success; refused requests surely made nothing."""
    assert outcome_of(99999, status)[0] is outcome
    body = msgspec.json.encode({"code": 99999, "message": "?", "status": status})
    assert _read_answer(ATTEMPT, Reply(status, body)).outcome is outcome


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, b'{"sid": "SM1", "status": "queued", "error_code": null}', Outcome.ACCEPTED),
        (201, b'{"sid": "SM1", "status": "accepted"}', Outcome.ACCEPTED),
        (201, b'{"sid": "SM1", "status": "scheduled"}', Outcome.ACCEPTED),
        (201, b'{"sid": "SM1", "status": "failed", "error_code": 21610}', Outcome.REJECTED_RECIPIENT),
        (201, b'{"sid": "SM1", "status": "undelivered", "error_code": 30002}', Outcome.CHANNEL_DOWN),
        (201, b'{"sid": "SM1", "status": "canceled", "error_code": null}', Outcome.REJECTED_CONTENT),
        (201, b'{"sid": "SM1", "status": "received"}', Outcome.UNKNOWN),
        (201, b'{"sid": "", "status": "queued"}', Outcome.UNKNOWN),
        (201, b'{"sid": "SM1"}', Outcome.UNKNOWN),
        (200, b'{"code": 20003, "message": "?"}', Outcome.UNKNOWN),
        (200, b"<html>welcome</html>", Outcome.UNKNOWN),
        (201, b"", Outcome.UNKNOWN),
        (302, b"", Outcome.UNKNOWN),
        (500, b'{"code": 20500, "message": "?", "status": 500}', Outcome.UNKNOWN),
        (503, b'{"code": 21730, "message": "?", "status": 503}', Outcome.RETRY_LATER),
        (502, b"bad gateway", Outcome.UNKNOWN),
        (429, b"", Outcome.THROTTLED),
        (400, b'{"code": null}', Outcome.REJECTED_CONTENT),
    ],
)
def test_answer_with_status(status: int, body: bytes, outcome: Outcome) -> None:
    """Only a message that is under way is success, whatever the status of HTTP."""
    assert _read_answer(ATTEMPT, Reply(status, body)).outcome is outcome


@pytest.mark.parametrize(
    ("status", "delivered"),
    [
        ("delivered", True),
        ("read", True),
        ("undelivered", False),
        ("failed", False),
        ("canceled", False),
        *(
            (status, None)
            for status in ("accepted", "scheduled", "queued", "sending", "sent", "partially_delivered", "teleported")
        ),
    ],
)
def test_hear_status(status: str, delivered: bool | None) -> None:
    """Only the last statuses must be receipts; all must be answered well, so that they are not told again."""
    heard = hear({"MessageSid": "SM1", "MessageStatus": status, "ErrorCode": "" if delivered else "30003"})
    assert (heard.status, heard.content_type) == (200, "text/xml")
    assert heard.answer == b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
    assert [receipt.delivered for receipt in heard.receipts] == ([] if delivered is None else [delivered])
    for receipt in heard.receipts:
        assert (receipt.attempt_id, receipt.provider_ref, receipt.at) == (ATTEMPT, "SM1", NOW)
        assert receipt.detail == (status if delivered else f"{status} 30003 the phone is off or out of reach")


@pytest.mark.parametrize("query", ["", "?attempt=", "?attempt=zz", "?attempt=0011", f"?other={ATTEMPT.hex()}"])
def test_hear_status_without_attempt(query: str) -> None:
    """Where the address names no attempt of ours, Twilio's id must do."""
    (receipt,) = hear(
        {"MessageSid": "SM1", "MessageStatus": "delivered"}, url=f"https://shop.example/hook{query}"
    ).receipts
    assert (receipt.attempt_id, receipt.provider_ref) == (b"", "SM1")


@pytest.mark.parametrize("code", ["soon", "9" * 5_000, "-1", "٣"])
def test_hear_status_with_strange_code(code: str) -> None:
    """A code that is none must not stop a receipt."""
    (receipt,) = hear({"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": code}).receipts
    assert not receipt.delivered


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}, 403),
        ({"signature": ""}, 403),
        ({"signature": "\xff"}, 403),
        ({"url": URL + "0"}, 403),
        ({"url": URL.replace("https:", "http:")}, 403),
        ({"url": URL.replace("shop", "shap")}, 403),
        ({"url": "https://shop.example:99999/"}, 400),
        ({"url": "https://[shop/"}, 400),
        ({"body": b"MessageSid=SM1&MessageStatus=failed"}, 403),
        ({"body": b"MessageSid=SM1&MessageStatus=delivered&x=1"}, 403),
        ({"body": b""}, 403),
        ({"body": b"\xff\xfe"}, 400),
        ({"body": b"a=1&" * 2_000}, 400),
        ({"settings": "key=k1,algorithm=HMAC_SHA256"}, 403),
        ({"settings": "algorithm=HMAC_SHA256"}, 403),
        ({"settings": "algorithm=HMAC_MD5"}, 400),
        ({"settings": "key=k2,algorithm=HMAC_SHA1"}, 403),
    ],
)
def test_hear_forged_callback(changed: dict[str, str | bytes], status: int) -> None:
    """What Twilio did not sign must be refused, whatever has been touched."""
    form = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    good = called(form)
    headers = dict(good.headers)
    if "signature" in changed:
        headers["x-twilio-signature"] = str(changed["signature"])
    if "settings" in changed:
        headers["x-twilio-webhooks-signature-settings"] = str(changed["settings"])
    body = changed.get("body", good.body)
    assert isinstance(body, bytes)
    forged = Callback("POST", str(changed.get("url", URL)), headers, good.query, body, "receipts")
    with pytest.raises(CallbackRefused) as caught:
        channel_at(shared_keys={"k2": "other"}).hear(forged)
    assert caught.value.status == status


@pytest.mark.parametrize("form", [{}, {"a": "1"}, {"MessageStatus": "delivered"}, {"Body": "x"}, {"MessageSid": "SM1"}])
def test_hear_signed_callback_about_nothing(form: dict[str, str]) -> None:
    """A callback that is neither a status nor a message must be refused."""
    with pytest.raises(CallbackRefused, match="neither"):
        hear(form)


def test_hear_callback_signed_with_shared_key() -> None:
    """The newer signature must be checked with the key that its header names."""
    form = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    signature = sign("s3cret", URL, form.items(), "HMAC_SHA256")
    callback = called(form, signature=signature, settings="key=k1,algorithm=HMAC_SHA256")
    assert channel_at(shared_keys={"k1": "s3cret"}).hear(callback).receipts


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"Body": "到哪了？"}, "到哪了？"),
        ({"Body": " Y "}, "Y"),
        ({"Body": "STOP", "OptOutType": "STOP"}, "STOP"),
        ({"Body": "unsubscribe", "OptOutType": "STOP"}, "unsubscribe"),
        ({"Body": "ARRET", "OptOutType": "STOP"}, "STOP"),
        ({"Body": "cancel", "OptOutType": "STOP"}, "cancel"),
        ({"Body": "YES", "OptOutType": "START"}, "YES"),
        ({"Body": "INFO", "OptOutType": "HELP"}, "INFO"),
        (
            {"Body": "broken", "NumMedia": "1", "MediaUrl0": "https://api.twilio.com/m/0"},
            "broken\nhttps://api.twilio.com/m/0",
        ),
        ({"Body": "", "NumMedia": "1", "MediaUrl0": "https://api.twilio.com/m/0"}, "https://api.twilio.com/m/0"),
        ({"Body": ""}, ""),
    ],
)
def test_hear_message_from_person(form: dict[str, str], text: str) -> None:
    """A reply must come through in the person's own words, unless only Twilio knows that they mean stop."""
    heard = hear({"MessageSid": "SM9", "SmsStatus": "received", "From": TO, **form}, url="https://shop.example/hook")
    (inbound,) = heard.inbound
    assert (inbound.id, inbound.sender, inbound.text, inbound.at) == ("SM9", TO, text, NOW)
    assert (heard.content_type, heard.receipts, heard.gone) == ("text/xml", (), ())


@pytest.mark.parametrize("sender", ["", "12345", "whatsapp:+8613800138000", "+", "+86a", "ALIBABA"])
def test_hear_message_from_no_number(sender: str) -> None:
    """What comes from no phone number cannot be answered, and must not come again."""
    heard = hear({"MessageSid": "SM9", "Body": "x", "From": sender})
    assert (heard.status, heard.inbound) == (200, ())


async def test_send_asks_for_receipt_and_validity(rig: TwilioRig) -> None:
    """The request must carry the attempt in the status callback, and for how long anybody wants the message."""
    message = rig.outgoing(1)
    await rig.channel.send(
        [
            message,
            msgspec.structs.replace(message, valid_until=utc_now() + dt.timedelta(seconds=90)),
            msgspec.structs.replace(message, valid_until=utc_now() + dt.timedelta(days=3)),
        ]
    )
    plain, *limited = (dict(taken.fields) for taken in rig.simulator.taken)
    assert plain == {
        "To": TO,
        "From": rig.simulator.sender,
        "Body": message.text,
        "StatusCallback": f"{rig.callback_url}?attempt={message.attempt_id.hex()}",
    }
    validities = sorted(int(fields["ValidityPeriod"]) for fields in limited)
    assert 80 <= validities[0] <= 90
    assert validities[1] == 36_000


async def test_send_of_message_that_nobody_wants_any_more(rig: TwilioRig) -> None:
    """A message whose time is over must not be sent."""
    late = msgspec.structs.replace(rig.outgoing(1), valid_until=utc_now() - dt.timedelta(seconds=1))
    (answer,) = await rig.channel.send([late])
    assert answer.outcome is Outcome.REJECTED_CONTENT
    assert rig.simulator.taken == []


async def send_with(rig: TwilioRig, **changed: str) -> Answer:
    """Send one message over a channel with other options."""
    options = msgspec.structs.replace(rig.options(), **changed)
    channel = TwilioChannel(options, name="twilio", now=utc_now, shared=KeptInMemory(utc_now))
    (answer,) = await channel.send([rig.outgoing(1)])
    await channel.close()
    return answer


async def test_send_with_other_options(rig: TwilioRig) -> None:
    """A messaging service, an API key and a callback address with a query must be used as they are set."""
    assert (
        await send_with(rig, sender="", messaging_service_sid=rig.simulator.messaging_service_sid)
    ).outcome is Outcome.ACCEPTED
    rig.simulator.keys["SK1"] = "hush"
    assert (await send_with(rig, api_key="SK1", api_secret="hush")).outcome is Outcome.ACCEPTED
    assert (await send_with(rig, callback_url=f"{rig.callback_url}?shop=7")).outcome is Outcome.ACCEPTED
    first, _, third = (taken.fields for taken in rig.simulator.taken)
    assert "From" not in first
    assert third["StatusCallback"] == f"{rig.callback_url}?shop=7&attempt={1:032x}"
    (receipt,) = {receipt.attempt_id for receipt in await rig.receipts()}
    assert receipt == (1).to_bytes(16, "big")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sender": "+15550001111"}, "21659"),
        ({"sender": "", "messaging_service_sid": "MG1"}, "21703"),
        ({"auth_token": "wrong"}, "20003"),
        ({"account_sid": "AC1", "api_key": "AC" + "0" * 32, "api_secret": "sandbox"}, "20404"),
        ({"callback_url": "not an address"}, "21609"),
    ],
)
async def test_send_with_wrong_options(rig: TwilioRig, changed: dict[str, str], words: str) -> None:
    """A wrong account, key, sender or callback must be the channel's fault, and be said without secrets."""
    answer = await send_with(rig, **changed)
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert answer.detail.startswith(words)
    assert "wrong" not in answer.detail.replace("are wrong", "")


async def test_send_to_person_who_replied_stop(rig: TwilioRig) -> None:
    """STOP must reach us as a message and be refused as 21610 afterwards, until START."""
    assert await rig.simulator.reply(TO, "Stop", opt_out=True) == 200
    (answer,) = await rig.channel.send([rig.outgoing(1)])
    assert (answer.outcome, answer.detail) == (Outcome.REJECTED_RECIPIENT, "21610 this person replied STOP")
    assert await rig.simulator.reply(TO, "start") == 200
    (answer,) = await rig.channel.send([rig.outgoing(1)])
    assert answer.outcome is Outcome.ACCEPTED
    inbound = [message for heard in rig.heard for message in heard.inbound]
    assert [message.text for message in inbound] == ["Stop", "start"]
    assert len({message.id for message in inbound}) == 2


async def test_send_when_queue_is_full(rig: TwilioRig) -> None:
    """A full queue must be waited for, for all messages of the sender."""
    rig.simulator.faults = Faults(receipt_delay_s=600)
    rig.simulator.queue_max = 2
    answers = await rig.channel.send([rig.outgoing(number) for number in (1, 2, 3)])
    assert sorted(answer.outcome for answer in answers) == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.THROTTLED]


async def test_receipts_of_lost_answer_name_the_attempt(rig: TwilioRig) -> None:
    """A receipt must settle an attempt whose answer never came, and overtaking must do no harm."""
    rig.simulator.faults = Faults(cut_after_accept=1)
    (answer,) = await rig.channel.send([rig.outgoing(7)])
    assert answer.outcome is Outcome.UNKNOWN
    await rig.receipts()
    await rig.simulator.tell_status(rig.simulator.taken[0], "sent")
    await rig.simulator.tell_status(rig.simulator.taken[0], "delivered")
    receipts = await rig.receipts()
    assert [receipt.attempt_id for receipt in receipts] == [(7).to_bytes(16, "big")] * 2
    assert all(receipt.delivered for receipt in receipts)


def unsure_of(outgoing: Outgoing, *, sent_at: dt.datetime | None = None) -> Unsure:
    """What the dispatcher knows about an attempt without an answer."""
    return Unsure(outgoing.attempt_id, outgoing.to, sent_at or utc_now(), text=outgoing.text)


async def test_lookup_of_queued_message(rig: TwilioRig) -> None:
    """A message that waits in a queue has no DateSent, and must still be found."""
    rig.simulator.faults = Faults(receipt_delay_s=600)
    first, second = rig.outgoing(1), rig.outgoing(2)
    await rig.channel.send([first])
    found = await rig.channel.lookup([unsure_of(first), unsure_of(second)])
    assert [(one.attempt_id, one.fate) for one in found] == [
        (first.attempt_id, Fate.ACCEPTED),
        (second.attempt_id, Fate.NOT_FOUND),
    ]
    assert found[0].provider_ref == rig.simulator.taken[0].ref


async def test_lookup_of_message_that_is_not_alone(rig: TwilioRig) -> None:
    """Two messages with the same text at the same time cannot be told apart, and must be left out."""
    message = rig.outgoing(1)
    again = msgspec.structs.replace(message, attempt_id=ATTEMPT)
    await rig.channel.send([message, again])
    assert await rig.channel.lookup([unsure_of(message)]) == []
    assert await rig.channel.lookup([unsure_of(message), unsure_of(again)]) == []


async def test_lookup_of_message_of_another_time(rig: TwilioRig) -> None:
    """A message with the same text of an hour ago must not be taken for this one."""
    message = rig.outgoing(1)
    await rig.channel.send([message])
    (found,) = await rig.channel.lookup([unsure_of(message, sent_at=utc_now() + dt.timedelta(hours=1))])
    assert found.fate is Fate.NOT_FOUND


async def test_lookup_without_knowing_enough(rig: TwilioRig) -> None:
    """Without number, text or time nothing can be said."""
    message = unsure_of(rig.outgoing(1))
    unclear = [
        msgspec.structs.replace(message, to=""),
        msgspec.structs.replace(message, text=""),
        msgspec.structs.replace(message, sent_at=None),
    ]
    assert await rig.channel.lookup(unclear) == []


async def test_lookup_in_long_list(rig: TwilioRig) -> None:
    """A number with many messages must be read to the end before one of them is called missing."""
    for number in range(450):
        rig.simulator.keep(f"SM{number}", TO, f"text {number}", From=rig.simulator.sender)
    oldest = unsure_of(Outgoing(ATTEMPT, "sms", TO, "text 0"))
    missing = unsure_of(Outgoing(bytes(16), "sms", TO, "text 450"))
    fates = {one.attempt_id: one.fate for one in await rig.channel.lookup([oldest, missing])}
    assert fates == {ATTEMPT: Fate.DELIVERED, bytes(16): Fate.NOT_FOUND}


async def test_lookup_in_list_without_end(rig: TwilioRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list is too long to be read, nothing may be called missing."""
    monkeypatch.setattr("orderbell.channels.twilio._PAGES_MAX", 1)
    for number in range(250):
        rig.simulator.keep(f"SM{number}", TO, f"text {number}", From=rig.simulator.sender)
    assert await rig.channel.lookup([unsure_of(Outgoing(bytes(16), "sms", TO, "text 450"))]) == []


async def test_lookup_on_trial_account(rig: TwilioRig) -> None:
    """The words that Twilio writes before the texts of a trial account must not hide a message."""
    message = rig.outgoing(1)
    rig.simulator.keep("SM1", TO, f"Sent from your Twilio trial account - {message.text}", From=rig.simulator.sender)
    (found,) = await rig.channel.lookup([unsure_of(message)])
    assert found.fate is Fate.DELIVERED


async def test_check_of_account(rig: TwilioRig) -> None:
    """A check must tell a trial and a suspended account, and that receipts have nowhere to go."""
    rig.simulator.account_type = "Trial"
    (finding,) = await rig.channel.check()
    assert finding.fine
    assert "trial" in finding.words
    rig.simulator.account_status = "suspended"
    (finding,) = await rig.channel.check()
    assert not finding.fine
    assert "suspended" in finding.words
    rig.simulator.keys["SK1"] = "hush"
    options = msgspec.structs.replace(rig.options(), api_key="SK1", api_secret="hush", callback_url="")
    channel = TwilioChannel(options, name="twilio", now=utc_now, shared=KeptInMemory(utc_now))
    assert [finding.fine for finding in await channel.check()] == [True, False]
    assert channel.receipts_by is ReceiptsBy.NONE
    await channel.close()
    channel = TwilioChannel(
        msgspec.structs.replace(options, api_secret="wrong"), name="twilio", now=utc_now, shared=KeptInMemory(utc_now)
    )
    findings = await channel.check()
    await channel.close()
    assert not any(finding.fine for finding in findings)
    assert "api_key" in findings[0].words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "sender or messaging_service_sid"),
        ({"sender": "+1", "messaging_service_sid": "MG1"}, "sender or messaging_service_sid"),
        ({"sender": "+1", "api_key": "SK1"}, "api_key and api_secret"),
        ({"sender": "+1", "colour": "red"}, "unknown field"),
    ],
)
def test_options_that_make_no_sense(fields: dict[str, str], words: str) -> None:
    """Options that nothing could be sent with must be refused."""
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert({"account_sid": "AC1", "auth_token": "x", **fields}, TwilioOptions)


def test_words_of_codes() -> None:
    """Codes of receipts must be put in words, unknown ones left alone."""
    assert words_of(30005) == "the number does not exist"
    assert words_of(30008) == "the carrier gives no reason"
    assert words_of(99999) == words_of(None) == ""


async def test_simulator_without_authorization() -> None:
    """Requests with no, broken or another account's credentials must be refused as 20003."""
    simulator = TwilioSimulator()
    for authorization in ("", "Basic", "Basic !!", "Bearer QUM6eA==", "Basic QUMxOng="):
        headers = {"authorization": authorization}
        answered = await simulator.answer(Asked("GET", "/2010-04-01/Accounts/AC1.json", "", headers, b""))
        assert answered.status == 401
        assert b"20003" in answered.body
