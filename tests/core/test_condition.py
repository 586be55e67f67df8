"""Conditions of playbooks: what they mean, what is refused and with which words, what cannot get through."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import SimpleNamespace
from typing import Annotated, ClassVar, Literal, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.condition import (
    BRACKET_COUNT_MAX,
    NODE_COUNT_MAX,
    NUMBER_MAX,
    SOURCE_LENGTH_MAX,
    Condition,
    ConditionInvalid,
    compile_condition,
    schema_of,
)
from orderbell.errors import OrderBellError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Light(StrEnum):
    """A closed vocabulary as an enumeration."""

    RED = "red"
    GREEN = "green"


SCHEMA: Mapping[str, Mapping[str, object]] = {
    "order": {
        "amount_fen": int,
        "payment": Literal["paid", "open", "failed"],
        "promised_by": datetime | None,
        "placed_at": datetime,
        "title": str,
        "note": str | None,
        "gift": bool,
        "fragile": bool | None,
        "weight": int | None,
        "light": Light,
        "_hidden": int,
        "lines": list[str],
    },
    "event": {
        "phase": Literal["delivered", "returned", "transit"],
        "reason": str,
        "by": str | None,
        "time": datetime,
        "amount_fen": int,
    },
    "contact": {"tier": Literal["vip", "regular", None]},  # noqa: PYI061 - None inside must be read too
    "party": {"tier": Literal["vip", "regular"]},
}

ORDER = {
    "amount_fen": 100000,
    "payment": "open",
    "promised_by": None,
    "placed_at": NOON,
    "title": "茶壶",
    "note": None,
    "gift": True,
    "fragile": None,
    "weight": None,
    "light": Light.RED,
}
EVENT = {"phase": "delivered", "reason": "carrier.lost", "by": None, "time": NOON, "amount_fen": 5}


def ask(source: str, **changes: object) -> bool:
    """Ask a condition of the sample order; changes name an attribute as order__weight."""
    roots: dict[str, dict[str, object]] = {
        "order": dict(ORDER),
        "event": dict(EVENT),
        "contact": {"tier": "vip"},
        "party": {"tier": "regular"},
    }
    for name, value in changes.items():
        root, attribute = name.split("__")
        roots[root][attribute] = value
    condition = compile_condition(source, SCHEMA)
    return condition(**{root: SimpleNamespace(**values) for root, values in roots.items()})


def refusal(source: str) -> ConditionInvalid:
    """Return how a condition is refused."""
    with pytest.raises(ConditionInvalid) as caught:
        compile_condition(source, SCHEMA)
    return caught.value


@pytest.mark.parametrize(
    ("source", "changes", "expected"),
    [
        ('order.amount_fen >= 100000 and contact.tier == "vip"', {}, True),
        ('order.amount_fen >= 100000 and contact.tier == "vip"', {"order__amount_fen": 99999}, False),
        ('order.amount_fen >= 100000 and contact.tier == "vip"', {"contact__tier": None}, False),
        ('event.phase in ("delivered", "returned")', {}, True),
        ('event.phase in ["delivered", "returned"]', {"event__phase": "transit"}, False),
        ('event.phase not in {"delivered", "returned",}', {"event__phase": "transit"}, True),
        ("order.amount_fen in (1, -2, 1_000)", {"order__amount_fen": -2}, True),
        ('event.reason == "carrier.lost" and not order.promised_by', {}, True),
        ('event.reason == "carrier.lost" and not order.promised_by', {"order__promised_by": NOON}, False),
        ('order.payment != "paid"', {}, True),
        ("event.by is None", {}, True),
        ("event.by is not None", {}, False),
        ('event.by == "merchant"', {}, False),
        ('party.tier == "vip" or order.amount_fen >= 500000', {"order__amount_fen": 500000}, True),
        ('order.title == "茶壶" or order.gift', {}, True),
        ("order.title == ''", {}, False),
        ('order.light == "red"', {}, True),
        ('order.light in ("green",)', {}, False),
        ("order.gift", {}, True),
        ("order.gift == False", {}, False),
        ("order.fragile", {}, False),
        ("order.fragile", {"order__fragile": True}, True),
        ("not order.fragile", {"order__fragile": False}, True),
        ("order.promised_by", {"order__promised_by": NOON}, True),
        ("100 < order.amount_fen <= 100000", {}, True),
        ("order.amount_fen > -5", {}, True),
        ("order.amount_fen > event.amount_fen", {}, True),
        ("event.time >= order.placed_at", {}, True),
        (" order.gift\n", {}, True),
        ("((order.gift) and (not (event.by is not None)))", {}, True),
    ],
)
def test_condition_of_the_language(source: str, changes: dict[str, object], expected: bool) -> None:
    """A condition means what the same Python means, and gives a bool."""
    assert ask(source, **changes) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("order.promised_by is not None and order.promised_by < event.time", False),
        ("order.promised_by and order.placed_at < order.promised_by", False),
        ("order.promised_by is None or order.promised_by < event.time", True),
        ("not order.promised_by or order.promised_by < event.time", True),
        ("not (order.weight is None) and order.weight < 5", False),
        ("not (order.weight is None or order.gift) and order.weight < 5", False),
        ("(order.weight is not None and order.gift) and 1 < order.weight < 5", False),
        ("not (order.weight is not None and order.gift) or order.weight < 5", True),
        ("order.weight is not None and (order.gift or order.weight < 5)", False),
        ("order.fragile and order.gift", False),
    ],
)
def test_order_of_optional_attribute_when_guarded(source: str, expected: bool) -> None:
    """What a guard has settled may be ordered after it, and never meets None."""
    assert ask(source) is expected


@pytest.mark.parametrize(
    "source",
    [
        "order.weight < 5",
        "5 < order.weight",
        "order.weight < 5 and order.weight is not None",
        "order.weight is None and order.weight < 5",
        "order.weight is not None or order.weight < 5",
        "(order.weight is not None or order.gift) and order.weight < 5",
        "not (order.weight is not None) and order.weight < 5",
        "(order.weight is not None and order.gift) or order.weight < 5",
        "(order.weight is None and order.gift) or order.weight < 5",
        "not order.weight == 5 and order.weight < 5",
    ],
)
def test_order_of_optional_attribute_when_unguarded(source: str) -> None:
    """Where None may still come, ordering is refused with the guard to write."""
    error = refusal(source)
    assert error.message == "order.weight may be None, which is neither before nor after anything"
    assert error.remedy == "write order.weight is not None and … before it"


LIST_REMEDY = 'write order.stage in ("placed", "packed")'
ONE_REMEDY = "read one attribute of a root, for example order.stage"
SPLIT_REMEDY = "write two comparisons joined by `and`"
NUMBER_REMEDY = "compare it with a number, for example 100000"
NO_COMPUTING = (
    "this kind of expression is not part of conditions",
    "combine comparisons of attributes with constants by and, or, not",
)
NOT_PLAIN = "use one pair of quotes, no prefix, no backslash, and commas between texts"
NO_SIGN = (
    "only `not` before a condition and `-` before a whole number are allowed",
    "write `not` before a whole comparison",
)
CONSTANT_REMEDY = "write a text in quotes, a whole number, True or False"
REFUSALS = [
    # source, column, message, remedy
    ("", 1, "the condition is empty", "leave it out to mean always"),
    ("  order", 3, "`order` alone is not a value", None),
    ("contact", 1, "`contact` alone is not a value", "name one of its attributes: contact.tier"),
    ("contact.tier == vip", 17, "there is nothing called `vip`", 'write "vip" if it is a text'),
    ("order.gift == true", 15, "there is nothing called `true`", "write True"),
    ("oder.gift", 1, "there is nothing called `oder` here", "did you mean order?"),
    ("x.y", 1, "there is nothing called `x` here", "known: order, event, contact, party"),
    ("order.amount > 5", 1, "order has no attribute `amount`", "did you mean amount_fen?"),
    ("order.tier == 1", 1, "order has no attribute `tier`", "did you mean contact.tier?"),
    ("party.zzz == 1", 1, "party has no attribute `zzz`", "known: tier"),
    (
        "order.zzz == 1",
        1,
        "order has no attribute `zzz`",
        "known: amount_fen, payment, promised_by, placed_at, title, note, gift, fragile, …",
    ),
    (
        "order._hidden == 1",
        1,
        "`_hidden` is private, as is all that begins with an underscore",
        ONE_REMEDY,
    ),
    ("order.title.size == 1", 1, "attributes go one level deep", ONE_REMEDY),
    ('"x".size == 1', 1, "only a root has attributes", ONE_REMEDY),
    ('order.amount_fen == "5"', 21, "order.amount_fen is a whole number of fen", NUMBER_REMEDY),
    ("order.amount_fen == True", 21, "order.amount_fen is a whole number of fen", NUMBER_REMEDY),
    ("order.weight == True", 17, "order.weight is a whole number", NUMBER_REMEDY),
    (
        "order.title == order.amount_fen",
        16,
        "order.title is a text, and order.amount_fen is a whole number of fen",
        'compare it with a text in quotes, for example "vip"',
    ),
    (
        "5 == order.payment",
        1,
        "order.payment is a text",
        'compare it with a text in quotes, for example "paid"',
    ),
    (
        "order.gift == 1",
        15,
        "order.gift is either True or False",
        "compare it with True or False, or write it alone",
    ),
    (
        'event.time > "2026-01-01"',
        14,
        "event.time is a moment in time",
        "compare it with another attribute that is a moment in time",
    ),
    ('order.payment == "payed"', 18, 'order.payment is never "payed"', 'did you mean "paid"?'),
    (
        'order.payment in ("paid", "xyz")',
        27,
        'order.payment is never "xyz"',
        'known: "paid", "open", "failed"',
    ),
    ('"gren" == order.light', 1, 'order.light is never "gren"', 'did you mean "green"?'),
    ('order.title < "b"', 1, "order.title is a text, without an order", "write == or != or in"),
    ("order.gift < True", 1, "order.gift is either True or False, without an order", "write == or != or in"),
    ("event.by == None", 13, "None is neither equal nor ordered", "write event.by is None, or is not None"),
    ("None != event.by", 1, "None is neither equal nor ordered", "write event.by is None, or is not None"),
    ('event.by in ("a", None)', 19, "None is neither equal nor ordered", None),
    ("order.gift is None", 1, "order.gift is never None", "leave this test out"),
    ("order.title is None", 1, "order.title is never None", 'write order.title == "" for empty'),
    ("order.payment is None", 1, "order.payment is never None", "leave this test out"),
    (
        "order.gift is True",
        15,
        "`is` only asks whether an attribute is None",
        "write == to compare with a value",
    ),
    ("None is event.by", 9, "`is` only asks whether an attribute is None", None),
    (
        "1 < order.amount_fen in (1, 2)",
        25,
        "`in` and `is` cannot be part of a chain of comparisons",
        SPLIT_REMEDY,
    ),
    ("event.by is None is None", 13, "`in` and `is` cannot be part of a chain of comparisons", SPLIT_REMEDY),
    ("1 == 1", 1, "two constants are compared", "compare an attribute with one"),
    ("1 in (1, 2)", 1, "two constants are compared", "compare an attribute with one"),
    (
        'event.phase in ("delivered")',
        17,
        "after `in` stands one text, which is not a list",
        'write ("delivered",) with a comma, or use ==',
    ),
    (
        "event.phase in ()",
        16,
        "after `in` stands no list of constants",
        'write for example: order.stage in ("placed", "packed")',
    ),
    ('"tea" in order.title', 10, "after `in` stands no list of constants", None),
    ("event.phase in 5", 16, "after `in` stands no list of constants", None),
    (
        "order.title in (event.reason, 'x')",
        17,
        "a list holds constants only",
        "compare by == and join by `or`: order.title == event.reason",
    ),
    (
        "'x' in (event.reason,)",
        9,
        "a list holds constants only",
        "compare by == and join by `or`: it == event.reason",
    ),
    ('order.payment == ("paid",)', 18, "a list stands only after `in`", LIST_REMEDY),
    ('["paid"]', 1, "a list stands only after `in`", LIST_REMEDY),
    ('{"paid"} == order.payment', 1, "a list stands only after `in`", LIST_REMEDY),
    ("order.amount_fen > 12.5", 20, "12.5 is not a whole number", "write money in fen: 12.50 yuan is 1250"),
    ("order.amount_fen > 0x10", 20, "`0x10` is not a decimal number with a space after it", "write 16"),
    (
        f"order.amount_fen > {NUMBER_MAX + 1}",
        20,
        f"the number is greater than {NUMBER_MAX}",
        "no amount or count is: write a smaller one",
    ),
    ("order.amount_fen > 2j", 20, "`2j` is not a constant of conditions", CONSTANT_REMEDY),
    ('order.title == b"x"', 16, '`b"x"` is not a constant of conditions', CONSTANT_REMEDY),
    ("order.title == ...", 16, "`...` is not a constant of conditions", CONSTANT_REMEDY),
    ('order.title in ("a" "b")', 17, '"a" "b" is not one plain text', NOT_PLAIN),
    ('order.title == r"a"', 16, 'r"a" is not one plain text', NOT_PLAIN),
    ('order.title == """a"""', 16, '"""a""" is not one plain text', NOT_PLAIN),
    (r'order.title == "\x41"', 16, r'"\x41" is not one plain text', NOT_PLAIN),
    (
        f'order.title == "{"x" * 201}"',
        16,
        "the text has 201 characters, more than 200",
        "compare with a shorter one",
    ),
    ("True", 1, "a constant is not a condition", "compare an attribute with it"),
    (
        "order.title",
        1,
        "order.title is a text, not a condition",
        'compare it with a text in quotes, for example "vip"',
    ),
    (
        "not order.note",
        5,
        "order.note is a text, not a condition",
        "write order.note is not None, or compare it with a value",
    ),
    ("order.amount_fen", 1, "order.amount_fen is a whole number, not a condition", NUMBER_REMEDY),
    ("event.time", 1, "event.time is a moment in time, not a condition", None),
    ("f(order)", 1, "a condition calls no functions", "compare attributes with constants"),
    (
        "order.amount_fen * 2 > 5",
        1,
        "a condition does no arithmetic",
        "write the result as one whole number",
    ),
    ("order['title'] == 'x'", 1, "square brackets cannot follow a value", ONE_REMEDY),
    ("(x := order.gift)", 2, "`:=` is not part of conditions", "write == to compare"),
    (
        "order.gift if order.gift else order.gift",
        1,
        "`if … else` is not part of conditions",
        "combine comparisons by and, or, not",
    ),
    ('order.title == f"x"', 16, "a text with `f` before it is not a constant", "write the text itself"),
    ("(order.gift == True) == True", 2, "the result of a comparison cannot be compared", SPLIT_REMEDY),
    (
        "(order.gift or order.gift) == True",
        2,
        "the result of `and` and `or` cannot be compared",
        SPLIT_REMEDY,
    ),
    ("order.amount_fen > -(-1)", 20, *NO_SIGN),
    ("order.amount_fen > -True", 20, *NO_SIGN),
    ("~order.gift", 1, *NO_SIGN),
    ("lambda: order.gift", 1, *NO_COMPUTING),
    ("order.gift # yes", 12, "a condition holds no comment", "move it to a YAML comment"),
    (
        "order.gift and\norder.gift",
        15,
        "the condition has a line break",
        "write it on one line (in YAML, `>-` folds lines into one)",
    ),
    (
        "order.gift\u200b",
        11,
        "the character U+200B cannot be seen",
        "take it out; only plain spaces may separate words",
    ),
    (
        "ｏrder.gift",
        1,
        "`ｏrder.gift` has letters that only look like plain ones",
        "type the name in ASCII letters",
    ),
    (
        'order.title == "茶壶" and order.ｇift',
        25,
        "`order.ｇift` has letters that only look like plain ones",
        None,
    ),
    (
        "order.gift and " * 40 + "order.gift",
        SOURCE_LENGTH_MAX + 1,
        "the condition has 610 characters, more than 500",
        "split the rule in two",
    ),
    ("not " * 99 + "order.gift", 1, f"the condition has 101 parts, more than {NODE_COUNT_MAX}", None),
    (
        "(" * 41 + "order.gift" + ")" * 41,
        41,
        f"the condition opens more than {BRACKET_COUNT_MAX} brackets",
        "leave out what is not needed",
    ),
]


@pytest.mark.parametrize(("source", "column", "message", "remedy"), REFUSALS)
def test_refusal_says_what_where_and_what_instead(source: str, column: int, message: str, remedy: str | None) -> None:
    """Every refusal names the trouble, its column and what to write (None: told by another row)."""
    error = refusal(source)
    assert (error.message, error.column) == (message, column)
    assert error.remedy
    assert remedy is None or error.remedy == remedy


@pytest.mark.parametrize(
    ("source", "column", "remedy"),
    [
        ("order.amount_fen = 5", 18, "write == to compare"),
        ("order.gift && order.gift", 13, "write `and` between conditions"),
        ("order.gift || order.gift", 13, "write `or` between conditions"),
        ("!order.gift", 1, "write `not` before the condition"),
        ("order.amount_fen <> 5", 18, "write != for is-not-equal"),
        ("order.gift and （order.gift）", 16, "write ( instead of （"),
        ("order.title == “茶壶”", 16, None),
        ("order.gift and", 15, None),
        ("   order.gift )", 15, None),
    ],
)
def test_refusal_of_what_is_not_python(source: str, column: int, remedy: str | None) -> None:
    """What cannot be parsed is refused at its place, with what other languages' signs are called here."""
    error = refusal(source)
    assert error.message.startswith("this cannot be read: ")
    assert abs(error.column - column) <= 1  # Python's versions differ by one
    assert error.remedy == (remedy or 'write for example: order.amount_fen >= 100000 and contact.tier == "vip"')


