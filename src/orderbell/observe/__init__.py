"""What the house says about itself: logs without personal data, counters, and failpoints for tests."""

import logging
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import structlog
from msgspec import Struct

from orderbell.errors import SettingsInvalid

LogFormat = Literal["auto", "json", "console"]

FAILPOINTS = "ORDERBELL_FAILPOINTS"
FAILPOINTS_SEED = "ORDERBELL_FAILPOINTS_SEED"

_MASK = "***"
# Values under these names are never shown, whatever they hold.
_HIDDEN_NAME = re.compile(
    r"password|secret|token|api_?key|authorization|cookie|(^|_)(phone|email|address|to)$", re.IGNORECASE
)
_MAIL = re.compile(r"([\w.+-])[\w.+-]*@([\w-]+(\.[\w-]+)+)")
# A mobile number of mainland China, perhaps with its country code, or any number in international form.
_PHONE = re.compile(
    r"(?<![0-9A-Za-z_.])((?:(?:\+|00)?86[ -]?)?1[3-9]\d)[ -]?\d{4}[ -]?(\d{4})(?![0-9A-Za-z_])"
    r"|(?<![0-9A-Za-z_])(\+\d{3})\d{3,10}(\d{2})(?![0-9A-Za-z_])"
)
_KEY = re.compile(r"\b(ob|sk|ak|key)_[A-Za-z0-9_-]{12,}")
_PASSWORD_IN_URL = re.compile(r"(://[^\s:/@]*):[^\s/@]*@")


def set_up_logging(level: str = "INFO", log_format: LogFormat = "auto") -> None:
    """Write logs to standard error: one JSON object a line, or coloured text where a person watches.

    The standard library's loggers (uvicorn, Alembic) take the same way.
    """
    person = sys.stderr.isatty() if log_format == "auto" else log_format == "console"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for talkative in ("uvicorn", "alembic", "asyncpg"):  # what they have to say in good times is of no use here
        logging.getLogger(talkative).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def redact(_logger: object, _method: str, record: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask phone numbers, mail addresses and keys in a log record, and spell control characters out."""
    for name, value in record.items():
        if name == "exception":
            # A traceback keeps its lines, which JSON spells out by itself; Unicode's line ends it does not.
            record[name] = "\n".join(map(_readable, mask(str(value)).split("\n")))
        else:
            record[name] = _MASK if _HIDDEN_NAME.search(name) else _clean(value)
    return record


def mask(text: str) -> str:
    """Mask what must not be read in a text: `13812341234` becomes `138****1234`, `ann@shop.cn` `a***@shop.cn`."""
    text = _MAIL.sub(rf"\1{_MASK}@\2", _PASSWORD_IN_URL.sub(rf"\1:{_MASK}@", text))
    text = _PHONE.sub(lambda m: f"{m[1]}****{m[2]}" if m[1] else f"{m[3]}****{m[4]}", text)
    return _KEY.sub(rf"\1_{_MASK}", text)


def _clean(value: object) -> object:
    if isinstance(value, str):
        return _readable(mask(value))
    if isinstance(value, Mapping):
        return {
            _readable(mask(str(key))): _MASK if _HIDDEN_NAME.search(str(key)) else _clean(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return value if isinstance(value, bool | int | float | None) else _clean(str(value))


def _readable(text: str) -> str:
    return text if text.isprintable() else "".join(map(_spelled, text))


def _spelled(character: str) -> str:
    # A line end inside a value could pass for a record of its own, an escape could repaint the terminal.
    return character if character.isprintable() else repr(character)[1:-1]


_counts: Counter[str] = Counter()


def count(name: str, times: int = 1) -> None:
    """Count something that happened in this process."""
    _counts[name] += times


def counts() -> dict[str, int]:
    """Return what was counted since the process began."""
    return dict(_counts)


class FailpointReached(BaseException):
    """A failpoint armed with `raise` was reached.

    As with the death that it stands for, nobody who is prepared for mistakes may catch it and go on.
    """


class _Arm(Struct):
    """What happens at a failpoint: `action` at the `at`th visit, from it on, or by chance."""

    action: str
    at: int = 0
    onwards: bool = False
    share: float = 0.0
    dice: random.Random = random.Random(0)  # noqa: S311 - replaced for each arm; replayable, not secret
    visits: int = 0

    def hit(self) -> bool:
        """Count a visit and say whether this one counts."""
        self.visits += 1
        if self.share:
            return self.dice.random() < self.share
        return self.visits == self.at or (self.onwards and self.visits > self.at)


_ARM = re.compile(
    r"(?P<name>[\w.]+)=(?P<action>kill|raise|pause:\d+)(@((?P<share>\d+(\.\d+)?)%|(?P<at>\d+)(?P<onwards>\+?)))?"
)
_arms: dict[str, _Arm] = {}


def failpoint(name: str) -> None:
    """Name a place where tests make the process fail; costs one look at an empty table in production."""
    if _arms and (arm := _arms.get(name)) is not None and arm.hit():
        count(f"failpoint.{name}")
        if arm.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if arm.action == "raise":
            raise FailpointReached(name)
        # The whole process stands still, as it would while the machine is busy with something else.
        time.sleep(int(arm.action.partition(":")[2]) / 1000)


def arm_failpoints(arms: str, seed: int = 0) -> None:
    """Arm failpoints, in place of those armed before; an empty text disarms all.

    Args:
        arms: `NAME=ACTION@WHEN,…`. Actions: `kill` (SIGKILL to this process), `raise`, `pause:MS` (the process
            stands still). When: `3` the third visit, `3+` the third and all later ones, `5%` by chance;
            without it the first visit and all later ones.
        seed: Of the dice; the same seed fails at the same visits.

    Raises:
        SettingsInvalid: The text does not follow the form.
    """
    made: dict[str, _Arm] = {}
    for text in filter(None, (part.strip() for part in arms.split(","))):
        found = _ARM.fullmatch(text)
        if found is None:
            form = "NAME=kill|raise|pause:MS, perhaps with @3, @3+ or @5%"
            raise SettingsInvalid(f"{FAILPOINTS}: {text!r} does not follow {form}")
        share = float(found["share"] or 0) / 100
        onwards = found["onwards"] == "+" or (not share and found["at"] is None)
        dice = random.Random(f"{seed}:{found['name']}")  # noqa: S311 - replayable, not secret
        made[found["name"]] = _Arm(found["action"], int(found["at"] or 1), onwards, share, dice)
    _arms.clear()
    _arms.update(made)
    if made:
        structlog.get_logger().warning("failpoints armed", arms=arms, seed=seed)


if os.environ.get(FAILPOINTS):
    arm_failpoints(os.environ[FAILPOINTS], int(os.environ.get(FAILPOINTS_SEED, "0")))
