"""What may be done with webhooks, by API and console alike: what is asked is checked, made, and put into the trail.

An address is looked at before it is kept, and again at each sending: it must be https, public, and nobody's name for
something inside (`orderbell.channels.guarded`). A secret is shown once, when it is made. The trail names the host of an
address only, for its path may hold a secret.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from orderbell.channels.http import read_address
from orderbell.errors import OrderBellError
from orderbell.store.changes import CHANGE_TYPES
from orderbell.store.hooks import HOOKS_MAX, OVERLAP, Delivery, Hook, Hooks
from orderbell.store.trail import Trail

URL_LENGTH_MAX: Final = 2000
LABEL_LENGTH_MAX: Final = 60
OVERLAP_MAX: Final = timedelta(days=7)
DELIVERIES_MAX: Final = 100
_ID_LENGTH: Final = 32

HooksOf = Callable[[str], Hooks]
"""The webhooks of a tenant."""

Examine = Callable[[str], Awaitable[str]]
"""Says why an address must not be called, "" where it may."""


class HookRefused(OrderBellError):
    """What was asked of a webhook cannot be; `field` is what to correct, `reason` a word for programs."""

    def __init__(self, reason: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.field = reason, field


class HookUnknown(OrderBellError):
    """There is no such webhook or delivery, or it is another tenant's."""


class Who(Struct, frozen=True):
    """For which tenant something is done, and how the trail names who does it."""

    tenant: str
    actor: str


class Wanted(Struct, frozen=True):
    """What a webhook shall be; None leaves it as it is."""

    url: str | None = None
    types: Sequence[str] | None = None
    label: str | None = None
    on: bool | None = None