@pytest.mark.filterwarnings("ignore:invalid decimal literal")
def test_number_glued_to_a_word_is_refused() -> None:
    """Python reads `1or` as two words with a warning only; a condition refuses it."""
    error = refusal("order.amount_fen == 1or order.gift")
    assert (error.message, error.column) == ("`1` is not a decimal number with a space after it", 21)


def test_refusal_as_text() -> None:
    """A refusal reads as one line, and is both an error of the house and a ValueError."""
    error = refusal("order.gift is None")
    assert str(error) == "order.gift is never None (column 1); leave this test out"
    assert isinstance(error, OrderBellError)
    assert isinstance(error, ValueError)


def test_schema_with_a_type_that_cannot_be_checked() -> None:
    """A declared type outside the language is a mistake of the caller, not of the author."""
    with pytest.raises(TypeError, match=r"conditions cannot read order\.lines"):
        compile_condition("order.lines == 1", SCHEMA)


def test_condition_knows_what_it_reads() -> None:
    """Names are exactly the attributes read; roots are the schema's keys in their order."""
    source = ' event.by is None or order.gift and order.payment in ("paid",) '
    condition = compile_condition(source, SCHEMA)
    assert condition.source == source.strip()
    assert condition.roots == ("order", "event", "contact", "party")
    assert condition.names == {("event", "by"), ("order", "gift"), ("order", "payment")}


