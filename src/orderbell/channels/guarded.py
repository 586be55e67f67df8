"""HTTP to addresses that strangers chose: looked at first, and then called at the very IP address that was looked at.

Whoever may name an address of a webhook could otherwise make this server ask its own network, the cloud's metadata
service or itself (SSRF), or name a host whose address changes between the check and the call (DNS rebinding).

- Only https, only the ports that are allowed; no user name in the address; redirects are never followed.
- The name is resolved once. If any of its addresses is not public, it is refused: private, loopback, link-local,
  shared (RFC 6598), multicast, reserved, of documentation, an address of this machine, and all of these in the clothes
  of IPv6 (mapped, 6to4, Teredo, NAT64). The connection goes to a resolved address and no other.
- `allow_hosts` names hosts of one's own network: they may speak plain http and may be private or this machine itself,
  yet never a metadata service.
- No more than 8 kB of an answer is read.

Sources: OWASP Server-Side Request Forgery Prevention, IANA special-purpose address registries (RFC 6890, RFC 9637).
"""

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

import psutil

from orderbell.channels.http import Address, HttpClient, NoReply, Reply, read_address
from orderbell.errors import OrderBellError

Resolve = Callable[[str, int], list[str]]
"""Gives the IP addresses of a host name, the best first; raises OSError. May block."""

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

ANSWER_BYTES_MAX: Final = 8 * 1024

# A look-up cannot be stopped, so that somebody's slow name server holds a thread of this pool and of no other.
_LOOKUPS_MAX: Final = 8
# To make a client takes 10 ms, for the certificates; one is kept for each of the hosts called last.
_CLIENTS_MAX: Final = 64
_TRIED_ADDRESSES_MAX: Final = 3
_OWN_FOR_S: Final = 2.0

_METADATA: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # most clouds, and link-local anyway
        "fe80::/10",
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::/32",  # Google over IPv6
    )
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION_V6: Final = ipaddress.IPv6Network("3fff::/20")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(OrderBellError):
    """An address must not be called; the message says why."""


class Unresolved(OrderBellError):
    """A host name has no address now."""


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _own_addresses() -> frozenset[str]:
    families = {socket.AF_INET, socket.AF_INET6}
    every = [one for interface in psutil.net_if_addrs().values() for one in interface]
    return frozenset(one.address.partition("%")[0] for one in every if one.family in families)


