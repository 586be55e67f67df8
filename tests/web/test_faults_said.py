"""Faults of playbooks in Chinese: every sentence of the checks has words, and hostile ones change nothing."""

import ast
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml

from orderbell.core import content
from orderbell.core.condition import ConditionInvalid, compile_condition
from orderbell.playbooks import check_draft
from orderbell.web.faults_said import FILE, LENGTH_MAX, SENTENCES, WHOLE, Parts, in_chinese, parts_of, said
from orderbell.web.rendering import HERE
from tests.core.test_condition import REFUSALS, SCHEMA

READ: Mapping[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
ALL = {english: chinese for part in SENTENCES for english, chinese in READ[part].items()}
CHOICES: Mapping[str, Mapping[str, str]] = READ["choices"]
GLOSSARY = yaml.safe_load((HERE / "glossary.yaml").read_text(encoding="utf-8"))
TERMS = (
    "stage", "anomaly", "category", "channel", "deadline", "topic", "wording", "lane", "phrase", "signature", "tone",
    "condition", "rule", "playbook", "role", "mark", "event", "notice", "amends",
)  # fmt: skip
SPEAKING = (
    "core/lint", "core/playbook", "core/durations", "core/condition", "core/wording", "core/content",
    "playbooks/reading",
)  # fmt: skip

NOT_SAID = {
    ", and {} is {}": "the end of a sentence that the catalogue has whole",
    'with a text in quotes, for example "{}"': "the end of a remedy that the catalogue has whole",
    " of fen": "the end of `a whole number of fen`",
    " {}": "a link that a text must end in",
    " - at `$": "what stands before a path of msgspec",
    "dict[str, object]": "a type",
    "conditions cannot read {}.{}: {!r}": "a mistake of programmers",
}
JOINED = {"{} is {}, and {} is {}", 'compare it with a text in quotes, for example "{}"'}
"""Sentences that the code puts together from two."""

OWN = "name: own\nextends: retail\n"
COMPILED = (
    OWN
    + """
sms_link: example
rules:
- {on: no.such, stage: nowhere, tell: nothing, when: order.amount_fen > '5'}
- {on: order.placed, when: 'order.tier == "gold" and'}
- {on: order.placed, when: 'contact.tier == "vip"'}
- {on: order.placed, when: order.amount_fen = 5}
- {on: order.placed, when: order.promised_by < order.opened_at}
- {on: order.placed, when: order.tier in "vip"}
- {on: order.placed, during: nothing}
deadlines:
  slow: {after: 2 days, since: yesterday, in: nowhere, open: nothing}
  slower: {after: 9999d, since: 'mark:none'}
asks:
  a: {while: until}
  b: {while: until, choices: [a, b, c, d]}
caps:
  c: {most: 0, within: 30d, lanes: fast}
notices:
  shipped: {category: none, within: -5m, covers: nothing}
review: {every: 30d, tell: nothing}
amends: {value_fen: -1}
brand: {en: ''}
locale: fr
wording:
  zh-CN: {texts: {shipped: {sms: ['{order_number}']}}}
"""
)
LINTED = (
    OWN.replace("own", "my shop")
    + """
timezone: Mars/Olympus
region: cn
quiet: at night
marketing: {hours: '21:00-07:00'}
stages: {lost: {}}
anomalies:
  odd: {owner: service, opens: [{on: risk.flagged}]}
  even: {owner: service, clears: risk.cleared}
categories: {transaction: {mandatory: true, marketing: true}}
asks: {odd: {while: until, yes: maybe}}
notices:
  shipped: {wait: 20m, valid_for: 4m, channels: [inbox, sms], to: [byuer], lane: marketing}
  payment_received: {covers: payment_received, level: all, after: shipped, lane: critical, within: 6m}
  fresh: {to: buyer, category: progress, channels: []}
  newer: {to: buyer, category: progress, tiers: {vip: {channels: []}}}
wording:
  zh-CN:
    texts:
      shipped: {sms: ['订单{order_no}长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长长，{reason}']}
      delivered: {sms: [请加V信：shop8864, 百分百满意, 国家级工艺, 凭订单可办贷款, 今晚开百家乐, 立即点击领取满100减20！！！]}
"""
)
UNREADABLE = (
    "", "- a\n", "a: b: c", "name: [\n", "a: {b: c", "a: 'b", "a: @b", "\ta: b", "a: *x", "a: &x 1\nb: &x 2",
    "a: b\n- c", "- a\nb: c", "a: !foo!bar x", "a: ]", '"a" b', 'a: "\\q"', "--- a\n--- b", "a: \x01", "a: \ud800",
    "%FOO\n---", "a\nb\nc: d", "a: - b", "a: ? b", "? [a]: b", "a: 1\na: 2", "a: !!int x", "a: !odd x",
    "note: 2026-13-45", "a: &a [*a]", "a: " + "[" * 300, "[" + "1," * 11_000 + "]", "a" * 200_000,
    "name: own\n", "name: own\nextends: nonsense\n", OWN + "colour: red\n", OWN + "notices: {shipped: {lane: fast}}\n",
    OWN + "notices: {shipped: {wait: 5}}\n", OWN + "rules: [{on: 5}]\n", OWN + "stages: {a: 5}\n", OWN + "rules: x\n",
    OWN + "asks: 5\n", OWN + "stages: {a: {end: 'no'}}\n", OWN + "wording: 5\n", OWN + "wording: {zh-CN: 5}\n",
    OWN + "asks: {a: {while: until, extend_days_max: 1.5}}\n", OWN + "wording: {en: {spans: {hours: [a]}}}\n",
)  # fmt: skip
UNREADABLE_CONDITIONS = (
    "order.gift = True", "(order.gift", "order.gift)", "(order.gift]", "order.gift and", '"abc', "order.gift，order.gift",
    "order.amount_fen > 010", "order.amount_fen > 1a", "order.gift \\ x", "order.gift\xa0and", "order.gift if 1",
)  # fmt: skip


def shape(parts: Parts) -> str:
    """A sentence with the names of its holes left out."""
    holes = ["" if hole is None else "{!r}" if hole.quoted else "{}" for _, hole in parts]
    return "".join(f"{text}{hole}" for (text, _), hole in zip(parts, holes, strict=True))


def sentences(module: str) -> Iterator[str]:
    """The shape of every text of a module with a blank in it, apart from docstrings and what `__str__` puts together."""
    tree = ast.parse((HERE.parent / f"{module}.py").read_text(encoding="utf-8"))
    body: list[ast.AST] = [*tree.body]
    if module == "core/content":  # its tables hold the words that it looks for
        body = [
            part for part in body if not isinstance(part, ast.Assign | ast.AnnAssign) or "RULES:" in ast.unparse(part)
        ]
    while body:
        node = body.pop()
        if isinstance(node, ast.FunctionDef) and node.name == "__str__":
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else _hole(one) for one in node.values]
            if any(isinstance(one, ast.Constant) and " " in str(one.value) for one in node.values):
                yield "".join(map(str, parts))
            body += [one for one in node.values if isinstance(one, ast.FormattedValue)]
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and re.search("[a-z].* | .*[a-z]", node.value):
                yield node.value
        else:
            body += [child for child in ast.iter_child_nodes(node) if not _is_format(node, child)]


