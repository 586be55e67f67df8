"""What providers ask of a text before they approve it: the form in which they want it, and the rules that it must keep.

============ ==================== ================================================================================
kind         a variable           what is handed in
============ ==================== ================================================================================
`alibaba`    `${order_no}`        each text (help.aliyun.com, "SMS template specifications", `CreateSmsTemplate`)
`tencent`    `{1}`, by position   each text (cloud.tencent.com/document/product/382/39023, `AddSmsTemplate`)
`wechat`     `{{thing1.DATA}}`    no text: the shop picks a template from WeChat's library, whose keys we fill
============ ==================== ================================================================================
"""

import enum
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Struct

from orderbell.core.wording import VARIABLES, Template

TemplateKind = Literal["alibaba", "tencent", "wechat"]
TEMPLATE_KINDS: Final[tuple[TemplateKind, ...]] = get_args(TemplateKind)
SmsType = Literal["notice", "marketing", "otp"]
State = Literal["in_review", "approved", "rejected"]

TEXT_LENGTH_MAX: Final = 500
NAME_LENGTH_MAX: Final = 30
WAY_OUT: Final = "拒收请回复R"
COUNT_MAX: Final[Mapping[TemplateKind, int]] = {"tencent": 200, "wechat": 25}
"""How many templates one account may have, where that is limited; Alibaba takes 100 new ones a day."""

VARIABLE_LENGTH_MAX: Final[Mapping[TemplateKind, int]] = {"alibaba": 35, "tencent": 6}
"""How long a value may be; Tencent's is that of accounts opened since 2024-01-25, older ones may have more."""

_CODE_LENGTH_MAX: Final = 32  # of WeChat's character_string
_SIGN_LENGTHS: Final = range(2, 13)
_NAMES_HINT: Final = "the names of its variables are counted too"

_variable = re.compile(r"\{([a-z_]+)\}")
_adjacent = re.compile(r"\{([a-z_]+)\}\s*\{([a-z_]+)\}")
_forbidden = re.compile(r"[【】¥￥★]")
_otp = re.compile(r"验证码|注册码|校验码|动态码|动态密码")
_selling = re.compile(r"优惠|折扣|红包|抽奖|促销|特价|券|\b(?:coupon|voucher|discount)", re.IGNORECASE)
_han = re.compile(r"[\u3400-\u9fff]")
# A variable in a link, or so close to one that it becomes a part of it.
_linked = re.compile(
    r"(?:https?://|www\.|[a-z0-9-]+\.(?:com|cn|net|org|top|cc|io|me|vip|shop|link)\b)[^\s，。；！？（）]*\{([a-z_]+)\}"
    r"|\{([a-z_]+)\}(?:\.[a-z]{2,}|/[a-z])",
    re.IGNORECASE,
)

Values = Mapping[str, str]
_EXAMPLES: Final[Mapping[bool, Values]] = {
    True: {
        "order_no": "A1001", "tracking_no": "SF1234567890", "title": "陶瓷马克杯", "kind": "手表",
        "reason": "天气原因", "parcel_reason": "天气原因", "carrier": "顺丰", "place": "杭州", "amount": "89",
        "price": "1,280", "sum": "89", "promised": "3月8日", "until": "3月8日", "state": "正在处理", "choice": "换货",
        "next": "2小时内", "link": "4fKx9QmZ2bTnW7cRvL0A",
    },
    False: {
        "order_no": "A1001", "tracking_no": "SF1234567890", "title": "ceramic mug", "kind": "watch",
        "reason": "bad weather", "parcel_reason": "bad weather", "carrier": "SF Express", "place": "Hangzhou",
        "amount": "89", "price": "1,280", "sum": "89", "promised": "8 Mar", "until": "8 Mar", "state": "in progress",
        "choice": "exchange", "next": "2 hours", "link": "4fKx9QmZ2bTnW7cRvL0A",
    },
}  # fmt: skip
_LABELS: Final[Values] = {
    "order_no": "订单号", "tracking_no": "快递单号", "title": "商品名称", "kind": "物品类型", "reason": "原因",
    "parcel_reason": "物流原因", "carrier": "快递公司", "place": "所在地", "amount": "退款金额", "price": "价格",
    "sum": "付款金额", "promised": "预计日期", "until": "截止日期", "state": "订单状态", "choice": "处理方式",
    "next": "下次通知", "link": "链接尾码",
}  # fmt: skip
_SMS_TYPES: Final[Mapping[SmsType, tuple[str, int, int]]] = {  # its name, and its number at Alibaba and at Tencent
    "otp": ("验证码", 0, 3),
    "notice": ("短信通知", 1, 2),
    "marketing": ("推广短信", 2, 1),
}