def _unwrapped(address: _IpAddress) -> _IpAddress:
    """Give the IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: _IpAddress) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    tunnelled = address.sixtofour is not None or address.teredo is not None
    return address in _PUBLIC_V6 and address not in _DOCUMENTATION_V6 and not tunnelled


def refusal(text: str, *, allowed: bool = False, own: Iterable[str] = ()) -> str:
    """Say why an IP address must not be called, "" where it may.

    `allowed` is for a host of one's own network; `own` are the addresses of this machine.
    """
    try:
        address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return "is no IP address"
    if any(address in network for network in _METADATA) or address.is_link_local:
        return "is link-local or a metadata service"
    if address.is_multicast or address.is_unspecified:
        return "is no address of one machine"
    if allowed:
        return ""
    if address.is_loopback or str(address) in own:
        return "is this machine"
    return "" if _is_public(address) else "is not public"


class GuardedClient:
    """A client for addresses that strangers chose.

    Args:
        allow_hosts: hosts of one's own network, as `name` (any of `ports`, or 80) or `name:port`.
        ports: ports that may be called elsewhere.
        connect_timeout_s: how long to look up the name, and then to wait for a connection.
        timeout_s: how long a request may take once the name has been looked up.
        ca_pem: a certificate authority to trust besides those of the system.
        resolve: looks up host names.

    Raises:
        ValueError: the timeouts contradict each other.
    """

    def __init__(
        self,
        *,
        allow_hosts: Iterable[str] = (),
        ports: Iterable[int] = (443,),
        connect_timeout_s: float = 2.0,
        timeout_s: float = 10.0,
        ca_pem: bytes | None = None,
        resolve: Resolve = _resolve,
    ) -> None:
        if not 0 < connect_timeout_s < timeout_s:
            raise ValueError(f"connect_timeout_s={connect_timeout_s} must be above 0 and below timeout_s={timeout_s}")
        self._allow_hosts = frozenset(host.lower() for host in allow_hosts)
        self._ports = frozenset(ports)
        self._timeouts = (connect_timeout_s, timeout_s)
        self._ca_pem = ca_pem
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(_LOOKUPS_MAX, thread_name_prefix="guarded")
        self._clients: dict[tuple[str, str], HttpClient] = {}
        self._in_use: Counter[tuple[str, str]] = Counter()
        self._own_addresses, self._own_until_s = frozenset[str](), 0.0
        self._closed = False

    async def request(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply | NoReply:
        """Ask once, as `HttpClient.request` does, at addresses that may be called.

        Raises:
            AddressRefused: the address must not be called; nothing was sent.
        """
        if self._closed:
            return NoReply(perhaps_sent=False, detail="the client is closed")
        try:
            address, ips = await self.examine(url)
        except Unresolved as unresolved:
            return NoReply(perhaps_sent=False, detail=str(unresolved))
        answered: Reply | NoReply = NoReply(perhaps_sent=False, detail="no address")
        for ip in ips[:_TRIED_ADDRESSES_MAX]:
            async with self._client(address, ip) as client:
                answered = await client.request(method, address.path, body, headers)
            if isinstance(answered, Reply) or answered.perhaps_sent:
                break
        return answered

    async def examine(self, url: str) -> tuple[Address, list[str]]:
        """Take an address apart and give the IP addresses at which it may be called.

        Raises:
            AddressRefused: it must not be called.
            Unresolved: its name could not be looked up.
        """
        address = read_address(url)
        if address is None:
            raise AddressRefused("is no address of the form https://host/path")
        allowed = self._allows(address)
        if not allowed and address.scheme != "https":
            raise AddressRefused("must be https")
        if not allowed and address.port not in self._ports:
            raise AddressRefused(f"port {address.port} is not allowed")
        ips = await self._look_up(address)
        for ip in ips:
            if why := refusal(ip, allowed=allowed, own=self._own()):
                raise AddressRefused(f"its IP address {why}")
        return address, ips

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._clients:
            await self._clients.popitem()[1].close()

    def _own(self) -> frozenset[str]:
        """The addresses of this machine, as they were a moment ago: to ask costs more than all else here."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._own_until_s:
            self._own_addresses, self._own_until_s = _own_addresses(), now_s + _OWN_FOR_S
        return self._own_addresses

    def _allows(self, address: Address) -> bool:
        named = address.host in self._allow_hosts and address.port in self._ports | {80}
        return named or address.origin.partition("//")[2] in self._allow_hosts

    async def _look_up(self, address: Address) -> list[str]:
        try:
            return [str(ipaddress.ip_address(address.host))]
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        try:
            asked = loop.run_in_executor(self._threads, self._resolve, address.host, address.port)
            ips = await asyncio.wait_for(asked, self._timeouts[0])
        except (OSError, UnicodeError) as error:
            raise Unresolved(f"the host name cannot be resolved: {type(error).__name__}") from error
        if not ips:
            raise Unresolved("the host name has no address")
        return ips

    @asynccontextmanager
    async def _client(self, address: Address, ip: str) -> AsyncIterator[HttpClient]:
        """Lend the client of a host at one IP address; those that were used longest ago are given up."""
        key = (address.origin, ip)
        client = self._clients.pop(key, None)
        if client is None:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self._threads, self._make, (address.host, ip), address.origin)
            client = self._clients.pop(key, made)
            if client is not made:  # another request was quicker
                await made.close()
        self._clients[key] = client
        self._in_use[key] += 1
        try:
            yield client
        finally:
            self._in_use[key] -= 1
            await self._give_up_oldest()

    async def _give_up_oldest(self) -> None:
        idle = [key for key in self._clients if self._in_use[key] < 1]
        # All are taken out before the first is closed: while one closes, another request may want the next.
        given_up = [self._clients.pop(key) for key in idle[: max(len(self._clients) - _CLIENTS_MAX, 0)]]
        self._in_use = +self._in_use
        for client in given_up:
            await client.close()

    def _make(self, connect_to: tuple[str, str], origin: str) -> HttpClient:
        connect_timeout_s, timeout_s = self._timeouts
        return HttpClient(
            origin,
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
            ca_pem=self._ca_pem,
            connect_to=connect_to,
            cut_bytes=ANSWER_BYTES_MAX,
        )