def _hole(value: ast.expr) -> str:
    assert isinstance(value, ast.FormattedValue)
    return "{!r}" if value.conversion == ord("r") else "{}"


def _is_format(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.FormattedValue) and child is node.format_spec


def words_of_code() -> set[str]:
    """Every text of the modules that speak, the shortest words too."""
    trees = [ast.parse((HERE.parent / f"{module}.py").read_text(encoding="utf-8")) for module in SPEAKING]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def filled(parts: Parts) -> tuple[str, str]:
    """An English sentence with a sample in each hole, and what its Chinese is then, from the catalogue alone."""
    values = {hole: _sample(hole.choice, quoted=hole.quoted) for _, hole in parts if hole is not None}
    english = "".join(text + (values[hole][0] if hole else "") for text, hole in parts)
    chinese = parts_of(ALL[next(key for key in ALL if parts_of(key) == parts)])
    by_name = {hole.name: value[1] for hole, value in values.items()}
    return english, "".join(text + (by_name[hole.name] if hole else "") for text, hole in chinese)


def _sample(name: str, *, quoted: bool) -> tuple[str, str]:
    if name in CHOICES:
        return next(iter(CHOICES[name].items()))
    known = {"names": ("a.b, c", "a.b、c"), "sentence": ("leave it out", "删掉它"), "traits": ("link, x", "链接、x")}
    english, chinese = known.get(name, ("x-1", "x-1"))
    return f"'{english}'" if quoted else english, chinese


