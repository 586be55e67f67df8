"""The lock files pin everything, for every machine, and fit what pyproject.toml asks for."""

import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import PACKAGE, ROOT, sources

RUN = ROOT / "requirements" / "run.txt"
DEV = ROOT / "requirements" / "dev.txt"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?= |$)")
EXTRAS = {"src/orderbell/observe/spans.py": "traces"}
"""Files that are imported only where an extra is wanted."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _entries(lock: Path) -> list[str]:
    """The requirements of a lock file with their hashes, one line each, without comments."""
    text = re.sub(r"\s*\\\n\s*", " ", lock.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _pins(lock: Path) -> dict[str, set[str]]:
    """Name → versions; more than one where markers divide them."""
    pins: dict[str, set[str]] = {}
    for entry in _entries(lock):
        requirement = Requirement(entry.split(" --hash", 1)[0])
        versions = {specifier.version for specifier in requirement.specifier}
        pins.setdefault(canonicalize_name(requirement.name), set()).update(versions)
    return pins


def _names(wanted: Collection[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in wanted}


def _unmet(wanted: Collection[str], pins: Mapping[str, Collection[str]]) -> list[str]:
    unmet = []
    for text in wanted:
        requirement = Requirement(text)
        versions = pins.get(canonicalize_name(requirement.name), ())
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            unmet.append(f"{text}: locked {sorted(versions)}")
    return unmet


@pytest.mark.parametrize("lock", [RUN, DEV], ids=lambda lock: str(lock.stem))
def test_lock_pins_each_package_with_hashes(lock: Path) -> None:
    """Every line is NAME==VERSION, perhaps with a marker, and hashes: no option, address or path."""
    pinned = re.compile(r"[a-z0-9-]+==[a-z0-9.+!]+( ; [^/@]+?)?")
    wrong = [
        entry for entry in _entries(lock) if not HASH.search(entry) or not pinned.fullmatch(HASH.sub("", entry).strip())
    ]
    assert wrong == []


@pytest.mark.parametrize("lock", [RUN, DEV], ids=lambda lock: str(lock.stem))
def test_lock_names_no_address_and_no_folder(lock: Path) -> None:
    """Comments included, a lock file says nothing of the machine or the index it was made with."""
    assert re.findall(r"\S*(?:://|/home/|/root|/tmp|file:|index-url|find-links)\S*", lock.read_text()) == []


def test_lock_meets_the_ranges() -> None:
    """What pyproject.toml asks for is locked within its range: else `make lock` was forgotten."""
    project = PROJECT["project"]["dependencies"]
    development = [*PROJECT["dependency-groups"]["dev"], *PROJECT["build-system"]["requires"]]
    assert _unmet(project, _pins(RUN)) == []
    assert _unmet([*project, *development], _pins(DEV)) == []


def test_development_lock_holds_the_run_time_lock() -> None:
    """Tests run with the very versions that users get."""
    development = _pins(DEV)
    assert {name: versions for name, versions in _pins(RUN).items() if development.get(name) != versions} == {}


def test_imported_packages_are_asked_for() -> None:
    """Nothing is imported that only another package happens to bring along."""
    asked = _names(PROJECT["project"]["dependencies"])
    providers = packages_distributions()
    wrong = []
    for source in sources(PACKAGE):
        extra = EXTRAS.get(source.path)
        allowed = asked | _names(PROJECT["project"]["optional-dependencies"][extra]) if extra else asked
        for module, line in source.imports():
            top = module.split(".")[0]
            known = {canonicalize_name(name) for name in providers.get(top, [])}
            if top not in {*sys.stdlib_module_names, "orderbell"} and not known & allowed:
                wrong.append(f"{source.path}:{line} imports {module}")
    assert wrong == []
