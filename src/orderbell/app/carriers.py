"""What the console shows of providers: the terms and prices of each, nothing of its keys."""

from collections.abc import Mapping, Sequence

from orderbell.app.providers import ProviderSpec
from orderbell.channels.protocol import Channel
from orderbell.channels.sandbox import CARRIES
from orderbell.channels.sandbox import NAME as SANDBOX
from orderbell.web.console.providers import Carrier


def carriers_of(specs: Sequence[ProviderSpec], channels: Mapping[str, Channel]) -> list[Carrier]:
    """The providers that were set up; without any, the sandbox that stands in for them."""
    if not specs:
        return [Carrier(SANDBOX, "sandbox", tuple(sorted(CARRIES)))]
    return [
        Carrier(
            one.name, one.kind, tuple(sorted(channels[one.name].carries)), channels[one.name].price_millifen,
            channels[one.name].limits.per_second, one.terms.weight, one.terms.tenants, one.terms.prefixes,
        )
        for one in specs
    ]  # fmt: skip
