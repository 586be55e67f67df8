"""Which provider carries a message: shares by health and price, breakers, limits and pace."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orderbell.core import routing
from orderbell.core.routing import (
    FAILURES_MIN,
    HALF_LIFE,
    IN_A_ROW,
    PAUSE,
    PAUSE_MAX,
    QUICK_S,
    SHARE_MIN,
    TRIAL_PATIENCE,
    TRIALS,
    TRIP_MAX,
    Health,
    Pace,
    Route,
    begin_trial,
    draw,
    fade,
    free_at,
    heard,
    is_open_to,
    reserve,
    saw,
    share,
    trip,
    turned_back,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WELL = Health(NOON)


def later(seconds: float) -> datetime:
    """A moment after noon."""
    return NOON + timedelta(seconds=seconds)


def route(name: str = "a", weight: float = 1, price: int = 0, **health: float) -> Route:
    """A route with some health."""
    return Route(name, weight, price, replace(WELL, **health))


def key(number: int) -> bytes:
    """A key as attempts have them: its end is as good as random."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def opened(seconds: float = 10, reason: str = "failing") -> Health:
    """A breaker that opened at noon."""
    return trip(WELL, NOON, reason, timedelta(seconds=seconds))


def on_trial() -> Health:
    """A breaker whose pause has just ended."""
    return fade(opened(), later(10))


# Counting and fading


def test_counts_halve_with_the_half_life() -> None:
    """After one half-life half must be left, after two a quarter."""
    seen = replace(WELL, accepted=8.0, failed=4.0)
    once = fade(seen, NOON + HALF_LIFE)
    assert (once.accepted, once.failed, once.at) == (4.0, 2.0, NOON + HALF_LIFE)
    assert fade(seen, NOON + 2 * HALF_LIFE).accepted == 2.0


def test_clock_that_goes_back_changes_nothing() -> None:
    """An earlier moment must neither make counts grow nor move the time back."""
    seen = replace(WELL, accepted=8.0, failed=4.0)
    assert fade(seen, later(-3600)) == seen
    assert fade(seen, NOON) == seen
    assert saw(seen, later(-60), 1, 0).accepted == 9.0


def test_few_failures_prove_nothing() -> None:
    """Fewer failures than the least must leave the breaker closed, however large their share."""
    assert saw(WELL, NOON, 0, int(FAILURES_MIN) - 1).state == "closed"


def test_small_share_of_failures_is_borne() -> None:
    """Below the share that counts as failing the breaker must stay closed; from it on it must open."""
    assert saw(WELL, NOON, 11, 9).state == "closed"
    tripped = saw(WELL, NOON, 10, 10)
    assert (tripped.state, tripped.reason, tripped.retry_at, tripped.pause) == ("open", "failing", NOON + PAUSE, PAUSE)


def test_failures_of_long_ago_do_not_count() -> None:
    """Failures spread over a long time, with something taken now and then, must not open the breaker."""
    health = WELL
    for minute in range(30):
        health = saw(health, later(minute * 60), 0, 1)
        health = saw(health, later(minute * 60 + 30), minute % 2, 0)
    assert health.state == "closed"


def test_requests_that_fail_in_a_row_open_it() -> None:
    """However well things went before: so many requests that failed as a whole must open it, one that did not ends the row."""
    health = replace(WELL, accepted=1e6)
    for number in range(1, IN_A_ROW):
        health = saw(health, NOON, 0, 1)
        assert (health.state, health.in_a_row) == ("closed", number)
    assert saw(health, NOON, 0, 0).in_a_row == IN_A_ROW - 1, "an answer that is nobody's fault says nothing"
    assert saw(health, NOON, 1, 9).in_a_row == 0
    tripped = saw(health, NOON, 0, 1)
    assert (tripped.state, tripped.reason) == ("open", "failing")
    assert saw(fade(tripped, later(10)), later(10), TRIALS, 0).in_a_row == 0


def test_answers_to_what_was_under_way_keep_it_open() -> None:
    """Answers that come in while the breaker is open must neither close it nor open it again."""
    tripped = opened()
    assert saw(tripped, later(1), 5, 5).state == "open"
    assert saw(tripped, later(1), 5, 5).retry_at == later(10)


# Breakers


def test_open_breaker_lets_nothing_through() -> None:
    """Nothing may pass before the retry, and one message after it."""
    tripped = opened()
    assert not is_open_to(tripped, NOON)
    assert not is_open_to(tripped, later(9.999))
    assert is_open_to(tripped, later(10))
    assert is_open_to(WELL, NOON)