_STATES: Final[Mapping[str, State]] = {
    "": "in_review", "in_review": "in_review", "approving": "in_review", "audit_state_init": "in_review",
    "审核中": "in_review", "待审核": "in_review",
    "approved": "approved", "audit_state_pass": "approved", "审核通过": "approved", "已通过": "approved",
    "通过": "approved",
    "rejected": "rejected", "audit_state_not_pass": "rejected", "audit_state_cancel": "rejected",
    "审核未通过": "rejected", "审核失败": "rejected", "未通过": "rejected", "已拒绝": "rejected", "驳回": "rejected",
}  # fmt: skip
_NUMBERED_STATES: Final[Mapping[TemplateKind, Mapping[str, State]]] = {
    "alibaba": {"0": "in_review", "1": "approved", "2": "rejected", "10": "rejected"},
    # 2: approved, but not yet in force
    "tencent": {"0": "approved", "1": "in_review", "2": "in_review", "-1": "rejected"},
    "wechat": {},
}


class Rule(enum.StrEnum):
    """What a text or a signature can break."""

    ADJACENT = enum.auto()
    ONLY_VARIABLES = enum.auto()
    NO_VARIABLE = enum.auto()
    TOO_LONG = enum.auto()
    VARIABLE_TOO_LONG = enum.auto()
    LINK_IN_VARIABLE = enum.auto()
    NO_WAY_OUT = enum.auto()
    WAY_OUT_IN_NOTICE = enum.auto()
    FORBIDDEN_CHARACTER = enum.auto()
    OTP_WORDS = enum.auto()
    SELLING_WORDS = enum.auto()
    MARKETING_VARIABLE = enum.auto()
    SIGN = enum.auto()
    TOO_MANY = enum.auto()
    KEYS = enum.auto()


class Strikes(enum.StrEnum):
    """When a problem shows: the provider will refuse the template, its people may, or it refuses single messages."""

    REVIEW = enum.auto()
    PERHAPS = enum.auto()
    SENDING = enum.auto()


class Problem(Struct, frozen=True):
    """A rule that is broken, in words, and what to do about it."""

    rule: Rule
    message: str
    remedy: str
    strikes: Strikes = Strikes.REVIEW


class Handed(NamedTuple):
    """What to hand in for a text: everything that a console or an API of the provider asks for.

    `content` is the text in the provider's form, `examples` what its variables may hold, `request` the parameters of
    the API call (`CreateSmsTemplate`, `AddSmsTemplate`).
    """

    name: str
    type: SmsType
    type_name: str
    content: str
    examples: tuple[tuple[str, str], ...]
    remark: str
    request: dict[str, Any]


def template_kind(kind: str) -> TemplateKind | None:
    """The kind, if its providers send approved templates only; None for all that send any text."""
    return kind if kind in TEMPLATE_KINDS else None


def translate(kind: TemplateKind, text: str, keys: Values | None = None) -> str:
    """Write a text of ours in the provider's form.

    Tencent counts every place of a variable, as messages bring a value for each. WeChat knows no sentences: the
    variables come one a line, under `keys` (by our names; none: those that suit), and an empty key leaves one out.
    """
    if kind == "alibaba":
        return _variable.sub(r"${\1}", text)
    if kind == "tencent":
        pieces = _variable.split(text)
        return pieces[0] + "".join(f"{{{n}}}{literal}" for n, literal in enumerate(pieces[2::2], 1))
    bound = suit_keys(_variable.findall(text)) if keys is None else keys
    return "\n".join(f"{_LABELS[name]}：{{{{{key}.DATA}}}}" for name, key in bound.items() if key)


def suit_keys(names: Collection[str]) -> dict[str, str]:
    """Kinds of WeChat's keys that take our variables, numbered as in a template; the real one may number otherwise.

    Dates and spans are `thing`, since WeChat's own kinds of time want a year.
    """
    kinds = {"code": "character_string", "money": "amount"}
    known = dict.fromkeys(names)
    return {name: f"{kinds.get(VARIABLES[name].kind, 'thing')}{place}" for place, name in enumerate(known, 1)}


def shared_keys(texts: Collection[Sequence[str]]) -> dict[str, str]:
    """Keys for one WeChat template that serves several texts, each given by its variables.

    WeChat refuses a message that leaves a key of its template empty, so only variables of all texts get one; the
    others get an empty key, which leaves them out.
    """
    names = dict.fromkeys(name for text in texts for name in text)
    keyed = suit_keys([name for name in names if all(name in text for text in texts)])
    return {name: keyed.get(name, "") for name in names}


