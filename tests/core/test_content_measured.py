"""The content check on real spam: the share it refuses must not fall (S0-29)."""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from pyarrow import parquet

from orderbell.core.content import content_problems

SPAM = Path(__file__).resolve().parents[3] / "shared" / "data" / "sms_spam_zh" / "fbs_sms.parquet"
# The set has names of kinds in place of the real values; the values here are made up.
VALUES = {
    "CELLPHONE": "13800138000", "HOTLINE": "4008886666", "PHONE": "02088886666", "WECHAT": "abc123456", "DIGIT": "88",
    "PLACE": "北京", "BANK": "6222000000000000000", "NAME": "小明", "URL": "http://u.example/a",
}  # fmt: skip
FLOORS = {
    "AD:Retail": 0.80,
    "AD:Network_service": 0.87,
    "FR:Phishing(Bank)": 0.98,
    "IL:Gambling": 0.75,
    "FR:Other": 0.61,
    "IL:Fake_ID_and_invoice": 0.80,
    "AD:Loan": 0.95,
    "FR:Financial": 0.96,
}


@pytest.fixture(scope="module")
def spam() -> dict[str, str]:
    """The distinct texts with their categories."""
    if not SPAM.is_file():
        pytest.skip(f"the set of spam SMS is not in {SPAM.parent}")
    rows = parquet.read_table(SPAM, columns=["text", "category"]).to_pylist()
    return {row["text"]: row["category"] for row in rows}


def filled(text: str) -> str:
    """A text with values in place of their kinds."""
    return re.sub("|".join(VALUES), lambda kind: VALUES[kind[0]], text)


def was_read(text: str) -> bool:
    """Whether a text is of the half that the words were chosen from."""
    return sha256(text.encode()).digest()[0] % 2 == 0


def share(spam: dict[str, str], chosen: Callable[[str], bool]) -> float:
    """How much of the chosen texts is refused."""
    found = [bool(content_problems(filled(text))) for text in spam if chosen(text)]
    return sum(found) / len(found)


def test_spam_is_refused(spam: dict[str, str]) -> None:
    """More than four of five spam SMS are refused, also in the half that no word was chosen from."""
    assert share(spam, lambda text: not was_read(text)) > 0.81
    assert share(spam, was_read) > 0.82


def test_spam_is_refused_without_its_links_and_numbers(spam: dict[str, str]) -> None:
    """Three of four are refused by their words alone, all links and numbers taken out."""
    found = [bool(content_problems(re.sub("|".join(VALUES), " ", text))) for text in spam]
    assert sum(found) / len(found) > 0.74


@pytest.mark.parametrize(("category", "floor"), FLOORS.items())
def test_spam_of_category_is_refused(spam: dict[str, str], category: str, floor: float) -> None:
    """What carriers fear most is refused nearly always."""
    assert share(spam, lambda text: spam[text] == category) > floor
