"""Who waits when there is more than can be sent: lanes, shops beside each other, and what is left out under overload.

Three questions, each put to one dispatcher and a sandbox in a process of its own; a delay runs from when a notice fell
due to when the provider took its message. What is critical against itself without the burst; nine shops against
themselves without the tenth one's flood; and with more offered than can leave, what became of every single notice.
"""

from collections.abc import Sequence
from statistics import median

from bench.flood import Due, Flooded, flood, stream
from bench.scratch import Scratch
from bench.table import Report, Row, Sample, figure_row, interleave

SHOPS = [f"shop{number}" for number in range(5)]
CRITICAL_PER_S = 20
BURST = 50_000
BURST_AT_S = 3.0
BURST_SERVICE_PART = 0.6
SLOWEST_PER_S = 1_200
"""What a busy machine sends in a second at least: critical ones must come for as long as the burst lasts."""

NEIGHBOURS = [f"shop{number}" for number in range(10)]
EACH_PER_S = 5
TIMES = 75
ABOVE_PER_S = 4_500
"""More than one dispatcher carries on two cores."""

SHARED_S, OVERLOAD_S = 12.0, 30.0
OVERLOAD_VALID_S = 12.0
SERVICE_PART, MARKETING_PART = 0.6, 0.9
"""Of what the machine carries: together half as much again."""

RATIO_AIM = 1.5


def _critical(seconds: float) -> list[Due]:
    return [due for shop in SHOPS for due in stream(shop, "paid", CRITICAL_PER_S / len(SHOPS), seconds)]


def _burst(size: int) -> list[Due]:
    """Everything due in one moment, of all shops alike."""
    service = int(size * BURST_SERVICE_PART)
    return [Due(SHOPS[n % len(SHOPS)], "moved" if n < service else "offer", BURST_AT_S) for n in range(size)]


def _sample(found: Flooded, delays_ms: Sequence[float], **figures: float) -> Sample:
    ordered = sorted(delays_ms)
    at = {f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 99)}
    lost = sum(one.taken_s is None for one in found.told) - found.dropped
    twice = sum(one.times > 1 for one in found.told)
    return Sample(len(ordered), 1.0, {}, {**at, "lost": float(lost), "twice": float(twice), **figures})


async def _alone(scratch: Scratch, seconds: float) -> Sample:
    found = await flood(scratch, _critical(seconds))
    return _sample(found, found.delays_ms("paid"))


async def _in_burst(scratch: Scratch, size: int) -> Sample:
    found = await flood(scratch, _critical(BURST_AT_S + size / SLOWEST_PER_S) + _burst(size))
    ended_s = found.ended_s("offer")
    service_s = found.ended_s("moved")
    early = sum(one.due.topic == "offer" and (one.taken_s or 0) < service_s - 1 for one in found.told)
    took_s = ended_s - BURST_AT_S
    return _sample(
        found, found.delays_ms("paid", (), BURST_AT_S, ended_s), took_s=took_s, per_s=size / took_s,
        service_s=service_s - BURST_AT_S, early=float(early),
    )  # fmt: skip


async def _beside(scratch: Scratch, per_s: float, seconds: float) -> Sample:
    """Nine shops as ever, and the first one with so many a second."""
    first, *others = NEIGHBOURS
    coming = [due for shop in others for due in stream(shop, "moved", EACH_PER_S, seconds)]
    found = await flood(scratch, coming + stream(first, "moved", per_s, seconds))
    own = found.p_ms(99, "moved", [first])
    return _sample(found, found.delays_ms("moved", others), own_p99=own, over_s=found.ended_s("moved") - seconds)


async def _overload(scratch: Scratch, capacity_per_s: float, seconds: float) -> Sample:
    coming = _critical(seconds)
    for topic, part in (("moved", SERVICE_PART), ("offer", MARKETING_PART)):
        each = capacity_per_s * part / len(SHOPS)
        coming += [due for shop in SHOPS for due in stream(shop, topic, each, seconds, valid_s=OVERLOAD_VALID_S)]
    found = await flood(scratch, coming)
    late_s = [one.delay_s - one.due.valid_s for one in found.told if one.taken_s is not None]
    sent = {topic: found.sent_part(topic) for topic in ("paid", "moved", "offer")}
    return _sample(
        found, found.delays_ms("paid"), offered_per_s=len(coming) / seconds, service_p99=found.p_ms(99, "moved"),
        late=float(sum(late > 0 for late in late_s)), latest_s=max(late_s), dropped=float(found.dropped),
        unexplained=float(sum(found.fates.values()) - len(coming)), **sent,
    )  # fmt: skip


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    seconds = max(SHARED_S * scale, 4.0)
    await _lanes(report, rounds, int(BURST * scale), seconds, scratch)
    await _shops(report, rounds, seconds, scratch)
    await _excess(report, rounds, max(OVERLOAD_S * scale, 15.0), scratch)