def is_chinese(text: str) -> bool:
    """Whether no English sentence is left: names, quoted texts and code aside."""
    left = re.sub(r"「[^」]*」|`[^`]*`|\"[^\"]*\"|'[^']*'|\([^)]*\)|\{[^}]*\}", "", text)
    left = re.sub(r"\S*[._:/<=>!]\S*|\b(?:is|not|None|and|or|in|ISO 3166|True|False|UTF-8)\b", " ", left)
    return re.search(r"[A-Za-z]{2,} +[A-Za-z]{2,}", left) is None and re.search("[\u4e00-\u9fff]", text) is not None


def test_every_sentence_of_the_checks_has_words() -> None:
    """A new message or remedy must get its Chinese before it can reach the console, with as many values."""
    known = {shape(parts_of(english)) for english in ALL} | {word for words in CHOICES.values() for word in words}
    found = {(module, sentence) for module in SPEAKING for sentence in sentences(module)}
    assert sorted((module, said) for module, said in found if said not in known | NOT_SAID.keys()) == []
    assert NOT_SAID.keys() - {said for _, said in found} == set(), "nothing says this any more"


def test_no_sentence_of_the_catalogue_is_left_over() -> None:
    """What no check says any more must leave the catalogue."""
    found = {sentence for module in SPEAKING for sentence in sentences(module)}
    words = words_of_code()
    assert [english for english in READ["sentences"] if shape(parts_of(english)) not in found | JOINED] == []
    for name in ("thing", "kind", "example", "rule", "together"):
        assert [word for word in CHOICES[name] if word.removesuffix(" of fen") not in words] == []
    assert {name for name, _, _ in content._PATTERNS} | {"link"} == READ["lists"]["traits"].keys()
    assert {word for word, _ in content.RULES.values()} == CHOICES["rule"].keys() | CHOICES["together"].keys()


@pytest.mark.parametrize(("part", "package"), [("forms", msgspec), ("yaml", yaml)])
def test_sentences_of_readers_are_theirs(part: str, package: ModuleType) -> None:
    """What a reader says in another release must not stay in the catalogue in its old words."""
    files = [file for file in Path(str(package.__file__)).parent.iterdir() if file.suffix in (".py", ".so", ".pyd")]
    if part == "yaml":
        found = find_spec("yaml._yaml")
        if found is None or found.origin is None:
            pytest.skip("this PyYAML has no libyaml")
    whole = b"".join(file.read_bytes() for file in files).lower()
    literals = {text.lower().encode() for english in READ[part] for text, _ in parts_of(english)}
    assert sorted(text for text in literals if text not in whole) == []


@pytest.mark.parametrize("part", SENTENCES)
def test_chinese_has_the_values_of_its_english(part: str) -> None:
    """No value is lost on the way, unless a reader says it in its own terms; none is made up."""
    for english, chinese in READ[part].items():
        needed, used = ({hole.name for _, hole in parts_of(one) if hole} for one in (english, chinese))
        assert used == needed if part in ("sentences", "forms") else used <= needed, english


def test_every_sentence_is_found_under_its_own_words() -> None:
    """No template may take what belongs to another one, whatever stands in its holes."""
    wrong = []
    for english in ALL:
        sentence, chinese = filled(parts_of(english))
        told = (in_chinese(sentence), in_chinese(f"{sentence} (column 7)"))
        if told != (chinese, f"{chinese}（第 7 个字符）"):
            wrong.append((sentence, told))
    assert wrong == []


def test_chinese_is_written_as_chinese() -> None:
    """Its signs are full-width, and no English sentence stands in it."""
    plain = [*ALL.values(), *(word for words in CHOICES.values() for word in words.values())]
    plain = [text for text in plain if re.search(r"\w", re.sub(r"\{[^}]*\}", "", text))]
    texts = [re.sub(r"`[^`]*`|“[^”]*”|\"[^\"]*\"|\{[^}]*\}", "", text) for text in plain]
    assert [text for text in texts if re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]|请", text)] == []
    assert [text for text in plain if not is_chinese(text.replace("{sentence}", "字"))] == []


