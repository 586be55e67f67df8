"""What the OpenAPI document says of `POST /v1/events`, made from the types that read it."""

from functools import cache
from typing import Any, Final

import msgspec

from orderbell.core.events import BATCH_MAX, DATA_TYPES, EVENT_BYTES_MAX, ID_MAX, INSIDE_TYPES, ORDER_NO_MAX, Answer

PATH: Final = "/v1/events"
_REF: Final = "#/components/schemas/{name}"

_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "9f1c-1",
    "source": "my-shop",
    "type": "order.placed",
    "subject": "2026030212345",
    "time": "2026-03-02T10:00:00+08:00",
    "data": {"amount_fen": 12900, "title": "红茶礼盒", "people": {"buyer": {"phone": "+8613800138000"}}},
}


@cache
def describe_route(answers: type[msgspec.Struct], body_bytes_max: int) -> dict[str, Any]:
    """Describe the route: `paths` and `components` of an OpenAPI 3.1 document.

    Args:
        answers: The answer to a list.
        body_bytes_max: The longest body of a request.
    """
    kinds = {name: kind for name, kind in DATA_TYPES.items() if name not in INSIDE_TYPES}
    types = [Answer, answers, *dict.fromkeys(kinds.values())]
    refs, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    ref_of = dict(zip(types, refs, strict=True))
    pairs = [{"properties": {"type": {"const": name}, "data": ref_of[kind]}} for name, kind in kinds.items()]
    schemas["CloudEvent"] = {**_envelope([*kinds]), "oneOf": pairs}
    return {
        "paths": {PATH: {"post": _operation(ref_of[Answer], ref_of[answers], body_bytes_max)}},
        "components": {"schemas": schemas},
    }


def _envelope(kinds: list[str]) -> dict[str, Any]:
    """Describe what `orderbell.core.events.Wire` reads."""
    return {
        "title": "CloudEvent",
        "description": "Something that happened to an order (CloudEvents 1.0 in JSON, structured mode).",
        "type": "object",
        "required": ["id", "source", "type", "subject"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _text(ID_MAX, "Names the event within its source."),
            "source": _text(ID_MAX, "The shop or system that tells it."),
            "type": {"type": "string", "enum": kinds},
            "subject": {**_text(ORDER_NO_MAX, "The order number."), "pattern": "^[ -~]+$"},
            "time": {
                "type": "string",
                "format": "date-time",
                "description": "When it happened, with a zone; when it arrives if not given.",
            },
            "playbook": {"type": "string", "description": "Which playbook a new order follows, if not the usual one."},
            "data": {"type": "object"},
        },
    }


def _text(length_max: int, description: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": length_max, "description": description}


def _operation(answer: dict[str, Any], answers: dict[str, Any], body_bytes_max: int) -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/CloudEvent"}
    batch = {"type": "array", "items": event, "maxItems": BATCH_MAX}
    both = {"oneOf": [event, batch]}
    return {
        "operationId": "tellEvents",
        "tags": ["events"],
        "summary": "Tell what happened to orders",
        "description": (
            f"One CloudEvent (at most {EVENT_BYTES_MAX:,} bytes) or a list of up to {BATCH_MAX:,} (at most "
            f"{body_bytes_max:,} bytes). The answer comes when what it says is committed. An event that comes again "
            "with the same source and id is a duplicate and counts once, so any request can be sent again.\n\n"
            "Needs a key with the scope `events:write`."
        ),
        "security": [{"key": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": event, "example": _EXAMPLE},
                "application/cloudevents-batch+json": {"schema": batch, "example": [_EXAMPLE]},
                "application/json": {"schema": both, "example": _EXAMPLE},
            },
        },
        "responses": {
            "202": _says("The event is accepted.", answer, {"id": "9f1c-1", "status": "accepted"}),
            "200": _says(
                "The event is a duplicate; or the answers to a list.", {"anyOf": [answer, answers]},
                {"id": "9f1c-1", "status": "duplicate"},
            ),
            "400": _problem("The body is not JSON."),
            "401": _problem("There is no API key, or it is not valid."),
            "403": _problem("The key has no scope `events:write`."),
            "408": _problem("The body did not arrive in time."),
            "409": _problem("An event of this source and id came before, with another body."),
            "413": _problem("The body or the event is too large."),
            "415": _problem("The body has another Content-Type."),
            "422": _problem("The event is refused; `field` names what is wrong. Or the list is too long."),
            "429": _problem("More events wait than can be taken; Retry-After says when to send these again."),
            "503": _problem("Nothing can be confirmed; Retry-After says when to send the same again."),
        },
    }  # fmt: skip


def _says(description: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}
