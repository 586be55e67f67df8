"""What the staff reads: alerts of one kind together, the gravest and newest first, in one message; pure.

Nothing is lost on the way: however many alerts come, each is in the count of some line, or in that of the last one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import IntEnum
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from orderbell.observe import mask

Locale = Literal["zh-CN", "en"]

LINES_MAX: Final = 15
BYTES_MAX: Final = 1_800
"""Below the 2,048 bytes of a robot of WeCom, the smallest."""

GROUPS_MAX: Final = 100
"""Of alerts that wait for a robot; the least grave and oldest beyond are only counted."""

ORDERS_SHOWN: Final = 3
ORDERS_KEPT: Final = 20
WORDS_LENGTH_MAX: Final = 80
OTHER: Final = "other"

OPERATIONS: Final = "operations"
"""The role of those who look after the installation itself."""


class Gravity(IntEnum):
    """How much an alert matters."""

    NEWS = 0
    """Good to know."""
    WORK = 1
    """Somebody must do something."""
    GRAVE = 2
    """At once: messages do not get out. Calls people by name."""


class Alert(Struct, frozen=True):
    """Something that a colleague should know.

    `kind` says what belongs together in one line (`case.handle.parcel_lost`), `role` whom it concerns (an owner of
    cases, or `operations`), `words` are for people, in their language; `at` is aware UTC. `about` is the thing whose
    state it tells (`breaker:alibaba`): when staff has just been told the same kind about it, it says nothing new.
    """

    kind: str
    role: str
    words: str
    at: datetime
    order_no: str = ""
    gravity: Gravity = Gravity.WORK
    about: str = ""


Key: TypeAlias = tuple[str, str]
"""Role and kind."""


class Group(Struct, frozen=True):
    """Alerts of one kind and role; `words` are the newest, `orders` some of the newest, `held` how many came late."""

    kind: str
    role: str
    words: str
    gravity: Gravity
    first_at: datetime
    last_at: datetime
    count: int = 1
    orders: tuple[str, ...] = ()
    held: int = 0

    @property
    def key(self) -> Key:
        """What it is known by."""
        return (self.role, self.kind)


class Words(Struct, frozen=True):
    """The words of one language around the alerts."""

    heading: str
    one: str
    held: str
    doubt: str
    rest: str
    other: str
    orders: str
    more: str
    call_back: str
    roles: Mapping[str, str]
    breaker_opened: str
    breaker_closed: str
    channel_down: str
    hook_off: str
    hook_reasons: Mapping[str, str]


WORDS: Final[Mapping[Locale, Words]] = {
    "zh-CN": Words(
        "【叮咚 OrderBell】{count} 条提醒", "【叮咚 OrderBell】1 条提醒", "，其中 {held} 条此前未能发出，合并到这里",
        "（个别内容可能已经发过）", "另有 {count} 条", "其他提醒", "：{orders}", " 等", "请回访客户：{words}",
        {"warehouse": "仓库", "finance": "财务", "logistics": "物流", "service": "客服", OPERATIONS: "运维"},
        "服务商 {provider} 已暂停使用：{reason}", "服务商 {provider} 已恢复使用",
        "服务商 {provider} 不受理，请检查账号和余额：{reason}", "店铺 {tenant} 的推送地址 {host} 已停用：{reason}",
        {"gone": "对方表示不再接收", "failing": "连续几天没有一条送达", "backlog": "积压太多"},
    ),
    "en": Words(
        "[OrderBell 叮咚] {count} alerts", "[OrderBell 叮咚] 1 alert", ", {held} of them held back until now",
        " (some may have been told before)", "and {count} more", "Other alerts", ": {orders}", " …",
        "Call the customer: {words}",
        {"warehouse": "warehouse", "finance": "finance", "logistics": "logistics", "service": "service",
         OPERATIONS: "operations"},
        "Provider {provider} is out of use: {reason}", "Provider {provider} is back",
        "Provider {provider} refuses us, check its account and balance: {reason}",
        "A webhook of the shop {tenant} {host} was turned off: {reason}",
        {"gone": "the receiver wants no more", "failing": "nothing got through for days", "backlog": "too much waits"},
    ),
}  # fmt: skip
_LIGHTS: Final = {Gravity.GRAVE: "🔴", Gravity.WORK: "🟡", Gravity.NEWS: "🟢"}


def breaker_opened(provider: str, reason: str, at: datetime, locale: Locale) -> Alert:
    """A provider is out of use until it has recovered; `reason` is in the provider's words."""
    words = WORDS[locale].breaker_opened.format(provider=provider, reason=clean(reason))
    return Alert("breaker_opened", OPERATIONS, words, at, gravity=Gravity.GRAVE, about=f"breaker:{provider}")


def breaker_closed(provider: str, at: datetime, locale: Locale) -> Alert:
    """A provider is in use again."""
    words = WORDS[locale].breaker_closed.format(provider=provider)
    return Alert("breaker_closed", OPERATIONS, words, at, gravity=Gravity.NEWS, about=f"breaker:{provider}")


def channel_down(provider: str, reason: str, at: datetime, locale: Locale) -> Alert:
    """A provider takes nothing from this account: key, quota or arrears."""
    words = WORDS[locale].channel_down.format(provider=provider, reason=clean(reason))
    return Alert(f"channel_down.{provider}", OPERATIONS, words, at, gravity=Gravity.GRAVE, about=f"down:{provider}")


