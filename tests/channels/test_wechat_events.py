"""What WeChat pushes: signatures, safe mode, XML and JSON, and what must be refused."""

import base64
import json
from datetime import UTC, datetime
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.protocol import Callback, CallbackRefused, Heard, Receipt
from orderbell.channels.wechat_events import EventReader, decrypt, parse_xml, read_aes_key, sign
from orderbell.errors import SettingsInvalid
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.wechat import WeChatSimulator
from tests.channels.rigs.wechat import AES_KEY, APPID, CALLBACK_TOKEN, OPENID, TEMPLATE, WeChatRig, message

READER = EventReader(appid=APPID, token=CALLBACK_TOKEN)
SAFE_READER = EventReader(appid=APPID, token=CALLBACK_TOKEN, aes_key=AES_KEY)
OTHER = "9nLIlbOQZC5Y89AZteFEux3WCXRRRG5Wfzkpssu4bLI"

QUERY = {
    "timestamp": "1610969440",
    "nonce": "1",
    "signature": sign(CALLBACK_TOKEN, "1610969440", "1"),
    "openid": OPENID,
}


def pushed(body: bytes | str | dict[str, object], **query: str) -> Callback:
    """Make a signed push of WeChat."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    return Callback("POST", "https://shop.example/hooks/wechat", {}, QUERY | query, raw)


def xml(event: str, inner: str, message_type: str = "event") -> str:
    """Write an event in WeChat's XML."""
    return (
        f"<xml><ToUserName><![CDATA[gh_123456789abc]]></ToUserName><FromUserName><![CDATA[{OPENID}]]></FromUserName>"
        f"<CreateTime>1610969440</CreateTime><MsgType><![CDATA[{message_type}]]></MsgType>"
        f"<Event><![CDATA[{event}]]></Event>{inner}</xml>"
    )


def event(name: str, **fields: object) -> dict[str, object]:
    """Write an event in WeChat's JSON."""
    return {
        "ToUserName": "gh_123456789abc", "FromUserName": OPENID, "CreateTime": "1610969440", "MsgType": "event",
        "Event": name, **fields,
    }  # fmt: skip


def items(*pairs: tuple[str, str]) -> str:
    """Write the list of a question for permission in XML."""
    return "".join(
        f"<List><TemplateId><![CDATA[{template}]]></TemplateId><SubscribeStatusString><![CDATA[{said}]]>"
        "</SubscribeStatusString><PopupScene>2</PopupScene></List>"
        for template, said in pairs
    )


def test_signature_of_golden_vector() -> None:
    """Token, time and number of the documented example must give its signature."""
    assert sign("AAAAA", "1714036504", "1514711492") == "f464b24fc39322e44b38aa78f5edd27bd1441696"


def test_signature_and_opening_of_golden_vector() -> None:
    """An encrypted text of a published test must have its signature and open to what it was."""
    key, sealed = (
        "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR",
        ("4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="),
    )
    assert sign("123456", "1411443780", "437374425", sealed) == "dd6b9c95b495b3f7e2901bfbc76c664930ffdb96"
    text, appid = decrypt(sealed, read_aes_key(key))
    assert (text.isdigit(), appid) == (True, "wx49f0ab532d5d035a")
    assert decrypt("9s4gMv99m88kKTh/H8IdkNiFGeG9pd7vNWl50fGRWXY=", read_aes_key(key)) == (b"test", "rust")


def test_simulator_seals_as_golden_vector() -> None:
    """The simulator's encryption, with the published salt, must give the published text."""
    simulator = WeChatSimulator(appid="rust", templates={}, encoding_aes_key=AES_KEY)
    assert simulator.seal(b"test", b"1234567890123456") == "9s4gMv99m88kKTh/H8IdkNiFGeG9pd7vNWl50fGRWXY="


