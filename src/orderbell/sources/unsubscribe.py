"""`/u/{token}`: one click ends advertising by mail (RFC 8058), and only that.

The token names tenant and contact and is authenticated with a key of the tenant, so nothing needs to be stored for it,
and it goes on working for as long as the mail lies somewhere. Scanners open every link of a mail: GET only shows a
page with a button; the POST of a mail program, which comes without cookies, or of that button ends it.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

import structlog
from litestar import MediaType, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from orderbell.core.turn import agree
from orderbell.observe import count
from orderbell.store.people import People

_TAG_LENGTH: Final = 16
_PURPOSE: Final = b"unsubscribe\0"
_SOURCE: Final = "unsubscribe link"

log = structlog.get_logger()

KeyOf = Callable[[str], bytes]
"""The key of a tenant by which tokens are authenticated."""

_PAGE = """<!doctype html><html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>{title}</title>
<style>body{{font:18px/1.6 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1.5rem;color:#1c2430}}
button{{font:inherit;padding:.6rem 1.4rem;border:0;border-radius:.4rem;background:#1257c4;color:#fff}}</style>
<h1>{title}</h1><p>{words}</p>{form}</html>"""
_BUTTON = '<form method="post"><button>{label}</button></form>'
_WORDS = {
    "zh": (
        "退订营销邮件", "点下面的按钮后，我们不再向您发送营销消息。订单、付款和物流的通知照常发送。",
        "确认退订", "已退订", "我们不再向您发送营销消息。订单、付款和物流的通知照常发送。",
    ),
    "en": (
        "Unsubscribe from advertising",
        "One click, and we send you no more advertising. News about your orders, payments and parcels goes on.",
        "Unsubscribe", "Done", "We send you no more advertising. News about your orders, payments and parcels goes on.",
    ),
}  # fmt: skip


def unsubscribe_token(key_of: KeyOf, tenant: str, contact: str) -> str:
    """The token of a person of a tenant; about 50 characters more than their ids."""
    named = f"{tenant}\0{contact}".encode()
    return base64.urlsafe_b64encode(_tag(key_of(tenant), named) + named).decode().rstrip("=")


def read_token(key_of: KeyOf, token: str) -> tuple[str, str] | None:
    """Tenant and contact of a token, None where it is none of ours."""
    try:
        whole = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        tenant, separator, contact = whole[_TAG_LENGTH:].decode().partition("\0")
    except ValueError:
        return None
    if not separator or not tenant or not contact:
        return None
    right = hmac.compare_digest(whole[:_TAG_LENGTH], _tag(key_of(tenant), whole[_TAG_LENGTH:]))
    return (tenant, contact) if right else None


def unsubscribe_route(
    people_of: Callable[[str], People], key_of: KeyOf, now: Callable[[], datetime]
) -> ControllerRouterHandler:
    """Make the route."""

    @route(
        "/u/{token:str}", http_method=["GET", "POST"], include_in_schema=False,
        opt={"public": "the token itself is the secret"},
    )  # fmt: skip
    async def unsubscribe(request: Request[Any, Any, Any]) -> Response[str]:
        found = read_token(key_of, request.path_params["token"])
        if found is None:
            raise HTTPException(status_code=404, detail="there is nothing here")
        chinese = request.headers.get("accept-language", "zh").lower().startswith("zh")
        lang = "zh" if chinese else "en"
        title, words, label, done, after = _WORDS[lang]
        if request.method == "GET":
            return _page(lang, title, words, _BUTTON.format(label=label))
        tenant, contact = found
        at = now()
        await people_of(tenant).change(contact, partial(agree, given=False, at=at), at, _SOURCE)
        count("unsubscribe.done")
        return _page(lang, done, after, "")

    return unsubscribe


def _page(lang: str, title: str, words: str, form: str) -> Response[str]:
    headers = {
        "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    }  # fmt: skip
    html = _PAGE.format(lang=lang, title=title, words=words, form=form)
    return Response(html, media_type=MediaType.HTML, status_code=200, headers=headers)


def _tag(key: bytes, named: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + named, hashlib.sha256).digest()[:_TAG_LENGTH]
