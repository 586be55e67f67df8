"""The content check: refuses texts that carriers refuse, and those that look like spam (S0-29).

A text is first *folded*: one form for every shape of a letter (full width, mathematical, circled, Cyrillic, Greek,
traditional Chinese), everything invisible and every blank, mark and symbol gone, so that no word can hide behind
its spelling. Two things are looked for in what is left:

- words of closed lists (`RULES`): one is enough to refuse a text;
- *traits*, each harmless alone: a lure, a link, a telephone number, haste. From `SPAM_TRAITS` on a text is refused as
  `spam_like`; one that speaks of an order may have more.

The lists follow what carriers and clouds in mainland China say they block, and the advertising law. They were chosen
on one half of a published set of spam and measured on the other: docs/wording.md has the figures. A word is listed
only where no order news holds it, not even across two words: 本地产品 holds 地产, 到期货物 holds 期货.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import msgspec

from orderbell.core.playbook import Problem
from orderbell.core.wording import WordingSpec

Path = tuple[str | int, ...]
Rule = Literal[
    "gambling", "pornography", "loan", "false_papers", "counterfeit", "investment", "job_bait", "fraud",
    "blocked_trade", "contact_bait", "hidden_link", "superlative", "guarantee", "disguised", "spam_like",
]  # fmt: skip

SPAM_TRAITS = 4  # so many make spam; an honest promotion with a link has three
ORDER_TRAITS = 2  # so many more for what speaks of an order: it may be polite, and name a number and a link
ODD_MAX = 3  # two rare characters may stand in the name of a person or a shop


@dataclass(frozen=True, slots=True)
class ContentProblem:
    """Why a text is refused: the `word` found, in its plain form, or the traits that add up; and by which rule."""

    word: str
    rule: Rule

    @property
    def message(self) -> str:
        """What is wrong, in words."""
        return f"{self.word!r} {RULES[self.rule][0]}"

    @property
    def remedy(self) -> str:
        """What to write instead."""
        return RULES[self.rule][1]


# For each rule: what is wrong with the word found, and what to do instead.
RULES: Mapping[Rule, tuple[str, str]] = {
    "gambling": ("is a word of gambling, which carriers refuse", "leave it out"),
    "pornography": ("is a word of pornography, which carriers refuse", "leave it out"),
    "loan": ("is a word of lenders, whom carriers refuse", "speak of the order and its payment only"),
    "false_papers": ("is a word of forgers, whom carriers refuse", "say 发票已开具 of the invoice of an order"),
    "counterfeit": ("is a word of counterfeits and contraband, which carriers refuse", "leave it out"),
    "investment": ("is a word of investment, which carriers refuse", "speak of the order and its payment only"),
    "job_bait": ("is a word of recruiting, which carriers refuse", "leave it out"),
    "fraud": (
        "is a word of swindlers",
        "say what happened to the order; people open the app or the order page themselves",
    ),
    "blocked_trade": ("is a word of a trade that carriers refuse", "tell news of orders only"),
    "contact_bait": (
        "lures into a private chat, which carriers refuse",
        "write 请直接回复 or 请联系客服, and no account",
    ),
    "hidden_link": ("hides where it leads, which carriers refuse", "write the full address of the shop's own domain"),
    "superlative": ("is a superlative that the advertising law forbids", "say what is so, and compare nothing"),
    "guarantee": ("promises without limits", "name days, amounts or conditions"),
    "disguised": ("looks like spelling that hides words", "write with the common characters of one script"),
    "spam_like": ("together look like spam", "keep one offer and one link, and leave out what rushes and lures"),
}

_CHINESE: dict[str, str] = {
    "gambling": """
        赌 博彩 彩票 福彩 六合彩 私彩 彩民 百家乐 时时彩 时时采 北京赛车 投注 虎机 庄闲 赔率 特码 真人视讯 真人娱乐
        真人荷官 电子游艺 棋牌 娱乐城 葡京 威尼斯人 太阳城 新濠 银河国际 澳门银河 皇冠体育 送彩金 领彩金 彩金领取
        首存 元彩金 彩金元 开户彩金 平台彩金 申请彩金 洗码 返水 反水 体验金 开户送 开户免费 新开户 注册送彩 首充送彩
        充值送彩 天天返 流水即可 倍流水 无限次提款 提款秒到 牌九 透视扑克 老千 一肖 合肖 取款密码 必赢 反点 彩网 开奖
        倍水 真钱 麻将分析 麻将机程序 普通机麻将
    """,
    "pornography": "色情网 色情片 色情服务 裸聊 激情视频 一夜情 约炮 成人视频 成人电影 美女上门 上门全套 催情",
    "loan": """
        贷款 信用贷 房贷 车贷 网贷 保单贷 抵押贷 企业贷 无抵押 零抵押 免抵押 无担保 零担保 当天放款 小时放款 快速放款
        放款快 秒下款 快速下款 秒批 借款 借钱 低息 月息 提额 套现 垫还 信用卡代还 代还信用卡 养卡 精养 黑户 征信
        办大额 办信用卡 白金信用卡 信用卡办理 信用卡提现 急用钱 资金周转 融资 授信 包下卡 下卡快 周下卡 天下卡 垫资
        倒贷 大额度 信用额度 额度升级 额度提升 信贷 资料包装 帮还款 账单分期利率
    """,
    "false_papers": """
        代开 发票代理 机打发票 真票 各类发票 各种发票 各行业发票 对外开票 低税点 点数优惠 国税地税 办证刻 代办证
        专业办证 快速办证 办证电话 刻章 假证 套牌 代办各种证件 办理各种证件 文凭 学历证 残疾证 离婚证 代考 代写论文
        驾照扣分 病假条 做流水 开税票 增值票 点位低 验后付款 用后付款 制作证件 办理证件 刻戳 做各证 可冲账
    """,
    "counterfeit": """
        高仿 精仿 超仿 仿货 假烟 假币 假钞 走私 免税香烟 香烟批发 烟草批发 窃听器 迷药 枪支 弹药 贩毒 冰毒
        出售各种香烟 干扰机 手机定位 监听
    """,
    "investment": """
        牛股 股票 涨停 荐股 炒股 股友 股民 操盘 逢低建仓 抄底 必涨 配资 股指 期货交易 期货开户 黄金期货 原油期货
        现货黄金 内幕消息 稳赚 包赚 日赚 高收益 高回报 年化收益 保本 虚拟币 比特币 投资回报 收益翻倍 基金 理财产品
        理财收益 投资理财 理财师 理财经理 私募 原始股 证券 外汇交易 炒外汇
    """,
    "job_bait": """
        刷单 刷信誉 刷信用 刷钻 兼职 网赚 工资日结 日薪 高薪 招聘 急招 诚聘 招工 在家操作 手机在家 在家工作 工作不限
        收入可观 轻松赚 躺赚 月入过万 一单一结 打字员 创业项目 简历 应聘 人事经理 招男女工 好评工作
    """,
    "fraud": """
        中奖 获奖者 幸运用户 幸运观众 场外幸运 互动者 兑换现金 现金兑换 可兑换的现金 换取现金 积分兑现 安全账户
        密码器 账户冻结 资金冻结 法院传票 涉嫌 洗钱 误机费 改签补偿 延误补偿 起落架 这相册 看完这 看录像 打到这个
        打到这张 我换号了 我的新号 领取补贴 补贴领取 社保补贴 医保停用 话费尚未领取 实名补录 补录信息 临时额度
        提高额度 提升额度 固定额度 精彩影集 奔跑吧 新歌声 场外用户 航班因机械故障 场外观众 场外获 选为活动 认领码
        老婆的卡号 新号码存 打我这个 评为幸运 抽选您 领取补偿金 误机补偿 延误费
    """,
    "blocked_trade": """
        楼盘 售楼 楼市 准现房 现房实景 电梯现房 购房 买房 房源 学区房 认筹 首付 洋房 旺铺 开盘 清盘 置业顾问 投资置业
        轻松置业 房地产 地产集团 招商加盟 招生 名师 包过关 补习 一对一辅导 培训班 治疗 不孕 专科医院 整形 隆鼻 丰胸
        减肥 壮阳 算命 风水 佛牌 移民 讨债 私家侦探 定位找人 群发短信 短信群发 彩铃 财铃 科目三 包教包会 坐诊 追收
        追债 债务 升学 辅导班 奥数 特训 招租 包租
    """,
    "contact_bait": """
        微信同号 微同号 同微信 微信群 qq群 扣扣群 加群 进群 入群 建群 群号 人事qq 接待qq 客服qq 老师微信 口令验证
        满即封 抱团
    """,
    "superlative": """
        国家级 世界级 最高级 最先进 最优惠 最低价 最便宜 史上最 全网最低 全网最好 全球最低 全球最好 全国最低 全国最大
        全国最好 全网第一 全国第一 世界第一 行业第一 销量第一 排名第一 第一品牌 独一无二 绝无仅有 史无前例 空前绝后
        顶级 极品
    """,
    "guarantee": """
        百分百 百分之百 绝对保证 绝对有效 绝对真 绝对正品 保证有效 保证通过 包治 根治 零风险 无风险 绝不收费 永不反弹
    """,
}
# Words in Latin letters are found by themselves only, however they are spread out: a casino, not Lucas in Oslo.
_LATIN: dict[str, tuple[str, ...]] = {
    "gambling": (
        "casino", "casinos", "gambling", "betting", "jackpot", "jackpots", "lottery", "free spins", "poker", "pk10",
    ),
    "pornography": ("porn", "porno", "viagra", "cialis", "sexy girls", "adults only", "onlyfans"),
    "loan": ("loan", "loans", "refinance", "no credit check", "debt relief", "cash advance"),
    "false_papers": ("fake id", "fake diploma", "fake passport", "fake invoice"),
    "counterfeit": ("replica", "replicas", "counterfeit", "knockoff", "knockoffs"),
    "investment": ("bitcoin", "crypto", "forex", "hot stock", "double your money", "passive income", "get rich"),
    "job_bait": ("work from home", "earn money", "make money", "extra income", "be your own boss"),
    "fraud": (
        "you have won", "youve won", "you are a winner", "cash prize", "claim your prize", "sweepstakes",
        "verify your account", "account suspended", "account has been suspended", "account will be closed",
        "wire transfer", "gift card code", "social security number", "unclaimed funds",
    ),
    "contact_bait": ("add me on", "whatsapp me", "text me on", "dm me", "add my wechat"),
    "superlative": ("lowest price ever", "worlds best", "best price guaranteed", "number one in"),
    "guarantee": ("risk free", "no risk", "100 guaranteed", "money back guaranteed", "satisfaction guaranteed"),
}  # fmt: skip

# What adds up: for each trait its words, and how many of them count. Three words of haste are one haste.
_TRAITS: Mapping[str, tuple[int, str]] = {
    "lure": (6, """
        免单 抢购 开抢 抢先 秒杀 疯抢 狂欢 钜惠 巨惠 特惠 大促 放价 红包 低至 全场 特价 满减 折上折 半价 清仓 甩卖
        特卖 聚划算 买一送 买就送 满额 立减 直降 让利 抽奖 大奖 好礼 豪礼 有礼 礼包 大礼 礼品 惊喜 福利 白送 送完即止
        获赠 赠送 领券 抢券 元券 超值 爆款 大牌 盛典 周年 店庆 限量 限时 特权 尊享 专享 仅需 仅售 仅限 返现 回馈 感恩
        现金券 代金券 购物券 团购 热销 火爆 底价 打折 狂送 惠购 双十一 双十二 双11 双12 返利 抵现 大放送 来袭 盛大
        独家 恭喜 恭贺 喜讯 免费 畅享 盛惠 折后 首充 充值即送 上新 促销 猛戳 错过 疯狂 嗨购 清货 亏本 冰点价 惊爆
        巅峰 盛宴 重磅 钜献 轰动
    """),
    "sales talk": (2, """
        优惠 新品 会员 积分 品牌 旗舰店 官方 推荐 参与 活动 最高 机会 精彩 体验 套餐 流量 话费 预存 订购 天猫 淘宝
        唯品会 折扣 预售 包邮 赠品 好消息 首发 业务 办理 营业厅 专业 选购 大幅 全面 升级
    """),
    "manner": (1, """
        尊敬 亲爱的 亲们 哈啰 哈喽 诚邀 立即 马上抢 赶快 赶紧 火速 尽快领 速来 速抢 速戳 快来 抓紧 最后一天 最后机会
        倒计时 逾期 作废 失效 即将清零 名额有限 数量有限 售完 送完 先到先得 截止 今晚 仅剩 即日起 小时内有效 紧急通知
    """),
    "call": (2, """
        点击 戳 详询 详情咨询 咨询 热线 致电 来电 进店 到店 光临 莅临 网址 官网 关注 索取 登入 登陆 回复领 下载
    """),
    "old opt-out": (1, "回t退订 回td退订 退订回 回n退订 回复td退订 回复t退订 退订td 退订t 退订n"),
    "bank": (2, """
        建设银行 工商银行 农业银行 中国银行 交通银行 招商银行 邮政储蓄 浦发银行 光大银行 民生银行 中信银行 广发银行
        平安银行 兴业银行 华夏银行 建行 工行 农行 招行 交行 我行 工银 手机银行 网上银行 网银 银联积分
    """),
    "threat": (2, "今日过期 将过期 冻结 清零 补录 实名 限制使用 兑换 违规 取消交易 综合评分"),
    "invoice trade": (2, "票据 建材 劳务 机打 广告费 点数 正规发票 提供发票 各地发票 餐饮住宿 商业服务"),
    "property": (3, "平米 均价 户型 现房 精装 别墅 写字楼 商铺 高层 地铁口 稀缺 绝版 总价 车位 即买即住 楼间距"),
    "telecom": (1, "中国移动 中国联通 中国电信 移动营业厅 充话费 智能机 漫游"),
    "credit": (1, "信用卡 额度 利息 免息 办卡 无费用"),
    "stranger": (2, "打扰 见谅 急用 备用 急需 诚信 信誉 非诚勿扰 我公司 我司 本公司"),
}  # fmt: skip
_LATIN_TRAITS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "lure": (6, (
        "free", "winner", "prize", "prizes", "limited time", "exclusive offer", "bonus", "discount", "discounts",
        "sale", "best price", "lowest price", "cheap",
    )),
    "manner": (1, (
        "hurry", "act now", "urgent", "last chance", "expires today", "buy now", "dont miss", "while stocks last",
        "dear customer", "dear user", "congratulations",
    )),
    "call": (2, ("click here", "click below", "call now", "tap here")),
    "promise": (2, ("guaranteed", "no obligation", "no catch")),
}  # fmt: skip
_Search = Callable[[str], re.Match[str] | None]
_PATTERNS: tuple[tuple[str, str, _Search], ...] = (
    ("telephone number", "call", re.compile(
        r"[0148](?<!\d\d)(?:[3-9]\d{9}|00[ -]?\d{3,4}[ -]?\d{3,4}|\d{2,3}[ -]?\d{7,8})(?!\d)"
    ).search),
    ("spend and get", "lure", re.compile(r"[满充缴存交买送购]\d+[元就即件]*(?:减|送|赠|抵|立减|返)").search),
    ("percentage off", "lure", re.compile(r"折(?:起|(?<=\d折))").search),
    ("word to send", "lure", re.compile(r"发送?[a-z0-9]{1,10}[到至]\d|回复?[a-z0-9]{1,8}(?:[到至领]|即可)").search),
    ("shouting", "manner", re.compile("[!?] ?[!?] ?[!?]").search),
)  # fmt: skip


def _pairs(letters: str, meant: str) -> dict[int, str]:
    return {ord(letter): other for letter, other in zip(letters, meant, strict=True)}


# Every shape of a letter that NFKD leaves, and the characters that stand in for others in spam.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LOOKALIKES: dict[int, str | None] = {
    **{0x1F150 + index: letter for index, letter in enumerate(_LETTERS)},
    **{0x1F170 + index: letter for index, letter in enumerate(_LETTERS)},
    **{0x1F1E6 + index: letter for index, letter in enumerate(_LETTERS)},
    **{start + index: str(index + 1) for start in (0x2776, 0x2780, 0x278A) for index in range(9)},
    **_pairs("аеорсухкмтнвіјѕԁһԛԝ", "aeopcyxkmthbijsdhqw"),
    **_pairs("αβεικνορτυχω", "abeikvoptuxw"),
    **_pairs("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢıł", "abcdefghijklmnoprstuvwyzil"),
    **_pairs(
        "貸賭發開證還錢鏈網點獎紅時間詳註冊戶帳帐線專員優銀樂遊戲體驗領購買賣禮貨險報號碼聯絡",
        "贷赌发开证还钱链网点奖红时间详注册户账账线专员优银乐游戏体验领购买卖礼货险报号码联络",
    ),
    **_pairs(
        "關簽電話絕對國級頂極贏單補換凍結積兌現資組團業務營費廣會贈陸錄請馬",
        "关签电话绝对国级顶极赢单补换冻结积兑现资组团业务营费广会赠陆录请马",
    ),
    **_pairs("琉氺佰髙沋蕙扴歀餸伩薇徽溦", "流水百高优惠价款送信微微微"),
    **_pairs("+➕✚", "加加加"),
    **dict.fromkeys(map(ord, "\u115f\u1160丶丨丿亅"), None),
}
# Figures that pass for letters within a Latin word; l, i and 1 are one letter there.
_FIGURES = {"o": "[o0]", "i": "[i1l]", "a": "[a4]", "e": "[e3]", "s": "[s5]"}
_LETTER_OF_FIGURE = str.maketrans("01435l", "oiaesi")

# How dates and spans are written, and what is no text at all.
_FORMS = frozenset({"locale", "date", "months", "spans", "lengths"})
_NAME = re.compile(r"\{([a-z_]+)\}")
_SEPARATORS = re.compile(r"[\W_]+")
_han = re.compile("[\u3400-\u9fff]+").findall
_has_kana = re.compile("[\u3040-\u30ff]").search
_has_letter = re.compile("[a-z]{2}|[a-z] ").search
_CHAT = re.compile(
    "(?:加(?<![参增更追附强]加)|联系|私|详情|咨询|客服|接待|人事)(?:我|下|个|的|客服|小编|老师|专员|经理)*"
    "(?:[微威维v]信|vx|wx|weixin|wechat|qq|扣扣|抠抠|v(?![a-z]+(?![a-z0-9]))|微(?=[a-z0-9]))"
    "(?!支付|付款|转账|公众号|小程序|钱包|零钱)|qq[0-9]{5}"
)
_ACCOUNT = re.compile("(?:卡号|[账帐]号|户名|[农建工中招交]行|信用社|邮政储蓄|信合|银行)[^0-9单]{0,10}[0-9]{15,19}")
_is_of_order = re.compile(
    "订单|单号|包裹|快递|寄售|退款|取件|派送|签收|发货|验证码|卡密|(?<![a-z])(?:order|parcel|refund|consign|delivery)"
).search
_is_hidden = re.compile(
    r"(?<![a-z0-9-])(?:t\.cn|url\.cn|dwz\.(?:cn|lc)|suo\.(?:im|nz)|bit\.ly|tinyurl\.com|goo\.gl|is\.gd|cutt\.ly"
    r"|rb\.gy|ow\.ly|t\.co|mrw\.so|u\.nu|6du\.in|985\.so|sina\.lt|tb\.cn|m\.tb\.cn)(?![a-z0-9.-])|https?://\d+\.\d+\.\d+\.\d+"
).search
# 一 or another stroke between all the characters, and the letter O for noughts.
_SPREAD = re.compile("一[^一]一[^一]一[^一]一|ooo(?<![a-z0-9]ooo)(?![a-z])|[li1-9]oo(?<![a-z0-9].oo)(?![a-z])")
_SHAPES: tuple[tuple[Rule, _Search], ...] = (
    ("contact_bait", _CHAT.search),
    ("fraud", _ACCOUNT.search),
    ("disguised", _SPREAD.search),
)
_has_link = re.compile(
    r"\.(?<=[a-z0-9]\.)(?:com|cn|net|org|top|xyz|vip|club|shop|info|cc|me|tv|io|co)(?![a-z0-9])"
    r"|\.(?<=[a-z0-9]\.)(?:gy|ly|gl|gd|im|nz|lc|so|nu|in|lt)(?![a-z0-9])|https?:|www\."
).search


def _tree(words: Iterable[str], between: str = "") -> str:
    """An expression for any of the words, the longest first: a tree, so that no word is tried from its start again."""
    heads: dict[str, list[str]] = {}
    for word in words:
        heads.setdefault(word[:1], []).append(word[1:])
    ends = "" in heads
    branches = []
    for head, tails in heads.items():
        if head:
            rest = _tree(tails, between)
            letter = _FIGURES.get(head, head) if between else head
            branches.append(f"{letter}{between}{rest}" if rest else letter)
    if not branches:
        return ""
    joined = "|".join(branches)
    return f"(?:{joined})?" if ends else f"(?:{joined})" if len(branches) > 1 else joined


def _plain(found: str) -> str:
    return found.replace(" ", "").translate(_LETTER_OF_FIGURE)


def _kinds(words: Mapping[str, str]) -> dict[str, str]:
    return {word: kind for kind, found in words.items() for word in found.split()}


def _latin_kinds(words: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, str]]:
    return {_plain(word): (word, kind) for kind, found in words.items() for word in found}


_RULE_OF = _kinds(_CHINESE)
_WORDS = re.compile(_tree(_RULE_OF)).findall
_TRAIT_OF = _kinds({name: words for name, (_, words) in _TRAITS.items()})
_TRAIT_WORDS = re.compile(_tree(_TRAIT_OF)).findall
_LATIN_KINDS = _latin_kinds({**_LATIN, **{name: words for name, (_, words) in _LATIN_TRAITS.items()}})
_LATIN_WORDS = re.compile(f"(?<![a-z])(?:{_tree(_LATIN_KINDS, ' ?')})(?![a-z])").findall
_CAPS = {name: most for traits in (_TRAITS, _LATIN_TRAITS) for name, (most, _) in traits.items()}


def content_problems(text: str) -> list[ContentProblem]:
    """What carriers would refuse in a text, or what makes it look like spam; empty for an honest text.

    Takes any text, and time linear in its length. Variables must have been filled, or taken out.
    """
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_LOOKALIKES)
    spaced = _SEPARATORS.sub(" ", folded)
    squeezed = spaced.replace(" ", "")
    latin = [_LATIN_KINDS[_plain(word)] for word in _LATIN_WORDS(spaced)] if _has_letter(spaced) else []
    odd, has_link = _odd(text), _has_link(folded) is not None

    found = {word: _RULE_OF[word] for word in _WORDS(squeezed)}
    found.update((word, kind) for word, kind in latin if kind in RULES)
    found.update((match[0], rule) for rule, search in _SHAPES if (match := search(squeezed)))
    if has_link and (match := _is_hidden(folded)):
        found[match[0]] = "hidden_link"
    if len(odd) >= ODD_MAX:
        found[odd] = "disguised"
    problems = [ContentProblem(word, cast("Rule", kind)) for word, kind in found.items()]

    hints = [("link", "call")] if has_link else []
    hints += [(name, kind) for name, kind, has in _PATTERNS if has(folded)]
    hints += [(word, _TRAIT_OF[word]) for word in dict.fromkeys(_TRAIT_WORDS(squeezed))]
    hints += [hint for hint in dict.fromkeys(latin) if hint[1] not in RULES]
    traits = [*_within_caps(hints), *odd]
    if len(traits) >= SPAM_TRAITS and (len(traits) >= SPAM_TRAITS + ORDER_TRAITS or not _is_of_order(spaced)):
        problems.append(ContentProblem(", ".join(traits), "spam_like"))
    return problems


def _within_caps(hints: Iterable[tuple[str, str]]) -> list[str]:
    left = dict(_CAPS)
    kept = []
    for word, kind in hints:
        left[kind] -= 1
        if left[kind] >= 0:
            kept.append(word)
    return kept


def _odd(text: str) -> str:
    """The Chinese characters that the alphabet of the others lacks, whether that is GB 2312 or Big5.

    Simplified Chinese has none, nor has traditional; what mixes them to hide words has.
    """
    if not _foreign(text, "gb2312") or _has_kana(text):
        return ""
    han = "".join(_han(text))
    return min(_foreign(han, "gb2312"), _foreign(han, "big5"), key=len)


def _foreign(han: str, alphabet: str) -> str:
    try:
        han.encode(alphabet)
    except UnicodeEncodeError:
        return "".join(character for character in han if not character.encode(alphabet, "ignore"))
    return ""


# Three playbooks and any number of merchants share the shipped texts.
_remembered = lru_cache(maxsize=4096)(content_problems)


def texts_of(spec: WordingSpec) -> Iterator[tuple[Path, str]]:
    """Every text and word of a wording file with its path in the file, those of single playbooks among them.

    Phrases are written out. Where a variable stands there is an 8, and nothing for the brand.
    """
    phrases = {name: _filled(source, {}) for name, source in spec.phrases.items()}
    for section, content in msgspec.to_builtins(spec).items():
        if section not in _FORMS:
            for path, source in _leaves((section,), content):
                yield path, _filled(source, phrases)


def _leaves(path: Path, tree: Any) -> Iterator[tuple[Path, str]]:  # noqa: ANN401 - a tree of YAML
    if isinstance(tree, str):
        yield path, tree
        return
    for step, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _leaves((*path, step), branch)


def _filled(source: str, phrases: Mapping[str, str]) -> str:
    return _NAME.sub(lambda match: "" if match[1] == "brand" else phrases.get(match[1], "8"), source)


def wording_content_problems(spec: WordingSpec) -> list[Problem]:
    """What is wrong with the contents of a wording file, each by its path; what a phrase holds is told once, there."""
    found = [(path, problem) for path, text in texts_of(spec) for problem in _remembered(text)]
    in_phrases = {problem for path, problem in found if path[0] == "phrases"}
    return [
        Problem(path, problem.message, problem.remedy)
        for path, problem in found
        if path[0] == "phrases" or problem not in in_phrases
    ]