@pytest.mark.parametrize("key", ["short", "中" * 43, "=" * 43])
def test_aes_key_that_is_none(key: str) -> None:
    """A wrong EncodingAESKey must be refused when the channel is made."""
    with pytest.raises(SettingsInvalid, match="43"):
        EventReader(appid=APPID, token=CALLBACK_TOKEN, aes_key=key)


@pytest.mark.parametrize("reader", [READER, SAFE_READER])
def test_address_is_checked(reader: EventReader) -> None:
    """The check of the address must be answered with its echostr, as plain text."""
    simulator = WeChatSimulator(templates={}, callback_token=CALLBACK_TOKEN)
    query = simulator.signed("1714036504", "1514711492") | {"echostr": "5230411<b>"}
    heard = reader.hear(Callback("GET", "https://shop.example/", {}, query, b""))
    assert (heard.answer, heard.content_type, heard.status) == (b"5230411<b>", "text/plain", 200)


@pytest.mark.parametrize(
    "wrong",
    [
        {"signature": ""},
        {"signature": "0" * 40},
        {"signature": "签名"},
        {"signature": "\ud83d"},
        {"nonce": "2"},
        {"timestamp": "\ud83d"},
        {"echostr": ""},
    ],
)
def test_address_check_of_somebody_else(wrong: dict[str, str]) -> None:
    """A wrong signature must not be answered."""
    query = QUERY | {"echostr": "1"} | wrong
    with pytest.raises(CallbackRefused):
        READER.hear(Callback("GET", "https://shop.example/", {}, query, b""))


def test_nothing_is_believed_without_token() -> None:
    """Without a callback token everybody could sign, so everything must be refused."""
    reader = EventReader(appid=APPID, token="")
    query = QUERY | {"signature": sign("", "1610969440", "1"), "echostr": "1"}
    with pytest.raises(CallbackRefused, match="message_token"):
        reader.hear(Callback("GET", "https://shop.example/", {}, query, b""))


@pytest.mark.parametrize(
    ("status", "delivered"),
    [("success", True), ("failed:user block", False), ("failed: system failed", False), ("failed:freq limit", False)],
)
def test_receipt_of_template_message(status: str, delivered: bool) -> None:
    """TEMPLATESENDJOBFINISH is a receipt by msgid; anything but success is a failure."""
    body = xml("TEMPLATESENDJOBFINISH", f"<MsgID>200163836</MsgID><Status><![CDATA[{status}]]></Status>")
    heard = READER.hear(pushed(body))
    at = datetime(2021, 1, 18, 11, 30, 40, tzinfo=UTC)
    assert heard.receipts == (Receipt(b"", "200163836", delivered, status, at),)
    assert (heard.answer, heard.content_type) == (b"success", "text/plain")


@pytest.mark.parametrize(("code", "delivered"), [("0", True), (0, True), ("43101", False), (43101, False)])
def test_receipt_of_subscribe_message(code: str | int, delivered: bool) -> None:
    """subscribe_msg_sent_event is a receipt by msgid, with a code in words or as a number."""
    item = {"TemplateId": TEMPLATE, "MsgID": "1700827132819554304", "ErrorCode": code, "ErrorStatus": "why"}
    heard = READER.hear(pushed(event("subscribe_msg_sent_event", List=item)))
    assert [(one.provider_ref, one.delivered, one.detail) for one in heard.receipts] == [
        ("1700827132819554304", delivered, f"{code} why")
    ]
    inner = (
        f"<TemplateId>{TEMPLATE}</TemplateId><MsgID>1700827132819554304</MsgID><ErrorCode>{code}</ErrorCode>"
        "<ErrorStatus>why</ErrorStatus>"
    )
    wrapped = f"<SubscribeMsgSentEvent><List>{inner}</List></SubscribeMsgSentEvent>"
    assert READER.hear(pushed(xml("subscribe_msg_sent_event", wrapped))) == heard


ACCEPT = {"TemplateId": TEMPLATE, "SubscribeStatusString": "accept", "PopupScene": "0"}
REJECT = {"TemplateId": OTHER, "SubscribeStatusString": "reject", "PopupScene": "0"}
POPUP = "subscribe_msg_popup_event"
CHANGE = "subscribe_msg_change_event"


