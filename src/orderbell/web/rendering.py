"""Pages: templates filled in for one visitor, in one language, under one strict content security policy.

::

    view = view_of(request, visitor)
    return page("orders.html", view, found=found)

Templates stand in `templates/`, their words in `words/AREA.yaml` as `key: {zh: …, en: …}`, and whatever a browser
fetches besides in `static/`. Everything that is filled in is escaped. Scripts and styles come from this site alone;
what must stand in the page itself carries the view's nonce (https://www.w3.org/TR/CSP3/).

What pages ask of the rest of the house is handed to the site as a `Hall`.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import msgspec
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.enums import MediaType
from markupsafe import Markup, escape
from msgspec import Struct

from orderbell import __version__
from orderbell.web.rights import Right, Visitor

HERE: Final = Path(__file__).parent
LOCALES: Final = {"zh": "zh-CN", "en": "en"}
LANGUAGE_COOKIE: Final = "orderbell-language"
HALL: Final = "hall"
"""Under which name the site's state holds the `Hall`."""

VISITOR: Final = "visitor"
"""Under which name a request's state holds who is signed in, once that is known."""

_YEAR_S: Final = 365 * 86400
_SPANS: Final = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_SPAN_COUNT_MIN: Final = 2  # "90 minutes" rather than "one hour"
_AGO_MAX: Final = timedelta(days=2)
_YUAN: Final = 100


Names = Mapping[str, Mapping[str, str]]
"""What codes are called in a language, by table and code: tables such as topics, anomalies, channels, lights, owners,
roles, categories, events, statuses, fates, reasons, frequencies, endpoint_states, lanes."""


class Hall(Struct, frozen=True):
    """What pages need besides their own routes.

    `now` is the platform's clock; `zone_of` gives the time zone of a tenant's default playbook, such as Asia/Shanghai;
    `names` what codes are called in `zh-CN` or `en`. `secure`: the site is reached by https.
    """

    now: Callable[[], datetime]
    zone_of: Callable[[str], str]
    names: Callable[[str], Names]
    secure: bool = False


class View(Struct, frozen=True):
    """For whom a page is made: `locale` is zh-CN or en, `path` and `query` where they are, `nonce` of this one page."""

    locale: str
    nonce: str
    path: str
    query: Mapping[str, str]
    zone: ZoneInfo
    now: datetime
    names: Names
    visitor: Visitor | None = None
    secure: bool = False
    keep_language: bool = False

    @property
    def language(self) -> str:
        """`zh` or `en`."""
        return self.locale[:2]

    def say(self, key: str, **values: object) -> str:
        """The words of a key `area.name`, filled in."""
        words = _words()[key][self.language]
        return words.format(**values) if values else words

    def find(self, key: str, **values: object) -> str:
        """The words of a key that a name from elsewhere may be a part of; '' where nobody wrote any."""
        return self.say(key, **values) if key in _words() else ""

    def may(self, right: Right) -> bool:
        """Whether the visitor has a right."""
        return self.visitor is not None and self.visitor.may(right)

    def link(self, **changes: str) -> str:
        """This page with other values in its query; an empty one takes a value away."""
        query = {name: value for name, value in {**self.query, **changes}.items() if value}
        # two slashes, or what browsers take for one, would lead to another site
        return "/" + quote(self.path.lstrip("/")) + ("?" + urlencode(query) if query else "")

    def called(self, table: str, code: str) -> str:
        """What a code is called, by the table of `Names`; the code itself where nobody named it."""
        return self.names[table].get(code, code)


def hall_of(request: Request[Any, Any, Any]) -> Hall:
    """The `Hall` of the site that a request came to."""
    hall: Hall = request.app.state[HALL]
    return hall


def view_of(request: Request[Any, Any, Any], visitor: Visitor | None = None, *, zone: str = "") -> View:
    """Who looks, and how it is shown to them.

    The language is that of `?lang=`, else that of the cookie which such a choice leaves, else the visitor's, else the
    browser's; Chinese where none says. The zone is the tenant's unless another one is given.
    """
    hall = hall_of(request)
    chosen = request.query_params.get("lang", "")
    wanted = (chosen, request.cookies.get(LANGUAGE_COOKIE, ""), visitor.locale if visitor else "")
    locale = next((LOCALES[one[:2]] for one in wanted if one[:2] in LOCALES), "") or _accepted(request)
    named = zone or (hall.zone_of(visitor.tenant) if visitor is not None else "Asia/Shanghai")
    return View(
        locale=locale, nonce=secrets.token_urlsafe(16), path=request.scope["path"], query=_query(request),
        zone=_zone(named), now=hall.now(), names=hall.names(locale), visitor=visitor, secure=hall.secure,
        keep_language=chosen[:2] in LOCALES,
    )  # fmt: skip


