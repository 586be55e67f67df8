"""The simulated Alibaba Cloud SMS is as strict as the real one, and the official SDK takes it for that."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec
import pytest

from orderbell.channels.alibaba import (
    HEARD_ANSWER,
    AlibabaChannel,
)
from orderbell.channels.alibaba_api import (
    authorization,
    canonical_query,
)
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import (
    Callback,
    Review,
)
from orderbell.sandbox.alibaba import AlibabaSimulator, Template
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import Asked
from orderbell.serving import serving
from tests.channels.listener import listening
from tests.channels.rigs.alibaba import (
    CODE,
    KEY_ID,
    SECRET,
    SIGN,
    channel_to,
    message,
    options,
    simulator,
)


class Client:
    """The official SDK, talking to a simulator."""

    def __init__(self, url: str, secret: str = SECRET) -> None:
        absent = "the official SDK (package alibabacloud-dysmsapi20170525) is not installed"
        self.models = pytest.importorskip("alibabacloud_dysmsapi20170525.models", reason=absent)
        official = pytest.importorskip("alibabacloud_dysmsapi20170525.client")
        config = pytest.importorskip("alibabacloud_tea_openapi.utils_models").Config
        self.errors = pytest.importorskip("alibabacloud_tea_openapi.exceptions")
        host = url.removeprefix("http://")
        self.official = official.Client(
            config(access_key_id=KEY_ID, access_key_secret=secret, endpoint=host, protocol="HTTP")
        )

    async def send(self, **fields: str) -> Any:  # noqa: ANN401 - the SDK has its own models
        """Send one message."""
        answered = await asyncio.to_thread(self.official.send_sms, self.models.SendSmsRequest(**fields))
        return answered.body


ONE = {
    "phone_numbers": "13800138000",
    "sign_name": SIGN,
    "template_code": CODE,
    "template_param": '{"order":"1+2 *~","carrier":"顺丰 速运"}',
    "out_id": "o-1",
}


async def test_official_sdk_sends_one_message() -> None:
    """The official SDK must be understood: signature, awkward characters and all."""
    made = simulator()
    async with serving(made, stopping=made.end_waiting) as url:
        body = await Client(url).send(**ONE)
    assert (body.code, body.message) == ("OK", "OK")
    (taken,) = made.taken
    assert taken.text == "【叮咚】您的订单1+2 *~已由顺丰 速运发出"
    assert (taken.fields["out_id"], taken.ref) == ("o-1", body.biz_id)


async def test_official_sdk_sends_a_batch_and_asks_for_it() -> None:
    """The official SDK must be able to send a batch, which it puts into a form, and to read the records."""
    made = simulator()
    async with serving(made, stopping=made.end_waiting) as url:
        client = Client(url)
        batch = client.models.SendBatchSmsRequest(
            phone_number_json='["13800138000","+8613800138001"]',
            sign_name_json=f'["{SIGN}","{SIGN}"]',
            template_code=CODE,
            template_param_json='[{"order":"D 1&=","carrier":"甲"},{"order":"D2","carrier":"乙"}]',
            out_id="o-2",
        )
        sent = (await asyncio.to_thread(client.official.send_batch_sms, batch)).body
        day = (datetime.now(UTC) + timedelta(hours=8)).strftime("%Y%m%d")
        question = client.models.QuerySendDetailsRequest(
            phone_number="13800138001", send_date=day, page_size=10, current_page=1, biz_id=sent.biz_id
        )
        found = (await asyncio.to_thread(client.official.query_send_details, question)).body
        sign = client.models.GetSmsSignRequest(sign_name=SIGN)
        state = (await asyncio.to_thread(client.official.get_sms_sign, sign)).body
        template = client.models.GetSmsTemplateRequest(template_code=CODE)
        about = (await asyncio.to_thread(client.official.get_sms_template, template)).body
    assert (sent.code, found.code, int(found.total_count)) == ("OK", "OK", 1)
    (one,) = found.sms_send_detail_dtos.sms_send_detail_dto
    assert (one.content, one.out_id, one.send_status) == ("【叮咚】您的订单D2已由乙发出", "o-2", 3)
    assert (one.err_code, one.phone_num, one.template_code) == ("DELIVERED", "13800138001", CODE)
    assert made.taken[0].text == "【叮咚】您的订单D 1&=已由甲发出"
    assert (state.sign_status, about.template_status) == (1, "1")


async def test_official_sdk_reads_refusals() -> None:
    """Refusals must come where the official SDK looks for them: business ones in the answer, others as errors."""
    made = simulator()
    async with serving(made, stopping=made.end_waiting) as url:
        client = Client(url)
        wrong = await client.send(**{**ONE, "template_code": "SMS_1"})
        with pytest.raises(client.errors.ClientException) as refused:
            await Client(url, secret="another").send(**ONE)
        made.faults = Faults(throttle=1)
        with pytest.raises(client.errors.ThrottlingException) as throttled:
            await client.send(**ONE)
    assert wrong.code == "isv.SMS_TEMPLATE_ILLEGAL"
    assert (refused.value.code, refused.value.status_code) == ("SignatureDoesNotMatch", 400)
    assert (throttled.value.code, throttled.value.retry_after) == ("Throttling.User", 1000)
    assert made.taken == []


class Wire:
    """Signs requests by hand, so that any part of them can be wrong."""

    def __init__(self, made: AlibabaSimulator) -> None:
        self._made = made
        self._nonces = count()

    async def ask(
        self, query: dict[str, str], action: str = "SendSms", changed: Mapping[str, str | None] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask with headers changed before they are signed (`sent_` and a name: after); None leaves one out."""
        headers = {
            "host": "dysmsapi.aliyuncs.com",
            "x-acs-action": action,
            "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
            "x-acs-date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": str(next(self._nonces)),
            "x-acs-version": "2017-05-25",
        }
        before = changed or {}
        after = {name[5:]: value for name, value in before.items() if name.startswith("sent_")}
        apply(headers, {name: value for name, value in before.items() if not name.startswith("sent_")})
        query_string = canonical_query(query)
        signed = {"x-acs-content-sha256": "", **headers}
        headers["authorization"] = authorization(KEY_ID, SECRET, "POST", query_string, signed)
        headers["accept"] = "application/json"
        path, _, sent_query = (after.pop("path", None) or f"/?{query_string}").partition("?")
        apply(headers, after)
        answered = await self._made.answer(Asked("POST", path, sent_query, headers, b""))
        self.raw = answered.body
        return answered.status, {} if answered.body.startswith(b"<") else json.loads(answered.body)