@pytest.mark.parametrize(
    ("body", "grants"),
    [
        (
            xml(
                POPUP,
                f"<SubscribeMsgPopupEvent>{items((TEMPLATE, 'accept'), (OTHER, 'reject'))}</SubscribeMsgPopupEvent>",
            ),
            [(TEMPLATE, 1)],
        ),
        (
            xml(POPUP, f"<SubscribeMsgPopupEvent>{items((TEMPLATE, 'accept'))}</SubscribeMsgPopupEvent>"),
            [(TEMPLATE, 1)],
        ),
        (
            xml(
                POPUP,
                f"<SubscribeMsgPopupEvent>{items((TEMPLATE, 'accept'), (TEMPLATE, 'accept'))}</SubscribeMsgPopupEvent>",
            ),
            [(TEMPLATE, 2)],
        ),
        (event(POPUP, List=[ACCEPT, REJECT]), [(TEMPLATE, 1)]),
        (event(POPUP, List=ACCEPT), [(TEMPLATE, 1)]),
        (event(POPUP, List=ACCEPT | {"SubscribeStatusString": "acceptWithAudio"}), [(TEMPLATE, 1)]),
        (event(POPUP, List=ACCEPT | {"SubscribeStatusString": "ban"}), []),
        (event(POPUP, List=REJECT), []),
        (event(POPUP, List=[]), []),
        (event(CHANGE, List=REJECT), [(OTHER, 0)]),
        (event(CHANGE, SubscribeMsgChangeEvent=[REJECT]), [(OTHER, 0)]),
        (event(CHANGE, List=[ACCEPT]), []),
        (xml(CHANGE, f"<SubscribeMsgChangeEvent>{items((OTHER, 'reject'))}</SubscribeMsgChangeEvent>"), [(OTHER, 0)]),
    ],
)
def test_permissions_are_heard(body: str | dict[str, object], grants: list[tuple[str, int]]) -> None:
    """Each acceptance is one more message of its template; a template turned off takes all of them back."""
    heard = READER.hear(pushed(body))
    assert list(heard.grants) == [(OPENID, template, count) for template, count in grants]
    assert heard.answer == b"success"


def test_follower_who_left() -> None:
    """Who stops following is gone."""
    assert READER.hear(pushed(xml("unsubscribe", "<EventKey/>"))).gone == (("wechat", OPENID),)


