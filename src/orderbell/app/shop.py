"""The simulated shop of the demo: orders of all three kinds as life stories, some of which go wrong.

A story is a list of things that happen, each with its delay after the first one, and the anomalies that OrderBell must
find in it: no more and no fewer. The same seed tells the same stories.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

from msgspec import Struct

SHOP_ZONE = ZoneInfo("Asia/Shanghai")
CUSTOMER_COUNT = 240
FIRST_NUMBER = 10001
SHARES = {"retail": 5, "digital": 3, "consignment": 2}
OPENING = (
    ("digital", "smooth"), ("retail", "payment_failed"), ("consignment", "sold"), ("digital", "key_failed"),
    ("retail", "stock_restored"), ("digital", "risk_cleared"), ("retail", "smooth"), ("consignment", "rejected"),
)  # fmt: skip
"""Whoever looks on for a few seconds only should see each kind, and that some things go wrong."""

OPENING_HASTE = 6
"""How much quicker than later ones the orders of the opening come in."""

_GOODS = (
    ("羊毛围巾", 19900), ("陶瓷马克杯套装", 8900), ("机械键盘", 45900), ("山茶花护手霜", 5900), ("儿童绘本十册", 12800),
    ("空气炸锅", 39900), ("竹浆抽纸整箱", 4990), ("跑步鞋", 52900), ("西湖龙井250克", 26800), ("登山双肩包", 33900),
    ("蓝牙耳机", 29900), ("亚麻四件套", 69900), ("手冲咖啡壶", 15800), ("新疆红枣三斤", 6900), ("羽绒服", 129900),
    ("实木餐椅两把", 89900), ("投影仪", 529900),
)  # fmt: skip
_KEYS = (
    ("视频会员年卡", 19800), ("Steam充值卡100元", 9800), ("音乐会员季卡", 4500), ("手机话费50元", 4950),
    ("办公软件一年授权", 39800), ("游戏点卡", 3000), ("网盘会员月卡", 2500), ("单机游戏激活码", 19800),
)  # fmt: skip
_PIECES = (
    ("二手机械腕表", "手表", 1280000), ("中古皮质手提包", "箱包", 860000), ("翡翠平安扣", "珠宝", 450000),
    ("胶片相机", "相机", 320000), ("限量球鞋", "鞋靴", 189900), ("紫砂壶", "器皿", 260000),
    ("黑胶唱片一套", "收藏", 99000), ("羊绒大衣", "服饰", 215000), ("古典吉他", "乐器", 378000),
)  # fmt: skip
_CARRIERS = {"SF": "SF", "YTO": "YT", "ZTO": "ZT", "STO": "ST", "YUNDA": "YD", "JD": "JD"}
_PLACES = ("杭州", "上海", "广州", "成都", "武汉", "北京", "西安", "长沙", "南京", "郑州", "青岛", "昆明")
_COMPLAINTS = ("包装破损，里面少了一件", "颜色和图片不一样", "等了很久没有人回复", "商品有明显划痕")


class Beat(Struct, frozen=True):
    """Something that happens, `after` the first event of its story."""

    after: timedelta
    type: str
    data: dict[str, Any]


class Story(Struct, frozen=True):
    """The life of one order; `anomalies` are those that must open on the way."""

    order_no: str
    playbook: str
    plot: str
    placed_at: datetime
    beats: tuple[Beat, ...]
    anomalies: frozenset[str]


@dataclass
class _Draft:
    """A story in the making; time passes with `wait`."""

    dice: random.Random
    placed_at: datetime
    now: timedelta = timedelta(0)
    beats: list[Beat] = field(default_factory=list)

    def wait(self, least_m: float, most_m: float) -> Self:
        """Let between so and so many minutes pass."""
        self.now += timedelta(seconds=round(self.dice.uniform(least_m, most_m) * 60))
        return self

    def tell(self, type: str, **data: object) -> Self:
        """Let something happen now."""
        self.beats.append(Beat(self.now, type, data))
        return self

    def scan(self, phase: str, **data: object) -> Self:
        """Let the carrier see the parcel."""
        return self.tell("parcel.scanned", phase=phase, place=self.dice.choice(_PLACES), **data)

    def date(self, days: int) -> str:
        """The day so many days after the first event, in the shop's zone."""
        return (self.placed_at.astimezone(SHOP_ZONE) + timedelta(days=days)).date().isoformat()


