"""`/v1/callbacks/{provider}/{token}/{kind}`: where providers bring receipts, replies and reviews.

Nearly no provider signs what it brings, so the address itself is the secret: a token that nobody can guess, compared in
constant time. A wrong token and a wrong provider look alike. What a callback says is stored before it is answered, in
the very words that its provider wants; should storing fail, the answer is 503, and the provider comes again.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from litestar import Request, Response, route
from litestar.exceptions import HTTPException, InternalServerException
from litestar.types import ControllerRouterHandler

from orderbell.channels.protocol import Callback, CallbackRefused, Channel, Heard, Veiled
from orderbell.errors import OrderBellError
from orderbell.observe import count
from orderbell.sources.events import AWAY_RETRY_AFTER_S, BODY_WITHIN_S, turned_away

BODY_BYTES_MAX: Final = 1024 * 1024

log = structlog.get_logger()

Keep = Callable[[str, Heard], Awaitable[None]]
"""Stores what a provider said; on return it is kept."""


class Caller(Veiled, frozen=True):
    """A provider that calls us: its channel, and the secret part of its address."""

    channel: Channel
    token: str


def callbacks_route(callers: Mapping[str, Caller], keep: Keep, public_url: str = "") -> ControllerRouterHandler:
    """Make the route.

    Args:
        callers: By the name of the provider.
        keep: See `Keep`; an OrderBellError becomes 503.
        public_url: Scheme, host and port as providers see them, where a proxy stands between; signatures cover it.
    """
    paths = ["/v1/callbacks/{provider:str}/{token:str}", "/v1/callbacks/{provider:str}/{token:str}/{kind:str}"]

    @route(
        paths, http_method=["GET", "POST"], include_in_schema=False,
        opt={"public": "the address itself is the secret", "openapi": _describe()},
    )  # fmt: skip
    async def take_callback(request: Request[Any, Any, Any]) -> Response[bytes]:
        named = request.path_params
        provider, token, kind = named["provider"], named["token"], named.get("kind", "")
        caller = callers.get(provider)
        if not hmac.compare_digest(token.encode(), (caller.token if caller else "").encode()) or not token:
            count("callbacks.strangers")
            raise HTTPException(status_code=404, detail="there is nothing here")
        assert caller is not None  # noqa: S101 - its token fits
        body = await _read_body(request)
        callback = Callback(
            request.method, _public(request, public_url), {k.lower(): v for k, v in request.headers.items()},
            dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)), body, kind,
        )  # fmt: skip
        try:
            heard = caller.channel.hear(callback)
            await keep(provider, heard)
        except CallbackRefused as refused:
            count("callbacks.refused")
            log.warning("callback refused", provider=provider, kind=kind, problem=str(refused))
            return Response(b"", status_code=refused.status, media_type="text/plain")
        except OrderBellError as problem:
            log.warning("callback turned away", provider=provider, problem=str(problem))
            detail = "nothing can be kept at the moment; bring the same again later"
            headers = {"Retry-After": str(AWAY_RETRY_AFTER_S)}
            raise turned_away(503, "unavailable", "Unavailable", detail, headers) from problem
        except Exception as problem:
            # Logged here and not by the site, which would write down the path with its token.
            log.exception("callback failed", provider=provider, kind=kind)
            detail = "something went wrong here, not with you; the log says what"
            raise turned_away(500, "internal", "Internal Server Error", detail) from problem
        count("callbacks.taken")
        return Response(heard.answer, status_code=heard.status, media_type=heard.content_type)

    return take_callback


def _public(request: Request[Any, Any, Any], public_url: str) -> str:
    query = request.scope["query_string"].decode("latin-1")
    base = public_url.rstrip("/") or f"{request.scope['scheme']}://{request.headers.get('host', '')}"
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return f"{base}{raw.decode('latin-1').partition('?')[0]}{f'?{query}' if query else ''}"


async def _read_body(request: Request[Any, Any, Any]) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    detail = f"a callback has at most {BODY_BYTES_MAX:,} bytes"
                    raise turned_away(413, "too_large", "Too large", detail, {"Connection": "close"})
    except InternalServerException:  # Litestar's word for a caller who hung up
        raise turned_away(400, "cut_off", "Cut off", "the body broke off", {"Connection": "close"}) from None
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_WITHIN_S} s"
        raise turned_away(408, "too_slow", "Request timeout", detail, {"Connection": "close"}) from None
    return bytes(body)


def _describe() -> dict[str, Any]:
    """The routes' part of the OpenAPI document, which Litestar cannot know: providers bring what they like."""
    named = {"provider": "The provider's name.", "token": "The secret part of the address.", "kind": "What is brought."}
    parameters = [
        {"name": name, "in": "path", "required": True, "description": words, "schema": {"type": "string"}}
        for name, words in named.items()
    ]
    refused = {
        "400": "The body broke off, or is not what this provider brings.",
        "401": "The signature is missing.",
        "403": "The signature is wrong.",
        "404": "There is no such address.",
        "408": "The body did not arrive in time.",
        "413": "The body is too large.",
        "500": "It could not be understood; the log says why.",
        "503": "Nothing can be kept at the moment; bring the same again.",
    }
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers = {status: {"description": words, "content": problem} for status, words in refused.items()}
    taken = {"description": "It is kept; the body is what the provider wants to hear.", "content": {"*/*": {}}}
    base = {"tags": ["callbacks"], "summary": "Take what a provider says", "security": [],
        "description": "Receipts, replies and reviews, in the form of the provider."}  # fmt: skip
    paths: dict[str, Any] = {}
    for path, count_named in (("/v1/callbacks/{provider}/{token}", 2), ("/v1/callbacks/{provider}/{token}/{kind}", 3)):
        paths[path] = {
            method: {
                **base, "operationId": f"{method}Callback{'OfKind' if '{kind}' in path else ''}",
                "parameters": parameters[:count_named], "responses": {"200": taken, **answers},
            }
            for method in ("get", "post")
        }  # fmt: skip
    return {"paths": paths, "components": {"schemas": {}}}