@pytest.mark.parametrize(
    "body",
    [
        xml("subscribe", ""),
        xml("CLICK", "<EventKey>1</EventKey>"),
        xml("unsubscribe", "", message_type="text"),
        xml("", "<Content>你好</Content>", message_type="text"),
        event("brand_new_event", Thing=[1, {"x": None}]),
        "{}",
    ],
)
def test_other_events_are_confirmed(body: str | dict[str, object]) -> None:
    """What is none of our business must be confirmed, or WeChat sends it again."""
    assert READER.hear(pushed(body)) == Heard(answer=b"success", content_type="text/plain")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "body",
    [
        BOMB + xml("unsubscribe", "<EventKey>&b;</EventKey>"),
        FILE + xml("unsubscribe", "<EventKey>&a;</EventKey>"),
        "<!DOCTYPE xml>" + xml("unsubscribe", ""),
        "<?xml version='1.0'?>" + BOMB + "<xml/>",
    ],
)
def test_xml_with_doctype(body: str) -> None:
    """A DOCTYPE must be refused before anything in it is read."""
    with pytest.raises(CallbackRefused, match="DOCTYPE"):
        READER.hear(pushed(body))


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "<xml>",
        "<xml></xml>",
        "<xml>text</xml>",
        "<a>" * 50_000,
        "<xml><a>&unknown;</a></xml>",
        "<xml><a>\x00</a></xml>",
        b"\xff\xfe<\x00x\x00",
        b"<?xml version='1.0' encoding='utf-16'?><xml>\xff</xml>",
        "{",
        '{"a":' * 50_000,
        '{"Event":"x"}{}',
        "[1]",
        b'{"a":"\xff"}',
        xml("TEMPLATESENDJOBFINISH", "<Status>success</Status>"),
        xml("TEMPLATESENDJOBFINISH", "<MsgID></MsgID><Status>success</Status>"),
        xml("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><MsgID>2</MsgID><Status>success</Status>"),
        xml("subscribe_msg_sent_event", "<SubscribeMsgSentEvent>x</SubscribeMsgSentEvent>"),
        xml("subscribe_msg_sent_event", ""),
        event("TEMPLATESENDJOBFINISH", MsgID=True, Status="success"),
        event("TEMPLATESENDJOBFINISH", MsgID=1, Status="success", CreateTime="soon"),
        event("TEMPLATESENDJOBFINISH", MsgID=1, Status="success", CreateTime="9" * 30),
        '{"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","Status":"x","MsgID":' + "9" * 5_000 + "}",
        event("unsubscribe", FromUserName=""),
        event("unsubscribe", FromUserName={"x": 1}),
        event(POPUP, List=[1]),
        event(POPUP, List=[{"TemplateId": TEMPLATE}]),
        {"Encrypt": 1.5},
    ],
)
def test_garbage_is_refused(body: str | bytes | dict[str, object]) -> None:
    """Whatever cannot be read must be refused, and nothing else may be raised."""
    with pytest.raises(CallbackRefused):
        READER.hear(pushed(body))


MADE_UP = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["List", "x"]), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["TEMPLATESENDJOBFINISH", "subscribe_msg_sent_event", POPUP, CHANGE, "unsubscribe"]),
    st.dictionaries(
        st.sampled_from(
            [
                "FromUserName",
                "CreateTime",
                "MsgID",
                "Status",
                "List",
                "SubscribeMsgSentEvent",
                "SubscribeMsgPopupEvent",
                "Encrypt",
            ]
        ),
        MADE_UP,
    ),
)
def test_any_json_is_read_or_refused(name: str, fields: dict[str, object]) -> None:
    """No event, however it is made up, may raise anything else."""
    body = msgspec.json.encode({"MsgType": "event", "Event": name, **fields})
    try:
        heard = READER.hear(pushed(body))
    except CallbackRefused:
        return
    assert heard.answer == b"success"


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(noise: bytes, place: int) -> None:
    """Bytes strewn into a good push must not raise anything else."""
    good = xml("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><Status>success</Status>").encode()
    for body in (noise, good[:place] + noise + good[place:], good[:place]):
        try:
            READER.hear(pushed(body))
        except CallbackRefused:
            continue


def sealed(content: bytes, appid: str = APPID, key: str = AES_KEY) -> Callback:
    """Make an encrypted push."""
    simulator = WeChatSimulator(appid=appid, templates={}, callback_token=CALLBACK_TOKEN, encoding_aes_key=key)
    encrypted = simulator.seal(content, b"s" * 16)
    signature = sign(CALLBACK_TOKEN, QUERY["timestamp"], QUERY["nonce"], encrypted)
    return pushed(
        f"<xml><ToUserName>gh_1</ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>", msg_signature=signature
    )


def test_safe_mode_opens_messages() -> None:
    """An encrypted event must be heard like a plain one, whether XML or JSON is inside."""
    for body in (xml("unsubscribe", ""), json.dumps(event("unsubscribe"))):
        assert SAFE_READER.hear(sealed(body.encode())).gone == (("wechat", OPENID),)


def test_safe_mode_in_json() -> None:
    """Mini-programs push JSON in safe mode as well."""
    encrypted = parse_xml(sealed(json.dumps(event("unsubscribe")).encode()).body)["Encrypt"]
    signature = sign(CALLBACK_TOKEN, QUERY["timestamp"], QUERY["nonce"], str(encrypted))
    heard = SAFE_READER.hear(pushed({"ToUserName": "gh_1", "Encrypt": encrypted}, msg_signature=signature))
    assert heard.gone


