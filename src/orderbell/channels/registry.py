"""The kinds of providers there are, by the name that a shop writes into its file of providers.

Their modules are imported only when one of them is configured: some need packages that not everybody installs.
"""

import importlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from orderbell.channels.protocol import Channel, Shared
from orderbell.errors import OrderBellError

Maker = Callable[..., Channel]

_KINDS: Final = {
    "alibaba": ("alibaba", "Alibaba"),
    "apns": ("apns", "Apns"),
    "apprise": ("apprise", "Apprise"),
    "fcm": ("fcm", "Fcm"),
    "jpush": ("jpush", "Jpush"),
    "mail": ("mail", "Mail"),
    "smpp": ("smpp", "Smpp"),
    "staff": ("staff", "Staff"),
    "tencent": ("tencent", "Tencent"),
    "twilio": ("twilio", "Twilio"),
    "webhook": ("webhook", "Webhook"),
    "webpush": ("webpush", "WebPush"),
    "wechat": ("wechat", "WeChat"),
}
KINDS: Final = tuple(_KINDS)


class KindUnknown(OrderBellError):
    """There is no such kind of provider, or its options are wrong."""


def options_type(kind: str) -> type[msgspec.Struct]:
    """The options that a kind of provider takes.

    Raises:
        KindUnknown: There is no such kind, or a package that it needs is not installed.
    """
    return cast("type[msgspec.Struct]", _find(kind, "Options"))


def make_channel(
    kind: str, options: msgspec.Struct, *, name: str, now: Callable[[], datetime], shared: Shared
) -> Channel:
    """Make the channel to a provider; nothing is connected yet."""
    return cast("Maker", _find(kind, "Channel"))(options, name=name, now=now, shared=shared)


def _find(kind: str, suffix: str) -> Any:  # noqa: ANN401 - a class of one of many modules
    if kind not in _KINDS:
        raise KindUnknown(f"there is no kind of provider {kind!r}; known: {', '.join(KINDS)}")
    module, prefix = _KINDS[kind]
    try:
        found = importlib.import_module(f"orderbell.channels.{module}")
    except ImportError as problem:
        package = problem.name or problem
        words = f"{kind} needs the package {package}, which is not installed; add it with: pip install {package}"
        raise KindUnknown(words) from problem
    return getattr(found, f"{prefix}{suffix}")
