"""Which provider carries a message: weights, health and price decide, and a breaker keeps away from what is broken.

All of it is arithmetic on values: the same health, message and moment give the same provider. Health is counted in
outcomes that fade, half of them in `HALF_LIFE`, so a provider that has come round is trusted again by itself.

=============  =====================================================================================================
breaker        what it lets through
=============  =====================================================================================================
closed         everything
open           nothing until `retry_at`; each time that the trial fails, the pause doubles (S1-22)
half-open      `TRIALS` messages at a time, from `retry_at` on; as many acceptances close it, one failure opens it
=============  =====================================================================================================
"""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

HALF_LIFE = timedelta(seconds=30)
FAILURES_MIN = 3.0
"""Fewer failures than this prove nothing."""

FAILING_SHARE = 0.5
"""From this share of failures on, the breaker opens."""

IN_A_ROW = 3
"""So many requests that all failed open it as well, however well things went before."""

PAUSE = timedelta(seconds=10)
PAUSE_MAX = timedelta(minutes=5)
ACCOUNT_PAUSE = timedelta(seconds=30)
"""The pause after a provider refused the account itself; nobody mends that in seconds."""

TRIP_MAX = timedelta(hours=1)
"""However long a provider asks for: it is tried again by then, because somebody may have paid the bill."""

TRIALS = 3
TRIAL_PATIENCE = timedelta(seconds=15)
"""A trial that has had no answer by then is given up for another one."""

SHARE_MIN = 0.02
"""The least share of its weight that a provider keeps: without any traffic nobody would know that it is well again."""

QUICK_S = 10.0
"""Receipts that come within this are all quick: two seconds are no worse than a tenth of one."""

_PRICE_POWER = 1.0
_DELAY_POWER = 0.5

State = Literal["closed", "open", "half_open"]


class Health(Struct, frozen=True):
    """What is known of a provider at a moment.

    `accepted` and `failed` are faded counts of messages; `confirmed` is the share of messages whose receipt came,
    `receipt_s` how long it took (0: not known). `retry_at` ends an open breaker, `trial_at` is when the present trial
    left.
    """

    at: datetime
    accepted: float = 0.0
    failed: float = 0.0
    confirmed: float = 1.0
    receipt_s: float = 0.0
    state: State = "closed"
    reason: str = ""
    retry_at: datetime | None = None
    pause: timedelta = PAUSE
    trial_at: datetime | None = None
    trials: int = 0
    on_trial: int = 0  # messages that left at `trial_at`
    in_a_row: int = 0  # requests that failed as a whole since the last one that did not


class Route(Struct, frozen=True):
    """A provider that could carry a message: its weight by the shop's wish, its price, and its health."""

    name: str
    weight: float
    price_millifen: int
    health: Health


def saw(health: Health, now: datetime, accepted: int, failed: int) -> Health:
    """Count the answers to a request: messages taken, and messages that failed by the provider's fault."""
    faded = fade(health, now)
    in_a_row = faded.in_a_row + 1 if failed and not accepted else 0 if accepted else faded.in_a_row
    counted = replace(faded, accepted=faded.accepted + accepted, failed=faded.failed + failed, in_a_row=in_a_row)
    if counted.state == "half_open":
        if failed:
            return trip(counted, now, counted.reason, min(counted.pause * 2, PAUSE_MAX))
        trials = counted.trials + accepted
        if trials >= TRIALS:
            return Health(now, counted.accepted, confirmed=counted.confirmed, receipt_s=counted.receipt_s)
        return replace(counted, trials=trials, trial_at=None, on_trial=0)
    whole = counted.accepted + counted.failed
    many = counted.failed >= FAILURES_MIN and counted.failed >= FAILING_SHARE * whole
    if counted.state == "closed" and (many or in_a_row >= IN_A_ROW):
        return trip(counted, now, "failing", PAUSE)
    return counted


def trip(health: Health, now: datetime, reason: str, pause: timedelta) -> Health:
    """Open the breaker for a while; one that is open stays open as long as it would have."""
    retry_at = now + min(pause, TRIP_MAX)
    if health.retry_at is not None and health.state == "open":
        retry_at = max(retry_at, health.retry_at)
    return replace(
        fade(health, now), state="open", reason=reason, retry_at=retry_at, pause=pause, trial_at=None, trials=0,
        on_trial=0,
    )  # fmt: skip


