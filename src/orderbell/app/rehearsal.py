"""A rehearsal: the providers that OrderBell knows, simulated on ports of this machine, and the file that names them.

Each start makes credentials of its own, and the file of providers anew. What the simulators know is gone when they
stop. Nothing is listened for outside 127.0.0.1.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from orderbell.errors import SettingsInvalid
from orderbell.sandbox.alibaba import AlibabaSimulator
from orderbell.sandbox.apns import ApnsSimulator
from orderbell.sandbox.fcm import FcmSimulator
from orderbell.sandbox.http2 import serving_http2
from orderbell.sandbox.jpush import JpushSimulator
from orderbell.sandbox.mail import MailSimulator
from orderbell.sandbox.simulator import Simulator
from orderbell.sandbox.smsc import SmscSimulator
from orderbell.sandbox.staff import StaffSimulator
from orderbell.sandbox.tencent import Sign, TencentSimulator
from orderbell.sandbox.twilio import TwilioSimulator
from orderbell.sandbox.webhook import WebhookReceiver
from orderbell.sandbox.webpush import WebPushSimulator
from orderbell.sandbox.wechat import WeChatSimulator
from orderbell.serving import serving

FILE_NAME: Final = "providers.toml"
PEOPLE_NAME: Final = "people.json"
PUBLIC_URL: Final = "http://127.0.0.1:8470"
PORT_FROM: Final = 8480

_MARK: Final = "# Written by `orderbell sandbox providers`, and written anew at each of its starts."
_SIGN: Final = "叮咚"
_PHONE: Final = "+8613800138000"
_TOPIC: Final = "example.orderbell.shop"
_SENDER: Final = "+15005550006"
_PRICE_MILLIFEN: Final = 4_500
_PER_SECOND: Final = 100.0
_ROBOTS: Final = ("dingtalk", "wecom", "feishu", "slack")

Options = Mapping[str, Any]
Serve = Callable[[int], AbstractAsyncContextManager[str]]


class Part(Struct, frozen=True, kw_only=True):
    """One provider of the rehearsal, before it runs.

    `options` gives what stands in the file, from the address at which the simulator listens; `people` whom it can write
    to, by channel; `callback` is the last part of the address that it brings receipts to. `serve` listens at a port and
    gives the address; a simulator that `needs_page` speaks no HTTP there, so that it has a second port to be looked at.
    """

    name: str
    kind: str
    plays: str
    simulator: Simulator
    serve: Serve
    options: Callable[[str], Options]
    people: Callable[[str], Mapping[str, str]]
    token: str = ""
    needs_page: bool = False


class Playing(Struct, frozen=True, kw_only=True):
    """A provider that runs: where it listens, and where it can be looked at and put out of order.

    `people` are addresses that it takes, by channel.
    """

    name: str
    kind: str
    url: str
    page: str
    plays: str
    people: Mapping[str, str]
    simulator: Simulator


class Rehearsal(Struct, frozen=True, kw_only=True):
    """All providers that run, and the file that names them; `people` is the file of addresses that they take."""

    file: Path
    people: Path
    public_url: str
    playing: tuple[Playing, ...]


@contextlib.asynccontextmanager
async def rehearsing(
    folder: Path, *, port_from: int = PORT_FROM, public_url: str = PUBLIC_URL
) -> AsyncIterator[Rehearsal]:
    """Run all simulators for as long as the block lasts, and write the file of providers.

    Args:
        folder: Where `providers.toml` and `people.json` are written; made if missing.
        port_from: The first port; each simulator takes the next one. 0: any that are free.
        public_url: Where OrderBell hears callbacks.

    Raises:
        SettingsInvalid: A port is taken, or there is a file of providers that somebody else wrote.
    """
    file, people = folder / FILE_NAME, folder / PEOPLE_NAME
    _check_ours(file)
    ports = itertools.count(port_from) if port_from else itertools.repeat(0)
    stacks: list[AsyncExitStack] = []
    try:
        playing, entries = [], []
        for part in _cast(public_url.rstrip("/")):
            stack = AsyncExitStack()
            stacks.append(stack)
            stack.push_async_callback(part.simulator.close)
            url = await _listen(stack, part.serve, ports, part.name)
            page = await _listen(stack, _over_http(part.simulator), ports, part.name) if part.needs_page else url
            entries.append(_entry(part, part.options(url)))
            playing.append(
                Playing(
                    name=part.name, kind=part.kind, url=url, page=page, plays=part.plays, people=part.people(url),
                    simulator=part.simulator,
                )
            )  # fmt: skip
        _write_files(file, people, entries, playing)
        yield Rehearsal(file=file, people=people, public_url=public_url, playing=tuple(playing))
    finally:
        # One after the other they would take two seconds.
        await asyncio.gather(*(stack.aclose() for stack in stacks))


async def rehearse(folder: Path, console: Console, *, port_from: int, public_url: str) -> None:
    """Run the rehearsal until SIGINT or SIGTERM, and say how to use it.

    Raises:
        SettingsInvalid: As `rehearsing`.
    """
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with rehearsing(folder, port_from=port_from, public_url=public_url) as rehearsal:
        show(console, rehearsal)
        await ended.wait()


def show(console: Console, rehearsal: Rehearsal) -> None:
    """Print what runs, and how to use it."""
    table = Table(box=None, pad_edge=False)
    for title in ("provider", "kind", "address", "what it plays"):
        table.add_column(title, overflow="fold", no_wrap=title == "address")
    for one in rehearsal.playing:
        table.add_row(one.name, one.kind, one.url, one.plays)
    program = program_of(sys.argv[0])
    # It sends any text; those that want approved ones have nothing to show at first.
    shown = next(one for one in rehearsal.playing if one.kind == "twilio")
    apart = [f"{one.name} at {one.page}" for one in rehearsal.playing if one.page != one.url]
    lines = (
        "",
        "Let OrderBell send through them, in another terminal:",
        f"  ORDERBELL_PROVIDERS_FILE={rehearsal.file} ORDERBELL_PUBLIC_URL={rehearsal.public_url} {program} up",
        f"Check them with `{program} doctor` and the same two variables.",
        f"Addresses that they take, for all channels: {rehearsal.people}",
        f"Alibaba, Tencent and WeChat send approved templates only; they take any code: `{program} templates --help`.",
        f"See what one took, or let it fail ({shown.name} here):",
        f"  curl {shown.page}/_taken",
        f"""  curl -X PUT {shown.page}/_faults -d '{{"timeout_after_accept": 0.2, "receipt_delay_s": 5}}'""",
        f"Those that speak no HTTP have a second port for this: {', '.join(apart)}.",
        "Ends with Ctrl-C.",
    )
    console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def program_of(called: str) -> str:
    """How this program is called in the folder where we are: as `sys.argv[0]` was, as short as it can be."""
    path = Path(called)
    if path.name == "__main__.py":
        return f"{_short(Path(sys.executable))} -m orderbell"
    found = shutil.which(path.name)
    if path.stem != "orderbell" or (found and Path(found).resolve() == path.resolve()):
        return "orderbell"
    return _short(path)


def _short(path: Path) -> str:
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


async def _listen(stack: AsyncExitStack, serve: Serve, ports: Iterator[int], name: str) -> str:
    port = next(ports)
    try:
        return await stack.enter_async_context(serve(port))
    except (OSError, OverflowError) as problem:
        words = f"port {port} for {name} cannot be listened on ({getattr(problem, 'strerror', None) or problem})"
        raise SettingsInvalid(f"{words}; choose others with --port-from, 0 takes any that are free") from problem


def _check_ours(file: Path) -> None:
    """Refuse to write over a file of providers that a person wrote.

    Raises:
        SettingsInvalid: It does not begin with our words.
    """
    try:
        begin = file.read_bytes()[: len(_MARK.encode())]
    except FileNotFoundError:
        return
    except OSError as problem:
        raise SettingsInvalid(f"{file} cannot be read ({problem.strerror}); choose another --folder") from problem
    if begin != _MARK.encode():
        raise SettingsInvalid(f"{file} was not written by this command and is left alone; choose another --folder")


def _write_files(file: Path, people: Path, entries: Sequence[str], playing: Sequence[Playing]) -> None:
    folder = file.parent
    listed = {one.name: one.people for one in playing}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(file, "\n".join([_MARK, f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "", *entries]))
        _write(people, msgspec.json.format(msgspec.json.encode(listed)).decode() + "\n")
    except OSError as problem:
        words = f"{folder} cannot be written to ({problem.strerror}); choose another with --folder"
        raise SettingsInvalid(words) from problem


def _write(file: Path, text: str) -> None:
    """Write a file that only its owner may read: keys stand in it."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
    new.replace(file)


