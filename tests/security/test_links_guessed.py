"""Customers' links under a million guesses: none opens anything, somebody is told within a minute, no log holds one."""

import random
import re
import string
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
import yaml
from structlog.testing import capture_logs

from orderbell.observe import counts
from orderbell.observe.figures import FROM_ZERO
from orderbell.playbooks import load_shelf
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.store.tracking import ALPHABET, TOKEN_LENGTH, Tracking, hash_of, is_token
from orderbell.web.guest.desk import MISSES_ALARM, MISSES_MAX, Guesses
from orderbell.web.metrics import Metrics
from tests.dispatch.rig import NOON
from tests.guests import running_pages
from tests.house.tree import ROOT
from tests.security.counting import statements

GUESSES = 1_000_000
PAGES = 2_000
ALARM = "somebody guesses the addresses of customers' pages"


def guesses(count: int, seed: int = 7) -> Iterator[str]:
    """Well-formed tokens, the same on every run; quick, so a little uneven: the first letters come more often."""
    letters = bytes(ALPHABET[number % len(ALPHABET)].encode()[0] for number in range(256))
    dice = random.Random(seed)
    for _ in range(count // 10_000):
        drawn = dice.randbytes(10_000 * TOKEN_LENGTH).translate(letters).decode()
        for first in range(0, len(drawn), TOKEN_LENGTH):
            yield drawn[first : first + TOKEN_LENGTH]


async def handed_out(store: Store) -> Tracking:
    """Pages of many orders, as they stand in the database."""
    tracking = Tracking(store)
    await add_tenant(store.pool, "acme", load_shelf(""))
    await tracking.hand_out([("acme", f"A{number}", "") for number in range(PAGES)], NOON)
    return tracking


async def test_million_guesses_open_nothing(store: Store) -> None:
    """None of a million well-formed tokens must be one that was handed out, nor any neighbour of a real one."""
    tracking = await handed_out(store)
    stored = {bytes(row[0]) for row in await store.pool.fetch("SELECT token_hash FROM tracking")}
    assert len(stored) == PAGES
    real = tracking.token("acme", "A7")
    assert hash_of(real) in stored
    tried = hits = 0
    for guess in guesses(GUESSES):
        tried += is_token(guess)
        hits += hash_of(guess) in stored
    near = {
        f"{real[:place]}{letter}{real[place + 1 :]}" for place in range(TOKEN_LENGTH) for letter in ALPHABET
    } - {real}  # fmt: skip
    near |= {real.swapcase(), real[::-1], real.lower(), real.upper()}
    hits += sum(hash_of(guess) in stored for guess in near)
    assert (tried, hits) == (GUESSES, 0)
    found = await store.pool.fetchval(
        "SELECT count(*) FROM tracking WHERE token_hash = ANY ($1::bytea[])",
        [hash_of(guess) for guess in (*near, *guesses(50_000, seed=8))],
    )
    assert found == 0
    assert await tracking.whose(real) == ("acme", "A7", "")


async def test_what_has_no_form_of_a_token_asks_nobody(store: Store) -> None:
    """Whatever cannot be a token must not reach the database, however many try it."""
    tracking = await handed_out(store)
    real = tracking.token("acme", "A7")
    odd = ["", "x", real[:-1], real + "x", f" {real}"[:TOKEN_LENGTH], f"{real[:-1]}\0", "％" * TOKEN_LENGTH, "٣" * TOKEN_LENGTH,
           "'" * TOKEN_LENGTH, *("-" * length for length in range(40)), *string.punctuation]  # fmt: skip
    async with statements(store) as noted:
        assert [await tracking.whose(one) for one in odd] == [None] * len(odd)
        assert noted == []
        assert await tracking.whose(f"{real[:-1]}{'a' if real[-1] != 'a' else 'b'}") is None
        assert len(noted) == 1


def test_alarm_within_a_minute() -> None:
    """A million guesses within two days must be in the log within a minute of the first, once a minute at most."""
    for hours, clients in ((1, 1_000), (48, 1_000), (48, 1)):
        counter, before = Guesses(), counts().get("tracking.guessing", 0)
        step = timedelta(hours=hours) / GUESSES
        begun = alarmed = None
        waits = 0
        with capture_logs() as said:
            for number in range(20_000):  # the rest is as this
                now = NOON + number * step
                waits += counter.missed(str(number % clients), now)
                if begun is None:
                    begun = now
                if alarmed is None and counts().get("tracking.guessing", 0) > before:
                    alarmed = now
        assert begun is not None
        assert alarmed is not None
        assert alarmed - begun <= timedelta(minutes=1)
        minutes = 20_000 * step / timedelta(minutes=1)
        assert 1 <= sum(one["event"] == ALARM for one in said) <= minutes + 1
        assert all(set(one) == {"event", "log_level", "misses_this_minute", "clients"} for one in said)
        per_minute = 20_000 / minutes / clients
        assert (waits > 0) == (per_minute > MISSES_MAX)


def test_a_million_misses_cost_seconds_and_little_memory() -> None:
    """A million misses from as many addresses must be counted one by one, and the memory of addresses have an end."""
    counter, before = Guesses(), counts().get("tracking.missed", 0)
    with capture_logs() as said:
        for number in range(GUESSES):
            counter.missed(f"2001:db8::{number:x}", NOON)
    assert counts()["tracking.missed"] - before == GUESSES
    assert len(counter._by_client) <= 50_000
    assert len(said) <= GUESSES // 50_000


async def test_alert_sees_the_first_alarm() -> None:
    """The counters that alerts wait for must be told from zero on, and the rule look often enough for a minute."""

    async def look() -> dict[str, dict[tuple[str, ...], float]]:
        return {}

    text = (await Metrics(look, dict).render("text/plain"))[0].decode()
    (group,) = yaml.safe_load((ROOT / "ops" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    awaited = {what for rule in group["rules"] for what in re.findall(r'what="([^"]+)"', rule["expr"])}
    assert awaited <= set(FROM_ZERO)
    for what in awaited:
        assert f'orderbell_counts_total{{what="{what}"}}' in text, what
    (rule,) = [rule for rule in group["rules"] if "tracking.guessing" in rule["expr"]]
    assert rule["expr"].endswith("> 0")
    assert "for" not in rule
    assert group["interval"] == "15s"
    assert "scrape_interval: 15s" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


async def test_guessing_over_http(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses must be answered alike, told in the log without their tokens, and good links open meanwhile."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        with capture_logs() as said:
            limits = httpx.Limits(max_connections=1)
            async with httpx.AsyncClient(base_url=pages.url, limits=limits, trust_env=False) as http:
                answers = []
                tried = list(guesses(10_000))[: MISSES_ALARM + 20]
                for guess in tried:
                    answer = await http.get(f"/t/{guess}")
                    nonce = re.sub(r'nonce="[^"]*"', "", answer.text).replace(guess, "")
                    answers.append((answer.status_code, nonce))
            assert (await pages.http.get(path)).status_code == 200
    assert [status for status, _ in answers] == [404] * MISSES_MAX + [429] * (len(tried) - MISSES_MAX)
    assert len(set(answers)) == 2
    assert [one["event"] for one in said] == [ALARM]
    assert not any(guess in str(said) for guess in tried)
