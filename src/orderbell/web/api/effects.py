"""What was decided on an event, as the API tells it: each effect by its kind, with the reason."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from orderbell.core.model import (
    ClearTimer,
    CloseAnomaly,
    CloseCase,
    Compensate,
    Effect,
    OpenAnomaly,
    OpenCase,
    Reason,
    SendNotice,
    SetTimer,
    WithdrawNotice,
)  # fmt: skip
from orderbell.store.dossier import Detail
from orderbell.store.timeline import JournalLine

Kind = Literal[
    "send_notice", "withdraw_notice", "set_deadline", "clear_deadline", "open_anomaly", "close_anomaly", "open_case",
    "close_case", "promise_amends",
]  # fmt: skip


class EffectView(Struct, frozen=True, omit_defaults=True):
    """One thing that was decided, and why.

    `name` is the topic of a notice, else the name of the deadline, anomaly or amends. `id` is that of the notice, the
    case or the promise; `contact` and `role` say who is told; `due_at` is of a deadline or a notice.
    """

    kind: Kind
    reason: str
    name: str = ""
    id: str = ""
    contact: str = ""
    role: str = ""
    due_at: datetime | None = None


class Step(Struct, frozen=True):
    """An event of an order, or a deadline that passed (`timer.due`), and what was decided on it.

    `source` and `event_id` name the event as the shop did; `data` is the part of it that explains something. `verdict`
    is why it counted or not; `version` and `stage` are the order's afterwards.
    """

    at: datetime
    type: str
    source: str
    event_id: str
    data: dict[str, str]
    verdict: Reason
    version: int
    stage: str
    effects: list[EffectView]


def step_of(line: JournalLine) -> Step:
    """A line of the journal, told."""
    return Step(
        line.at, line.type, line.source, line.event_id, _said(line.data), Reason(line.verdict), line.version,
        line.stage, [_VIEWS[type(one)](one) for one in line.effects],
    )  # fmt: skip


def _said(data: Detail) -> dict[str, str]:
    return {name: value for name, value in msgspec.structs.asdict(data).items() if value}


def _told(effect: SendNotice | WithdrawNotice) -> EffectView:
    notice = effect.notice
    kind: Kind = "send_notice" if isinstance(effect, SendNotice) else "withdraw_notice"
    topic = notice.topic or ", ".join(notice.withdraws)
    return EffectView(kind, effect.reason, topic, notice.id.hex(), notice.contact, notice.role, notice.due_at)


def _promised(effect: Compensate) -> EffectView:
    amends = effect.amends
    return EffectView("promise_amends", effect.reason, amends.kind, amends.id.hex(), amends.contact)


def _case(effect: OpenCase) -> EffectView:
    return EffectView("open_case", effect.reason, effect.case.anomaly, effect.case.id.hex())


_VIEWS: Final[dict[type[Effect], Callable[[Any], EffectView]]] = {
    SendNotice: _told,
    WithdrawNotice: _told,
    SetTimer: lambda one: EffectView("set_deadline", one.reason, one.name, due_at=one.due_at),
    ClearTimer: lambda one: EffectView("clear_deadline", one.reason, one.name),
    OpenAnomaly: lambda one: EffectView("open_anomaly", one.reason, one.name),
    CloseAnomaly: lambda one: EffectView("close_anomaly", one.reason, one.name),
    OpenCase: _case,
    CloseCase: lambda one: EffectView("close_case", one.reason, id=one.id.hex()),
    Compensate: _promised,
}