def heard(health: Health, confirmed: float, receipt_s: float) -> Health:
    """Put down for what share of its messages receipts came, and how long they took."""
    return replace(health, confirmed=confirmed, receipt_s=receipt_s)


def fade(health: Health, now: datetime) -> Health:
    """The same health at a later moment: counts halve with every half-life, an open breaker comes to its trial."""
    changed = health
    if health.state == "open" and health.retry_at is not None and now >= health.retry_at:
        changed = replace(health, state="half_open", trials=0, trial_at=None)
    age = now - health.at
    if age <= timedelta(0):
        return changed
    kept: float = 0.5 ** (age / HALF_LIFE)
    return replace(changed, at=now, accepted=health.accepted * kept, failed=health.failed * kept)


def is_open_to(health: Health, now: datetime) -> bool:
    """Whether a message may go there now; a half-open breaker lets `TRIALS` messages through at a time."""
    if health.state == "closed":
        return True
    if health.retry_at is not None and now < health.retry_at and health.state == "open":
        return False
    if health.trial_at is None or now - health.trial_at >= TRIAL_PATIENCE:
        return True
    return health.trial_at == now and health.on_trial < TRIALS


def begin_trial(health: Health, now: datetime) -> Health:
    """Put down that a message leaves for a provider on trial."""
    faded = fade(health, now)
    if faded.state != "half_open":
        return faded
    return replace(faded, trial_at=now, on_trial=faded.on_trial + 1 if faded.trial_at == now else 1)


def turned_back(health: Health, by: timedelta) -> Health:
    """The same health on a clock that was set back: no pause becomes longer by it."""
    return replace(
        health, at=health.at - by, retry_at=health.retry_at - by if health.retry_at else None,
        trial_at=health.trial_at - by if health.trial_at else None,
    )  # fmt: skip


def share(route: Route, cheapest_millifen: int, quickest_s: float) -> float:
    """The part of the traffic that a provider earns: its weight, less what errors, silence, slowness and price take."""
    health = route.health
    whole = health.accepted + health.failed
    well = 1.0 - health.failed / whole if whole >= 1.0 else 1.0
    price = (cheapest_millifen / route.price_millifen) ** _PRICE_POWER if route.price_millifen > 0 else 1.0
    quick_s = max(quickest_s, QUICK_S)
    delay = (quick_s / health.receipt_s) ** _DELAY_POWER if health.receipt_s > quick_s else 1.0
    return route.weight * max(well**2 * health.confirmed * price * delay, SHARE_MIN)


def draw(routes: list[Route], key: bytes) -> str:
    """Draw a provider by shares; the key (a message and its attempt) decides, so a replay draws the same.

    Raises:
        ValueError: there is no route.
    """
    if not routes:
        raise ValueError("there is no route to draw from")
    if len(routes) == 1:
        return routes[0].name
    cheapest = min((route.price_millifen for route in routes if route.price_millifen > 0), default=0)
    quickest = min((route.health.receipt_s for route in routes if route.health.receipt_s > 0), default=0.0)
    shares = [share(route, cheapest, quickest) for route in routes]
    point = int.from_bytes(key[-6:], "big") / (1 << 48) * sum(shares)
    for route, part in zip(routes, shares, strict=True):
        point -= part
        if point < 0:
            return route.name
    return routes[-1].name


def free_at(sent: list[datetime], limits: tuple[tuple[int, float], ...], now: datetime) -> datetime | None:
    """When one more message may go to an address which got these (oldest first); None for now.

    `limits` are pairs of a count and the seconds within which so many may come.
    """
    latest: datetime | None = None
    for count, within_s in limits:
        within = timedelta(seconds=within_s)
        counted = [at for at in sent if at > now - within]
        if len(counted) >= count:
            frees_at = counted[-count] + within
            latest = frees_at if latest is None else max(latest, frees_at)
    return latest


class Pace(Struct, frozen=True):
    """How quickly messages may leave for a provider: the next one at `next_at`, so many a second after it."""

    per_second: float
    next_at: datetime


def reserve(pace: Pace, now: datetime) -> tuple[Pace, datetime]:
    """Reserve the next place, and say when it is: now or later. Places that nobody took are lost."""
    at = max(pace.next_at, now)
    return Pace(pace.per_second, at + timedelta(seconds=1 / pace.per_second)), at
