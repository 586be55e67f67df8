"""What a reply means to an order: the answer to an open question, a complaint, or words for a person to read.

An answer becomes the event that it stands for, `choice.made` or `complaint.opened`, and is decided like any other
(S2-14, S3-29). Everything else keeps its type and carries what it was read as, for the playbook to act on.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import cast

import msgspec

from orderbell.core.events import Choice, Complaint, Event, Reply
from orderbell.core.model import Order
from orderbell.core.playbook import Ask, Playbook
from orderbell.core.replies import Reply as Reading
from orderbell.core.replies import read_reply

_replace = msgspec.structs.replace


def interpret(playbook: Playbook, order: Order | None, event: Event) -> Event:
    """The event that a `reply.received` stands for; the newest question that it can answer counts."""
    data = cast("Reply", event.data)
    said = read_reply(data.text)
    choice = chosen(playbook, order, said) if data.sender in ("", playbook.principal) else None
    if choice is not None:
        return _replace(event, type="choice.made", data=choice)
    if said.kind == "complaint":
        return _replace(event, type="complaint.opened", data=Complaint(text=said.text))
    # A word with two meanings that answers nothing was meant to say something all the same: a person reads it.
    stray = said.option and said.kind == "opt_out"
    meaning = "other" if stray else "no" if said.declines else said.kind
    return _replace(event, data=_replace(data, meaning=meaning))


def chosen(playbook: Playbook, order: Order | None, said: Reading) -> Choice | None:
    """What a reply chooses, None where no open question of the order takes it; only the principal may answer."""
    found = (_answer(ask, said) for ask in open_asks(playbook, order))
    return next((choice for choice in found if choice is not None), None)


def open_asks(playbook: Playbook, order: Order | None) -> Iterator[Ask]:
    """The questions that an order waits for an answer to, the newest first."""
    found: list[tuple[datetime, Ask]] = []
    for ask in playbook.asks:
        since = ask.anchor(order) if order is not None and order.stage in ask.stages else None
        if since is not None:
            found.append((since, ask))
    yield from (ask for _, ask in sorted(found, key=lambda pair: pair[0], reverse=True))


def _answer(ask: Ask, said: Reading) -> Choice | None:
    if said.option in ask.choices:  # some words are an opt-out as well; the turn has seen to that
        return Choice(option=said.option)
    if said.kind == "yes":
        return Choice(option=ask.yes) if ask.yes else None
    if said.declines:
        return Choice(option=ask.no) if ask.no else None
    if said.kind == "extend" and said.number <= ask.extend_days_max:
        return Choice(option="extend", days=said.number)
    if said.kind == "choice" and 0 < said.number <= len(ask.choices):
        return Choice(option=ask.choices[said.number - 1])
    return None