def _entry(part: Part, options: Options) -> str:
    common = {"name": part.name, "kind": part.kind, **({"callback_token": part.token} if part.token else {})}
    lines = [f"{name} = {_toml(value)}" for name, value in {**common, **options}.items()]
    return "\n".join([f"[[provider]]  # {part.plays}", *lines, ""])


def _toml(value: object) -> str:
    """Write a value: JSON is TOML but for the tables, and those are written in one line here."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return msgspec.json.encode(value).decode()


def _over_http(simulator: Simulator) -> Serve:
    return lambda port: serving(simulator, port=port, stopping=simulator.end_waiting)


def _over_http2(simulator: Simulator) -> Serve:
    return lambda port: serving_http2(simulator, port=port, stopping=simulator.end_waiting)


def _over_tcp(scheme: str, listen: Callable[[int], AbstractAsyncContextManager[int]]) -> Serve:
    @contextlib.asynccontextmanager
    async def serve(port: int) -> AsyncIterator[str]:
        async with listen(port) as taken:
            yield f"{scheme}://127.0.0.1:{taken}"

    return serve


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _cast(public_url: str) -> list[Part]:
    """All parts, in the order of their ports."""

    def heard_at(name: str) -> tuple[str, str]:
        token = secrets.token_urlsafe()
        return token, f"{public_url}/v1/callbacks/{name}/{token}"

    return [
        _alibaba(*heard_at("alibaba")),
        _tencent(*heard_at("tencent")),
        _twilio(*heard_at("twilio")),
        _wechat(*heard_at("wechat")),
        _jpush(),
        _fcm(),
        _apns(),
        _webpush(),
        _webhook(),
        _staff(),
        _smpp(),
        _mail(*heard_at("mail")),
    ]


def _alibaba(token: str, callback_url: str) -> Part:
    key_id, secret = f"LTAI{secrets.token_hex(10)}", secrets.token_hex(15)
    simulator = AlibabaSimulator(
        access_key_id=key_id, access_key_secret=secret, signs={_SIGN}, callback_url=callback_url
    )
    settings = {
        "access_key_id": key_id, "access_key_secret": secret, "sign": _SIGN, "ref_key": secrets.token_hex(16),
        "prefixes": ["+86"],
    }  # fmt: skip
    return Part(
        name="alibaba", kind="alibaba", plays="Alibaba Cloud SMS, with look-up",
        simulator=simulator, serve=_over_http(simulator), token=token,
        options=lambda url: {**settings, "url": url}, people=lambda _: {"sms": _PHONE},
    )  # fmt: skip


def _tencent(token: str, callback_url: str) -> Part:
    key_id, key, app_id = f"AKID{secrets.token_hex(16)}", secrets.token_hex(16), "1400006666"
    simulator = TencentSimulator(
        secret_id=key_id, secret_key=key, sdk_app_id=app_id, signs={_SIGN: Sign()}, callback_url=callback_url
    )
    simulator.takes_any_template = True
    settings = {
        "secret_id": key_id, "secret_key": key, "sdk_app_id": app_id, "sign": _SIGN, "variable_max": 0,
        "prefixes": ["+86"],
    }  # fmt: skip
    return Part(
        name="tencent", kind="tencent", plays="Tencent Cloud SMS, with look-up",
        simulator=simulator, serve=_over_http(simulator), token=token,
        options=lambda url: {**settings, "url": url}, people=lambda _: {"sms": _PHONE},
    )  # fmt: skip


def _twilio(token: str, callback_url: str) -> Part:
    account, word = f"AC{secrets.token_hex(16)}", secrets.token_hex(16)
    simulator = TwilioSimulator(account_sid=account, auth_token=word, sender=_SENDER, callback_url=callback_url)
    settings = {
        "account_sid": account, "auth_token": word, "sender": _SENDER, "callback_url": callback_url,
        "price_millifen": _PRICE_MILLIFEN, "per_second": _PER_SECOND,
    }  # fmt: skip
    return Part(
        name="twilio", kind="twilio", plays="Twilio: any text, signed callbacks",
        simulator=simulator, serve=_over_http(simulator), token=token,
        options=lambda url: {**settings, "url": url}, people=lambda _: {"sms": _PHONE},
    )  # fmt: skip


def _wechat(token: str, callback_url: str) -> Part:
    appid, secret, word = f"wx{secrets.token_hex(8)}", secrets.token_hex(16), secrets.token_hex(16)
    aes_key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    simulator = WeChatSimulator(
        appid=appid, secret=secret, templates={}, callback_url=callback_url, callback_token=word,
        encoding_aes_key=aes_key, push="safe",
    )  # fmt: skip
    simulator.takes_any_template = True
    settings = {"appid": appid, "secret": secret, "message_token": word, "encoding_aes_key": aes_key}
    return Part(
        name="wechat", kind="wechat", plays="a WeChat official account, safe mode",
        simulator=simulator, serve=_over_http(simulator), token=token,
        options=lambda url: {**settings, "url": url}, people=lambda _: {"wechat": "oABC123_-def456GHI789jkl012mn"},
    )  # fmt: skip


def _jpush() -> Part:
    key, secret = secrets.token_hex(12), secrets.token_hex(12)
    simulator = JpushSimulator(key, secret)
    settings = {"app_key": key, "master_secret": secret, "per_second": _PER_SECOND}
    return Part(
        name="jpush", kind="jpush", plays="JPush",
        simulator=simulator, serve=_over_http(simulator),
        options=lambda url: {**settings, "url": url}, people=lambda _: {"push": f"jpush:{secrets.token_hex(9)}"},
    )  # fmt: skip


def _fcm() -> Part:
    simulator = FcmSimulator()
    return Part(
        name="fcm", kind="fcm", plays="FCM, with Google's token service",
        simulator=simulator, serve=_over_http(simulator),
        options=lambda url: {"url": url, "service_account": simulator.service_account(url)},
        people=lambda _: {"push": f"fcm:{secrets.token_urlsafe(24)}"},
    )  # fmt: skip


def _apns() -> Part:
    team, key = secrets.token_hex(5).upper(), secrets.token_hex(5).upper()
    simulator = ApnsSimulator(team, key, _TOPIC)
    settings = {"team_id": team, "key_id": key, "topic": _TOPIC, "private_key": simulator.private_key}
    return Part(
        name="apns", kind="apns", plays="APNs, HTTP/2 without TLS",
        simulator=simulator, serve=_over_http2(simulator),
        options=lambda url: {**settings, "url": url}, people=lambda _: {"push": f"apns:{secrets.token_hex(32)}"},
    )  # fmt: skip


def _webpush() -> Part:
    simulator = WebPushSimulator()
    key = ec.generate_private_key(ec.SECP256R1())
    scalar = key.private_numbers().private_value.to_bytes(32)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    settings = {"vapid_private_key": _base64url(scalar), "subject": "mailto:shop@shop.example"}
    return Part(
        name="webpush", kind="webpush", plays="a browser and its push service",
        simulator=simulator, serve=_over_http(simulator),
        options=lambda url: {**settings, "allow_hosts": [url]},
        people=lambda url: {"push": f"webpush:{simulator.subscribe(url, _base64url(point))}"},
    )  # fmt: skip


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _webhook() -> Part:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    simulator = WebhookReceiver(secrets=(secret,))
    return Part(
        name="webhook", kind="webhook", plays="a program that takes webhooks",
        simulator=simulator, serve=_over_http(simulator),
        options=lambda url: {"endpoints": {f"{url}/bell": [secret]}, "allow_hosts": [url.removeprefix("http://")]},
        people=lambda url: {"webhook": f"{url}/bell"},
    )  # fmt: skip


def _staff() -> Part:
    secret = f"SEC{secrets.token_hex(16)}"
    simulator = StaffSimulator(secret=secret, limited=True)

    def robot(url: str, kind: str) -> Options:
        signed = {"secret": secret} if kind in {"dingtalk", "feishu"} else {}
        return {"kind": kind, "url": StaffSimulator.robot_url(url, kind), **signed}

    return Part(
        name="staff", kind="staff", plays="DingTalk, WeCom, Feishu and Slack",
        simulator=simulator, serve=_over_http(simulator),
        options=lambda url: {"robots": {kind: robot(url, kind) for kind in _ROBOTS}},
        people=lambda _: {"staff": _ROBOTS[0]},
    )  # fmt: skip


def _smpp() -> Part:
    simulator = SmscSimulator(system_id="orderbell", password=secrets.token_hex(4))
    settings = {
        "system_id": simulator.system_id, "password": simulator.password, "source": "1065", "receipt_zone": "UTC",
        "prefixes": ["+86"],
    }  # fmt: skip
    return Part(
        name="smsc", kind="smpp", plays="an operator's SMSC (SMPP 3.4)",
        simulator=simulator, serve=_over_tcp("smpp", lambda port: simulator.listening(port=port)), needs_page=True,
        options=lambda url: {**settings, "host": "127.0.0.1", "port": _port_of(url)},
        people=lambda _: {"sms": _PHONE},
    )  # fmt: skip


def _mail(token: str, callback_url: str) -> Part:
    word = secrets.token_hex(16)
    simulator = MailSimulator(username="shop", password=word, callback_url=f"{callback_url}/bounces")
    simulator.reports_success = True
    settings = {
        "host": "127.0.0.1", "tls": "none", "username": "shop", "password": word,
        "from_address": "notice@shop.example", "from_name": "叮咚商城",
        "bounce_domain": "bounce.shop.example", "bounce_key": secrets.token_hex(16),
    }  # fmt: skip
    return Part(
        name="mail", kind="mail", plays="a mail relay that confirms deliveries",
        simulator=simulator, serve=_over_tcp("smtp", lambda port: simulator.serving_smtp(port=port)), needs_page=True,
        token=token,
        options=lambda url: {**settings, "port": _port_of(url)}, people=lambda _: {"email": "zhang@shop.example"},
    )  # fmt: skip