def test_safe_mode_refuses_plain_messages() -> None:
    """A plain body is not signed; once the safe mode is set it must be refused."""
    with pytest.raises(CallbackRefused, match="safe mode"):
        SAFE_READER.hear(pushed(xml("unsubscribe", "")))


def test_safe_mode_refuses_messages_for_others() -> None:
    """A message for another account must be refused although key and signature are right."""
    with pytest.raises(CallbackRefused, match="appid"):
        SAFE_READER.hear(sealed(xml("unsubscribe", "").encode(), appid="wxother"))


def test_encrypted_message_without_key() -> None:
    """Who has not set the key must be told so."""
    with pytest.raises(CallbackRefused, match="encoding_aes_key"):
        READER.hear(sealed(b"<xml/>"))


def test_encrypted_message_with_another_key() -> None:
    """A message under another key must be refused with words that say which setting is wrong."""
    with pytest.raises(CallbackRefused, match="encoding_aes_key"):
        SAFE_READER.hear(sealed(xml("unsubscribe", "").encode(), key="A" * 43))


def test_encrypted_message_with_wrong_signature() -> None:
    """The encrypted text must be signed."""
    callback = sealed(b"<xml/>")
    with pytest.raises(CallbackRefused, match="signature"):
        SAFE_READER.hear(msgspec.structs.replace(callback, query=QUERY | {"msg_signature": "0" * 40}))


@given(st.binary(max_size=120))
def test_any_encrypted_text_is_opened_or_refused(noise: bytes) -> None:
    """Whatever is decrypted must be refused without any other exception."""
    key = read_aes_key(AES_KEY)
    for text in (base64.b64encode(noise).decode(), noise.decode("latin-1")):
        with pytest.raises(CallbackRefused):
            decrypt(text, key)


@pytest.mark.parametrize("push", ["xml", "safe", "json"])
async def test_everything_the_simulator_pushes_is_heard(push: Literal["xml", "safe", "json"]) -> None:
    """Receipts, permissions and leaving must arrive in each form, and be confirmed."""
    rig = WeChatRig("oa_subscribe", push)
    await rig.start()
    try:
        (answer,) = await rig.channel.send([message(1)])
        rig.simulator.faults = Faults(fail_delivery=1)
        (failed,) = await rig.channel.send([message(2)])
        receipts = await rig.receipts()
        assert [(one.provider_ref, one.delivered) for one in receipts] == [
            (answer.provider_ref, True),
            (failed.provider_ref, False),
        ]
        await rig.simulator.allow(OPENID, TEMPLATE)
        await rig.simulator.allow(OPENID, TEMPLATE, OTHER)
        await rig.simulator.allow(OPENID, OTHER, answer="reject")
        await rig.simulator.turn_off(OPENID, OTHER)
        await rig.simulator.unfollow(OPENID)
        assert [heard.grants for heard in rig._heard[2:]] == [
            ((OPENID, TEMPLATE, 1),),
            ((OPENID, TEMPLATE, 1), (OPENID, OTHER, 1)),
            (),
            ((OPENID, OTHER, 0),),
            (),
        ]
        assert rig._heard[-1].gone == (("wechat", OPENID),)
        assert rig.simulator.refused_pushes == 0
    finally:
        await rig.stop()


async def test_push_that_is_not_confirmed_comes_three_times() -> None:
    """WeChat gives up after the third try; a wrong token must not be confirmed."""
    rig = WeChatRig("oa_template", "xml")
    await rig.start()
    try:
        rig.simulator.callback_token = "another"
        await rig.simulator.unfollow(OPENID)
        assert rig._heard == []
        assert (rig.simulator._pushed, rig.simulator.refused_pushes) == (3, 1)
    finally:
        await rig.stop()