def hook_off(tenant: str, host: str, reason: str, at: datetime, locale: Locale) -> Alert:
    """A shop's webhook was turned off; `reason` is that of `orderbell.dispatch.hooks.TurnedOff`."""
    words = WORDS[locale]
    said = words.hook_off.format(tenant=tenant, host=clean(host), reason=words.hook_reasons.get(reason, reason))
    return Alert("hook_off", OPERATIONS, said, at, about=f"hook:{tenant}:{host}")


def clean(words: str) -> str:
    """Words from elsewhere on one line, without phone numbers and addresses, and not too long."""
    line = mask(_one_line(words))
    return line if len(line) <= WORDS_LENGTH_MAX else line[: WORDS_LENGTH_MAX - 1] + "…"


def _one_line(words: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in words).split())


def group(alert: Alert) -> Group:
    """A group of one."""
    orders = (_one_line(alert.order_no),) if alert.order_no else ()
    return Group(alert.kind, alert.role, clean(alert.words), alert.gravity, alert.at, alert.at, 1, orders)


def join(one: Group, other: Group) -> Group:
    """Two groups of one kind and role as one."""
    newer, older = (one, other) if one.last_at >= other.last_at else (other, one)
    return Group(
        newer.kind,
        newer.role,
        newer.words,
        max(one.gravity, other.gravity),
        min(one.first_at, other.first_at),
        newer.last_at,
        one.count + other.count,
        tuple(dict.fromkeys(newer.orders + older.orders))[:ORDERS_KEPT],
        one.held + other.held,
    )


def gather(groups: Iterable[Group]) -> dict[Key, Group]:
    """Groups of one kind and role joined."""
    gathered: dict[Key, Group] = {}
    for one in groups:
        known = gathered.get(one.key)
        gathered[one.key] = one if known is None else join(known, one)
    return gathered


def hold(one: Group) -> Group:
    """The group, all of which could not be told when it should have been."""
    return replace(one, held=one.count)


def bound(groups: Iterable[Group], locale: Locale) -> dict[Key, Group]:
    """At most `GROUPS_MAX` groups and one more for each role: what is beyond is only counted."""
    ordered = in_order(gather(groups).values())
    other = [replace(one, kind=OTHER, words=WORDS[locale].other, orders=()) for one in ordered[GROUPS_MAX:]]
    return gather([*ordered[:GROUPS_MAX], *other])


def in_order(groups: Iterable[Group]) -> list[Group]:
    """The gravest first, of equally grave ones the newest."""
    return sorted(groups, key=lambda one: (-one.gravity, -one.last_at.timestamp(), one.role, one.kind))


def compose(groups: Iterable[Group], now: datetime, locale: Locale, zone: tzinfo, *, doubt: bool = False) -> str:
    """One message about all of them; `doubt` that some of it may have been told before.

    At most `LINES_MAX` groups and `BYTES_MAX` bytes are spelt out; the rest is counted in the last line.
    """
    words, ordered = WORDS[locale], in_order(groups)
    count, held = sum(one.count for one in ordered), sum(one.held for one in ordered)
    heading = words.one if count == 1 else words.heading.format(count=count)
    heading += words.held.format(held=held) if held else ""
    lines = [heading + (words.doubt if doubt else "")]
    room = BYTES_MAX - len(lines[0].encode()) - len(words.rest.encode()) - len(str(count))
    shown = 0
    for one in ordered[:LINES_MAX]:
        line = write_line(one, now, words, zone)
        room -= len(line.encode()) + 1
        if room < 0 and shown:
            break
        lines.append(line)
        shown += 1
    left = sum(one.count for one in ordered[shown:])
    return "\n".join([*lines, words.rest.format(count=left)] if left else lines)


def write_line(one: Group, now: datetime, words: Words, zone: tzinfo) -> str:
    """One line: light, time of the newest, role, words, how many, and some of the orders."""
    orders = ", ".join(one.orders[:ORDERS_SHOWN])
    if orders:
        orders = words.orders.format(orders=orders) + (words.more if len(one.orders) > ORDERS_SHOWN else "")
    role = words.roles.get(one.role, one.role)
    times = f" ×{one.count}" if one.count > 1 else ""
    local = one.last_at.astimezone(zone)
    time = f"{local:%H:%M}" if local.date() == now.astimezone(zone).date() else f"{local:%m-%d %H:%M}"
    return f"{_LIGHTS[one.gravity]} {time} [{role}] {one.words}{times}{orders}"


def robots_for(role: str, robots: Mapping[str, Collection[str]]) -> list[str]:
    """The robots that take a role's alerts, the first choice first: those named for it, then those that take all.

    Where there is neither, every robot will do: better in the wrong chat than in none.
    """
    named = [name for name, roles in robots.items() if role in roles]
    general = [name for name, roles in robots.items() if not roles]
    return [*named, *general] or list(robots)


def share_out(
    roles: Iterable[str], robots: Mapping[str, Collection[str]], closed: Collection[str]
) -> dict[str, list[str]]:
    """Which robot tells which roles: for each role its first robot that is not `closed`; none where all are."""
    shared: dict[str, list[str]] = {}
    for role in roles:
        robot = next((name for name in robots_for(role, robots) if name not in closed), None)
        if robot is not None:
            shared.setdefault(robot, []).append(role)
    return shared


def case_alert(kind: str, anomaly: str, owner: str, order_no: str, at: datetime, name: str, locale: Locale) -> Alert:
    """A case that was opened; `name` is what the anomaly is called."""
    words = WORDS[locale].call_back.format(words=name) if kind == "call_back" else name
    return Alert(f"case.{kind}.{anomaly}", owner, words, at, order_no)


def count_of(groups: Sequence[Group]) -> int:
    """How many alerts are in groups."""
    return sum(one.count for one in groups)
