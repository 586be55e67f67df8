"""Whether a request that changes something comes from a page of ours: the defence against forged requests.

Browsers say so by themselves (`Sec-Fetch-Site`, https://www.w3.org/TR/fetch-metadata/; `Origin`, RFC 6454), and no page
can make them say otherwise; so forms need no token. Who says neither is refused: no browser of these years does that.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})


def refuse_foreign(connection: ASGIConnection[Any, Any, Any, Any], public_url: str = "") -> None:
    """Raise 403 for a request that may change something and does not come from a page of this site.

    `public_url` is the address of this site where a proxy in front of it hides the host.
    """
    if connection.scope.get("method", "GET") in SAFE_METHODS or _is_ours(connection, public_url):
        return
    extra = {"reason": "cross_site", "title": "Not from this site"}
    detail = "this was not sent by a page of OrderBell; open the page here and try again"
    raise HTTPException(detail=detail, status_code=403, extra=extra)


def _is_ours(connection: ASGIConnection[Any, Any, Any, Any], public_url: str) -> bool:
    said = connection.headers.get("sec-fetch-site")
    if said is not None:
        return said in _OURS
    try:
        origin = urlsplit(connection.headers.get("origin", "")).netloc.lower()
    except ValueError:
        return False
    ours = {connection.headers.get("host", "").lower(), urlsplit(public_url).netloc.lower()} - {""}
    return origin in ours
