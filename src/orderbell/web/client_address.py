"""Where a request comes from, as far as it can be believed.

Anybody can write `X-Forwarded-For`; only what our own proxies added to it, counted from the right, is true. How many of
them there are is a setting (`trusted_hops`), and none by default.
"""

import ipaddress
from typing import Any

from litestar.connection import ASGIConnection


def client_address(connection: ASGIConnection[Any, Any, Any, Any], trusted_hops: int = 0) -> str:
    """The address of whoever asks: an IPv4 address, or the network of an IPv6 one (/64, all of it is one customer's).

    Args:
        connection: The request.
        trusted_hops: How many proxies of ours stand before this site, each of which adds to `X-Forwarded-For`.
    """
    peer = connection.client.host if connection.client is not None else ""
    if trusted_hops > 0:
        told = ",".join(connection.headers.getall("x-forwarded-for", [])).split(",")
        # With fewer entries than proxies somebody came past them.
        if len(told) >= trusted_hops and (read := _read(told[-trusted_hops])):
            return read
    return _read(peer) or "unknown"


def _read(text: str) -> str:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
