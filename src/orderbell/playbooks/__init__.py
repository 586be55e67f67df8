"""The playbooks that ship (YAML beside this file), and how any playbook is read: file, line and remedy for every fault.

A playbook file may extend a shipped one or a file beside it: mappings are laid over each other key by key, the
rules are joined, and a `null` switches an inherited entry off. Wording files (`wording/LOCALE.yaml`) are laid over
the shipped ones in the same way, and over them what stands in the part `wording: LOCALE:` of the playbook itself.
"""

from pathlib import Path

from orderbell.core.playbook import Playbook
from orderbell.core.turn import Shelf
from orderbell.errors import PlaybookInvalid
from orderbell.playbooks.reading import DRAFT, DRAFT_BYTES_MAX, SHIPPED, Checked, Fault, check_draft, check_file

__all__ = [
    "DRAFT", "DRAFT_BYTES_MAX", "SHIPPED", "SHIPPED_NAMES", "Checked", "Fault", "check_draft", "check_playbook",
    "load_playbook", "load_shelf", "shipped_shelf",
]  # fmt: skip

SHIPPED_NAMES = ("retail", "digital", "consignment")


def shipped_shelf(default: str = "retail") -> Shelf:
    """The three playbooks that ship, checked."""
    return Shelf({name: load_playbook(SHIPPED / f"{name}.yaml") for name in SHIPPED_NAMES}, default)


def load_shelf(folder: str, default: str = "retail") -> Shelf:
    """The playbooks that ship and those of a folder, checked; one of the same name takes the place of the shipped one.

    An empty `folder` is none. PlaybookInvalid where it is not there, or as `load_playbook`.
    """
    shelf = shipped_shelf(default)
    if not folder:
        return shelf
    files = sorted(Path(folder).expanduser().glob("*.yaml"))
    if not files:
        raise PlaybookInvalid(f"{folder}: there is no folder of this name with playbooks (*.yaml); check playbooks_dir")
    own = [load_playbook(file) for file in files]
    return Shelf(shelf.playbooks | {playbook.name: playbook for playbook in own}, default)


def load_playbook(path: Path) -> Playbook:
    """Read, compile and lint a playbook file.

    PlaybookInvalid lists every problem, one a line: `file:line: what is wrong; what to do`.
    """
    playbook, problems = check_playbook(path)
    if playbook is None or problems:
        raise PlaybookInvalid("\n".join(problems))
    return playbook


def check_playbook(path: Path) -> tuple[Playbook | None, list[str]]:
    """The compiled playbook, if it compiles, and all that is wrong with it, as lines for people."""
    found = check_file(path)
    return found.playbook, [str(fault) for fault in found.faults]