def tell_stories(seed: int, opens_at: datetime, gap: timedelta) -> Iterator[Story]:
    """Tell of one order after another without end, by `placed_at`; `gap` is the mean time between two (Poisson)."""
    dice = random.Random(seed)  # noqa: S311 - replayable, not secret
    placed_at = opens_at
    number = 0
    while True:
        opening = OPENING[number] if number < len(OPENING) else None
        mean_s = gap.total_seconds() / (OPENING_HASTE if opening else 1)
        placed_at += timedelta(seconds=dice.expovariate(1 / mean_s))
        playbook = opening[0] if opening else dice.choices(list(SHARES), list(SHARES.values()))[0]
        plots = PLOTS[playbook]
        plot = opening[1] if opening else dice.choices(list(plots), [plots[name][0] for name in plots])[0]
        yield tell_story(dice, playbook, plot, FIRST_NUMBER + number, placed_at)
        number += 1


def tell_story(dice: random.Random, playbook: str, plot: str, number: int, placed_at: datetime) -> Story:
    """Tell one story by its plot, a key of `PLOTS[playbook]`."""
    _, act, anomalies = PLOTS[playbook][plot]
    draft = _Draft(dice, placed_at)
    begin, letter = _BEGINNINGS[playbook]
    begin(draft)
    act(draft)
    return Story(f"{letter}{number}", playbook, plot, placed_at, tuple(draft.beats), frozenset(anomalies))


def _person(dice: random.Random) -> dict[str, Any]:
    """One of the shop's customers: the same number has the same wishes; 1380000xxxx is nobody's."""
    number = dice.randrange(CUSTOMER_COUNT)
    habits = random.Random(number)  # noqa: S311 - replayable, not secret
    person: dict[str, Any] = {"phone": f"+861380000{number:04d}", "email": f"customer{number:04d}@example.com"}
    wishes: tuple[tuple[float, dict[str, Any]], ...] = (
        (0.15, {"locale": "en"}), (0.4, {"quiet": "22:00-08:00"}), (0.35, {"app": f"app-{number:04d}"}),
        (0.2, {"wechat": f"openid-{number:04d}"}), (0.15, {"frequency": "all"}), (0.1, {"tier": "vip"}),
    )  # fmt: skip
    for share, wish in wishes:
        if habits.random() < share:
            person |= wish
    return person


def _begin_retail(draft: _Draft) -> None:
    title, price_fen = draft.dice.choice(_GOODS)
    items = [{"sku": f"G{_GOODS.index((title, price_fen)):03d}", "title": title, "qty": 1, "price_fen": price_fen}]
    draft.tell("order.placed", amount_fen=price_fen, title=title, items=items, people={"buyer": _person(draft.dice)})


def _begin_digital(draft: _Draft) -> None:
    title, price_fen = draft.dice.choice(_KEYS)
    draft.tell("order.placed", amount_fen=price_fen, title=title, people={"buyer": _person(draft.dice)})


def _begin_consignment(draft: _Draft) -> None:
    title, category, price_fen = draft.dice.choice(_PIECES)
    people = {"consignor": _person(draft.dice)}
    draft.tell("item.received", title=title, category=category, amount_fen=price_fen, people=people)


_BEGINNINGS: dict[str, tuple[Callable[[_Draft], None], str]] = {
    "retail": (_begin_retail, "R"),
    "digital": (_begin_digital, "D"),
    "consignment": (_begin_consignment, "C"),
}


def _amount_fen(draft: _Draft) -> int:
    return int(draft.beats[0].data["amount_fen"])


def _pay(draft: _Draft) -> _Draft:
    return draft.wait(1, 12).tell("payment.succeeded", amount_fen=_amount_fen(draft))