@pytest.mark.parametrize("term", TERMS)
def test_chinese_uses_the_words_of_the_glossary(term: str) -> None:
    """A thing is called as it is on all other pages; without the first half of its name where there is no doubt."""
    (called,) = {row[1] for rows in GLOSSARY.values() for row in rows if row[0].partition(" (")[0] == term}
    words = {**ALL, **{english: chinese for found in CHOICES.values() for english, chinese in found.items()}}
    plain = {english: re.sub(r"`[^`]*`|\{[^}]*\}|\w+\.\w+", "", english) for english in words}
    meant = [english for english in words if re.search(rf"\b{term}s?\b", plain[english])]
    assert meant
    assert [(english, words[english]) for english in meant if called[-2:] not in words[english]] == []


@pytest.mark.parametrize("text", [COMPILED, LINTED, *UNREADABLE])
def test_faults_of_a_draft_are_all_in_chinese(text: str) -> None:
    """Whatever is wrong with a draft, somebody who reads Chinese must be told in Chinese alone."""
    faults = check_draft(text).faults
    assert faults
    told = [one for fault in faults for one in (fault.message, fault.remedy)]
    assert [(one, in_chinese(one)) for one in told if not is_chinese(in_chinese(one))] == []
    assert all(said(one, "en") == one for one in told)


def test_refused_conditions_are_all_in_chinese() -> None:
    """Message and remedy of a condition that is refused must be Chinese, and so must what Python says of it."""
    wrong = []
    for source in (*(row[0] for row in REFUSALS), *UNREADABLE_CONDITIONS):
        with pytest.raises(ConditionInvalid) as caught:
            compile_condition(source, SCHEMA)
        told = (f"{caught.value.message} (column {caught.value.column})", caught.value.remedy)
        wrong += [(one, in_chinese(one)) for one in told if not is_chinese(in_chinese(one))]
    assert wrong == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("nothing leads to the stage 'lost'", "没有规则会走到阶段「lost」"),
        ("there is no event type \"it's\"", "没有名为「it's」的事件类型"),
        ("there is no stage 'stage 'x''", "没有名为「stage 'x'」的阶段"),
        ("there is no playbook 'cut off to extend", "没有可以接着写的方案「cut off」"),
        ("use one of: stage, until, mark:NAME, anomaly:NAME", "可以用：stage、until、`mark:标记名`、`anomaly:异常名`"),
        ("use one of: ", "可以用：（还没有）"),
        ("'link, 折, shouting' together look like spam", "链接、折、连续的感叹号或问号：合在一起像垃圾短信"),
        ("expected `str`, got `int`", "这里要写文字，写的却是整数"),
        ("order.amount_fen is a whole number of fen (column 20)", "order.amount_fen 是以分为单位的整数（第 20 个字符）"),
        ('order.stage is never "x (column 3)" (column 16)', 'order.stage 不会是 "x (column 3)"（第 16 个字符）'),
        ("this is not YAML: what nobody knows", "YAML 格式不对：what nobody knows"),
        ("the last SMS of {x} ({0}) can have 81 characters, 70 fit",
         "主题 {x} 的最后一段短信（语气 {0}）最长会有 81 个字符，只放得下 70 个"),
        ("nothing leads to the stage '<b>{name}</b>'", "没有规则会走到阶段「<b>{name}</b>」"),
        ("what nobody knows", "what nobody knows"),
        ("order.stage is a mystery", "order.stage is a mystery"),
        ("", ""),
        (WHOLE, "整份方案"),
    ],
)  # fmt: skip
def test_sentence_in_chinese(english: str, chinese: str) -> None:
    """Values stand where they belong, as they are; what is not known stays English."""
    assert in_chinese(english) == chinese


@pytest.mark.parametrize(
    "piece", ["'", " is ", "{name}", " (column ", "expected `", "`, got `", " needs ", "this is not YAML: ", "\n"]
)
def test_hostile_sentence_ends_soon(piece: str) -> None:
    """Whatever is repeated as often as fits must come back at once, and be left alone beyond the greatest length."""
    longest = (piece * LENGTH_MAX)[:LENGTH_MAX]
    assert len(in_chinese(longest)) <= 2 * LENGTH_MAX
    assert in_chinese(f"{longest}x") == f"{longest}x"
