"""Addresses that strangers chose must never lead into one's own network, however they are written."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orderbell.channels import guarded
from orderbell.channels.guarded import AddressRefused, GuardedClient, Unresolved, refusal
from orderbell.channels.http import Address, HttpClient, NoReply, Reply, read_address
from tests.raw_server import Behaviour, answering, http_answer, raw_server, read_request, unused_port

LOCAL = (
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.255.255.254",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "0", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]",  # noqa: S104 - refused
)  # fmt: skip
PRIVATE = (
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.1.1", "3232235777", "0xc0a80101", "100.64.0.1",
    "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "224.0.0.1",
    "239.255.255.250", "[fc00::1]", "[fd12:3456::1]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[::ffff:10.0.0.1]",
    "[64:ff9b::a00:1]", "[64:ff9b:1::a00:1]", "[2002:a00:1::]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "[100::1]",
)  # fmt: skip
METADATA = (
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]", "[fe80::1]",
    "[64:ff9b::a9fe:a9fe]", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]", "[fd20:ce::254]",
)  # fmt: skip
NO_ADDRESS = (
    "", "no address", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1:70/", "data:,x",
    "https://", "https://user@example.com/", "https://user:word@example.com/", "https://:word@example.com/",
    "https://exa mple.com/", "https://example.com:99999/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://a\ud83d/",
    "https://1.2.3.4.5/", "https://256.1.1.1/", "javascript:alert(1)",
)  # fmt: skip


@asynccontextmanager
async def client(
    addresses: dict[str, list[str]] | None = None,
    *,
    asked: list[str] | None = None,
    ca_pem: bytes | None = None,
    connect_timeout_s: float = 0.5,
    **hosts: object,
) -> AsyncIterator[GuardedClient]:
    """Make an impatient client with name servers of its own."""

    def resolve(host: str, port: int) -> list[str]:
        if asked is not None:
            asked.append(host)
        if addresses is None or host not in addresses:
            raise OSError(host)
        return addresses[host]

    allow_hosts, ports = hosts.get("allow_hosts", ()), hosts.get("ports", (443,))
    assert isinstance(allow_hosts, tuple)
    assert isinstance(ports, tuple)
    made = GuardedClient(
        allow_hosts=allow_hosts,
        ports=ports,
        connect_timeout_s=connect_timeout_s,
        timeout_s=2 * connect_timeout_s + 4,
        ca_pem=ca_pem,
        resolve=resolve,
    )
    try:
        yield made
    finally:
        await made.close()


def counting(hits: list[str], then: Behaviour) -> Behaviour:
    """Put down every connection, then go on."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append("connected")
        await then(reader, writer)

    return behave


@pytest.mark.parametrize("host", LOCAL + PRIVATE + METADATA)
async def test_request_to_forbidden_address(host: str) -> None:
    """No spelling of an address inside may be called; nothing may be connected to."""
    hits: list[str] = []
    async with raw_server(counting(hits, answering(http_answer(b"secret")))) as url:
        port = int(url.rpartition(":")[2])
        async with client(ports=(port,)) as http:
            with pytest.raises(AddressRefused):
                await http.request("POST", f"https://{host}:{port}/", b"{}")
    assert hits == []


@pytest.mark.parametrize("host", METADATA)
async def test_request_to_metadata_although_allowed(host: str) -> None:
    """A metadata service must not be called even where its host is named as one's own."""
    async with client({"own.example": [host.strip("[]")]}, allow_hosts=("own.example", host.strip("[]"))) as http:
        with pytest.raises(AddressRefused):
            await http.request("GET", f"http://{host}/latest/meta-data/")
        if "." in host.strip("[]") or ":" in host:
            with pytest.raises(AddressRefused):
                await http.request("GET", "http://own.example/latest/meta-data/")


@pytest.mark.parametrize("url", NO_ADDRESS)
async def test_request_to_no_address(url: str) -> None:
    """What is no plain https address must be refused without asking a name server."""
    asked: list[str] = []
    async with client(asked=asked) as http:
        with pytest.raises(AddressRefused, match="no address of the form"):
            await http.request("POST", url, b"{}")
    assert asked == []


