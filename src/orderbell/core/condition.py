"""Playbook conditions: a checked subset of Python expressions, compiled to functions.

A condition such as `order.amount_fen >= 100000 and contact.tier == "vip"` is parsed, checked against
the declared types of what it reads, rebuilt from the white-listed nodes alone and compiled once.
Calling it then costs no more than the comparison written by hand.

What the language has: `and`, `or`, `not`, `== != < <= > >=`, `in` and `not in` a list of constants,
`is None` and `is not None`, attributes one level below a root, texts, whole numbers, `True`, `False`.
"""

import ast
import difflib
import re
import types
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import (
    Literal,
    NamedTuple,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from orderbell.errors import OrderBellError

Schema: TypeAlias = Mapping[str, Mapping[str, object]]
Read: TypeAlias = tuple[str, str]

SOURCE_LENGTH_MAX = 500
NODE_COUNT_MAX = 100
BRACKET_COUNT_MAX = 40
TEXT_LENGTH_MAX = 200
# The largest bigint of the database: nothing an order holds can be greater.
NUMBER_MAX = 2**63 - 1
_LISTED_MAX = 8


class ConditionInvalid(OrderBellError, ValueError):
    """A condition was refused when it was loaded.

    `message` says what is wrong, `column` where (1-based, in characters of the source), `remedy` what
    to write instead.
    """

    def __init__(self, message: str, *, column: int, remedy: str) -> None:
        """Keep the three parts apart, so that lint can put file and line before them."""
        super().__init__(message, column, remedy)
        self.message = message
        self.column = column
        self.remedy = remedy

    def __str__(self) -> str:
        """Return message, column and remedy in one line."""
        return f"{self.message} (column {self.column}); {self.remedy}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition ready to be asked.

    `test` takes the roots by position in the order of `roots`, which is that of the schema's keys; it
    is the quick way in. `names` holds the (root, attribute) pairs that the condition reads. Two
    conditions are equal when source and roots are.
    """

    source: str
    roots: tuple[str, ...]
    names: frozenset[Read]
    test: Callable[..., bool] = field(compare=False, repr=False)

    def __call__(self, **roots: object) -> bool:
        """Return whether the condition holds for these roots, given by name."""
        return self.test(**roots)


def compile_condition(source: str, schema: Schema) -> Condition:
    """Check a condition against the schema and compile it.

    The schema maps root names to attributes to declared types: `str`, `int`, `bool`, `datetime`, a
    `Literal` of texts, a `StrEnum`, or one of these `| None`. Raises ConditionInvalid for whatever
    the language does not have, and TypeError when the schema declares a type it cannot check.
    """
    checker = _Checker(source, schema)
    checked = checker.condition(checker.parse(), frozenset())
    parameters = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(arg=root) for root in schema],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    tree = ast.Expression(ast.Lambda(args=parameters, body=checked.tree))
    code = compile(ast.fix_missing_locations(tree), "<condition>", "eval")
    # Only nodes that the checker built itself are in the tree, and no builtin is in reach.
    test = eval(code, {"__builtins__": {}})  # noqa: S307
    return Condition(checker.text, tuple(schema), frozenset(checker.names), test)


def schema_of(struct: type[msgspec.Struct]) -> Mapping[str, object]:
    """Return the attributes of a struct that conditions can read, with their declared types.

    Attributes of other types (lists, nested structs, floats) and private ones are left out.
    """
    return {
        name: declared
        for name, declared in get_type_hints(struct).items()
        if not name.startswith("_") and _type_of(declared) is not None
    }


class _Kind(Enum):
    """What a value is, in the words of the messages."""

    TEXT = "a text"
    NUMBER = "a whole number"
    FLAG = "either True or False"
    INSTANT = "a moment in time"
    NOTHING = "None"


class _Type(NamedTuple):
    """The type of an operand; `words` is its vocabulary, empty when any text may come."""

    kind: _Kind
    optional: bool = False
    words: tuple[str, ...] = ()


class _Operand(NamedTuple):
    """One side of a comparison; `read` is None for a constant."""

    tree: ast.expr
    type: _Type
    read: Read | None
    source: ast.expr

    @property
    def name(self) -> str:
        """The attribute as the author wrote it: `order.stage`."""
        return ".".join(self.read or ())


class _Checked(NamedTuple):
    """A rebuilt condition and what is surely not None after it held, or did not hold."""

    tree: ast.expr
    if_true: frozenset[Read] = frozenset()
    if_false: frozenset[Read] = frozenset()


_PLAIN_KINDS: dict[object, _Kind] = {
    str: _Kind.TEXT,
    int: _Kind.NUMBER,
    bool: _Kind.FLAG,
    datetime: _Kind.INSTANT,
}
_ORDERED_KINDS = (_Kind.NUMBER, _Kind.INSTANT)
_EQUALITIES = (ast.Eq, ast.NotEq)
_ORDERINGS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_MEMBERSHIPS = (ast.In, ast.NotIn)
_LISTS = (ast.Tuple, ast.List, ast.Set)

_ATTRIBUTE_REMEDY = "read one attribute of a root, for example order.stage"
_SPLIT_REMEDY = "write two comparisons joined by `and`"
_REFUSED_NODES: dict[type[ast.expr], tuple[str, str]] = {
    ast.Call: ("a condition calls no functions", "compare attributes with constants"),
    ast.BinOp: ("a condition does no arithmetic", "write the result as one whole number"),
    ast.Subscript: ("square brackets cannot follow a value", _ATTRIBUTE_REMEDY),
    ast.NamedExpr: ("`:=` is not part of conditions", "write == to compare"),
    ast.IfExp: ("`if … else` is not part of conditions", "combine comparisons by and, or, not"),
    ast.JoinedStr: ("a text with `f` before it is not a constant", "write the text itself"),
    ast.Tuple: ("a list stands only after `in`", 'write order.stage in ("placed", "packed")'),
    ast.List: ("a list stands only after `in`", 'write order.stage in ("placed", "packed")'),
    ast.Set: ("a list stands only after `in`", 'write order.stage in ("placed", "packed")'),
    ast.Compare: ("the result of a comparison cannot be compared", _SPLIT_REMEDY),
    ast.BoolOp: ("the result of `and` and `or` cannot be compared", _SPLIT_REMEDY),
    ast.UnaryOp: (
        "only `not` before a condition and `-` before a whole number are allowed",
        "write `not` before a whole comparison",
    ),
}
_REFUSED_OTHERWISE = (
    "this kind of expression is not part of conditions",
    "combine comparisons of attributes with constants by and, or, not",
)
_SYNTAX_REMEDIES = (
    (re.compile("&&?"), "write `and` between conditions"),
    (re.compile(r"\|\|?"), "write `or` between conditions"),
    (re.compile("!(?!=)"), "write `not` before the condition"),
    (re.compile("<>"), "write != for is-not-equal"),
    (re.compile("(?<![=!<>:])=(?!=)"), "write == to compare"),
)
_NAMES_OF_OTHERS = {"true": "True", "false": "False", "null": "None", "none": "None", "nil": "None"}


def _type_of(declared: object) -> _Type | None:
    """Return the type behind a declaration, or None when conditions cannot read it."""
    if get_origin(declared) in (Union, types.UnionType):
        members = [member for member in get_args(declared) if member is not types.NoneType]
        found = _type_of(members[0]) if len(members) == 1 else None
        return found and found._replace(optional=True)
    if get_origin(declared) is Literal:
        values = get_args(declared)
        words = tuple(value for value in values if isinstance(value, str))
        if words and all(value is None or isinstance(value, str) for value in values):
            return _Type(_Kind.TEXT, None in values, words)
        return None
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return _Type(_Kind.TEXT, words=tuple(member.value for member in declared))
    kind = _PLAIN_KINDS.get(declared)
    return None if kind is None else _Type(kind)


def _listed(options: Iterable[str]) -> str:
    """Return the first few options, to end a remedy with."""
    names = list(options)
    rest = ", …" if len(names) > _LISTED_MAX else ""
    return ", ".join(names[:_LISTED_MAX]) + rest


def _nearest(wanted: str, options: Iterable[str]) -> str | None:
    """Return the option that the author most likely meant."""
    return next(iter(difflib.get_close_matches(wanted, list(options), n=1)), None)


def _is_none(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and tree.value is None


def _against_none(tree: ast.expr, operator: ast.cmpop) -> ast.Compare:
    return ast.Compare(left=tree, ops=[operator], comparators=[ast.Constant(None)])


class _Checker:
    """One pass over one condition: refuses, or rebuilds what it has understood.

    Nothing of the parsed tree is kept: each node of the result is made here.
    """

    def __init__(self, source: str, schema: Schema) -> None:
        self.text = source.strip()
        self.names: set[Read] = set()
        self._schema = schema
        self._indent = len(source) - len(source.lstrip())
        self._bytes = b""

    # Reading

    def parse(self) -> ast.expr:
        """Return the tree of the source, of bounded size and with plain spelling."""
        self._check_characters()
        self._bytes = self.text.encode()
        try:
            tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, RecursionError, MemoryError) as error:
            # Python says 0, or nothing, when the source ended before the expression did.
            offset = min(getattr(error, "offset", 0) or SOURCE_LENGTH_MAX + 1, len(self.text) + 1)
            reason = getattr(error, "msg", None) or "it is nested too deeply"
            raise self._wrong_at(offset, f"this cannot be read: {reason}", self._syntax_remedy()) from error
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
        if len(nodes) > NODE_COUNT_MAX:
            message = f"the condition has {len(nodes)} parts, more than {NODE_COUNT_MAX}"
            raise self._wrong_at(1, message, "split the rule in two")
        for node in nodes:
            # Python takes look-alike letters (ｏrder, 𝐨rder) for the plain ones: a reader would not.
            if isinstance(node, ast.Name | ast.Attribute) and not self._segment(node).isascii():
                message = f"`{self._segment(node)}` has letters that only look like plain ones"
                raise self._wrong(node, message, "type the name in ASCII letters")
        self._check_end(tree)
        return tree

    def _check_characters(self) -> None:
        if not self.text:
            raise self._wrong_at(1, "the condition is empty", "leave it out to mean always")
        if len(self.text) > SOURCE_LENGTH_MAX:
            message = f"the condition has {len(self.text)} characters, more than {SOURCE_LENGTH_MAX}"
            raise self._wrong_at(SOURCE_LENGTH_MAX + 1, message, "split the rule in two")
        brackets = [at for at, letter in enumerate(self.text, 1) if letter in "([{"]
        if len(brackets) > BRACKET_COUNT_MAX:
            message = f"the condition opens more than {BRACKET_COUNT_MAX} brackets"
            raise self._wrong_at(brackets[BRACKET_COUNT_MAX], message, "leave out what is not needed")
        for at, letter in enumerate(self.text, 1):
            if letter in "\r\n":
                remedy = "write it on one line (in YAML, `>-` folds lines into one)"
                raise self._wrong_at(at, "the condition has a line break", remedy)
            if not letter.isprintable():
                message = f"the character U+{ord(letter):04X} cannot be seen"
                raise self._wrong_at(at, message, "take it out; only plain spaces may separate words")

    def _check_end(self, tree: ast.expr) -> None:
        rest = self._bytes[tree.end_col_offset :]
        if b"#" in rest:
            at = len(self._bytes[: self._bytes.index(b"#", tree.end_col_offset)].decode()) + 1
            raise self._wrong_at(at, "a condition holds no comment", "move it to a YAML comment")

    def _syntax_remedy(self) -> str:
        for letter in self.text:
            plain = unicodedata.normalize("NFKC", letter)
            if plain != letter and plain.isascii():
                return f"write {plain} instead of {letter}"
        for pattern, remedy in _SYNTAX_REMEDIES:
            if pattern.search(self.text):
                return remedy
        return 'write for example: order.amount_fen >= 100000 and contact.tier == "vip"'

    def _segment(self, node: ast.expr) -> str:
        return self._bytes[node.col_offset : node.end_col_offset].decode()

    # Refusing

    def _wrong_at(self, column: int, message: str, remedy: str) -> ConditionInvalid:
        return ConditionInvalid(message, column=self._indent + column, remedy=remedy)

    def _wrong(self, node: ast.expr, message: str, remedy: str) -> ConditionInvalid:
        return self._wrong_at(len(self._bytes[: node.col_offset].decode()) + 1, message, remedy)

    def _misplaced(self, node: ast.expr) -> ConditionInvalid:
        """Say that a node of this kind cannot stand here, and what can."""
        if not isinstance(node, ast.Name):
            return self._wrong(node, *_REFUSED_NODES.get(type(node), _REFUSED_OTHERWISE))
        if node.id in self._schema:
            known = _listed(f"{node.id}.{attribute}" for attribute in self._schema[node.id])
            message = f"`{node.id}` alone is not a value"
            return self._wrong(node, message, f"name one of its attributes: {known}")
        other = _NAMES_OF_OTHERS.get(node.id)
        remedy = f"write {other}" if other else f'write "{node.id}" if it is a text'
        return self._wrong(node, f"there is nothing called `{node.id}`", remedy)

    # Conditions

    def condition(self, node: ast.expr, known: frozenset[Read]) -> _Checked:
        """Return the rebuilt condition; `known` are the attributes that are surely not None here."""
        match node:
            case ast.BoolOp():
                return self._combined(node, known)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.condition(operand, known)
                tree = ast.UnaryOp(op=ast.Not(), operand=inner.tree)
                return _Checked(tree, inner.if_false, inner.if_true)
            case ast.Compare():
                return self._compared(node, known)
            case ast.Attribute():
                return self._bare(self._attribute(node))
            case ast.Constant():
                message = "a constant is not a condition"
                raise self._wrong(node, message, "compare an attribute with it")
        raise self._misplaced(node)

    def _combined(self, node: ast.BoolOp, known: frozenset[Read]) -> _Checked:
        """Check the parts in turn, each with what the ones before it have settled."""
        conjunction = isinstance(node.op, ast.And)
        parts: list[_Checked] = []
        for value in node.values:
            part = self.condition(value, known)
            known |= part.if_true if conjunction else part.if_false
            parts.append(part)
        true_facts = [part.if_true for part in parts]
        false_facts = [part.if_false for part in parts]
        trees = [part.tree for part in parts]
        if conjunction:
            every = frozenset.intersection(*false_facts)
            return _Checked(ast.BoolOp(ast.And(), trees), frozenset().union(*true_facts), every)
        every = frozenset.intersection(*true_facts)
        return _Checked(ast.BoolOp(ast.Or(), trees), every, frozenset().union(*false_facts))

    def _bare(self, operand: _Operand) -> _Checked:
        """Return an attribute that stands alone, as a test that gives a bool."""
        kind, optional, _ = operand.type
        facts = frozenset({operand.read} if operand.read and optional else ())
        if kind is _Kind.FLAG:
            tree = operand.tree
            if optional:
                tree = ast.Compare(left=tree, ops=[ast.Is()], comparators=[ast.Constant(value=True)])
            return _Checked(tree, if_true=facts)
        if kind is _Kind.INSTANT and optional:
            return _Checked(_against_none(operand.tree, ast.IsNot()), if_true=facts)
        message = f"{operand.name} is {kind.value}, not a condition"
        if optional:
            remedy = f"write {operand.name} is not None, or compare it with a value"
        else:
            remedy = f"compare it {self._example(operand)}"
        raise self._wrong(operand.source, message, remedy)

    def _compared(self, node: ast.Compare, known: frozenset[Read]) -> _Checked:
        operator = node.ops[0]
        if len(node.ops) == 1 and isinstance(operator, ast.Is | ast.IsNot):
            return self._none_test(node, operator)
        if len(node.ops) == 1 and isinstance(operator, _MEMBERSHIPS):
            return _Checked(self._membership(node, operator))
        left = self._operand(node.left)
        tree = ast.Compare(left=left.tree, ops=[], comparators=[])
        for operator, comparator in zip(node.ops, node.comparators, strict=True):
            if not isinstance(operator, _EQUALITIES + _ORDERINGS):
                message = "`in` and `is` cannot be part of a chain of comparisons"
                raise self._wrong(comparator, message, _SPLIT_REMEDY)
            right = self._operand(comparator)
            self._check_pair(left, right)
            if isinstance(operator, _ORDERINGS):
                self._check_ordered(left, known)
                self._check_ordered(right, known)
            tree.ops.append(type(operator)())
            tree.comparators.append(right.tree)
            left = right
        return _Checked(tree)

    def _none_test(self, node: ast.Compare, operator: ast.Is | ast.IsNot) -> _Checked:
        right = node.comparators[0]
        if not isinstance(node.left, ast.Attribute) or not _is_none(right):
            message = "`is` only asks whether an attribute is None"
            raise self._wrong(right, message, "write == to compare with a value")
        operand = self._attribute(node.left)
        if not operand.type.optional:
            message = f"{operand.name} is never None"
            kind, _, words = operand.type
            may_be_empty = kind is _Kind.TEXT and (not words or "" in words)
            remedy = f'write {operand.name} == "" for empty' if may_be_empty else "leave this test out"
            raise self._wrong(node.left, message, remedy)
        tree = _against_none(operand.tree, type(operator)())
        facts = frozenset({operand.read} if operand.read else ())
        if isinstance(operator, ast.IsNot):
            return _Checked(tree, if_true=facts)
        return _Checked(tree, if_false=facts)

    def _membership(self, node: ast.Compare, operator: ast.In | ast.NotIn) -> ast.Compare:
        members = node.comparators[0]
        left = self._operand(node.left)
        if isinstance(members, ast.Constant) and isinstance(members.value, str):
            self._constant(members)
            message = "after `in` stands one text, which is not a list"
            raise self._wrong(members, message, f'write ("{members.value}",) with a comma, or use ==')
        if not isinstance(members, _LISTS) or not members.elts:
            remedy = 'write for example: order.stage in ("placed", "packed")'
            raise self._wrong(members, "after `in` stands no list of constants", remedy)
        trees: list[ast.expr] = []
        for element in members.elts:
            member = self._operand(element)
            if member.read is not None:
                remedy = f"compare by == and join by `or`: {left.name or 'it'} == {member.name}"
                raise self._wrong(element, "a list holds constants only", remedy)
            self._check_pair(left, member)
            trees.append(member.tree)
        # A set of constants becomes one frozenset when compiled: one look-up however many there are.
        return ast.Compare(left=left.tree, ops=[type(operator)()], comparators=[ast.Set(elts=trees)])

    # Operands

    def _operand(self, node: ast.expr) -> _Operand:
        match node:
            case ast.Attribute():
                return self._attribute(node)
            case ast.Constant():
                return self._constant(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value) as constant) if type(value) is int:
                positive = self._constant(constant)
                tree = ast.UnaryOp(op=ast.USub(), operand=positive.tree)
                return positive._replace(tree=tree, source=node)
        raise self._misplaced(node)

    def _attribute(self, node: ast.Attribute) -> _Operand:
        if isinstance(node.value, ast.Attribute):
            raise self._wrong(node, "attributes go one level deep", _ATTRIBUTE_REMEDY)
        if not isinstance(node.value, ast.Name):
            raise self._wrong(node, "only a root has attributes", _ATTRIBUTE_REMEDY)
        root, attribute = node.value.id, node.attr
        if root not in self._schema:
            nearest = _nearest(root, self._schema)
            remedy = f"did you mean {nearest}?" if nearest else f"known: {_listed(self._schema)}"
            raise self._wrong(node, f"there is nothing called `{root}` here", remedy)
        if attribute.startswith("_"):
            message = f"`{attribute}` is private, as is all that begins with an underscore"
            raise self._wrong(node, message, _ATTRIBUTE_REMEDY)
        attributes = self._schema[root]
        if attribute not in attributes:
            raise self._wrong(node, f"{root} has no attribute `{attribute}`", self._other_attribute(root, attribute))
        found = _type_of(attributes[attribute])
        if found is None:
            problem = f"conditions cannot read {root}.{attribute}: {attributes[attribute]!r}"
            raise TypeError(problem)
        self.names.add((root, attribute))
        tree = ast.Attribute(value=ast.Name(root, ast.Load()), attr=attribute, ctx=ast.Load())
        return _Operand(tree, found, (root, attribute), node)

    def _other_attribute(self, root: str, attribute: str) -> str:
        elsewhere = [name for name, known in self._schema.items() if attribute in known]
        if elsewhere:
            return f"did you mean {elsewhere[0]}.{attribute}?"
        nearest = _nearest(attribute, self._schema[root])
        return f"did you mean {nearest}?" if nearest else f"known: {_listed(self._schema[root])}"

    def _constant(self, node: ast.Constant) -> _Operand:
        value, spelling = node.value, self._segment(node)
        if value is None:
            kind = _Kind.NOTHING
        elif isinstance(value, bool):
            kind = _Kind.FLAG
        elif isinstance(value, int):
            kind = _Kind.NUMBER
            self._check_number(node, value, spelling)
        elif isinstance(value, str):
            kind = _Kind.TEXT
            self._check_text(node, value, spelling)
        elif isinstance(value, float):
            message = f"{spelling} is not a whole number"
            raise self._wrong(node, message, "write money in fen: 12.50 yuan is 1250")
        else:
            message = f"`{spelling}` is not a constant of conditions"
            raise self._wrong(node, message, "write a text in quotes, a whole number, True or False")
        return _Operand(ast.Constant(value), _Type(kind), None, node)

    def _check_number(self, node: ast.Constant, value: int, spelling: str) -> None:
        if value > NUMBER_MAX:
            message = f"the number is greater than {NUMBER_MAX}"
            raise self._wrong(node, message, "no amount or count is: write a smaller one")
        following = self._bytes[node.end_col_offset : (node.end_col_offset or 0) + 1]
        if not spelling.replace("_", "").isdecimal() or following.isalpha():
            message = f"`{spelling}` is not a decimal number with a space after it"
            raise self._wrong(node, message, f"write {value}")

    def _check_text(self, node: ast.Constant, value: str, spelling: str) -> None:
        # Prefixes and escapes hide what is compared; two texts side by side are a forgotten comma.
        if spelling not in (f'"{value}"', f"'{value}'"):
            message = f"{spelling} is not one plain text"
            remedy = "use one pair of quotes, no prefix, no backslash, and commas between texts"
            raise self._wrong(node, message, remedy)
        if len(value) > TEXT_LENGTH_MAX:
            message = f"the text has {len(value)} characters, more than {TEXT_LENGTH_MAX}"
            raise self._wrong(node, message, "compare with a shorter one")

    # Types

    def _check_pair(self, left: _Operand, right: _Operand) -> None:
        """Refuse to compare what can never be equal."""
        if left.read is None and right.read is None:
            raise self._wrong(left.source, "two constants are compared", "compare an attribute with one")
        attribute, other = (left, right) if left.read else (right, left)
        if other.type.kind is _Kind.NOTHING:
            remedy = f"write {attribute.name} is None, or is not None"
            raise self._wrong(other.source, "None is neither equal nor ordered", remedy)
        if attribute.type.kind is not other.type.kind:
            message = f"{attribute.name} is {self._described(attribute)}"
            if other.read:
                message += f", and {other.name} is {self._described(other)}"
            raise self._wrong(other.source, message, f"compare it {self._example(attribute)}")
        words = attribute.type.words
        if words and isinstance(other.tree, ast.Constant) and other.tree.value not in words:
            wanted = str(other.tree.value)
            nearest = _nearest(wanted, words)
            known = _listed(f'"{word}"' for word in words)
            remedy = f'did you mean "{nearest}"?' if nearest else f"known: {known}"
            raise self._wrong(other.source, f'{attribute.name} is never "{wanted}"', remedy)

    def _check_ordered(self, operand: _Operand, known: frozenset[Read]) -> None:
        if operand.type.kind not in _ORDERED_KINDS:
            message = f"{self._segment(operand.source)} is {operand.type.kind.value}, without an order"
            raise self._wrong(operand.source, message, "write == or != or in")
        if operand.type.optional and operand.read not in known:
            message = f"{operand.name} may be None, which is neither before nor after anything"
            remedy = f"write {operand.name} is not None and … before it"
            raise self._wrong(operand.source, message, remedy)

    @staticmethod
    def _described(operand: _Operand) -> str:
        fen = operand.type.kind is _Kind.NUMBER and operand.name.endswith("_fen")
        return operand.type.kind.value + (" of fen" if fen else "")

    @staticmethod
    def _example(operand: _Operand) -> str:
        match operand.type.kind:
            case _Kind.NUMBER:
                return "with a number, for example 100000"
            case _Kind.TEXT:
                word = operand.type.words[0] if operand.type.words else "vip"
                return f'with a text in quotes, for example "{word}"'
            case _Kind.FLAG:
                return "with True or False, or write it alone"
            case _:
                return "with another attribute that is a moment in time"
