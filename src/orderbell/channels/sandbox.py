"""The channel to the sandbox: a local provider that takes messages for every channel and delivers none.

It speaks HTTP like any other, so everything that can go wrong with a real provider can be rehearsed with it.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import (
    Answer,
    ChannelUnavailable,
    Fate,
    Found,
    Outcome,
    Outgoing,
    Provider,
    Receipt,
    ReceiptsBy,
    Recovery,
    Unsure,
)

NAME: Final = "sandbox"
"""Of the sandbox in the ledger: whatever went there reached nobody."""

# 4.5 fen a segment: what domestic SMS cost at the large clouds in packages of middling size.
_PRICE_MILLIFEN: Final = 4_500
CARRIES: Final = frozenset({"sms", "email", "push", "wechat", "inbox"})
_LOOKUP_MAX: Final = 1_000
_DETAIL_LENGTH_MAX: Final = 200

_OUTCOMES: Final = {
    "ok": Outcome.ACCEPTED,
    "retry_later": Outcome.RETRY_LATER,
    "throttled": Outcome.THROTTLED,
    "bad_recipient": Outcome.REJECTED_RECIPIENT,
    "bad_content": Outcome.REJECTED_CONTENT,
    "bad_channel": Outcome.REJECTED_CONTENT,
    "channel_down": Outcome.CHANNEL_DOWN,
}
_FATES: Final = {fate.value: fate for fate in Fate}


class _Message(msgspec.Struct, frozen=True, omit_defaults=True):
    attempt_id: str
    channel: str
    to: str
    text: str
    subject: str = ""
    topic: str = ""


class _Messages(msgspec.Struct, frozen=True):
    messages: list[msgspec.Raw]


class _Result(msgspec.Struct, frozen=True):
    attempt_id: str
    code: str
    ref: str = ""
    detail: str = ""


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result]


class _Receipt(msgspec.Struct, frozen=True):
    number: int
    attempt_id: str
    ref: str
    delivered: bool
    at: dt.datetime
    detail: str = ""


class _Receipts(msgspec.Struct, frozen=True):
    receipts: list[_Receipt]
    ledger: str


class _Asked(msgspec.Struct, frozen=True):
    attempt_ids: list[str]


class _State(msgspec.Struct, frozen=True):
    attempt_id: str
    state: str
    ref: str = ""
    detail: str = ""


class _States(msgspec.Struct, frozen=True):
    results: list[_State]


_encode = msgspec.json.Encoder().encode
_decode_results = msgspec.json.Decoder(_Results).decode
_decode_receipts = msgspec.json.Decoder(_Receipts).decode
_decode_states = msgspec.json.Decoder(_States).decode


class SandboxChannel(Provider):
    """The sandbox provider behind the `Channel` protocol.

    Args:
        url: where the sandbox listens, such as `http://127.0.0.1:8025`.
        token: its bearer token, if it wants one.
        name: name in the ledger; two channels to two sandboxes need two names.
        batch_max: messages per request; the sandbox takes up to 1,000.
        lookup_after_s: from when "not found" is believed; the sandbox records before it answers, so a short
        time
            covers a request still on its way.
        connect_timeout_s: how long to wait for a connection.
        timeout_s: how long to wait for an answer before the attempts count as unknown.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        name: str = NAME,
        batch_max: int = 500,
        lookup_after_s: float = 2.0,
        connect_timeout_s: float = 2.0,
        timeout_s: float = 10.0,
    ) -> None:
        self.name = name
        self.carries = CARRIES
        self.batch_max = batch_max
        self.price_millifen = _PRICE_MILLIFEN
        self.recovery = Recovery.LOOKUP
        self.receipts_by = ReceiptsBy.PULL
        self.receipts_name_attempts = True
        self.lookup_after_s = lookup_after_s
        self._http = HttpClient(url, token=token, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`."""
        answers: list[Answer] = []
        for start in range(0, len(batch), self.batch_max):
            answers += await self._send_one_request(batch[start : start + self.batch_max])
        return answers

    async def receipts(self, limit: int, after: str = "") -> list[Receipt]:
        """See `Channel.receipts`; the cursor is the number of the receipt and the ledger that it stands in."""
        position, _, ledger = after.partition("@")
        known = f"&ledger={ledger}" if ledger else ""
        body = await self._ask("GET", f"/v1/receipts?after={position or 0}&limit={limit}{known}")
        try:
            read = _decode_receipts(body)
            return [_to_receipt(receipt, read.ledger) for receipt in read.receipts]
        except ValueError as error:
            raise ChannelUnavailable(f"channel {self.name}: unreadable receipts: {error}") from error

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """See `Channel.lookup`."""
        found: list[Found] = []
        for start in range(0, len(attempts), _LOOKUP_MAX):
            asked = _Asked(attempt_ids=[one.attempt_id.hex() for one in attempts[start : start + _LOOKUP_MAX]])
            body = await self._ask("POST", "/v1/lookup", _encode(asked))
            try:
                states = {state.attempt_id: state for state in _decode_states(body).results}
            except ValueError as error:
                raise ChannelUnavailable(f"channel {self.name}: unreadable answer to a look-up: {error}") from error
            found += [
                _to_found(states[attempt_id])
                for attempt_id in asked.attempt_ids
                if attempt_id in states and states[attempt_id].state in _FATES
            ]
        return found

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    async def _send_one_request(self, batch: Sequence[Outgoing]) -> list[Answer]:
        encoded = [_encode_message(outgoing) for outgoing in batch]
        messages = [message for message in encoded if message is not None]
        if not messages:
            return [_unencodable(outgoing) for outgoing in batch]
        answered = await self._http.request("POST", "/v1/messages", _encode(_Messages(messages=messages)))
        results = _read_results(answered)
        return [
            _unencodable(outgoing) if message is None else _to_answer(outgoing, results)
            for outgoing, message in zip(batch, encoded, strict=True)
        ]

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Ask something that changes nothing, and have an answer or an exception."""
        judged = judge(await self._http.request(method, path, body))
        if isinstance(judged, Verdict):
            where = f"{method} {path.partition('?')[0]}"
            raise ChannelUnavailable(f"channel {self.name}: {where}: {judged.detail}")
        return judged


def _encode_message(outgoing: Outgoing) -> msgspec.Raw | None:
    """Encode one message, or None if it cannot be written as UTF-8 (half of a surrogate pair)."""
    try:
        return msgspec.Raw(
            _encode(
                _Message(
                    attempt_id=outgoing.attempt_id.hex(),
                    channel=outgoing.channel,
                    to=outgoing.to,
                    text=outgoing.text,
                    subject=outgoing.subject,
                    topic=outgoing.topic,
                )
            )
        )
    except UnicodeEncodeError:
        return None


def _unencodable(outgoing: Outgoing) -> Answer:
    return Answer(attempt_id=outgoing.attempt_id, outcome=Outcome.REJECTED_CONTENT, detail="cannot be written as UTF-8")


def _read_results(answered: Reply | NoReply) -> dict[str, _Result] | Verdict:
    """Read the result of each attempt, or what holds for all of them."""
    judged = judge(answered)
    if isinstance(judged, Verdict):
        return judged
    try:
        return {result.attempt_id: result for result in _decode_results(judged).results}
    except ValueError as error:
        detail = f"unreadable body: {error}"
        return Verdict(outcome=Outcome.UNKNOWN, detail=detail[:_DETAIL_LENGTH_MAX])


def _to_answer(outgoing: Outgoing, results: dict[str, _Result] | Verdict) -> Answer:
    attempt_id = outgoing.attempt_id
    if isinstance(results, Verdict):
        return Answer(
            attempt_id=attempt_id,
            outcome=results.outcome,
            detail=results.detail,
            retry_after_s=results.retry_after_s,
        )
    result = results.get(attempt_id.hex())
    if result is None:
        return Answer(attempt_id=attempt_id, outcome=Outcome.UNKNOWN, detail="no answer for this message")
    outcome = _OUTCOMES.get(result.code)
    if outcome is None:
        detail = f"unknown code {result.code[:40]!r}: {result.detail}"[:_DETAIL_LENGTH_MAX]
        return Answer(attempt_id=attempt_id, outcome=Outcome.UNKNOWN, detail=detail)
    return Answer(
        attempt_id=attempt_id,
        outcome=outcome,
        provider_ref=result.ref,
        detail=result.detail[:_DETAIL_LENGTH_MAX],
    )


def _to_receipt(receipt: _Receipt, ledger: str) -> Receipt:
    return Receipt(
        attempt_id=bytes.fromhex(receipt.attempt_id),
        provider_ref=receipt.ref,
        delivered=receipt.delivered,
        detail=receipt.detail,
        at=receipt.at.astimezone(dt.UTC),
        cursor=f"{receipt.number}@{ledger}",
    )


def _to_found(state: _State) -> Found:
    return Found(
        attempt_id=bytes.fromhex(state.attempt_id),
        fate=_FATES[state.state],
        provider_ref=state.ref,
        detail=state.detail[:_DETAIL_LENGTH_MAX],
    )
