"""Who of the staff is told what: the robots of the file of providers, breakers that open, cases that wait."""

from collections.abc import Callable, Iterable
from zoneinfo import ZoneInfo

from orderbell.app.clock import Clock
from orderbell.app.providers import ProviderSpec
from orderbell.channels.protocol import Channel
from orderbell.channels.staff import StaffOptions
from orderbell.dispatch.alerts import Alerts
from orderbell.dispatch.digest import breaker_closed, breaker_opened, channel_down
from orderbell.dispatch.routes import Change
from orderbell.insight.words import read_words
from orderbell.store.casework import Casework
from orderbell.store.postgres import Store

ZONE = ZoneInfo("Asia/Shanghai")
"""Of the times in alerts, until staff can name their own."""


def open_alerts(
    spec: ProviderSpec, channel: Channel, store: Store, tenants: Callable[[], Iterable[str]], now: Clock
) -> Alerts:
    """Alerts to the robots of one provider of kind `staff`."""
    options = spec.options
    assert isinstance(options, StaffOptions)  # noqa: S101 - as its kind says
    robots = {name: robot.roles for name, robot in options.robots.items()}
    names = read_words(options.locale).anomalies
    return Alerts(
        channel, robots, now=now, zone=ZONE, locale=options.locale, casework=Casework(store), tenants=tenants,
        name_of=lambda anomaly: names.get(anomaly, anomaly),
    )  # fmt: skip


def tell_of(change: Change, alerts: Iterable[Alerts], specs: Iterable[ProviderSpec], now: Clock) -> None:
    """Tell all robots of a breaker that opened or closed."""
    for one, spec in zip(alerts, specs, strict=True):
        options = spec.options
        assert isinstance(options, StaffOptions)  # noqa: S101 - as its kind says
        if change.state == "closed":
            one.tell(breaker_closed(change.provider, now(), options.locale))
        elif change.reason == "account":
            one.tell(channel_down(change.provider, change.detail or change.reason, now(), options.locale))
        else:
            one.tell(breaker_opened(change.provider, change.detail or change.reason, now(), options.locale))