def test_condition_takes_roots_by_position() -> None:
    """`test` takes the roots in the schema's order, and those it does not read may be anything."""
    condition = compile_condition("order.gift", SCHEMA)
    assert condition.test(SimpleNamespace(gift=True), None, None, None) is True
    assert condition(order=SimpleNamespace(gift=False), event=None, contact=None, party=None) is False
    with pytest.raises(TypeError):
        condition.test(SimpleNamespace(gift=True))


def test_condition_is_a_value() -> None:
    """Conditions are frozen, equal when source and roots are, and show their source only."""
    first = compile_condition("order.gift", SCHEMA)
    assert first == compile_condition(" order.gift", SCHEMA)
    assert len({first, compile_condition("order.gift", SCHEMA)}) == 1
    assert first != compile_condition("not order.gift", SCHEMA)
    assert "lambda" not in repr(first)
    with pytest.raises(AttributeError):
        first.source = "x"  # type: ignore[misc]


def test_condition_reaches_no_builtins() -> None:
    """The compiled function sees no builtins and refers to nothing but its own attributes."""
    condition = compile_condition('order.gift and event.phase in ("delivered",)', SCHEMA)
    assert condition.test.__globals__["__builtins__"] == {}
    assert condition.test.__code__.co_names == ("gift", "phase")
    assert condition.test.__closure__ is None