class HookDesk:
    """Webhooks of all tenants, for whoever has the right.

    Args:
        hooks_of: The webhooks of a tenant.
        examine: Looks at an address before it is kept.
        trail: Where every change is put down.
        now: The clock, aware UTC.
    """

    def __init__(self, hooks_of: HooksOf, examine: Examine, trail: Trail, now: Callable[[], datetime]) -> None:
        self._hooks_of, self._examine, self._trail, self._now = hooks_of, examine, trail, now

    async def every(self, tenant: str) -> list[Hook]:
        """The webhooks of a tenant, the oldest first."""
        return await self._hooks_of(tenant).every()

    async def find(self, tenant: str, name: str) -> Hook:
        """The webhook of an id in hexadecimal digits; raises HookUnknown."""
        found = await self._hooks_of(tenant).find(_read_id(name))
        if found is None:
            raise HookUnknown
        return found

    async def deliveries(self, tenant: str, name: str, limit: int) -> list[Delivery]:
        """What a webhook heard lately or is to hear, the newest first; raises HookUnknown."""
        hook = await self.find(tenant, name)
        return await self._hooks_of(tenant).deliveries(hook.id, limit)

    async def add(self, who: Who, wanted: Wanted) -> tuple[Hook, str]:
        """Make a webhook; gives it and its secret, which is shown only here. Raises HookRefused."""
        url, types, label = wanted.url or "", tuple(dict.fromkeys(wanted.types or CHANGE_TYPES)), wanted.label or ""
        await self._check(Wanted(url, types, label))
        async with self._trail.together():
            made = await self._hooks_of(who.tenant).add(url, types, label, self._now())
            if made is None:
                raise HookRefused("too_many", "", f"there are {HOOKS_MAX} webhooks already; remove one first")
            await self._note(who, "hook.make", made[0], {"types": types})
        return made

    async def change(self, who: Who, name: str, wanted: Wanted) -> Hook:
        """Change what is given of a webhook; raises HookUnknown and HookRefused."""
        hook = await self.find(who.tenant, name)
        await self._check(wanted)
        types = None if wanted.types is None else tuple(dict.fromkeys(wanted.types))
        given = {"types": types, "on": wanted.on, "moved": None if wanted.url in {None, hook.url} else True}
        told = {key: value for key, value in given.items() if value is not None}
        async with self._trail.together():
            changed = await self._hooks_of(who.tenant).change(
                hook.id, self._now(), url=wanted.url, label=wanted.label, types=types, on=wanted.on
            )
            if changed is None:
                raise HookUnknown
            await self._note(who, "hook.change", changed, told)
        return changed

    async def rotate(self, who: Who, name: str, overlap: timedelta = OVERLAP) -> tuple[Hook, str]:
        """Give a webhook a new secret; both sign until the overlap is over. Raises HookUnknown and HookRefused."""
        if not timedelta() <= overlap <= OVERLAP_MAX:
            raise HookRefused("wrong_value", "overlap_s", f"overlap_s: write 0 to {int(OVERLAP_MAX.total_seconds())}")
        hook = await self.find(who.tenant, name)
        async with self._trail.together():
            secret = await self._hooks_of(who.tenant).rotate(hook.id, self._now(), overlap)
            if secret is None:
                raise HookUnknown
            hook = await self.find(who.tenant, name)
            await self._note(who, "hook.rotate", hook, {"overlap_s": int(overlap.total_seconds())})
        return hook, secret

    async def remove(self, who: Who, name: str) -> None:
        """Remove a webhook with all that waits for it; raises HookUnknown."""
        hook = await self.find(who.tenant, name)
        async with self._trail.together():
            if not await self._hooks_of(who.tenant).remove(hook.id, self._now()):
                raise HookUnknown
            await self._note(who, "hook.remove", hook, {})

    async def ping(self, who: Who, name: str) -> bytes:
        """Have a webhook of type `ping` sent; gives its id. Raises HookUnknown, and HookRefused where it is off."""
        hook = await self.find(who.tenant, name)
        async with self._trail.together():
            sent = await self._hooks_of(who.tenant).ping(hook.id, self._now())
            if sent is None:
                raise HookRefused("hook_off", "", "the webhook is off; turn it on first")
            await self._note(who, "hook.ping", hook, {})
        return sent

    async def retry(self, who: Who, name: str, delivery: str) -> None:
        """Send a delivery once more; raises HookUnknown, and HookRefused where the webhook is off."""
        hook = await self.find(who.tenant, name)
        if hook.state != "on":
            raise HookRefused("hook_off", "", "the webhook is off; turn it on first")
        async with self._trail.together():
            if not await self._hooks_of(who.tenant).retry(hook.id, _read_id(delivery), self._now()):
                raise HookUnknown
            await self._note(who, "hook.retry", hook, {"delivery": delivery})

    async def _check(self, wanted: Wanted) -> None:
        if wanted.label is not None and (len(wanted.label) > LABEL_LENGTH_MAX or not _is_plain(wanted.label)):
            detail = f"label: at most {LABEL_LENGTH_MAX} characters that can be seen"
            raise HookRefused("wrong_value", "label", detail)
        if wanted.types is not None and (not wanted.types or not set(wanted.types) <= set(CHANGE_TYPES)):
            raise HookRefused("wrong_value", "types", f"types: name at least one of {', '.join(CHANGE_TYPES)}")
        if wanted.url is not None:
            if len(wanted.url) > URL_LENGTH_MAX or not (wanted.url.isascii() and wanted.url.isprintable()):
                detail = (
                    f"url: an address of at most {URL_LENGTH_MAX} plain characters, such as https://shop.example/bell"
                )
                raise HookRefused("wrong_value", "url", detail)
            if why := await self._examine(wanted.url):
                raise HookRefused("bad_address", "url", f"url: {why}")

    async def _note(self, who: Who, action: str, hook: Hook, detail: Mapping[str, object]) -> None:
        told = {"host": host_of(hook.url), "label": hook.label, **detail}
        await self._trail.write(who.tenant, who.actor, action, hook.id.hex(), told)


def host_of(url: str) -> str:
    """The host of an address, for people; the rest of it may be secret."""
    address = read_address(url)
    return address.host if address is not None else ""


def _is_plain(text: str) -> bool:
    return text.isprintable()


def _read_id(name: str) -> bytes:
    if len(name) != _ID_LENGTH or not name.isascii() or not name.isalnum():
        raise HookUnknown
    try:
        return bytes.fromhex(name)
    except ValueError:
        raise HookUnknown from None
