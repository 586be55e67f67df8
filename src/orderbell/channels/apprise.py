"""Anything else, best effort: the more than hundred services that the package Apprise knows (extra `apprise`).

Apprise answers with yes or no and nothing more: no id, no reason, no receipt, nobody to ask afterwards. Its yes means
that a service answered with a status of success, and for several services that is also said of an error in the body;
its no says nothing about whether the message went out. So a yes is "accepted" with a remark, and a no is "unknown",
which is never sent again by itself. Nothing that matters should go this way alone.

Source: github.com/caronc/apprise, and its code as of 2.2.0.
"""

import asyncio
import importlib
import importlib.util
import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from orderbell.channels.protocol import Answer, Finding, Limits, Outcome, Outgoing, Provider, Shared, Veiled
from orderbell.errors import SettingsInvalid

NO_KNOWLEDGE: Final = "no delivery knowledge"

_PACKAGE: Final = "apprise"
_CHANNELS: Final = frozenset({"sms", "email", "push", "wechat", "staff"})
# Apprise works with as few as five threads; what waits for one would be taken for a service that does not answer.
_AT_ONCE_MAX: Final = 4
# Both write addresses, and with them tokens and phone numbers, to the log; nobody else here uses urllib3.
_TALKATIVE: Final = (_PACKAGE, "urllib3")
_SAMPLES: Final = {"sms": "+8613800138000", "email": "check@example.com"}
# Apprise takes these for the end of one recipient and the beginning of another.
_is_single = re.compile(r"[^\s,;/\\]+").fullmatch


class AppriseOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop sets up for services that only Apprise knows.

    `urls` gives for each channel an address in the form of Apprise, such as `slack://…`; `{to}` in it stands for the
    recipient and is filled in safely. An address without it always goes to the same place, as staff channels do.
    """

    urls: dict[str, str]
    timeout_s: float = 20.0
    per_second: float = 1.0
    price_millifen: int = 0

    def __post_init__(self) -> None:
        """Refuse channels that do not exist (ValueError)."""
        if not self.urls or not self.urls.keys() <= _CHANNELS:
            raise ValueError(f"urls must name some of the channels {', '.join(sorted(_CHANNELS))}")


class AppriseChannel(Provider):
    """Services behind Apprise, without any knowledge of what becomes of a message.

    Raises:
        SettingsInvalid: the package is not installed.
    """

    batch_max = 20

    def __init__(self, options: AppriseOptions, *, name: str, now: Callable[[], datetime], shared: Shared) -> None:
        if importlib.util.find_spec(_PACKAGE) is None:
            raise SettingsInvalid(f"channel {name} needs the package Apprise: pip install 'orderbell[apprise]'")
        self.name = name
        self.carries = frozenset(options.urls)
        self.price_millifen = options.price_millifen
        self.limits = Limits(per_second=options.per_second)
        self._options = options
        self._at_once = asyncio.Semaphore(_AT_ONCE_MAX)

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`."""
        return list(await asyncio.gather(*(self._send_one(outgoing) for outgoing in batch)))

    async def check(self) -> list[Finding]:
        """See `Channel.check`: whether Apprise can read the addresses; nobody can ask whether they are right."""
        return [await self._check_one(channel) for channel in sorted(self._options.urls)]

    async def _send_one(self, outgoing: Outgoing) -> Answer:
        attempt_id = outgoing.attempt_id
        body = f"{outgoing.text}\n{outgoing.link}" if outgoing.link else outgoing.text
        try:
            f"{outgoing.subject}{body}".encode()
        except UnicodeEncodeError:
            return Answer(attempt_id, Outcome.REJECTED_CONTENT, detail="cannot be written as UTF-8")
        if not body.strip():
            return Answer(attempt_id, Outcome.REJECTED_CONTENT, detail="no text given")
        async with self._at_once:
            return await self._notify(outgoing, body)

    async def _notify(self, outgoing: Outgoing, body: str) -> Answer:
        attempt_id, detail = outgoing.attempt_id, "Apprise says no, and not why"
        try:
            service = await self._service(outgoing.channel, outgoing.to)
        except Exception as error:  # noqa: BLE001 - the code of a hundred services, each with faults of its own
            return Answer(attempt_id, Outcome.CHANNEL_DOWN, detail=f"Apprise cannot be loaded: {type(error).__name__}")
        if service is None:
            return Answer(attempt_id, Outcome.REJECTED_RECIPIENT, detail="Apprise cannot read this address")
        try:
            said = bool(
                await service.async_notify(
                    body, outgoing.subject, body_format="text", interpret_escapes=False, timeout=self._options.timeout_s
                )
            )
        except Exception as error:  # noqa: BLE001 - as above
            said, detail = False, f"Apprise failed: {type(error).__name__}"
        if said:
            return Answer(attempt_id, Outcome.ACCEPTED, detail=NO_KNOWLEDGE)
        return Answer(attempt_id, Outcome.UNKNOWN, detail=f"{detail}: {NO_KNOWLEDGE}")

    async def _service(self, channel: str, to: str) -> Any:  # noqa: ANN401 - Apprise is only known at run time
        """Make the service for one recipient, None where there is none; in a thread, as it loads code from files."""
        url = self._options.urls.get(channel, "")
        if "{to}" in url and not _is_single(to):
            return None
        return await asyncio.to_thread(_load, url.replace("{to}", quote(to, safe="")))

    async def _check_one(self, channel: str) -> Finding:
        try:
            service = await self._service(channel, _SAMPLES.get(channel, "check"))
        except Exception as error:  # noqa: BLE001 - as above
            return Finding(fine=False, words=f"Apprise cannot be loaded ({type(error).__name__}): install it anew")
        if service is None:
            return Finding(fine=False, words=f"Apprise cannot read the address for {channel}: correct it in urls")
        return Finding(fine=True, words=f"Apprise can read the address for {channel}; {NO_KNOWLEDGE}")


def _load(url: str) -> Any:  # noqa: ANN401 - as above
    """Load the plugin of an address; None where Apprise cannot read it."""
    apprise = importlib.import_module(_PACKAGE)
    for logger in _TALKATIVE:
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    # A second try by itself could be a second message.
    asset = apprise.AppriseAsset(default_service_retry=0, secure_logging=True)
    made = apprise.Apprise(asset=asset)
    return made if made.add(url) and len(made) == 1 else None