async def _lanes(report: Report, rounds: int, size: int, seconds: float, scratch: Scratch) -> None:
    runs = {"alone": lambda: _alone(scratch, seconds), "burst": lambda: _in_burst(scratch, size)}
    samples = await interleave(rounds, runs)
    alone, burst = samples["alone"], samples["burst"]
    note = f"median {_figure(alone, 'p50'):.0f} ms; {CRITICAL_PER_S} a second"
    report.rows.append(figure_row("fairness", "critical alone, p99", "ms", alone, "p99", note=note))
    note = (
        f"median {_figure(burst, 'p50'):.0f} ms; {size:,} at once, the last service message after "
        f"{_figure(burst, 'service_s'):.1f} s, the last of all after {_figure(burst, 'took_s'):.1f} s; advertising "
        f"more than a second before the last service message: {_worst(burst, 'early')}; {_losses(burst)}"
    )
    report.rows.append(figure_row("fairness", f"critical in a burst of {size:,}, p99", "ms", burst, "p99", note=note))
    report.rows.append(_ratio("critical in the burst against alone, p99", burst, alone))
    report.rows.append(figure_row("fairness", "the burst", "messages/s", burst, "per_s"))


async def _shops(report: Report, rounds: int, seconds: float, scratch: Scratch) -> None:
    loads = {"even": EACH_PER_S, "times": EACH_PER_S * TIMES, "above": ABOVE_PER_S}
    runs = {name: (lambda per_s=per_s: _beside(scratch, per_s, seconds)) for name, per_s in loads.items()}
    samples = await interleave(rounds, runs)
    for name, found in samples.items():
        note = (
            f"median {_figure(found, 'p50'):.0f} ms; the tenth shop's own p99 {_figure(found, 'own_p99'):,.0f} ms, "
            f"its last {_figure(found, 'over_s'):.1f} s after it fell due; {_losses(found)}"
        )
        what = f"nine shops with {EACH_PER_S}/s, the tenth with {loads[name]:,}/s, p99"
        report.rows.append(figure_row("fairness", what, "ms", found, "p99", note=note))
    report.rows.append(_ratio(f"nine shops beside {TIMES} times the load, p99", samples["times"], samples["even"]))
    report.rows.append(_ratio("nine shops beside more than can be carried, p99", samples["above"], samples["even"]))


async def _excess(report: Report, rounds: int, seconds: float, scratch: Scratch) -> None:
    rates = [row.median for row in report.rows if row.what == "the burst"]
    capacity = rates[-1]
    runs = {"alone": lambda: _alone(scratch, seconds / 2), "over": lambda: _overload(scratch, capacity, seconds)}
    samples = await interleave(max(1, rounds // 2), runs)
    over = samples["over"]
    latest_s = max(0.0, *(one.figures["latest_s"] for one in over))
    note = (
        f"{_figure(over, 'offered_per_s'):,.0f} a second offered for {seconds:.0f} s; sent of what is critical "
        f"{_figure(over, 'paid'):.1%}, of service {_figure(over, 'moved'):.1%}, of advertising "
        f"{_figure(over, 'offer'):.1%}; left out as out of date {_figure(over, 'dropped'):,.0f}; taken after its "
        f"time {_worst(over, 'late')}, by {latest_s:.2f} s at most; without a fate {_worst(over, 'unexplained')}; "
        f"{_losses(over)}"
    )
    report.rows.append(figure_row("fairness", "critical under overload, p99", "ms", over, "p99", note=note))
    report.rows.append(_ratio("critical under overload against alone, p99", over, samples["alone"]))


def _ratio(what: str, over: list[Sample], under: list[Sample]) -> Row:
    values = [a.figures["p99"] / b.figures["p99"] for a, b in zip(over, under, strict=True)]
    return Row(bench="fairness", what=what, unit="ratio", values=values, aim=RATIO_AIM, at_most=True)


def _figure(samples: list[Sample], name: str) -> float:
    return median(one.figures[name] for one in samples)


def _worst(samples: list[Sample], name: str) -> int:
    return int(max((one.figures[name] for one in samples), key=abs))


def _losses(samples: list[Sample]) -> str:
    return f"lost {_worst(samples, 'lost')}, twice {_worst(samples, 'twice')}"