@pytest.mark.parametrize(
    "ips",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["2606:4700::1111", "::1"],
        ["169.254.169.254"],
        ["fe80::1%eth0"],
        ["nonsense"],
    ],
)
async def test_request_to_name_with_forbidden_address(ips: list[str]) -> None:
    """A name must be refused when any of its addresses is not public."""
    async with client({"shop.example": ips, "shop.example.": ips}) as http:
        for url in ("https://shop.example/", "https://SHOP.example./", "https://shop%2Eexample/"):
            with pytest.raises(AddressRefused, match="its IP address"):
                await http.request("POST", url, b"{}")


@pytest.mark.parametrize("url", ["http://shop.example/", "https://shop.example:22/", "http://shop.example:443/"])
async def test_request_over_wrong_scheme_or_port(url: str) -> None:
    """Plain http and other ports must be refused, however public the address is."""
    async with client({"shop.example": ["8.8.8.8"]}) as http:
        with pytest.raises(AddressRefused, match=r"https|port"):
            await http.request("POST", url, b"{}")


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "114.114.114.114", "2400:3200::1"]
)
async def test_examine_public_address(ip: str) -> None:
    """A public address must be allowed, behind NAT64 as well."""
    async with client({"shop.example": [ip]}) as http:
        address, ips = await http.examine("https://shop.example/bell?key=1#part")
    assert address == Address("https", "shop.example", 443, "/bell?key=1")
    assert ips == [ip]


def test_refusal_of_own_public_address() -> None:
    """This machine must not be reached through its public address either."""
    assert refusal("8.8.8.8", own={"8.8.8.8"}) == "is this machine"
    assert refusal("8.8.8.8", own={"8.8.4.4"}) == ""


async def test_request_connects_where_it_was_checked() -> None:
    """A name that changes its address between check and call must not be looked up again (DNS rebinding)."""
    asked: list[str] = []
    addresses = {"own.example": ["127.0.0.1"]}

    async def rebind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        addresses["own.example"] = ["10.0.0.1"]
        await answering(http_answer(b"ok"))(reader, writer)

    async with raw_server(rebind) as url:
        port = url.rpartition(":")[2]
        async with client(addresses, asked=asked, allow_hosts=(f"own.example:{port}",)) as http:
            first = await http.request("POST", f"http://own.example:{port}/", b"{}")
            assert asked == ["own.example"]
            second = await http.request("POST", f"http://own.example:{port}/", b"{}")
    assert isinstance(first, Reply)
    assert isinstance(second, NoReply), "the new address counts from the next look-up"


async def test_request_tries_next_address() -> None:
    """Where nothing listens at the first address, the next must be tried, as nothing was sent."""
    async with raw_server(answering(http_answer(b"ok"))) as url:
        port = url.rpartition(":")[2]
        async with client({"own.example": ["127.0.0.2", "127.0.0.1"]}, allow_hosts=(f"own.example:{port}",)) as http:
            assert isinstance(await http.request("POST", f"http://own.example:{port}/", b"{}"), Reply)


@pytest.mark.parametrize("host", ["own.example", "own.example:1", "other.example"])
async def test_request_to_own_host_at_other_port(host: str) -> None:
    """A host of one's own must only be called at the port that was named."""
    async with client({"own.example": ["127.0.0.1"]}, allow_hosts=(host,)) as http:
        with pytest.raises(AddressRefused):
            await http.request("POST", f"http://own.example:{unused_port()}/", b"{}")


async def test_request_to_unknown_name() -> None:
    """A name without an address must count as surely not sent."""
    async with client({"empty.example": []}) as http:
        for host in ("nobody.example", "empty.example"):
            answered = await http.request("POST", f"https://{host}/", b"{}")
            assert isinstance(answered, NoReply)
            assert not answered.perhaps_sent
        with pytest.raises(Unresolved):
            await http.examine("https://nobody.example/")


async def test_request_does_not_follow_redirects() -> None:
    """A redirect must be given back as it is."""
    hits: list[str] = []
    redirect = http_answer(b"", status=302, headers="location: http://127.0.0.1/latest\r\n")
    async with raw_server(counting(hits, answering(redirect))) as url:
        port = url.rpartition(":")[2]
        async with client(allow_hosts=(f"127.0.0.1:{port}",)) as http:
            assert await http.request("POST", url, b"{}") == Reply(302, b"")
    assert len(hits) == 1