def test_half_open_breaker_lets_a_few_through_at_a_time() -> None:
    """While trials are under way nothing else may pass, until they are given up for lost."""
    trying = begin_trial(on_trial(), later(11))
    for _ in range(TRIALS - 1):
        assert is_open_to(trying, later(11))
        trying = begin_trial(trying, later(11))
    assert not is_open_to(trying, later(11))
    assert trying.trial_at == later(11)
    assert not is_open_to(trying, later(12))
    assert not is_open_to(trying, later(11) + TRIAL_PATIENCE - SECOND)
    assert is_open_to(trying, later(11) + TRIAL_PATIENCE)


def test_trial_begins_only_where_there_is_one() -> None:
    """A message that leaves for a provider which is well must not be put down as a trial."""
    assert begin_trial(WELL, NOON).trial_at is None
    assert begin_trial(opened(), later(1)).trial_at is None
    assert begin_trial(opened(), later(10)).trial_at == later(10)


def test_trials_that_succeed_close_the_breaker() -> None:
    """So many acceptances as trials are wanted must close it, and the next trial may leave after each."""
    health = on_trial()
    for number in range(TRIALS):
        assert health.state == "half_open"
        health = begin_trial(health, later(11 + number))
        health = saw(health, later(11 + number), 1, 0)
        assert is_open_to(health, later(11 + number))
    assert (health.state, health.reason, health.failed, health.retry_at, health.pause) == (
        "closed",
        "",
        0.0,
        None,
        PAUSE,
    )


def test_closing_keeps_what_receipts_tell() -> None:
    """What is known from receipts must outlive a breaker."""
    health = heard(on_trial(), 0.4, 7.0)
    closed = saw(health, later(11), TRIALS, 0)
    assert (closed.state, closed.confirmed, closed.receipt_s) == ("closed", 0.4, 7.0)


def test_pauses_double_up_to_the_longest() -> None:
    """Each trial that fails must double the pause, up to the longest."""
    health, now, pauses = opened(), NOON, []
    for _ in range(8):
        assert health.retry_at is not None
        now = health.retry_at
        health = saw(begin_trial(fade(health, now), now), now, 0, 1)
        assert (health.state, health.reason) == ("open", "failing")
        assert health.retry_at is not None
        pauses.append(health.retry_at - now)
    assert pauses[:4] == [2 * PAUSE, 4 * PAUSE, 8 * PAUSE, 16 * PAUSE]
    assert set(pauses[5:]) == {PAUSE_MAX}


def test_answer_of_nobody_ends_no_trial_badly() -> None:
    """An answer that is nobody's fault must free the place of the trial without counting for it."""
    trying = saw(begin_trial(on_trial(), later(11)), later(12), 0, 0)
    assert (trying.state, trying.trials, trying.trial_at) == ("half_open", 0, None)


def test_trip_is_bounded() -> None:
    """However long a provider asks for, it must be tried again within the longest time."""
    assert trip(WELL, NOON, "throttled", timedelta(days=9)).retry_at == NOON + TRIP_MAX


def test_trip_never_shortens() -> None:
    """A shorter pause must not end a longer one; a longer one must count."""
    assert trip(opened(60), later(1), "throttled", SECOND).retry_at == later(60)
    assert trip(opened(60), later(1), "account", timedelta(minutes=5)).retry_at == later(301)


def test_trip_of_a_half_open_breaker_counts_from_now() -> None:
    """A trial that is throttled must open the breaker for the time asked for, trials forgotten."""
    tripped = trip(begin_trial(on_trial(), later(11)), later(12), "throttled", timedelta(seconds=5))
    assert (tripped.state, tripped.retry_at, tripped.trials, tripped.trial_at) == ("open", later(17), 0, None)


def test_health_that_is_open_without_end() -> None:
    """A health without a time of retry must be tried at once and not wait for ever."""
    assert is_open_to(replace(WELL, state="open"), NOON)
    assert fade(replace(WELL, state="open"), NOON).state == "open"


# Shares


def test_share_by_condition() -> None:
    """Errors, silence, slowness and price must each take their part of the weight."""
    assert share(route(weight=3), 0, 0) == 3
    assert share(route(accepted=1.0, failed=1.0), 0, 0) == 0.25
    assert share(route(failed=0.5), 0, 0) == 1, "half a failure of long ago is none"
    assert share(route(confirmed=0.5), 0, 0) == 0.5
    assert share(route(price=200), 100, 0) == 0.5
    assert share(route(price=100), 100, 0) == 1
    assert share(route(price=0), 0, 0) == 1, "what costs nothing loses nothing"
    assert share(route(price=100), 0, 0) == SHARE_MIN, "beside one that costs nothing"
    assert share(route(receipt_s=80.0), 0, 20.0) == 0.5
    assert share(route(receipt_s=20.0), 0, 20.0) == 1
    assert share(route(receipt_s=40.0), 0, 0.01) == 0.5, "beside one whose receipts come at once"
    assert share(route(receipt_s=QUICK_S), 0, 0.01) == 1, "quick enough"
    assert share(route(receipt_s=0.0), 0, 2.0) == 1, "of whom nothing is known"


