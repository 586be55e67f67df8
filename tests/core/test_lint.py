"""What a playbook must keep as a whole: each broken promise is named, with what mends it."""

from typing import Any

import pytest

from tests.core.samples import SPEC, problems

LONG = "Order {order_no}: " + "x" * 150


def test_playbook_that_keeps_its_promises() -> None:
    """The small playbook passes."""
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "path", "message", "remedy"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone", "there is no time zone 'Mars/Olympus'", "write such as Asia/Shanghai"),
        ({"stages": {"lost": {}}}, "stages.lost", "nothing leads to the stage 'lost'", "add a rule with `stage: lost`"),
        ({"stages": {"placed": {"end": True}}}, "stages.placed", "the first stage is an end", "begin with a stage on the ladder"),
        ({"anomalies": {"odd": {"owner": "service", "opens": [{"on": "risk.flagged"}]}}}, "anomalies.odd",
         "nothing ever clears the anomaly 'odd'", "add `clears: [event types]` or `clears_at: a stage`"),
        ({"anomalies": {"odd": {"owner": "service", "clears": "risk.cleared"}}}, "anomalies.odd",
         "nothing ever opens the anomaly 'odd'", "switch it off with `null`"),
        ({"categories": {"ads": {"mandatory": True}}}, "categories.ads", "the category 'ads' is mandatory and marketing", "choose one"),
        ({"notices": {"paid": {"wait": "6m"}}}, "notices.paid.wait", "waits 6m but promises to tell within 5m", "shorten `wait`"),
        ({"notices": {"paid": {"valid_for": "4m"}}}, "notices.paid.valid_for", "is out of date before it has to be told", "lengthen `valid_for`"),
        ({"notices": {"paid": {"level": "all"}}}, "notices.paid.level", "is mandatory, yet few would hear it", "drop `level`"),
        ({"notices": {"paid": {"channels": []}}}, "notices.paid.channels", "has no channel", "name at least one channel"),
        ({"region": "cn"}, "region", "there are no phone numbers of a region 'cn'", "write two letters"),
        ({"marketing": {"hours": "9-20"}}, "marketing.hours", "'9-20' are no hours", "write such as 09:00-20:00"),
        ({"notices": {"paid": {"after": "late"}}}, "notices.paid.after", "is mandatory, yet kept from those", "drop `after`"),
        ({"quiet": "at night"}, "quiet", "'at night' are no hours", "write such as 22:00-08:00"),
        ({"marketing": {"hours": "21:00-07:00"}}, "marketing.hours", "'21:00-07:00' are no hours of one day", "write such as"),
        ({"notices": {"paid": {"to": ["byuer"]}}}, "notices.paid.to", "nobody has the role 'byuer'", "did you mean buyer?"),
        ({"notices": {"late": {"within": "6m"}}}, "notices.late.within", "is critical, yet may take 6m", "5m at most"),
        ({"notices": {"paid": {"channels": ["inbox", "sms"]}}}, "notices.paid.channels", "has the inbox before", "name it last"),
        ({"notices": {"paid": {"lane": "marketing"}}}, "notices.paid.lane", "in the lane 'marketing'", "belong together"),
        ({"notices": {"paid": {"tiers": {"vip": {"channels": []}}}}}, "notices.paid.tiers.vip.channels", "has no channel", "name at least one"),
        ({"asks": {"price": {"yes": "sure"}}}, "asks.price", "the answer 'sure' leads to nothing", "add a rule `{on: choice.made"),
        ({"asks": {"stock": {"choices": ["wait", "swap"]}}}, "asks.stock", "the answer 'swap' leads to nothing", "event.option"),
        ({"asks": {"expiry": {"extend_days_max": 9}}, "rules": SPEC["rules"][:6]}, "asks.expiry", "the answer 'extend' leads to nothing", "add a rule"),
        ({"notices": {"fresh": {"to": "buyer", "category": "may"}}}, "notices.fresh.channels",
         "has no wording for sms in en", "add `fresh:` with a text for sms to the wording of en"),
        ({"notices": {"paid": {"covers": ["shipped"]}}}, "notices.paid.covers", "'paid' covers itself", "let the later news"),
        ({"notices": {"paid": {"covers": ["paid"]}}}, "notices.paid.covers", "'paid' covers itself", "let the later news"),
    ],
)  # fmt: skip
def test_lint_refuses(changes: dict[str, Any], path: str, message: str, remedy: str) -> None:
    """A promise that cannot be kept is named by its place, with a remedy."""
    found = [problem for problem in problems(**changes) if problem[0] == path]
    assert any(message in said and remedy in help_ for _, said, help_ in found), problems(**changes)


def test_lint_refuses_an_sms_that_may_be_too_long() -> None:
    """A text that some value could make too long is refused by its place; one that cannot is the last resort."""
    [(path, message, remedy)] = problems({"texts": {"paid": {"sms": [LONG]}}})
    assert path == "wording.en.texts.paid.sms.0"
    assert "the last SMS of paid (calm) can have" in message
    assert remedy.startswith("shorten this text by")
    assert problems({"texts": {"paid": {"sms": [LONG, "Order {order_no} is paid."]}}}) == []


def test_lint_proves_the_ways_of_tiers() -> None:
    """A channel that only one tier uses needs words, and its SMS must fit as well."""
    vip = {"price": {"tiers": {"vip": {"channels": ["sms"], "also": ["email"]}}}}
    assert problems({"texts": {"price": {"sms": [LONG]}}}) == []
    assert [path for path, _, _ in problems({"texts": {"price": {"sms": [LONG]}}}, notices=vip)] == [
        "wording.en.texts.price.sms.0"
    ]
    push_only = {"texts": {"price": {"sms": ..., "push": "Price"}}}
    assert {said for _, said, _ in problems(push_only, notices=vip)} >= {"has no wording for sms in en"}


def test_lint_takes_any_rule_or_anomaly_for_an_ear() -> None:
    """An answer may move the order or open an anomaly; a rule without a condition names none."""
    option = 'event.option == "sure"'
    rule, opens = {"on": "choice.made", "when": option}, {"opens": [{"on": "choice.made", "when": option}]}
    sure = {"price": {"yes": "sure"}}
    assert problems(asks=sure, rules=[*SPEC["rules"], rule]) == []
    assert problems(asks=sure, anomalies={"price": opens}) == []
    deaf = {"opens": [{"on": "choice.made"}]}
    assert len(problems(asks=sure, anomalies={"price": deaf})) == 1


def test_lint_counts_the_opt_out_line_of_marketing() -> None:
    """What only just fits is too long once it is marketing."""
    text = "Order {order_no} " + "x" * 55
    changes = {"paid": {"category": "ads", "lane": "marketing"}}
    wording = {"opt_out": " Reply R to stop", "texts": {"paid": {"sms": [text]}}}
    assert problems(wording) == []
    assert [path for path, _, _ in problems(wording, notices=changes)] == ["wording.en.texts.paid.sms.0"]


def test_lint_wants_words_for_the_inbox_of_mandatory_news() -> None:
    """Mandatory news end in the inbox, so they need words there."""
    push_only = {"texts": {"paid": {"sms": ..., "push": "Paid"}}}
    changes = {"paid": {"channels": ["push"], "category": "must"}}
    assert [said for _, said, _ in problems(push_only, notices=changes)] == ["has no wording for inbox in en"]


def test_covers_over_several_steps_are_followed_once() -> None:
    """Two ways to the same covered topic are no circle."""
    covers = {"cancelled": {"covers": ["shipped", "paid", "late"]}, "late": {"covers": ["paid"]}}
    assert problems(notices=covers) == []