def apply(headers: dict[str, str], changes: dict[str, str | None]) -> None:
    """Change headers; underscores in the names are hyphens."""
    for name, value in changes.items():
        if value is None:
            headers.pop(name.replace("_", "-"), None)
        else:
            headers[name.replace("_", "-")] = value


QUERY = {
    "PhoneNumbers": "13800138000",
    "SignName": SIGN,
    "TemplateCode": CODE,
    "TemplateParam": '{"order":"D1","carrier":"顺丰"}',
    "OutId": "o",
}


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({}, 200, "OK"),
        ({"sent_x_acs_date": "2026-01-01T00:00:00Z"}, 400, "InvalidTimeStamp.Expired"),
        ({"x_acs_date": "2026-01-01T00:00:00Z"}, 400, "InvalidTimeStamp.Expired"),
        ({"x_acs_date": "now"}, 400, "InvalidTimeStamp.Format"),
        ({"x_acs_version": "2018-05-01"}, 400, "InvalidVersion"),
        ({"x_acs_signature_nonce": None}, 400, "IncompleteSignature"),
        ({"x_acs_content_sha256": None}, 400, "IncompleteSignature"),
        ({"x_acs_content_sha256": "0" * 64}, 400, "SignatureDoesNotMatch"),
        ({"sent_x_acs_signature_nonce": "another"}, 400, "SignatureDoesNotMatch"),
        ({"sent_x_acs_extra": "not signed"}, 400, "SignatureDoesNotMatch"),
        ({"sent_host": "elsewhere"}, 400, "SignatureDoesNotMatch"),
        ({"sent_authorization": "Bearer x"}, 400, "IncompleteSignature"),
        ({"sent_authorization": None}, 400, "IncompleteSignature"),
        ({"sent_path": "/?" + canonical_query({**QUERY, "PhoneNumbers": "13900139000"})}, 400, "SignatureDoesNotMatch"),
        ({"sent_path": "/x?" + canonical_query(QUERY)}, 404, "InvalidAction.NotFound"),
    ],
)
async def test_simulator_verifies_the_request(changed: dict[str, str | None], status: int, code: str) -> None:
    """Whatever is changed after signing, missing, or not signed must be refused as the real one refuses it."""
    made = simulator()
    wire = Wire(made)
    answered, body = await wire.ask(QUERY, changed=changed)
    assert (answered, body["Code"]) == (status, code), body
    assert {"Code", "Message", "RequestId"} <= set(body)
    assert len(made.taken) == (code == "OK")