def test_share_never_vanishes() -> None:
    """Even the worst provider must keep enough traffic to show that it is well again."""
    assert share(route(weight=10, failed=99.0, confirmed=0.01, price=9000), 1, 0) == 10 * SHARE_MIN


def test_draw_without_a_choice() -> None:
    """One route must be drawn whatever its share; none is a mistake of the caller."""
    assert draw([route("only", weight=1e-9)], key(1)) == "only"
    with pytest.raises(ValueError, match="no route"):
        draw([], key(1))


def test_draw_at_the_ends() -> None:
    """The lowest key must draw the first route and the highest the last."""
    both = [route("a"), route("b")]
    assert draw(both, bytes(16)) == "a"
    assert draw(both, b"\xff" * 16) == "b"
    tiny = [route("a", weight=0.1), route("b", weight=0.1), route("c", weight=1e-30)]
    assert draw(tiny, b"\xff" * 16) in "abc"


def test_draw_past_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rounding leaves nobody, the last route must be drawn."""
    monkeypatch.setattr(routing, "share", lambda *_: 0.0)
    assert draw([route("a"), route("b")], key(1)) == "b"


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 2, 5)])
def test_draw_follows_the_shares(weights: tuple[float, ...]) -> None:
    """Over many messages each provider must carry about its share."""
    routes = [route(str(place), weight) for place, weight in enumerate(weights)]
    drawn = Counter(draw(routes, key(number)) for number in range(4000))
    for place, weight in enumerate(weights):
        assert drawn[str(place)] / 4000 == pytest.approx(weight / sum(weights), abs=0.03)


# Limits and pace


def test_limit_frees_with_time() -> None:
    """Below a limit a message may go at once; at it, when the oldest that counts has aged."""
    limits = ((2, 60.0),)
    assert free_at([], limits, NOON) is None
    assert free_at([later(-10)], limits, NOON) is None
    assert free_at([later(-50), later(-10)], limits, NOON) == later(10)
    assert free_at([later(-60), later(-10)], limits, NOON) is None
    assert free_at([later(-55), later(-50), later(-10)], limits, NOON) == later(10)


def test_strictest_limit_counts() -> None:
    """Of several limits the one that frees last must decide, whatever their order."""
    sent = [later(-50), later(-20), later(-10)]
    limits = ((1, 30.0), (3, 3600.0), (2, 60.0))
    assert free_at(sent, limits, NOON) == later(3550)
    assert free_at(sent, limits[::-1], NOON) == later(3550)
    assert free_at(sent, (), NOON) is None


def test_places_follow_each_other() -> None:
    """Reserved places must lie a beat apart; those that nobody took are lost."""
    pace, first = reserve(Pace(2.0, NOON), NOON)
    pace, second = reserve(pace, NOON)
    assert (first, second) == (NOON, later(0.5))
    pace, third = reserve(pace, later(60))
    assert (third, pace.next_at) == (later(60), later(60.5))


# Laws

counts = st.integers(0, 50)
moments = st.integers(0, 7200).map(later)
healths = st.builds(
    Health,
    at=st.just(NOON),
    accepted=st.floats(0, 1e6),
    failed=st.floats(0, 1e6),
    confirmed=st.floats(0.05, 1),
    receipt_s=st.floats(0, 1e4),
)
routes_ = st.lists(
    st.builds(Route, name=st.uuids().map(str), weight=st.floats(0.01, 100), price_millifen=st.integers(0, 10_000), health=healths),
    min_size=1,
    max_size=5,
)  # fmt: skip
steps = st.lists(st.tuples(st.floats(0, 400), counts, counts), max_size=30)


def lived(seen: Sequence[tuple[float, int, int]]) -> list[tuple[datetime, Health]]:
    """A health through a life of answers."""
    health, now, found = WELL, NOON, [(NOON, WELL)]
    for seconds, accepted, failed in seen:
        now += timedelta(seconds=seconds)
        health = saw(fade(health, now), now, accepted, failed)
        found.append((now, health))
    return found


@given(routes_, st.binary(min_size=16, max_size=16))
def test_law_draw_is_deterministic(routes: list[Route], name: bytes) -> None:
    """The same routes and key must give the same provider, one of those that there are."""
    drawn = draw(routes, name)
    assert drawn == draw(list(routes), name)
    assert drawn in {one.name for one in routes}


@given(routes_)
def test_law_shares_are_bounded(routes: list[Route]) -> None:
    """A share must be at least its least part of the weight, and never above the weight."""
    cheapest = min(one.price_millifen for one in routes)
    quickest = min((one.health.receipt_s for one in routes if one.health.receipt_s > 0), default=0.0)
    for one in routes:
        assert one.weight * SHARE_MIN <= share(one, cheapest, quickest) <= one.weight


@given(steps)
def test_law_counts_never_fall_below_zero(seen: list[tuple[float, int, int]]) -> None:
    """Whatever is seen when, counts must stay at zero or above."""
    for now, health in lived(seen):
        assert health.accepted >= 0
        assert health.failed >= 0
        assert health.at <= now


@given(steps)
def test_law_silence_restores_trust(seen: list[tuple[float, int, int]]) -> None:
    """After a long silence a provider must be open to a message, and have its whole share."""
    now, health = lived(seen)[-1]
    rested = fade(health, now + timedelta(hours=2))
    assert is_open_to(rested, now + timedelta(hours=2))
    assert share(Route("a", 1.0, 0, rested), 0, 0.0) == 1.0


@given(steps, st.floats(0, 1))
def test_law_open_breaker_lets_nothing_through(seen: list[tuple[float, int, int]], part: float) -> None:
    """Before its retry nothing may pass an open breaker, and the retry must come within the longest pause."""
    for now, health in lived(seen):
        if health.state == "open":
            assert health.retry_at is not None
            assert now < health.retry_at <= now + PAUSE_MAX
            moment = now + (health.retry_at - now) * part * 0.999
            assert not is_open_to(fade(health, moment), moment)
            assert is_open_to(fade(health, health.retry_at), health.retry_at)


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["ask", "taken", "neither"])), max_size=40))
def test_law_few_trials_at_a_time(seen: list[tuple[float, str]]) -> None:
    """A half-open breaker must never have more than a few messages under way, which left in one moment."""
    health, now, leaving = opened(), later(10), list[datetime]()
    for seconds, what in seen:
        now += timedelta(seconds=seconds)
        health = fade(health, now)
        if health.state != "half_open":
            break
        if what == "ask" and is_open_to(health, now):
            if leaving and leaving[-1] != now:
                assert now - leaving[-1] >= TRIAL_PATIENCE
                leaving.clear()
            leaving.append(now)
            assert len(leaving) <= TRIALS
            health = begin_trial(health, now)
        elif what != "ask" and leaving:
            leaving.clear()
            health = saw(health, now, int(what == "taken"), 0)


@given(st.floats(0.01, 10_000), st.lists(st.floats(-1, 3), min_size=2, max_size=60))
def test_law_places_are_never_too_close(per_second: float, pauses: list[float]) -> None:
    """No two places may be closer than the beat, none may lie in the past, and clocks that go back change nothing."""
    pace, now, places = Pace(per_second, NOON), NOON, list[datetime]()
    for pause in pauses:
        now += timedelta(seconds=pause)
        pace, at = reserve(pace, now)
        assert at >= now
        places.append(at)
    beat = timedelta(seconds=1 / per_second)
    assert all(after - before >= beat for before, after in itertools.pairwise(places))


@given(
    st.lists(st.integers(-7200, 0), max_size=30).map(sorted),
    st.lists(st.tuples(st.integers(1, 10), st.integers(1, 7200)), max_size=4),
)
def test_law_every_limit_is_respected(ages: list[int], limits: list[tuple[int, int]]) -> None:
    """At the moment that is named no limit may be exceeded, and a moment before one of them must be."""
    sent = [later(age) for age in ages]
    bounds = tuple((count, float(within)) for count, within in limits)
    frees_at = free_at(sent, bounds, NOON)
    moment = frees_at or NOON

    def fits(at: datetime) -> bool:
        return all(sum(one > at - timedelta(seconds=within) for one in sent) < count for count, within in bounds)

    assert fits(moment)
    if frees_at is not None:
        assert frees_at > NOON
        assert not fits(frees_at - timedelta(microseconds=1))


def test_clock_that_is_set_back_makes_no_pause_longer() -> None:
    """Whatever the clock shows, a breaker must open after the time that it was shut for."""
    shut = trip(Health(NOON), NOON, "failing", PAUSE)
    back = turned_back(shut, timedelta(hours=1))
    assert back.retry_at == NOON - timedelta(hours=1) + PAUSE
    trying = begin_trial(fade(back, NOON), NOON)
    assert turned_back(trying, timedelta(hours=1)).trial_at == NOON - timedelta(hours=1)
    assert turned_back(Health(NOON), timedelta(hours=1)) == Health(NOON - timedelta(hours=1))
