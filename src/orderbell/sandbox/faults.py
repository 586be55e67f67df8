"""What the sandbox can be told to do wrong, and the dice that decide when.

All shares are between 0 (never) and 1 (always). With the same seed and the same requests in the same order
the same ones fail.
"""

import random
from typing import Annotated

import msgspec

from orderbell.sandbox.ledger import Delivery

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Faults in force; several may be at once.

    Of a request: `slow_ms` delays its answer (what it brought has been recorded by then), `refuse` answers
    503 and `throttle` 429 without taking anything, `timeout_after_accept` records and then never answers,
    `cut_after_accept` records and then closes the connection in the middle of the answer.

    Of a message: `error_body` answers 200 with a code nobody knows and does not take it, `lose_receipts`
    takes it and never gives a receipt, `fail_delivery` takes it and cannot deliver it; so for every address
    in `fail_recipients`.

    `receipt_delay_s` is how long after taking a message its receipt comes. `only_channel` limits all faults
    to requests, and in them to messages, of one channel.
    """

    slow_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    refuse: Share = 0.0
    throttle: Share = 0.0
    timeout_after_accept: Share = 0.0
    cut_after_accept: Share = 0.0
    error_body: Share = 0.0
    lose_receipts: Share = 0.0
    fail_delivery: Share = 0.0
    fail_recipients: frozenset[str] = frozenset()
    receipt_delay_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    seed: int = 1
    only_channel: str | None = None

    def concern(self, channel: str) -> bool:
        """Tell whether messages of a channel may go wrong."""
        return self.only_channel is None or self.only_channel == channel


class Dice:
    """Decides when the faults strike."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - faults must be repeatable, not secret

    def strikes(self, share: float) -> bool:
        """Throw once; a share of 0 throws nothing, so that the other faults stay as they were."""
        return share > 0 and self._random.random() < share

    def delivery(self, channel: str, to: str) -> Delivery:
        """Decide what becomes of a message that is taken."""
        faults = self.faults
        if not faults.concern(channel):
            return Delivery.DELIVERED
        failed = self.strikes(faults.fail_delivery)
        if self.strikes(faults.lose_receipts):
            return Delivery.SILENT
        return Delivery.FAILED if failed or to in faults.fail_recipients else Delivery.DELIVERED
