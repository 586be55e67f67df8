"""The figures of this process, in families that are declared here and nowhere else.

Noting one costs an addition: a family's name and the values of its labels are the key of a number in a dict, a
histogram is a list of numbers. Nothing is put into words before somebody asks (`orderbell.web.metrics`). Labels take
few values each: never an order, a person or a tenant.

::

    tally("messages", ("sms", "alibaba", "accepted"), 20)
    measure("turn_seconds", 0.012)
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

Labels = tuple[str, ...]
Samples = Mapping[Labels, float]

PREFIX: Final = "orderbell_"

_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
# Five minutes is the promise (S0-15), eight hours a night.
_WAITS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 28800.0, 86400.0)


class Family(Struct, frozen=True):
    """What a figure is called by its labels and what it says; `bounds` are the upper ends of a histogram's buckets."""

    says: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()


TALLIES: Final[Mapping[str, Family]] = {
    "events": Family("Events by what became of them: accepted, duplicate, refused.", ("status",)),
    "events_refused": Family("Refused events by reason.", ("reason",)),
    "messages": Family("Attempts to hand a message to a provider.", ("channel", "provider", "outcome")),
    "receipts": Family("What providers said of messages later.", ("provider", "outcome")),
    "http_requests": Family("Requests answered, by the pattern of their path.", ("method", "route", "status")),
    "counts": Family("Everything else that is counted, by name.", ("what",)),
}
"""Counters by name, without `orderbell_` and `_total`."""

FROM_ZERO: Final = (
    "dispatch.accepted_late", "hooks.turned_off", "intake.busy", "intake.poison", "sign_in.refused",
    "tracking.guessing",
)  # fmt: skip
"""Names of `counts` that are told from the start on: of a counter that first appears with 1, Prometheus sees no
increase, and the alert that waits for it would miss the first time (https://prometheus.io/docs/practices/instrumentation).
"""

HISTOGRAMS: Final[Mapping[str, Family]] = {
    "turn_seconds": Family("How long a turn took, from its batch to its commit.", (), _QUICK),
    "turn_events": Family("How many events a turn decided.", (), _SIZES),
    "http_seconds": Family("How long a request took, by the pattern of its path.", ("route",), _QUICK),
    "request_seconds": Family("How long a provider took over a request.", ("provider",), _QUICK),
    "tell_seconds": Family("From what happened to the provider that took the message, by lane.", ("lane",), _WAITS),
}
"""Histograms by name, without `orderbell_`."""

GAUGES: Final[Mapping[str, Family]] = {
    "intake_waiting": Family("Events that wait for a turn or are being decided."),
    "database_connections": Family("Connections of this process's pool.", ("state",)),
    "provider_state": Family("How this worker finds a provider: 0 well, 1 on trial, 2 paused.", ("provider", "reason")),
    "requests_in_flight": Family("Requests to a provider under way in this worker.", ("provider",)),
    "timers_lag_seconds": Family("How long the oldest deadline has been due and not fired."),
    "queue_due": Family("Notices that are due, by lane; counted up to 100,000.", ("lane",)),
    "queue_oldest_seconds": Family("How long the oldest notice has been due, by lane.", ("lane",)),
    "messages_waiting": Family("Messages that wait for another try, by lane; up to 100,000.", ("lane",)),
    "messages_in_doubt": Family("Messages of which nobody knows yet whether the provider took them; up to 100,000."),
    "requests_recorded": Family("Requests to providers that stand in the database as under way."),
    "anomalies_open": Family("Open anomalies by name; counted up to 100,000 in all.", ("name",)),
    "cases_open": Family("Open cases by who has to act; counted up to 100,000 in all.", ("owner",)),
    "receipt_delay_p95_seconds": Family("Within how long 95 of 100 receipts come, by channel.", ("channel",)),
    "receipt_delay_mean_seconds": Family("The same on average over the last ten minutes, by provider.", ("provider",)),
    "receipt_share": Family("Share of the messages of the last hour that a receipt came for.", ("provider",)),
    "providers_paused": Family("Workers that have paused a provider.", ("provider",)),
    "workers": Family("Workers that send now."),
    "sending_halted": Family("1 while sending is halted: see `orderbell dispatch status`."),
    "database_oldest_snapshot_seconds": Family("How long the oldest open transaction has held its view of the tables."),
    "database_oldest_xmin_age": Family("How many transactions vacuum is held back by, replication slots included."),
    "database_dead_rows": Family("Dead rows of a table that changes much.", ("table",)),
    "database_live_rows": Family("Live rows of a table that changes much, as PostgreSQL estimates.", ("table",)),
    "database_up": Family("1 if the last look at the database went well."),
    "database_look_age_seconds": Family("How old the figures of the database are."),
}
"""What stands at a moment, by name, without `orderbell_`."""


class Histogram(Struct, frozen=True):
    """How many values fell into each interval (the last has no upper end), and their sum."""

    counts: list[int]
    total: float


_tallies: defaultdict[tuple[str, Labels], int] = defaultdict(int)
_counts: dict[tuple[str, Labels], list[int]] = {}
_totals: defaultdict[tuple[str, Labels], float] = defaultdict(float)


def tally(name: str, labels: Labels, times: int = 1) -> None:
    """Count something that has labels; `name` is one of TALLIES."""
    _tallies[name, labels] += times


def tally_each(name: str, labels: Iterable[Labels]) -> None:
    """Count several things of one family."""
    for one in labels:
        _tallies[name, one] += 1


def measure(name: str, value: float, labels: Labels = ()) -> None:
    """Put a value into a histogram; `name` is one of HISTOGRAMS."""
    key = (name, labels)
    counts = _counts.get(key)
    bounds = HISTOGRAMS[name].bounds
    if counts is None:
        counts = _counts[key] = [0] * (len(bounds) + 1)
    counts[bisect_left(bounds, value)] += 1
    _totals[key] += value


def tallies(name: str) -> dict[Labels, int]:
    """What was counted of a family, by labels."""
    return {labels: times for (family, labels), times in list(_tallies.items()) if family == name}


def histograms(name: str) -> dict[Labels, Histogram]:
    """What was measured of a family, by labels."""
    return {
        labels: Histogram(list(counts), _totals[family, labels])
        for (family, labels), counts in list(_counts.items())
        if family == name
    }
