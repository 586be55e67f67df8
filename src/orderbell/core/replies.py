"""What a customer means by a short reply: a small, exact grammar in Chinese and English (S0-30, S2-14, S3-29).

A reply has a meaning only as a whole, never by a word inside it: "不要退订" and "TD-LTE phone broken" stop nothing.
Width (NFKC), case, invisible characters, blanks, and punctuation or quotes around the words do not count; blanks
between two digits do, so that "1 2" is not 12. Words of complaint are the one exception: they are found anywhere.
LEAD is 回复 or "reply", before Latin letters and digits 回 as well; WISH is a LEAD or 我要, 我想, 请, 帮我, "please",
"i want to" ...; END is 吧, "please" or words of thanks, after a comma or not. Each may be left out.

| kind | the whole reply is | examples |
|---|---|---|
| opt_out | WISH + `OPT_OUT_WORDS`; before codes and `AMBIGUOUS_WORDS` only LEAD | TD, 回T, 我要退订, please stop |
| opt_in | WISH + `OPT_IN_WORDS` | 订阅, 恢复订阅, start |
| yes | LEAD + `YES_WORDS` | Y, 回复Y, 确认 |
| no | LEAD + `NO_WORDS` + END | 不同意, no, 不用了谢谢 |
| choice, `number` | LEAD, 选, 第, 方案, "option" ... + 1 to 9 in any script + 号, 个, 项 + END | 1, ①, 一, 选1, 1. |
| choice, `option` | WISH, 选, 要, 申请, "i want" ... + `OPTION_WORDS` + END | 等补货, 我要退款, exchange please |
| extend, `number` | WISH + 再 + 延期, 延, "extend by" ... + 1 to 365 days, or weeks + END | 延期三天, extend 1 week |
| status | WISH + `STATUS_WORDS` + END | 查询, 到哪了?, where is my order |
| thanks | `THANKS_WORDS` + END, or nothing but `THANKS_SIGNS` | 好的谢谢, ok, 👍 |
| complaint | no form above, but one of `COMPLAINT_WORDS` anywhere in it | 我要投诉你们, this is a scam |
| other | everything else, nothing at all included | |

With an emoji or a question mark at its ends a reply may still stop, thank or ask ("退订😡", "到哪了?"), but it answers
nothing: "Y?" and "1🤔" are "other".

Decisions
- *Opt-out words.* Twilio stops at STOP, STOPALL, UNSUBSCRIBE, END, QUIT, REVOKE, OPTOUT and CANCEL, and only where
  the reply is that one word (twilio.com/docs/messaging/tutorials/advanced-opt-out); AWS requires OPT-OUT, REMOVE and
  TD as well (docs.aws.amazon.com/sms-voice, keywords-required). Chinese clouds ask for 拒收请回复R (Huawei) or append
  回T退订 (Alibaba), so people also send the printed line itself. N, QX and 0000 are customary on Chinese carriers'
  lines. 退定 is a common slip for 退订.
- *Words with two meanings* stop advertising, and say the other meaning beside it: N `declines` as well; 取消 and
  CANCEL decline and name the option "cancel"; 退 names the option "refund". Twilio blocks the number at CANCEL
  whatever we think, and an opt-out ends advertising only, so the mistake is cheap this way round. Who has asked a
  question reads `declines` and `option` as well as `kind`; no order may be cancelled on them without asking back.
- *Polite words confirm nothing.* 好的, ok, 收到 and 👍 are "thanks": a price must not be agreed to by a courtesy.
- *YES* answers a question and is no opt-in, although Twilio takes it for one: consent must be given in as many words.
- *A month* is no number of days, so "延期一个月" is "other" and a person reads it.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Literal, NamedTuple

from msgspec import Struct

from orderbell.core.segments import clean, cut

ReplyKind = Literal["opt_out", "opt_in", "yes", "no", "choice", "extend", "status", "thanks", "complaint", "other"]

TEXT_UNITS_MAX = 200
# Providers pass on 500 characters at most; what is longer has no exact form, and is searched no further than this.
CHARS_MAX = 1000
DAYS_MAX = 365
_FORM_CHARS_MAX = 64


def _words(listed: str) -> frozenset[str]:
    return frozenset(" ".join(word.split()) for word in listed.split(","))


# All in small letters, and where blanks are shown they do not count.
AMBIGUOUS_WORDS = _words("n, 退, 取消, cancel")
"""Opt-out words that mean something else as well when a question is open."""
_OPT_OUT_CODES = _words("t, td, r, qx, 0000")
_OPT_OUT_PHRASES = _words("""
    退订, 退定, 退訂, td退订, t退订, r退订, 回td退订, 回t退订, 拒收, 拒收请回复r, 拒绝接收, 取消订阅, 取消訂閱,
    取消短信, 退订短信, 停止发送, 停止接收, 不再接收, 不要再发, 不要再发了, 不要发了, 别再发, 别再发了, 别发了,
    unsubscribe, stop, stop all, end, quit, revoke, opt out, opt-out, remove, td to opt out""")
OPT_OUT_WORDS = AMBIGUOUS_WORDS | _OPT_OUT_CODES | _OPT_OUT_PHRASES
"""What ends advertising (S0-30)."""
OPT_IN_WORDS = _words("""
    订阅, 訂閱, 恢复订阅, 重新订阅, 恢复接收, 取消退订, 取消拒收, start, unstop, subscribe, resubscribe, opt in,
    opt-in""")
"""What allows advertising again."""
YES_WORDS = _words("""
    y, yes, 是, 是的, 好, 同意, 我同意, 确认, 確認, 我确认, 确定, 我确定, 接受, 我接受, 同意价格, 确认价格,
    agree, agreed, i agree, confirm, confirmed, i confirm, accept, accepted, i accept""")
"""What agrees to a question that may cost money (S3-29)."""
NO_WORDS = _words("""
    no, nope, 不, 否, 不是, 不要, 不行, 不可以, 不同意, 我不同意, 不确认, 不接受, 我不接受, 不用, 不用了, 不需要,
    no thanks, no thank you, disagree, i disagree, decline, declined, i decline, reject, rejected""")
"""What declines; some opt-out words do so as well, see `Reply.declines`."""
OPTION_WORDS = {
    "wait": _words("""
        等, 等待, 等货, 等补货, 等補貨, 等到货, 等有货, 继续等, 继续等待, 愿意等, 我等, 我愿意等, 稍后发货, 有货再发,
        补货后发, 补货后再发, wait, i will wait, keep waiting, ship later"""),
    "exchange": _words("""
        换, 换货, 換貨, 换一个, 调换, 更换, 替换, exchange, replace, replacement, substitute, swap"""),
    "refund": _words("""
        退款, 退钱, 退货, 退貨, 退货款, 退货退款, 仅退款, 全额退款, refund, full refund, return, money back,
        my money back"""),
    "resend": _words("补发, 補發, 重发, 重新发货, 重新发, 重新寄, resend, reship, send again, send it again"),
    "cancel": _words("""
        取消订单, 取消訂單, 取消购买, 取消交易, cancel order, cancel my order, cancel the order"""),
}
"""What chooses a way out in words, by the canonical option (S2-14)."""
STATUS_WORDS = _words("""
    查, 查询, 查詢, cx, 状态, 狀態, 进度, 進度, 物流, 快递, 查件, 查物流, 查快递, 查进度, 查订单, 查询物流,
    查询订单, 查询进度, 查询状态, 订单状态, 订单进度, 物流信息, 物流状态, 物流进度, 到哪, 到哪了, 到哪里了, 到哪儿了,
    在哪, 在哪里, 发货了吗, 发货了没, 发货没, 什么时候发货, 什么时候到, 什么时候到货, 什么时候能到, 多久到,
    多久能到, 还有多久, status, order status, my order, where, where is it, where is my order,
    where is my package, where is my parcel, when will it arrive, track, tracking, track order, track my order,
    track my package, check status, check order, eta""")
"""What asks how things stand."""
_GRATITUDE = _words("""
    谢谢, 謝謝, 谢谢你, 谢谢您, 谢谢了, 多谢, 谢了, 感谢, 非常感谢, 辛苦了, thanks, thank you, thank you very much,
    thank you so much, many thanks, thanks a lot, thx, tks, tnx, ty, 3q""")
THANKS_WORDS = _GRATITUDE | _words("""
    好的, 好滴, 好嘞, 收到, 已收到, 知道了, 我知道了, 了解, 明白, 明白了, 嗯, 嗯嗯, 哦, 行, 没问题, ok, okay, okok,
    got it, no problem, all right, fine, great, noted, received, understood""")
"""What is said out of courtesy, and confirms nothing."""
THANKS_SIGNS = frozenset("👍🙏👌❤😊😀😄🙂😁🥰😘💐🌹🤝👏💯🎉✅")
"""Emoji that are courtesies where the reply holds nothing else."""
COMPLAINT_WORDS = _words("""
    投诉, 投訴, 骗, 騙, 诈, 欺诈, 差评, 差評, 举报, 舉報, 假货, 假貨, 曝光, 维权, 起诉, 律师, 律師, 法院, 报警, 消协,
    消费者协会, 市场监管, 工商局, 工信部, 黑店, 奸商, 坑人, 垃圾, 12315, 12321, 12345,
    complain, scam, fraud, lawyer, attorney, lawsuit, legal action, cheat, counterfeit, fake, rip-off, ripoff, police,
    chargeback""")
"""What makes a complaint of a text it stands in; in Latin letters at the beginning of a word, digits as a number."""


class Reply(Struct, frozen=True, omit_defaults=True):
    """What a reply means, and its words made fit to be kept: one visible line of at most 200 UTF-16 units.

    `number` is the choice made, 1 to 9, or the days of an extension, 1 to 365. `option` is a key of `OPTION_WORDS`.
    `declines` says that the reply answers a question with no, whatever its kind.
    """

    kind: ReplyKind
    text: str
    number: int = 0
    option: str = ""
    declines: bool = False


class _Meaning(NamedTuple):
    kind: ReplyKind
    number: int = 0
    option: str = ""
    declines: bool = False


_AMBIGUOUS = {
    "n": _Meaning("opt_out", declines=True),
    "退": _Meaning("opt_out", option="refund"),
    "取消": _Meaning("opt_out", option="cancel", declines=True),
    "cancel": _Meaning("opt_out", option="cancel", declines=True),
}
# 好吧 is reluctant, so it agrees to nothing; opt-out words stand alone, as they do with the carriers.
_TAKES_END: frozenset[ReplyKind] = frozenset({"no", "choice", "extend", "status", "thanks"})
# What may be said with an emoji or in doubt, because to be wrong about it costs nothing.
_HARMLESS: frozenset[ReplyKind] = frozenset({"opt_out", "status", "thanks"})

_LEADS = ("", "回复", "reply")
_WISHES = (*_LEADS, "我要", "我想", "我想要", "请", "请帮我", "帮我", "麻烦", "please", "i want to", "i would like to")
_PICKS = (
    *_WISHES,
    "要",
    "选",
    "选择",
    "我选",
    "我选择",
    "申请",
    "我要申请",
    "i want",
    "i want a",
    "i choose",
    "choose",
)
_NUMBER_LEADS = (
    *(*_LEADS, "选", "选择", "我选", "我选择", "我要", "我要选", "第", "选第", "选项", "方案"),
    *("option", "choice", "choose", "i choose", "number"),
)
_DIGITS = "零一二三四五六七八九"
_ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _forms() -> Iterator[tuple[str, _Meaning]]:
    """Yield every exact form without an END, and its meaning."""
    yield from _spelled(_WISHES, _OPT_OUT_PHRASES, _Meaning("opt_out"))
    yield from _spelled(_LEADS, _OPT_OUT_CODES, _Meaning("opt_out"))
    for word in AMBIGUOUS_WORDS:
        yield from _spelled(_LEADS, (word,), _AMBIGUOUS[word])
    yield from _spelled(_WISHES, OPT_IN_WORDS, _Meaning("opt_in"))
    yield from _spelled(_LEADS, YES_WORDS, _Meaning("yes"))
    yield from _spelled(_LEADS, NO_WORDS, _Meaning("no", declines=True))
    for option, words in OPTION_WORDS.items():
        yield from _spelled(_PICKS, words, _Meaning("choice", option=option))
    for number in range(1, 10):
        for digit in (str(number), _DIGITS[number], _ENGLISH[number - 1]):
            counted = (digit, digit + "号", digit + "个", digit + "项")
            yield from _spelled(_NUMBER_LEADS, counted, _Meaning("choice", number))
    yield from _spelled(_WISHES, STATUS_WORDS, _Meaning("status"))
    yield from _spelled(("",), THANKS_WORDS, _Meaning("thanks"))


def _spelled(leads: Iterable[str], words: Iterable[str], meaning: _Meaning) -> Iterator[tuple[str, _Meaning]]:
    for lead, word in product(leads, words):
        yield (lead + word).replace(" ", ""), meaning
        if lead == "回复" and word[0].isascii():  # 回退 is a word of its own, 回T is not
            yield "回" + word.replace(" ", ""), meaning


def _in_chinese(number: int) -> Iterator[str]:
    """Yield how 1 to 999 is said in Chinese: 二 and 两, 十二, 一百零五, 三百六十五."""
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    said = f"{_DIGITS[hundreds]}百" if hundreds else ""
    if tens:
        said += ("" if tens == 1 and not hundreds else _DIGITS[tens]) + "十"
    elif ones and hundreds:
        said += "零"
    said += _DIGITS[ones] if ones else ""
    yield said
    if said == "二" or said.startswith("二百"):
        yield "两" + said[1:]


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word.replace(" ", "")) for word in sorted(words))


_KNOWN = dict(_forms())
_COUNTS = {
    **{said: number for number in range(1, DAYS_MAX + 1) for said in _in_chinese(number)},
    **{word: number for number, word in enumerate(_ENGLISH, 1)},
    "a": 1,
}
_match_extension = re.compile(
    rf"(?:{_either(_WISHES)})再?(?:延期|延长|延后|顺延|推迟|续期|延|续|extend)(?:it)?(?:by|for)?"
    rf"([0-9]{{1,3}}|[{_DIGITS}两十百]{{1,6}}|a|{_either(_ENGLISH)})"
    "(?:(?:天|日|days?|d)|(周|个?星期|个?礼拜|weeks?|w))"
).fullmatch
_match_end = re.compile(rf"(.+?)[,。!]?(?:吧|please|{_either(_GRATITUDE)})").fullmatch

_EDGES = "!\"'(),.:;[]_`{|}~^*/\\。、《》〈〉「」『』〔〕“”‘’…—–•· "
# Between two digits a blank parts two numbers.
_drop_blanks = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])").sub
# Joiners, variation selectors, the frame of a keycap and the colours of skin: 1️⃣ is 1, and 👍🏽 is 👍.
_drop_marks = re.compile("[\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]").sub
_find_chinese = re.compile("|".join(word for word in COMPLAINT_WORDS if not word.isascii())).search
_find_latin = re.compile(
    rf"(?<![a-z0-9])(?:{'|'.join(word for word in COMPLAINT_WORDS if word.isascii() and not word.isdigit())})"
    rf"|(?<![0-9])(?:{'|'.join(word for word in COMPLAINT_WORDS if word.isdigit())})(?![0-9])"
).search


def read_reply(text: str) -> Reply:
    """Read what a reply means; see the grammar above. Takes any text whatever, in time linear in its length."""
    text = text.strip()
    words = clean(text[:CHARS_MAX])
    spaced = _drop_marks("", unicodedata.normalize("NFKC", words).casefold()).strip(_EDGES)
    form = _drop_blanks("", spaced)
    meaning = None
    if len(form) <= _FORM_CHARS_MAX and len(text) <= CHARS_MAX:
        meaning = _read_form(form) or _read_decorated(form)
    if meaning is None:
        meaning = _Meaning("complaint" if _find_chinese(form) or _find_latin(spaced) else "other")
    return Reply(meaning.kind, cut(words, TEXT_UNITS_MAX, "…"), meaning.number, meaning.option, meaning.declines)


def _read_form(form: str) -> _Meaning | None:
    meaning = _KNOWN.get(form) or _read_extension(form)
    if meaning is None and (ended := _match_end(form)):
        meaning = _KNOWN.get(ended[1]) or _read_extension(ended[1])
        return meaning if meaning and meaning.kind in _TAKES_END else None
    return meaning


def _read_extension(form: str) -> _Meaning | None:
    found = _match_extension(form)
    if found is None:
        return None
    count, week = found.groups()
    days = (int(count) if count.isdecimal() else _COUNTS.get(count, 0)) * (7 if week else 1)
    return _Meaning("extend", days) if 1 <= days <= DAYS_MAX else None


def _read_decorated(form: str) -> _Meaning | None:
    """Read a form between emoji or question marks: it may stop, thank or ask, and answers nothing."""
    bare = form.strip("".join(sign for sign in form if not sign.isalnum()))
    if not bare:
        return _Meaning("thanks") if form and THANKS_SIGNS.issuperset(form) else None
    meaning = _read_form(bare)
    return _Meaning(meaning.kind) if meaning and meaning.kind in _HARMLESS else None
