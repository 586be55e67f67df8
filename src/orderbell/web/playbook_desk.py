"""What the API and the console ask about playbooks; the composition hands in who answers."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from orderbell.core.playbook import Playbook
from orderbell.core.turn import Shelf
from orderbell.errors import OrderBellError
from orderbell.playbooks import Checked, Fault
from orderbell.store.activation import Activation, Activations, Missed, Version

Why = Literal["faults", "other_name", "missed", "changed", "unknown_version", "unusable"]
"""Why a version is not activated: it has faults, is called otherwise, lacks what is in use, another one counts by now,
it was never activated here, or this release cannot use it any more."""


class Refusal(Struct, frozen=True):
    """Why nothing was activated; `detail` is the other name, or the version that counts."""

    why: Why
    detail: str = ""
    faults: tuple[Fault, ...] = ()
    missed: Missed = Missed()


class TextsUnknown(OrderBellError):
    """The playbook has no such topic, locale, channel or tone."""


class PlaybookDesk(Protocol):
    """Where playbooks are looked at, tried and activated. What reads the database raises DatabaseUnavailable."""

    def shelf(self, tenant: str) -> Shelf:
        """The playbooks that count for a tenant."""
        ...

    def files(self, tenant: str) -> Shelf:
        """Those that count where it activated none."""
        ...

    def is_shipped(self, playbook: Playbook) -> bool:
        """Whether a playbook of the files is one that ships, as it ships."""
        ...

    def of(self, tenant: str) -> Activations:
        """The drafts, versions and activations of a tenant."""
        ...

    async def check(self, text: str) -> Checked:
        """Read and lint what somebody wrote; never raises, whatever it is."""
        ...

    async def texts(
        self, playbook: Playbook, *, topic: str = "", locale: str = "", channel: str = "", tone: str = ""
    ) -> Sequence[Any]:
        """Every text with sample values and in its longest case (`orderbell.insight.preview.Preview`).

        Raises:
            TextsUnknown: There is no such topic, locale, channel or tone; says what there is.
        """
        ...

    async def activate(
        self, tenant: str, name: str, body: str, *, expected: str, actor: str
    ) -> Activation | Refusal | None:
        """Let what somebody wrote count from now on, if `expected` counts still; None where it does so already."""
        ...

    async def activate_again(
        self, tenant: str, name: str, version: str, *, expected: str, actor: str
    ) -> Activation | Refusal | None:
        """Let an older version count again; None where it does so already."""
        ...

    async def version(self, tenant: str, name: str, version: str) -> Version | None:
        """A version that counts, that of the files, or one that was activated once."""
        ...


def source_of(desk: PlaybookDesk, tenant: str, name: str) -> Literal["shipped", "file", "own"]:
    """Where a playbook that counts comes from: it ships, stands in a file, or was activated by the tenant."""
    counting, filed = desk.shelf(tenant).playbooks.get(name), desk.files(tenant).playbooks.get(name)
    if counting is None or filed is None or counting.version != filed.version:
        return "own"
    return "shipped" if desk.is_shipped(filed) else "file"