def test_schema_of_struct_keeps_what_conditions_can_read() -> None:
    """Plain, closed and optional attributes stay; lists, floats, mixed and private ones go."""

    class Sample(msgspec.Struct):
        name: str
        count: Annotated[int, msgspec.Meta(ge=0)]
        kind: Literal["a", "b"]
        light: Light
        due_at: Optional[datetime] = None  # noqa: UP045
        gift: bool | None = None
        maybe: Literal["a"] | None = None
        lines: tuple[str, ...] = ()
        score: float = 0.0
        mixed: str | int = 0
        numbered: Literal[1, 2] = 1
        half: Literal["a", 1] = "a"
        parts: list[str] | None = None
        limit: ClassVar[int] = 3
        _own: int = 0

    schema = schema_of(Sample)
    assert list(schema) == ["name", "count", "kind", "light", "due_at", "gift", "maybe"]
    assert schema["count"] is int
    source = 'sample.maybe is None and sample.kind == "a" and sample.light == "red" and sample.count > 1'
    condition = compile_condition(source, {"sample": schema})
    assert condition.test(Sample(name="x", count=2, kind="a", light=Light.RED)) is True


ATTACKS = [
    "order.__class__",
    "order.__class__.__mro__",
    "order.__dict__ == 1",
    "order.gift.__class__ == 1",
    "order.title.format == 1",
    "order.gift.real",
    "().__class__",
    "''.__class__.__mro__[1]",
    "(1).__class__ == 1",
    "[x for x in order.title]",
    "[x for x in (1, 2)] == order.title",
    "{x: 1 for x in order.title}",
    "(x for x in order.title)",
    "any(x for x in order.title)",
    '__import__("os")',
    '__import__("os").system("true")',
    "__builtins__",
    "__builtins__.eval == 1",
    "__name__ == 'x'",
    "eval('1')",
    "open('/etc/passwd')",
    "globals()",
    "getattr(order, 'gift')",
    "order.gift()",
    "lambda: 1",
    "(lambda: order.gift)()",
    "f'{order.gift}'",
    "order.title == f'{order.__class__}'",
    "f'{order.gift!r:>{order.amount_fen}}' == order.title",
    "(x := 1)",
    "(order := event)",
    "(*order.title,)",
    "order.title in (*order.note,)",
    "order.title in {**order.note}",
    "order.payment in {'paid': 1}",
    "order.title == b'x'",
    "b'x' in order.title",
    "...",
    "... == order.title",
    "order.amount_fen > 9 ** 9 ** 9",
    "2 ** 100000 == order.amount_fen",
    "order.amount_fen > 1 << 100000",
    "'x' * 1000000000 == order.title",
    "order.amount_fen > " + "9" * 400,
    "order.amount_fen > 1e400",
    "order.amount_fen > 1j",
    "order.amount_fen @ 2 == 1",
    "order.amount_fen // 0 == 1",
    "order.amount_fen % 2 == 0",
    "'%s' % order.title == 'x'",
    "await order.gift",
    "(yield)",
    "(yield from order.title)",
    "async def f(): pass",
    "import os",
    "del order",
    "order.gift; order.gift",
    "order.gift = True",
    "order.amount_fen += 1",
    "return order.gift",
    "order.gift # comment",
    "(order.gift # )",
    "order.gift\nimport os",
    "order.gift\r\nimport os",
    "order.gift \\\n and order.gift",
    "order.gift \\",
    "order.gift\x0corder.gift",
    "order.gift\tand order.gift",
    "order.gift\x00",
    "\x00",
    "order.title == '\x00'",
    "order.title == '\ud800'",
    "order.title == '\u202e'",
    "order.title == '\\N{BULLET}'",
    "order.title == '\\777777'",
    "order.title == '\\x'",
    "order\u00a0.gift",
    "\ufeff order.gift",
    "order.ɡift",
    "𝐨rder.gift",
    "оrder.gift",
    "ºrder.gift",
    "order.__ｃlass__",
    "order.gift if 1 else order.gift",
    "order.title[0] == 'x'",
    "order['__class__']",
    "(order).gift.real",
    "(order.gift, order.gift)",
    "()",
    "{order.gift}",
    "order is event",
    "order == event",
    "not order",
    "-order.gift",
    "+order.amount_fen > 1",
    "~order.amount_fen == 1",
    "- - order.amount_fen == 1",
    "(" * 100 + "order.gift" + ")" * 100,
    "(" * 490,
    "[" * 240 + "]" * 240,
    "-" * 480 + "1",
    "~" * 480 + "1",
    "not " * 120 + "order.gift",
    "order" + ".gift" * 98,
    "order.gift" + "()" * 100,
    "1<" * 240 + "1",
    "lambda:" * 70 + "1",
    "x" * 100_000,
    "order.gift and " * 10_000 + "order.gift",
    "(" * 100_000,
    " ",
    "\n",
    "'",
    '"""',
    "'''order.gift",
    "f'{",
    "f'{order.gift'",
    "0777 == order.amount_fen",
    "1__0 == order.amount_fen",
    "0b11 == order.amount_fen",
    "None",
    "order.",
    "order.gift and",
    "$",
    "order.gift ? 1 : 2",
]