def _ship(draft: _Draft) -> _Draft:
    """Pack and hand over; five to thirteen hours."""
    carrier = draft.dice.choice(list(_CARRIERS))
    tracking_no = f"{_CARRIERS[carrier]}{draft.dice.randrange(10**12):012d}"
    draft.wait(120, 360).tell("parcel.packed")
    return draft.wait(180, 420).tell("parcel.shipped", carrier=carrier, tracking_no=tracking_no)


def _arrive(draft: _Draft) -> _Draft:
    draft.wait(300, 900).scan("out_for_delivery")
    return draft.wait(60, 300).scan("delivered")


def _complete(draft: _Draft) -> None:
    draft.wait(600, 2000).tell("order.completed")


def _retail_smooth(draft: _Draft) -> None:
    _ship(_pay(draft)).tell("parcel.promised", by=draft.date(4))
    draft.wait(30, 240).scan("picked_up")
    for _ in range(draft.dice.randrange(1, 4)):
        draft.wait(200, 600).scan("in_transit")
    _complete(_arrive(draft))


def _retail_payment_failed(draft: _Draft) -> None:
    draft.wait(0.5, 3).tell("payment.failed", reason=draft.dice.choice(("insufficient_funds", "card_declined")))
    draft.wait(12, 90).tell("payment.succeeded", amount_fen=_amount_fen(draft))
    _ship(draft).wait(60, 300).scan("in_transit")
    _complete(_arrive(draft))


def _retail_unpaid(draft: _Draft) -> None:
    draft.wait(25 * 60, 40 * 60).tell("order.cancelled", by="system", reason="payment.late")


def _retail_stock_restored(draft: _Draft) -> None:
    _run_out(_pay(draft)).wait(240, 600).tell("stock.restored", sku=draft.beats[0].data["items"][0]["sku"])
    _ship(draft).wait(60, 300).scan("in_transit")
    _complete(_arrive(draft))


def _retail_stock_refunded(draft: _Draft) -> None:
    _run_out(_pay(draft)).wait(20, 300).tell("reply.received", text="3")
    draft.wait(1, 5).tell("order.cancelled", by="buyer", reason="out_of_stock")
    draft.wait(300, 1500).tell("refund.succeeded", amount_fen=_amount_fen(draft))


def _run_out(draft: _Draft) -> _Draft:
    item = draft.beats[0].data["items"][0]
    return draft.wait(10, 50).tell("stock.short", sku=item["sku"], title=item["title"])


def _retail_address_bad(draft: _Draft) -> None:
    _pay(draft).wait(5, 30).tell("address.undeliverable", reason="address.unserviceable")
    draft.wait(30, 240).tell("address.changed")
    _ship(draft).wait(60, 300).scan("in_transit")
    _complete(_arrive(draft))


def _retail_silent(draft: _Draft) -> None:
    _ship(_pay(draft)).wait(60, 400).scan("in_transit")
    _complete(_arrive(draft.wait(75 * 60, 90 * 60).scan("in_transit")))


def _retail_not_picked_up(draft: _Draft) -> None:
    _ship(_pay(draft)).wait(50 * 60, 60 * 60).scan("picked_up")
    _complete(_arrive(draft.wait(300, 900).scan("in_transit")))


def _retail_late(draft: _Draft) -> None:
    _ship(_pay(draft)).tell("parcel.promised", by=draft.date(1)).wait(300, 800).scan("in_transit")
    draft.wait(26 * 60, 34 * 60).scan("in_transit", reason="carrier.held_at_depot")
    _complete(_arrive(draft.wait(20 * 60, 26 * 60).scan("in_transit")))


def _retail_lost(draft: _Draft) -> None:
    _ship(_pay(draft)).wait(60, 400).scan("in_transit")
    draft.wait(15 * 60, 30 * 60).scan("exception", reason="carrier.lost")
    draft.wait(60, 400).tell("order.cancelled", by="merchant", reason="carrier.lost")
    draft.wait(300, 1500).tell("refund.succeeded", amount_fen=_amount_fen(draft))