def check_keys(names: Sequence[str], keys: Values) -> Problem | None:
    """Say why a text with these variables cannot fill a WeChat template with these keys; None if it can."""
    homeless = [name for name in dict.fromkeys(names) if name not in keys]
    if homeless:
        message = f"{', '.join(homeless)} has no key of the template"
        return Problem(Rule.KEYS, message, f'add {homeless[0]} = "…" to its keys; an empty key leaves it out')
    empty = [f"{key} ({name})" for name, key in keys.items() if key and name not in names]
    if empty:
        message = f"nothing would fill {', '.join(empty)}"
        return Problem(Rule.KEYS, message, "WeChat refuses empty keys: use a template without it for this text")
    return None


def sms_type(template: Template) -> SmsType:
    """Under which type a text must be handed in."""
    if template.marketing:
        return "marketing"
    return "otp" if _otp.search(template.text) else "notice"


def check_template(
    kind: TemplateKind, template: Template, widths: Mapping[str, int], variable_max: int | None = None
) -> list[Problem]:
    """All that a provider would find fault with in a text; empty if it keeps the rules.

    `widths` are the greatest lengths of variables in an SMS; `variable_max` is how long the provider lets them be, 0
    for any length, None for what it allows everybody.
    """
    if kind == "wechat":
        return _check_wechat(template)
    problems = [*_check_words(template), *_check_variables(template), *_check_type(template)]
    length = len(translate(kind, template.text))
    if length > TEXT_LENGTH_MAX:
        message = f"{length} characters, {TEXT_LENGTH_MAX} are allowed; {_NAMES_HINT}"
        problems.append(Problem(Rule.TOO_LONG, message, f"shorten it by {length - TEXT_LENGTH_MAX}"))
    allowed = VARIABLE_LENGTH_MAX[kind] if variable_max is None else variable_max
    wide = [name for name in dict.fromkeys(template.names) if allowed and widths[name] > allowed]
    return problems + [_variable_too_long(kind, name, widths[name], allowed) for name in wide]


def check_sign(sign: str) -> Problem | None:
    """Say what is wrong with the form of a signature (2 to 12 letters or digits); None if nothing is."""
    if len(sign) in _SIGN_LENGTHS and sign.isalnum():
        return None
    message = f"the signature {sign!r} must be 2 to 12 letters or digits, without 【】 and signs"
    return Problem(Rule.SIGN, message, "write the approved name of company or trademark into the option sign")


def require_bare_sign(option: str, sign: str) -> None:
    """Refuse a signature in the settings that brings its own brackets; whatever else is wrong `check_sign` says.

    Raises:
        ValueError: 【】 stand in it; the message names the option.
    """
    if "【" in sign or "】" in sign:
        raise ValueError(f"{option}: write it without 【】, they are added")


def check_count(kind: TemplateKind, count: int, needed_count: int) -> Problem | None:
    """Say whether these are more templates than an account may have; `needed_count` of them cannot be done without."""
    most = COUNT_MAX.get(kind)
    if most is None or count <= most:
        return None
    remedy = "hand in those that matter most; what has no template goes by another channel"
    if needed_count <= most:
        remedy = f"hand in the {needed_count} that every ladder ends with first (export --needed), then others"
    return Problem(Rule.TOO_MANY, f"{count} templates, an account may have {most}", remedy, Strikes.PERHAPS)


def read_state(kind: TemplateKind, words: str) -> State | None:
    """What a word or number of a console or API says of a template; None where it is none that we know."""
    said = words.strip().lower()
    return _NUMBERED_STATES[kind].get(said) or _STATES.get(said)


def hand_in(kind: TemplateKind, template: Template, digest: str, sign: str = "") -> Handed:
    """What to hand in for an SMS text; `digest` makes its name one of a kind, `sign` is the signature it goes with."""
    content, type_ = translate(kind, template.text), sms_type(template)
    type_name, *numbers = _SMS_TYPES[type_]
    name = f"{template.topic[: NAME_LENGTH_MAX - 9]}-{digest[:8]}"
    values = _EXAMPLES[bool(_han.search(template.text))]
    filled = _variable.sub(lambda found: values[found[1]], template.text)
    purpose = "推广短信，只发给同意接收的客户" if template.marketing else "订单通知，只发给下单的客户本人，不含营销内容"
    remark = f"{purpose}。示例：{filled}"
    examples = [(name, values[name]) for name in template.names]
    request: dict[str, Any] = {"TemplateName": name, "TemplateContent": content, "Remark": remark}
    if kind == "alibaba":
        rule = {name: _attribute(name, values[name]) for name in template.names}
        request |= {"TemplateType": numbers[0], "RelatedSignName": sign}
        request |= {"TemplateRule": msgspec.json.encode(rule).decode()} if rule else {}
    else:
        examples = [(f"{{{n}}}", value) for n, (_, value) in enumerate(examples, 1)]
        request |= {"SmsType": numbers[1], "International": 0}
    return Handed(name, type_, type_name, content, tuple(examples), remark, request)


