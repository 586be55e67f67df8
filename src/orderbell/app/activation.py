"""Playbooks per tenant while the platform runs: following what was activated, and checking what is to be.

Every process reads what counts every two seconds and puts new shelves in the place of old ones; a turn or a plan that
runs keeps the shelf that it began with.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

from orderbell.app.clock import Clock
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Shelf
from orderbell.insight.preview import Preview, PreviewUnknown, preview
from orderbell.playbooks import Checked, check_draft, shipped_shelf
from orderbell.store.activation import Activation, Activations, Known, Version, VersionChanged, version_of
from orderbell.store.keys import Pool
from orderbell.store.postgres import Store
from orderbell.store.tenants import read_shelves
from orderbell.store.trail import Trail
from orderbell.web.playbook_desk import Refusal, TextsUnknown

CHECKS_MAX: Final = 2
"""Checks and previews at once: each keeps a processor busy for a good part of a second."""

Made = TypeVar("Made")


class Following:
    """The shelves of all tenants as they count now; `shelves` is one mapping for the life of the process.

    Args:
        pool: The database.
        shelf: The playbooks of the files.
    """

    def __init__(self, pool: Pool, shelf: Shelf) -> None:
        self.shelves: dict[str, Shelf] = {}
        self._pool, self._shelf = pool, shelf
        self._bases: dict[str, Shelf] = {}
        self._known: Known = {}
        self._lock = asyncio.Lock()

    def add(self, tenant: str, shelf: Shelf | None) -> None:
        """Take a new tenant in, perhaps with a shelf of its own instead of that of the files."""
        if shelf is not None:
            self._bases[tenant] = shelf
        self.shelves[tenant] = shelf or self._shelf

    def files(self, tenant: str) -> Shelf:
        """The playbooks that count for a tenant where it activated none."""
        return self._bases.get(tenant, self._shelf)

    async def refresh(self) -> None:
        """Read what counts now.

        Raises:
            DatabaseUnavailable: Everything stays as it is.
        """
        async with self._lock:  # two at once could put the older state in last
            found = await read_shelves(self._pool, self._shelf.playbooks, self._bases, self._known)
            for tenant, shelf in found.items():
                old = self.shelves.get(tenant)
                if old is None or not _is_same(old, shelf):
                    self.shelves[tenant] = shelf


def _is_same(one: Shelf, other: Shelf) -> bool:
    mine, theirs = one.playbooks, other.playbooks
    return (
        one.default == other.default
        and mine.keys() == theirs.keys()
        and all(mine[name] is theirs[name] for name in mine)
    )


@cache
def _shipped_versions() -> frozenset[str]:
    return frozenset(playbook.version for playbook in shipped_shelf().playbooks.values())


class Desk:
    """Where playbooks are looked at, tried and activated; see `orderbell.web.playbook_desk.PlaybookDesk`."""

    def __init__(self, store: Store, following: Following, folder: str, now: Clock) -> None:
        self._store, self._following, self._folder, self._now = store, following, folder, now
        self._trail = Trail(store, now)
        self._checks = asyncio.Semaphore(CHECKS_MAX)

    def shelf(self, tenant: str) -> Shelf:
        """The playbooks that count for a tenant in this process."""
        return self._following.shelves.get(tenant) or self._following.files(tenant)

    def files(self, tenant: str) -> Shelf:
        """Those that count where it activated none."""
        return self._following.files(tenant)

    def is_shipped(self, playbook: Playbook) -> bool:
        """Whether a playbook of the files is one that ships, as it ships."""
        return not self._folder or playbook.version in _shipped_versions()

    def of(self, tenant: str) -> Activations:
        """The drafts, versions and activations of a tenant."""
        return Activations(self._store, tenant)

    async def check(self, text: str) -> Checked:
        """Read and lint what somebody wrote."""
        return await self._aside(lambda: check_draft(text, self._folder))

    async def texts(
        self, playbook: Playbook, *, topic: str = "", locale: str = "", channel: str = "", tone: str = ""
    ) -> list[Preview]:
        """Every text of a playbook with sample values and in its longest case; see `preview`.

        Raises:
            TextsUnknown: There is no such topic, locale, channel or tone.
        """
        try:
            return await self._aside(lambda: preview(playbook, topic=topic, locale=locale, channel=channel, tone=tone))
        except PreviewUnknown as problem:
            raise TextsUnknown(str(problem)) from None

    async def activate(
        self, tenant: str, name: str, body: str, *, expected: str, actor: str
    ) -> Activation | Refusal | None:
        """Let what somebody wrote count from now on; None where it does so already."""
        checked = await self.check(body)
        if checked.playbook is None or checked.faults:
            return Refusal("faults", faults=checked.faults)
        if checked.playbook.name != name:
            return Refusal("other_name", detail=checked.playbook.name)
        return await self._switch(tenant, version_of(checked.playbook, body, self._now()), expected, actor)

    async def activate_again(
        self, tenant: str, name: str, version: str, *, expected: str, actor: str
    ) -> Activation | Refusal | None:
        """Let an older version count again, or that of the files; None where it does so already."""
        from_files = self.files(tenant).playbooks.get(name)
        if from_files is not None and from_files.version == version:
            found: Version | None = version_of(from_files, "", self._now())
        else:
            found = await self.of(tenant).version(name, version)
        if found is None:
            return Refusal("unknown_version", detail=version)
        return await self._switch(tenant, found, expected, actor)

    async def version(self, tenant: str, name: str, version: str) -> Version | None:
        """A version that counts, that of the files, or one that was activated once."""
        shelves = (self.shelf(tenant), self.files(tenant))
        for playbook in (shelf.playbooks.get(name) for shelf in shelves):
            if playbook is not None and playbook.version == version:
                kept = await self.of(tenant).version(name, version)
                return kept or version_of(playbook, "", self._now())
        return await self.of(tenant).version(name, version)

    async def _switch(self, tenant: str, version: Version, expected: str, actor: str) -> Activation | Refusal | None:
        name, activations, now = version.name, self.of(tenant), self._now()
        playbook = await self._aside(version.compiled)
        await self._following.refresh()  # what another process activated a moment ago may be in use as well
        if playbook is None:
            return Refusal("unusable", detail=version.version)
        counting, filed = self.shelf(tenant).playbooks.get(name), self.files(tenant).playbooks.get(name)
        missed = await activations.missed([one for one in (counting, filed) if one is not None], playbook, now)
        if missed:
            return Refusal("missed", missed=missed)
        if counting is not None:
            await activations.keep(version_of(counting, "", now))
        from_files = filed.version if filed is not None else ""
        try:
            async with self._trail.together():
                done = await activations.activate(
                    version, expected=expected, from_files=from_files, follow=version.version == from_files, at=now,
                    actor=actor,
                )  # fmt: skip
                if done is not None:
                    detail = {"from": expected, "to": version.version, "number": done.number}
                    await self._trail.write(tenant, actor, "playbook.activate", name, detail)
        except VersionChanged as changed:
            return Refusal("changed", detail=changed.current)
        await self._following.refresh()
        return done

    async def _aside(self, work: Callable[[], Made]) -> Made:
        async with self._checks:
            return await asyncio.to_thread(work)