async def test_simulator_verifies_what_was_meant_and_not_how_it_was_written() -> None:
    """The query must be verified after decoding, since clients write it in other ways than they sign it."""
    made = simulator()
    loosely = canonical_query(QUERY).replace("%3A", ":").replace("%20", "+").replace("%2C", ",")
    wire = Wire(made)
    assert (await wire.ask(QUERY, changed={"sent_path": f"/?{loosely}"}))[1]["Code"] == "OK"


async def test_simulator_refuses_a_nonce_that_was_used() -> None:
    """A request that is played back must be refused, as long as its date is good."""
    now = datetime.now(UTC)
    made = simulator(clock=lambda: now)
    wire = Wire(made)
    codes = []
    for later_s in (0, 60, 3600):
        now += timedelta(seconds=later_s)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        codes.append((await wire.ask(QUERY, changed={"x_acs_signature_nonce": "n", "x_acs_date": stamp}))[1]["Code"])
    assert codes == ["OK", "SignatureNonceUsed", "OK"]


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"PhoneNumbers": ""}, 400, "MissingPhoneNumbers"),
        ({"SignName": ""}, 400, "MissingSignName"),
        ({"TemplateCode": ""}, 400, "MissingTemplateCode"),
        ({"PhoneNumbers": "1380013800"}, 200, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"PhoneNumbers": ",".join(["13800138000"] * 1001)}, 200, "isv.MOBILE_COUNT_OVER_LIMIT"),
        ({"PhoneNumbers": "13800138000,+8613800138001,008613800138002,8613800138003"}, 200, "OK"),
        ({"SignName": "【叮咚】"}, 200, "isv.SMS_SIGNATURE_ILLEGAL"),
        ({"TemplateCode": "SMS_1"}, 200, "isv.SMS_TEMPLATE_ILLEGAL"),
        ({"TemplateParam": ""}, 200, "isv.TEMPLATE_MISSING_PARAMETERS"),
        ({"TemplateParam": '{"order":1}'}, 200, "isv.INVALID_JSON_PARAM"),
        ({"TemplateParam": "[]"}, 200, "isv.INVALID_JSON_PARAM"),
        ({"TemplateParam": "["}, 200, "isv.INVALID_JSON_PARAM"),
        ({"TemplateParam": '{"order":"' + "长" * 36 + '","carrier":"x"}'}, 200, "isv.PARAM_LENGTH_LIMIT"),
        ({"TemplateParam": '{"order":"http://a.com","carrier":"x"}'}, 200, "isv.PARAM_NOT_SUPPORT_URL"),
        ({"OutId": "o" * 256}, 200, "isv.INVALID_PARAMETERS"),
    ],
)
async def test_simulator_refuses_bad_messages(changed: dict[str, str], status: int, code: str) -> None:
    """A message that the real one refuses must be refused with its code, and nothing of the request be taken."""
    made = simulator()
    wire = Wire(made)
    answered, body = await wire.ask({**QUERY, **changed})
    assert (answered, body["Code"]) == (status, code), body
    assert bool(made.taken) == (code == "OK")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, "OK"),
        ({"SignNameJson": f'["{SIGN}"]'}, "isv.INVALID_PARAMETERS"),
        ({"TemplateParamJson": "[]"}, "isv.INVALID_PARAMETERS"),
        ({"SmsUpExtendCodeJson": '["1"]'}, "isv.INVALID_PARAMETERS"),
        ({"PhoneNumberJson": json.dumps(["13800138000"] * 101)}, "isv.MOBILE_COUNT_OVER_LIMIT"),
        ({"PhoneNumberJson": "13800138000"}, "isv.INVALID_JSON_PARAM"),
        ({"PhoneNumberJson": ""}, "MissingPhoneNumberJson"),
    ],
)
async def test_simulator_refuses_bad_batches(changed: dict[str, str], code: str) -> None:
    """The lists of a batch must be of one length and not above a hundred."""
    variables = {"order": "D1", "carrier": "顺丰"}
    batch = {
        "PhoneNumberJson": '["13800138000","13800138001"]',
        "SignNameJson": f'["{SIGN}","{SIGN}"]',
        "TemplateParamJson": json.dumps([variables, variables]),
        "TemplateCode": CODE,
    }
    made = simulator()
    wire = Wire(made)
    _, body = await wire.ask({**batch, **changed}, "SendBatchSms")
    assert body["Code"] == code
    assert len(made.taken) == 2 * (code == "OK")


