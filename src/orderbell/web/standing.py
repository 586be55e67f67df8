"""How an order stands, for people to look at: the customer's sentence, its way, what comes next and by when.

Pure: from the order, its playbook and its journal. Names of stages are the customer's sentences (S1-3, S1-30).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from orderbell.core.decide import light
from orderbell.core.model import Light, Order
from orderbell.core.playbook import Playbook, Stage
from orderbell.core.turn import Shelf
from orderbell.store.dossier import Step

_FIRST_PART: Final = re.compile("[^,，;；]+")


class Rung(Struct, frozen=True):
    """A stage on an order's way, and when it was reached; `here` is where the order stands."""

    name: str
    state: Literal["done", "now", "ahead", "skipped"]
    at: datetime | None = None
    here: bool = False


class Wait(Struct, frozen=True):
    """A deadline that the order has: its name, when it falls due, whether it tells somebody, what it would open."""

    name: str
    due_at: datetime
    tells: bool
    opens: tuple[str, ...]


class Standing(Struct, frozen=True):
    """How an order stands.

    `next_by` is when the customer hears more at the latest; a moment that has passed where nobody kept it, None where
    nothing more is to come.
    """

    sentence: str
    light: Light
    next_by: datetime | None
    rungs: tuple[Rung, ...]
    waits: tuple[Wait, ...]


def standing_of(order: Order, playbook: Playbook | None, locale: str, steps: Iterable[Step] = ()) -> Standing:
    """Say how an order stands; one whose playbook or stage is no longer there goes by its codes, and is red."""
    if playbook is None or order.stage not in playbook.stages:
        return Standing(order.stage, "red", None, (Rung(order.stage, "now", order.stage_at, here=True),), ())
    stage = playbook.stages[order.stage]
    waits = tuple(_waits(order, playbook))
    return Standing(
        sentence_of(order, playbook, locale), light(playbook, order), _next_by(order, stage, waits),
        tuple(_rungs(order, playbook, locale, steps)), waits,
    )  # fmt: skip


def sentence_of(order: Order, playbook: Playbook, locale: str) -> str:
    """The customer's sentence: that of an anomaly which has one, else that of the stage."""
    specs = (playbook.spec.anomalies.get(anomaly.name) for anomaly in order.anomalies)
    said = (spec.says[locale] for spec in specs if spec is not None and locale in spec.says)
    return next(said, playbook.stages[order.stage].says.get(locale, order.stage))


def stage_name(says: Mapping[str, str], locale: str, stage: str) -> str:
    """What a stage is called in few words: how the customer's sentence begins."""
    found = _FIRST_PART.match(says.get(locale, ""))
    return found[0].strip() if found is not None else stage


def red_names(shelf: Shelf) -> frozenset[str]:
    """The anomalies that turn an order red in any playbook of a tenant."""
    return frozenset(
        name for playbook in shelf.playbooks.values() for name, one in playbook.anomalies.items() if one.light == "red"
    )


def _waits(order: Order, playbook: Playbook) -> Iterable[Wait]:
    for name, due_at in sorted(order.timers.items(), key=lambda pair: pair[1]):
        deadline = playbook.deadlines.get(name)
        if deadline is not None:
            yield Wait(name, due_at, deadline.tells, deadline.open)


def _next_by(order: Order, stage: Stage, waits: Iterable[Wait]) -> datetime | None:
    promised = order.stage_at + stage.next_update if stage.next_update else None
    told = [wait.due_at for wait in waits if wait.tells]
    return min([*told, promised]) if promised is not None else min(told, default=None)


def _rungs(order: Order, playbook: Playbook, locale: str, steps: Iterable[Step]) -> Iterable[Rung]:
    reached: dict[str, datetime] = {}
    for step in steps:
        reached.setdefault(step.stage, step.at)
    reached[order.stage] = order.stage_at
    now = playbook.stages[order.stage]
    for stage in playbook.stages.values():
        name, at = stage_name(stage.says, locale, stage.name), reached.get(stage.name)
        if stage is now:
            yield Rung(name, "done" if stage.light == "green" else "now", at, here=True)
        elif stage.end or (at is None and now.end):
            continue
        elif stage.rank < now.rank:
            yield Rung(name, "skipped" if at is None else "done", at)
        else:
            yield Rung(name, "ahead")