def page(
    name: str, view: View, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: object
) -> Response[str]:
    """A whole page made of a template."""
    response = fragment(name, view, status=status, headers=headers, **values)
    if view.keep_language:
        response.set_cookie(
            Cookie(LANGUAGE_COOKIE, value=view.language, max_age=_YEAR_S, samesite="lax", secure=view.secure)
        )
    return response


def fragment(
    name: str,
    view: View,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: object,
) -> Response[str]:
    """A piece of a page, for a place in one that is open."""
    return Response(
        rendered(name, view, **values), media_type=MediaType.HTML, status_code=status,
        headers={**security_headers(view), **(headers or {})},
    )  # fmt: skip


def rendered(name: str, view: View, **values: object) -> str:
    """The text of a template, filled in."""
    return _environment().get_template(name).render(view=view, t=view.say, **values)


def security_headers(view: View) -> dict[str, str]:
    """What every page says to the browser: take nothing from elsewhere, tell nobody, keep nothing."""
    policy = (
        "default-src 'none'; "
        f"script-src 'self' 'nonce-{view.nonce}'; style-src 'self' 'nonce-{view.nonce}'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "X-Robots-Tag": "noindex",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    }  # fmt: skip
    if view.secure:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return headers


def static_url(name: str) -> str:
    """The address of a file in `static/`; it changes with the file, so that browsers may keep it for ever."""
    return f"/static/{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=1)
def _words() -> dict[str, dict[str, str]]:
    words: dict[str, dict[str, str]] = {}
    for file in sorted((HERE / "words").glob("*.yaml")):
        for key, said in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).items():
            words[f"{file.stem}.{key}"] = said
    return words


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _query(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if isinstance(value, str) and name != "lang"}


def _accepted(request: Request[Any, Any, Any]) -> str:
    for part in request.headers.get("accept-language", "").split(","):
        language = part.partition(";")[0].strip()[:2].lower()
        if language in LOCALES:
            return LOCALES[language]
    return LOCALES["zh"]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.globals.update(static=static_url, version=__version__)
    made.filters.update(
        time=_time,
        clock=_clock,
        ago=_ago,
        yuan=_yuan,
        span=_span,
        percent=_percent,
        json=raw_json,
        capital=_capital,
        codes=_codes,
    )
    return made


def _codes(text: str) -> Markup:
    """A text with what stands between backticks as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one of them has no other
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(one) if at % 2 else one for at, one in enumerate(pieces))


def _time(at: datetime | None, view: View) -> Markup:
    """A moment by the viewer's clock, as short as it can be said today."""
    if at is None:
        return Markup("—")
    local, today = at.astimezone(view.zone), view.now.astimezone(view.zone)
    key = "today" if local.date() == today.date() else "this_year" if local.year == today.year else "any_year"
    words = local.strftime(view.say(f"shell.time_{key}"))
    return Markup('<time datetime="{}">{}</time>').format(_iso(at), words)


def _clock(at: datetime | None, view: View) -> Markup:
    """A moment with its seconds, for time lines; without the day where that is today."""
    if at is None:
        return Markup("—")
    local, today = at.astimezone(view.zone), view.now.astimezone(view.zone)
    key = "exact_today" if local.date() == today.date() else "exact"
    words = local.strftime(view.say(f"shell.time_{key}"))
    return Markup('<time datetime="{}">{}</time>').format(_iso(at), words)


def _ago(at: datetime | None, view: View) -> Markup:
    """How long ago a moment was, or in how long it comes; the moment itself where that is far."""
    if at is None or abs(view.now - at) > _AGO_MAX:
        return _time(at, view)
    gone = view.now - at
    key = "shell.ago" if gone >= timedelta() else "shell.ahead"
    words = view.say(key, span=_span(abs(gone), view))
    return Markup('<time datetime="{}">{}</time>').format(_iso(at), words)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _span(span: timedelta, view: View) -> str:
    """A span in the greatest unit that it is a few of."""
    seconds = max(round(span.total_seconds()), 1)
    for unit, length in _SPANS:
        if seconds >= length * _SPAN_COUNT_MIN or length in (seconds, 1):
            count = round(seconds / length)
            return view.say(f"shell.{unit}" if count == 1 else f"shell.{unit}s", count=count)
    raise AssertionError(span)  # pragma: no cover - the last unit takes all


def _yuan(fen: float | None) -> str:
    return "—" if fen is None else f"¥{fen / _YUAN:,.2f}"


def _capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share * 100:.1f}%"


def raw_json(value: object) -> Markup:
    """JSON for a data attribute or a script of type application/ld+json: nothing in it can end the element."""
    text = msgspec.json.encode(value).decode()
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("'", "\\u0027")):
        text = text.replace(sign, code)
    return Markup(text)  # noqa: S704 - every sign that means something to HTML is spelled out