async def test_simulator_writes_xml_unless_json_is_asked_for() -> None:
    """Whoever forgets to ask for JSON must get what the real one gives."""
    wire = Wire(simulator())
    await wire.ask(QUERY, changed={"sent_accept": "*/*"})
    assert wire.raw.startswith(b"<SendSmsResponse><Code>OK</Code>")
    await wire.ask({**QUERY, "SignName": ""}, changed={"sent_accept": "*/*"})
    assert b"<Error><RequestId>" in wire.raw


@pytest.mark.parametrize(
    ("otp", "pauses_s", "words"),
    [
        (True, [0, 59, 1], ["", "分钟", ""]),
        (True, [0, 60, 60, 60, 60, 60, 3600], ["", "", "", "", "", "小时", ""]),
        (False, [0] * 51 + [86_399, 1], [""] * 50 + ["天", "天", ""]),
    ],
)
async def test_simulator_keeps_the_limits_of_a_phone(otp: bool, pauses_s: list[int], words: list[str]) -> None:
    """Minutes and hours must be counted by the clock, days from the first message, and refused in the real words."""
    now = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)

    def clock() -> datetime:
        return now

    made = simulator(flow_control=True, clock=clock, templates={CODE: Template("${order}", otp=otp)})
    said = []
    async with serving(made, stopping=made.end_waiting) as url:
        channel = AlibabaChannel(options(url), name="alibaba", now=clock, shared=KeptInMemory(clock))
        for pause_s in pauses_s:
            now += timedelta(seconds=pause_s)
            (answer,) = await channel.send([message(1)])
            said.append(answer.detail)
        await channel.close()
    assert [next((word for word in ("分钟", "小时", "天") if word in detail), "") for detail in said] == words


async def test_simulator_tells_of_receipts_replies_and_reviews() -> None:
    """What the simulator tells must be what the channel hears."""
    made, channel = simulator(), channel_to("http://127.0.0.1:9")
    async with listening(channel.hear) as (address, heard):
        made.callback_url = f"{address}/sms"
        await made.reply("13800138000", "退订")
        await made.review_template(CODE, "approved")
        await made.review_sign(SIGN, "rejected", "资料不全")
        await made.close()
    await channel.close()
    assert [one.text for told in heard for one in told.inbound] == ["退订"]
    assert [review for told in heard for review in told.reviews] == [
        Review("template", CODE, "approved"),
        Review("signature", SIGN, "rejected", "资料不全"),
    ]


async def test_simulator_tells_again_what_was_not_well_answered() -> None:
    """A callback must come again until the answer is 200 with a number as code, and no longer."""
    answers: Iterator[bytes] = iter([b"", b'{"code":"0"}', b'{"code":true}', HEARD_ANSWER])
    made, channel = simulator(), channel_to("http://127.0.0.1:9")
    made.push_again_after_s = (0.0,) * 9

    def hear(told: Callback) -> Any:  # noqa: ANN401 - as the channel has it
        return msgspec.structs.replace(channel.hear(told), answer=next(answers))

    async with listening(hear) as (address, heard):
        made.callback_url = address
        await made.reply("13800138000", "T")
        await made.close()
    await channel.close()
    assert len(heard) == 4
    assert len({one.id for told in heard for one in told.inbound}) == 1