def _attribute(name: str, example: str) -> str:
    # A narrower attribute would refuse single messages later: `money` knows no 1,280, `other_number2` no dash.
    return "time" if VARIABLES[name].kind == "date" and _han.search(example) else "others"


def _check_words(template: Template) -> list[Problem]:
    text, problems = template.text, []
    found = _adjacent.search(text)
    if found:
        message = f"{{{found[1]}}} and {{{found[2]}}} stand side by side"
        problems.append(Problem(Rule.ADJACENT, message, "put a word or a comma between them"))
    literal = _variable.sub("", text)
    if not any(unicodedata.category(letter)[0] in "LN" for letter in literal):
        problems.append(
            Problem(Rule.ONLY_VARIABLES, "it has no words but variables", "say around them what it is about")
        )
    signs = sorted(set(_forbidden.findall(literal)))
    if signs:
        remedy = "remove them; the signature is put in front by itself, and money is written 元"
        problems.append(Problem(Rule.FORBIDDEN_CHARACTER, f"{' '.join(signs)} are not allowed", remedy))
    return problems


def _check_variables(template: Template) -> list[Problem]:
    found = {match[1] or match[2] for match in _linked.finditer(template.text)}
    problems = []
    for name in sorted(found):
        message = f"{{{name}}} is a part of a link"
        remedy, strikes = "write out the whole link; its domain needs an ICP filing", Strikes.REVIEW
        if name == "link":
            remedy = "say in the remark that the domain is yours and filed, and that only the end of the link changes"
            strikes = Strikes.PERHAPS
        problems.append(Problem(Rule.LINK_IN_VARIABLE, message, remedy, strikes))
    if template.marketing and template.names:
        message = f"marketing with variables ({', '.join(dict.fromkeys(template.names))}) is mostly refused"
        remedy = "write it without variables"
        problems.append(Problem(Rule.MARKETING_VARIABLE, message, remedy, Strikes.PERHAPS))
    return problems


def _check_type(template: Template) -> list[Problem]:
    text, problems = template.text, []
    if template.marketing and not text.endswith(WAY_OUT):
        remedy = f"set opt_out of the wording to {WAY_OUT}, or hand this one in nowhere"
        problems.append(Problem(Rule.NO_WAY_OUT, f"marketing must end with {WAY_OUT}", remedy))
    if not template.marketing and WAY_OUT in text:
        message = f"a notice must not say {WAY_OUT}"
        problems.append(
            Problem(Rule.WAY_OUT_IN_NOTICE, message, "remove it, or put the topic into a marketing category")
        )
    found = _otp.search(text)
    if found:
        message = f"{found[0]} makes it a text for one-time passwords, which may have digits only as variables"
        problems.append(Problem(Rule.OTP_WORDS, message, "use another word, such as 取件码 or 卡密"))
    found = _selling.search(text)
    if found and not template.marketing:
        message = f"{found[0].lower()} may pass for marketing in a notice"
        remedy = "write it without, or call it an amends (补偿); a text that is refused is never sent"
        problems.append(Problem(Rule.SELLING_WORDS, message, remedy, Strikes.PERHAPS))
    return problems


def _variable_too_long(kind: TemplateKind, name: str, width: int, allowed: int) -> Problem:
    message = f"{{{name}}} can be {width} characters long, {allowed} are allowed"
    if kind == "tencent":
        remedy = "have Tencent raise the limit, and set the option variable_max to what the console shows"
    elif VARIABLES[name].kind == "text":
        remedy = f"set {name} under lengths of the wording to {allowed}"
    else:
        remedy = "keep such values shorter; messages with longer ones go by another provider or channel"
    return Problem(Rule.VARIABLE_TOO_LONG, message, remedy, Strikes.SENDING)


def _check_wechat(template: Template) -> list[Problem]:
    if not template.names:
        remedy = "put a variable into it, such as {order_no}"
        return [Problem(Rule.NO_VARIABLE, "it has no variable, and WeChat shows nothing else", remedy)]
    problems = []
    for name in dict.fromkeys(template.names):
        if VARIABLES[name].kind == "code" and VARIABLES[name].max_count > _CODE_LENGTH_MAX:
            message = f"{{{name}}} can be {VARIABLES[name].max_count} characters long, WeChat shows {_CODE_LENGTH_MAX}"
            remedy = "keep such numbers shorter; longer ones are cut"
            problems.append(Problem(Rule.VARIABLE_TOO_LONG, message, remedy, Strikes.SENDING))
    return problems
