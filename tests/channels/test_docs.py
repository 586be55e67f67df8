"""docs/channels.md is true: its examples are read, and its tables name every option with its default."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from orderbell.app.providers import read_providers
from orderbell.channels.fcm import ServiceAccount
from orderbell.channels.mail import DkimKey
from orderbell.channels.registry import KINDS, options_type
from orderbell.channels.staff import Robot
from orderbell.sandbox.faults import Faults
from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "channels.md").read_text("utf-8")
PARTS = {
    "fcm": {name for name in ServiceAccount.__struct_fields__ if name != "type"},
    "mail": set(DkimKey.__struct_fields__),
    "staff": set(Robot.__struct_fields__),
}
SECRETS = {
    "SMPP_PASSWORD": "eight888",
    "WEBHOOK_SECRET": "whsec_" + "A" * 43 + "=",
    "TWILIO_CALLBACK_URL": "https://bell.example/v1/callbacks/twilio/T",
    "DINGTALK_URL": "https://oapi.dingtalk.com/robot/send?access_token=t",
}


def section_of(kind: str) -> str:
    """The section about a kind."""
    found = re.search(rf"^## {kind}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/channels.md has no section {kind}"
    return found[1]


def defaults_in(section: str) -> dict[str, str]:
    """What the table of options in a section says: their defaults by name."""
    table = section.partition("| option | default | what |")[2].partition("\n\n")[0]
    said: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", table, re.MULTILINE):
        listed = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ") if len(listed) > 1 else [defaults]
        said.update(zip(listed, values, strict=True))
    return said


def shown(field: msgspec.structs.FieldInfo) -> str:
    """How the tables write the default of an option."""
    if field.required:
        return "required"
    default: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, str):
        return f"`{default}`" if default else "empty"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, (int, float)):
        return f"{default:g}"
    return f"`{msgspec.json.encode(default).decode()}`" if default else "none"


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_stands_in_the_table_with_its_default(kind: str) -> None:
    """Whoever configures a provider finds each of its options, and what it is where nothing is said."""
    expected = {field.name: shown(field) for field in msgspec.structs.fields(options_type(kind))}
    said = defaults_in(section_of(kind))
    assert {name: said.get(name) for name in expected} == expected


@pytest.mark.parametrize("kind", sorted(PARTS))
def test_fields_of_nested_tables_are_named(kind: str) -> None:
    """The tables inside of options are explained as well."""
    assert PARTS[kind] <= set(re.findall(r"`(\w+)`", section_of(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_example_is_read(kind: str, tmp_path: Path) -> None:
    """The example of each kind is a good file of providers once its secrets are set."""
    (example,) = re.findall(r"```toml\n(\[\[provider\]\].*?)```", section_of(kind), re.DOTALL)
    file, key_file = tmp_path / "providers.toml", tmp_path / "fcm.json"
    key_file.write_text('{"project_id": "my-shop", "client_email": "push@shop.example", "private_key": "k"}', "utf-8")
    file.write_text(re.sub(r'json = "[^"]+"', f'json = "{key_file}"', example), "utf-8")
    environment = {name: SECRETS.get(name, "k" * 43) for name in re.findall(r'env = "(\w+)"', example)}
    (spec,) = read_providers(file, environment)
    assert spec.kind == kind
    assert tomllib.loads(example)["provider"][0]["kind"] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_section_answers_the_same_questions(kind: str) -> None:
    """What it costs, how receipts come, what a lost answer means, what is limited, and what nobody knows for sure."""
    section = section_of(kind)
    asked = ("**Costs**", "**Receipts**", "**After a lost answer**", "**Limits**", "*Doubtful*")
    assert [words for words in asked if words not in section] == []


def test_every_fault_is_named() -> None:
    """People who play with the simulators find all faults, but those that only the sandbox has."""
    named = set(re.findall(r"`(\w+)`", section_of("The rehearsal")))
    assert set(Faults.__struct_fields__) - named == {"seed", "only_channel"}


def test_links_inside_the_page_lead_somewhere() -> None:
    """Every anchor is that of a heading."""
    headings = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings


def test_kinds_of_wechat_messages_are_all_explained() -> None:
    """An option that takes one of a few words has them all in its section."""
    (field,) = [one for one in msgspec.structs.fields(options_type("wechat")) if one.name == "message_kind"]
    assert all(f"`{word}`" in section_of("wechat") for word in get_args(field.type))