def _retail_damaged(draft: _Draft) -> None:
    _ship(_pay(draft)).wait(60, 400).scan("in_transit")
    draft.wait(300, 900).scan("exception", reason="carrier.damaged")
    draft.wait(100, 400).tell("refund.succeeded", amount_fen=_amount_fen(draft) // 2)
    _complete(_arrive(draft))


def _retail_nobody_home(draft: _Draft) -> None:
    _ship(_pay(draft)).wait(60, 400).scan("in_transit")
    draft.wait(300, 900).scan("out_for_delivery")
    draft.wait(60, 200).scan("attempt_failed", reason="recipient.unreachable")
    _complete(_arrive(draft))


def _retail_cancelled(draft: _Draft) -> None:
    _pay(draft).wait(60, 400).tell("order.cancelled", by="merchant", reason="out_of_stock")
    draft.wait(300, 1500).tell("refund.succeeded", amount_fen=_amount_fen(draft))


def _retail_complaint(draft: _Draft) -> None:
    _arrive(_ship(_pay(draft)).wait(60, 400).scan("in_transit"))
    draft.wait(10, 200).tell("complaint.opened", text=draft.dice.choice(_COMPLAINTS))
    draft.wait(20, 120).tell("complaint.answered", text="非常抱歉，已为您补发，请留意查收。")
    _complete(draft.wait(60, 600).tell("complaint.closed"))


def _issue(draft: _Draft) -> None:
    draft.tell("key.issued").wait(1, 60).tell("key.revealed")
    draft.wait(1, 600).tell("key.redeemed").wait(1, 30).tell("order.completed")


def _digital_smooth(draft: _Draft) -> None:
    _issue(_pay(draft).wait(0.1, 6))


def _digital_slow(draft: _Draft) -> None:
    _issue(_pay(draft).wait(150, 300))


def _digital_payment_failed(draft: _Draft) -> None:
    draft.wait(0.2, 2).tell("payment.failed", reason="card_declined")
    _issue(_pay(draft).wait(0.1, 6))


def _digital_key_failed(draft: _Draft) -> None:
    _pay(draft).wait(0.1, 2).tell("key.failed", reason="key.none_left")
    _issue(draft.wait(40, 150))


def _digital_overdue(draft: _Draft) -> None:
    _issue(_pay(draft).wait(25 * 60, 30 * 60))


def _digital_risk(draft: _Draft) -> None:
    _pay(draft).wait(0.1, 1).tell("risk.flagged", reason="异地登录")
    _issue(draft.wait(20, 90).tell("risk.cleared").wait(0.1, 2))


def _digital_complaint(draft: _Draft) -> None:
    _pay(draft).wait(0.1, 6).tell("key.issued").wait(10, 200).tell("complaint.opened", text="卡密提示无效")
    draft.wait(10, 60).tell("complaint.answered", text="已为您更换新的卡密。")
    draft.wait(10, 60).tell("complaint.closed").tell("key.redeemed").wait(1, 30).tell("order.completed")


def _list_item(draft: _Draft) -> _Draft:
    """Inspect it, put it on sale, and let people look at it."""
    draft.wait(60, 400).tell("item.approved")
    draft.wait(30, 400).tell("item.listed")
    for _ in range(draft.dice.randrange(1, 4)):
        draft.wait(60, 500).tell("item.viewed")
    return draft


def _sell(draft: _Draft) -> _Draft:
    price_fen = _amount_fen(draft)
    if draft.dice.random() < 0.5:  # noqa: PLR2004 - every other item gets an offer first
        draft.wait(100, 900).tell("item.offer", price_fen=price_fen * 9 // 10)
    return draft.wait(300, 1500).tell("item.sold", price_fen=price_fen)


def _pay_out(draft: _Draft) -> None:
    amount_fen = _amount_fen(draft) * 85 // 100
    draft.tell("payout.sent", amount_fen=amount_fen)
    draft.wait(600, 2000).tell("withdrawal.succeeded", amount_fen=amount_fen)


def _consignment_sold(draft: _Draft) -> None:
    _pay_out(_sell(_list_item(draft)).wait(48 * 60, 90 * 60))


def _consignment_rejected(draft: _Draft) -> None:
    draft.wait(60, 400).tell("item.rejected", reason="鉴定未通过")


def _consignment_price_confirmed(draft: _Draft) -> None:
    _list_item(draft).wait(60, 300).tell("item.price_proposed", price_fen=_amount_fen(draft) * 9 // 10)
    draft.wait(30, 600).tell("reply.received", text="Y")
    _pay_out(_sell(draft).wait(48 * 60, 90 * 60))


def _consignment_price_open(draft: _Draft) -> None:
    _list_item(draft).wait(60, 300).tell("item.price_proposed", price_fen=_amount_fen(draft) * 9 // 10)
    draft.wait(25 * 60, 30 * 60).tell("choice.made", option="confirm_price")
    _pay_out(_sell(draft).wait(48 * 60, 90 * 60))


def _consignment_expiring(draft: _Draft) -> None:
    # Anybody's last day begins three to four days on; the item is taken home on it.
    _list_item(draft).tell("item.expiring", until=draft.date(4))
    draft.now = max(draft.now, timedelta(days=4))
    draft.wait(10, 60).tell("item.withdrawn")


def _consignment_extended(draft: _Draft) -> None:
    _list_item(draft).tell("item.expiring", until=draft.date(4)).wait(30, 600).tell("reply.received", text="延期3天")
    _pay_out(_sell(draft).wait(48 * 60, 90 * 60))


def _consignment_payout_late(draft: _Draft) -> None:
    _pay_out(_sell(_list_item(draft)).wait(121 * 60, 140 * 60))


def _consignment_payout_failed(draft: _Draft) -> None:
    _sell(_list_item(draft)).wait(48 * 60, 60 * 60).tell("payout.failed", reason="银行账户信息有误")
    _pay_out(draft.wait(300, 900))


_Plot = tuple[float, Callable[[_Draft], None], tuple[str, ...]]
PLOTS: dict[str, dict[str, _Plot]] = {
    "retail": {
        "smooth": (10, _retail_smooth, ()),
        "payment_failed": (2, _retail_payment_failed, ("payment_failed",)),
        "unpaid": (1, _retail_unpaid, ("payment_overdue",)),
        "stock_restored": (1, _retail_stock_restored, ("stock_short",)),
        "stock_refunded": (1, _retail_stock_refunded, ("stock_short", "refund_wanted")),
        "address_bad": (1, _retail_address_bad, ("address_bad",)),
        "silent": (1, _retail_silent, ("parcel_stalled",)),
        "not_picked_up": (0.5, _retail_not_picked_up, ("not_picked_up",)),
        "late": (1, _retail_late, ("parcel_late",)),
        "lost": (0.5, _retail_lost, ("parcel_lost", "cancelled_by_merchant")),
        "damaged": (0.5, _retail_damaged, ("parcel_damaged",)),
        "nobody_home": (1, _retail_nobody_home, ("attempt_failed",)),
        "cancelled": (0.5, _retail_cancelled, ("cancelled_by_merchant",)),
        "complaint": (1, _retail_complaint, ("complaint",)),
    },
    "digital": {
        "smooth": (8, _digital_smooth, ()),
        "slow": (1, _digital_slow, ()),
        "payment_failed": (1, _digital_payment_failed, ("payment_failed",)),
        "key_failed": (1.5, _digital_key_failed, ("key_not_issued",)),
        "overdue": (0.5, _digital_overdue, ("stage_overdue",)),
        "risk_cleared": (1, _digital_risk, ("risk_review",)),
        "complaint": (0.5, _digital_complaint, ("complaint",)),
    },
    "consignment": {
        "sold": (5, _consignment_sold, ()),
        "rejected": (1, _consignment_rejected, ()),
        "price_confirmed": (1, _consignment_price_confirmed, ()),
        "price_open": (1, _consignment_price_open, ("price_unconfirmed",)),
        "expiring": (1, _consignment_expiring, ("item_expiring",)),
        "extended": (1, _consignment_extended, ()),
        "payout_late": (0.7, _consignment_payout_late, ("payout_overdue",)),
        "payout_failed": (0.5, _consignment_payout_failed, ("payout_overdue",)),
    },
}
"""By playbook and name: how often, how it goes, and which anomalies it brings."""