async def test_request_cuts_answer() -> None:
    """No more of an answer than 8 kB may be read, even of one that never ends."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 4_000)
            await writer.drain()

    async with raw_server(endless) as url, client(allow_hosts=(url.removeprefix("http://"),)) as http:
        answered = await http.request("POST", url, b"{}")
    assert answered == Reply(200, b"x" * guarded.ANSWER_BYTES_MAX)


@asynccontextmanager
async def patient(names: list[str], url: str) -> AsyncIterator[tuple[GuardedClient, list[str]]]:
    """Make a client that waits long, for a busy machine, and addresses of hosts that all lead to one server."""
    port = url.rpartition(":")[2]
    allowed = tuple(f"{one}:{port}" for one in names)
    local = {one: ["127.0.0.1"] for one in names}
    async with client(local, allow_hosts=allowed, connect_timeout_s=20) as http:
        yield http, [f"http://{one}/" for one in allowed]


async def test_clients_are_kept_for_last_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many clients may be kept, however many hosts are called at once; a used one must stay."""
    monkeypatch.setattr(guarded, "_CLIENTS_MAX", 2)
    names = [f"h{number}.example" for number in range(6)]
    async with raw_server(answering(http_answer(b"ok"))) as url, patient(names, url) as (http, urls):
        calls = [http.request("POST", one, b"{}") for one in [*urls, *urls]]
        answered = await asyncio.gather(*calls)
        assert [one for one in answered if not isinstance(one, Reply)] == []
        assert len(http._clients) == 2


async def test_client_that_is_wanted_again_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """While clients are given up one after the other, a request that wants one of them must not find it closing."""
    close, wanted = HttpClient.close, asyncio.Event()

    async def slow_close(client: HttpClient) -> None:
        wanted.set()
        await asyncio.sleep(0.1)
        await close(client)

    hanging = asyncio.Event()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await read_request(reader) == b"late":
            await hanging.wait()
        writer.write(http_answer(b"ok"))
        await writer.drain()
        writer.close()

    async with raw_server(answer_late) as url, patient(["a.example", "b.example", "c.example"], url) as (http, urls):
        for one in urls:
            await http.request("POST", one, b"{}")
        monkeypatch.setattr(guarded, "_CLIENTS_MAX", 1)
        monkeypatch.setattr(HttpClient, "close", slow_close)
        giving_up = asyncio.create_task(http.request("POST", urls[2], b"{}"))  # a and b are idle and one too many each
        await wanted.wait()
        late = asyncio.create_task(http.request("POST", urls[1], b"late"))
        assert await giving_up == Reply(200, b"ok")
        hanging.set()
        assert await late == Reply(200, b"ok")


async def test_request_on_closed_client() -> None:
    """A closed client must answer like a failed one, and not raise."""
    async with client() as http:
        await http.close()
        answered = await http.request("POST", "https://8.8.8.8/", b"{}")
    assert answered == NoReply(perhaps_sent=False, detail="the client is closed")


def test_client_with_contradicting_timeouts() -> None:
    """Timeouts that could not tell a slow connect from a lost answer must be refused."""
    with pytest.raises(ValueError, match="connect_timeout_s"):
        GuardedClient(connect_timeout_s=3, timeout_s=2)


def make_certificate(name: str) -> tuple[bytes, bytes]:
    """Make a certificate for a host name, signed by itself; gives it and its key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(serialization.Encoding.PEM), private


@pytest.mark.parametrize(("named", "reached"), [("own.example", True), ("other.example", False)])
async def test_request_over_tls(tmp_path: Path, named: str, reached: bool) -> None:
    """The certificate must be that of the name, although an IP address is connected to."""
    certificate, private = make_certificate(named)
    (tmp_path / "both.pem").write_bytes(certificate + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(http_answer(b"ok"))(reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        allow_hosts = (f"own.example:{port}",)
        async with client({"own.example": ["127.0.0.1"]}, ca_pem=certificate, allow_hosts=allow_hosts) as http:
            answered = await http.request("POST", f"https://own.example:{port}/", b"{}")
    assert isinstance(answered, Reply) is reached
    assert reached or answered == NoReply(perhaps_sent=False, detail=answered.detail)  # type: ignore[union-attr]


def test_read_address_of_ip_v6() -> None:
    """An IPv6 address must lose its brackets as host and keep them in the origin."""
    address = read_address("https://[2606:4700::1]:8443/a%20b?c")
    assert address == Address("https", "2606:4700::1", 8443, "/a%20b?c")
    assert address.origin == "https://[2606:4700::1]:8443"