@pytest.mark.parametrize("source", ATTACKS, ids=range(len(ATTACKS)))
@pytest.mark.filterwarnings("ignore:.*:SyntaxWarning", "ignore:.*:DeprecationWarning")
def test_attack_is_refused(source: str) -> None:
    """Nothing outside the language gets through, and nothing but ConditionInvalid comes out."""
    error = refusal(source)
    assert error.message
    assert error.remedy
    assert 1 <= error.column <= len(source) + 1


@given(st.text(max_size=60) | st.text(alphabet="order.gift'\"()[]{}<>=! andotin_:,*5f#\\\n", max_size=60))
@pytest.mark.filterwarnings("ignore:.*:SyntaxWarning", "ignore:.*:DeprecationWarning")
def test_any_text_is_accepted_or_refused(source: str) -> None:
    """For any text whatever the answer is a condition or ConditionInvalid with a place inside the text."""
    outcome: Condition | ConditionInvalid
    try:
        outcome = compile_condition(source, SCHEMA)
    except ConditionInvalid as error:
        outcome = error
    assert isinstance(outcome, Condition) or 1 <= outcome.column <= len(source) + 1


# A condition as a tree of tuples: it is written out for the compiler and walked by the evaluator below.
Tree = tuple[object, ...]
NUMBERS = st.integers(-3, 3)
COMPARISONS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
LEAVES: st.SearchStrategy[Tree] = st.one_of(
    st.tuples(st.just("compare"), st.just("order.amount_fen"), COMPARISONS, NUMBERS),
    st.tuples(st.just("compare"), NUMBERS, COMPARISONS, st.just("event.amount_fen")),
    st.tuples(st.just("compare"), st.just("order.amount_fen"), COMPARISONS, st.just("event.amount_fen")),
    st.tuples(st.just("compare"), st.just("event.time"), COMPARISONS, st.just("order.placed_at")),
    st.tuples(st.just("compare"), st.just("order.weight"), st.sampled_from(["==", "!="]), NUMBERS),
    st.tuples(
        st.just("member"),
        st.just("order.amount_fen"),
        st.sampled_from(["in", "not in"]),
        st.lists(NUMBERS, min_size=1, max_size=4),
    ),
    st.tuples(st.just("none"), st.just("order.weight"), st.sampled_from(["is", "is not"])),
    st.tuples(st.just("guarded"), st.just("order.weight"), COMPARISONS, NUMBERS),
    st.tuples(st.just("bare"), st.sampled_from(["order.gift", "order.fragile", "order.promised_by"])),
)
TREES: st.SearchStrategy[Tree] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=8,
)


