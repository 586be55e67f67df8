"""What customers wrote, in the time lines of orders and people: as it came, for those alone who may see people."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from orderbell.core.model import Order
from orderbell.core.story import Line
from orderbell.core.turn import Shelf
from orderbell.store.written import Written
from orderbell.web.console.stories import Item, Voice
from orderbell.web.rendering import View


def with_voices(
    items: Iterable[Item], written: Iterable[Written], order: Order, shelf: Shelf, view: View
) -> list[Item]:
    """The time line of an order with the words of customers at the events that brought them."""
    waiting: dict[object, list[Written]] = {}
    for one in written:
        waiting.setdefault((one.at, one.type), []).append(one)
    made = []
    for item in items:
        here = waiting.get((item.line.at, item.line.name)) if item.line.kind == "event" else None
        made.append(replace(item, voice=_voice(here.pop(0), order, shelf, view)) if here else item)
    return made


def voices_of(
    contact: str, written: Iterable[Written], orders: Sequence[Order], shelf: Shelf, view: View
) -> list[Item]:
    """What one person wrote, over their orders, as lines of a time line."""
    known = {order.no: order for order in orders}
    made = []
    for one in written:
        order = known[one.order_no]
        role = _role(one, order, shelf)
        if any(party.contact == contact and party.role == role for party in order.parties):
            said = view.called("events", one.type)
            line = Line(one.at, "wrote", one.type, said, said, said, order_no=order.no, role=role, contact=contact)
            made.append(Item(line, "heard", voice=_voice(one, order, shelf, view)))
    return made


def _role(written: Written, order: Order, shelf: Shelf) -> str:
    """Whose words they are: who is not named is the principal (docs/events.md)."""
    playbook = shelf.find(order.playbook)
    return written.role or (playbook.principal if playbook is not None else "")


def _voice(written: Written, order: Order, shelf: Shelf, view: View) -> Voice:
    role = _role(written, order, shelf)
    who = view.called("roles", role) if role else ""
    return Voice(who, written.text) if view.may("people:read") else Voice(who, "", is_hidden=True)