def written(tree: Tree) -> str:
    """Write a tree as the source of a condition."""
    match tree:
        case ("compare", left, operator, right):
            return f"{left} {operator} {right}"
        case ("member", left, operator, list() as members):
            return f"{left} {operator} ({''.join(f'{member}, ' for member in members)})"
        case ("none", left, operator):
            return f"{left} {operator} None"
        case ("guarded", left, operator, right):
            return f"({left} is not None and {left} {operator} {right})"
        case ("bare", name):
            return str(name)
        case ("not", tuple() as inner):
            return f"not ({written(inner)})"
        case (word, tuple() as left, tuple() as right):
            return f"({written(left)}) {word} ({written(right)})"
    raise AssertionError(tree)


def related(left: object, operator: str, right: object) -> bool:
    """Compare two values by the name of the comparison; None is equal to itself only."""
    if operator in {"==", "!="}:
        return (left == right) is (operator == "==")
    assert isinstance(left, int | datetime)
    before, same = left < right, left == right  # type: ignore[operator]
    return {"<": before, "<=": before or same, ">": not before and not same, ">=": not before}[operator]


def naive(tree: Tree, values: Mapping[str, object]) -> bool:
    """Evaluate a tree by walking it, with nothing of Python's own evaluation of the source."""

    def value(side: object) -> object:
        return values[side] if isinstance(side, str) else side

    match tree:
        case ("compare", left, str() as operator, right):
            return related(value(left), operator, value(right))
        case ("member", left, operator, list() as members):
            found = any(value(left) == member for member in members)
            return found is (operator == "in")
        case ("none", left, operator):
            return (value(left) is None) is (operator == "is")
        case ("guarded", left, str() as operator, right):
            return value(left) is not None and related(value(left), operator, right)
        case ("bare", name):
            return value(name) not in {None, False}
        case ("not", tuple() as inner):
            return not naive(inner, values)
        case ("and", tuple() as left, tuple() as right):
            return naive(left, values) and naive(right, values)
        case ("or", tuple() as left, tuple() as right):
            return naive(left, values) or naive(right, values)
    raise AssertionError(tree)


MOMENTS = st.sampled_from([NOON, NOON + timedelta(hours=1)])
VALUES = st.fixed_dictionaries(
    {
        "order.amount_fen": NUMBERS,
        "event.amount_fen": NUMBERS,
        "event.time": MOMENTS,
        "order.placed_at": MOMENTS,
        "order.weight": st.none() | NUMBERS,
        "order.gift": st.booleans(),
        "order.fragile": st.none() | st.booleans(),
        "order.promised_by": st.none() | MOMENTS,
    }
)


@given(TREES, VALUES)
def test_compiled_condition_equals_naive_evaluation(tree: Tree, values: dict[str, object]) -> None:
    """For any condition of the grammar and any values, the compiled function gives the naive answer."""
    source = written(tree)
    if len(source) > SOURCE_LENGTH_MAX:
        assert "characters" in refusal(source).message
        return
    roots: dict[str, SimpleNamespace] = {root: SimpleNamespace() for root in SCHEMA}
    for name, value in values.items():
        root, attribute = name.split(".")
        setattr(roots[root], attribute, value)
    assert compile_condition(source, SCHEMA)(**roots) is naive(tree, values)
