"""The settings: one frozen object, read once from an optional TOML file and then the environment, which wins."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from orderbell.errors import SettingsInvalid
from orderbell.observe import LogFormat, mask

PREFIX = "ORDERBELL_"
FILE = "ORDERBELL_SETTINGS"
"""The variable that names the file."""

# Variables of the same prefix that are no settings.
_OTHERS = {
    FILE, "ORDERBELL_FAILPOINTS", "ORDERBELL_FAILPOINTS_SEED", "ORDERBELL_FAULT_EVENTS", "ORDERBELL_FAULT_SEED",
    "ORDERBELL_TEST_DATABASE_URL",
}  # fmt: skip

Port = Annotated[int, Meta(ge=0, le=65535)]
_SECRET = {"secret_key", "metrics_token"}


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an installation may set. Port 0 asks the system for a free one.

    `database_url` empty: the bundled PostgreSQL in `data_dir`; `data_dir` empty: the usual place of this system.
    `share_port`: several `orderbell web` listen on one port.
    `sandbox_url` empty: a sandbox provider of our own at `sandbox_port`. `playbooks_dir` names a folder of playbook
    files that are laid beside those that ship; one of the same name takes the place of the shipped one.
    `providers_file` names the providers that carry messages (docs/channels.md); empty: the sandbox alone.
    `api_requests_per_s` and `api_burst`: how often an API key may ask a process, and how many times at once; events are
    not counted. `public_url` is how providers reach this installation from outside, such as `https://bell.example`.
    `webhook_hosts` are hosts of one's own network that webhooks may call by http and at private addresses, as `name` or
    `name:port`, separated by commas.
    `breached_passwords` names a file of stolen passwords, or of their SHA-1 digests, that nobody may choose.
    `trusted_hops`: how many reverse proxies of yours stand before it; so many entries of `X-Forwarded-For` are true.
    `secret_key` (64 hex digits, or 32 bytes in base64) seals personal data; empty: `secret.key` in `data_dir`, made at
    the first start.
    `metrics_port` opens a listener for `/metrics` of its own, for processes without web; 0: none. `metrics_token` lets
    those read them who do not ask from this machine. `traces_url` is where spans go (OTLP over HTTP, such as
    `http://127.0.0.1:4318/v1/traces`; needs `orderbell[traces]`); empty: nobody traces. `traces_share` is the share of
    notices and requests that are traced.
    """

    database_url: str = ""
    database_connections: Annotated[int, Meta(ge=2, le=100)] = 12
    data_dir: str = ""
    host: str = "127.0.0.1"
    port: Port = 8470
    share_port: bool = False
    sandbox_url: str = ""
    sandbox_port: Port = 8471
    playbooks_dir: str = ""
    providers_file: str = ""
    public_url: str = ""
    api_requests_per_s: Annotated[int, Meta(ge=1, le=100_000)] = 50
    api_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    trusted_hops: Annotated[int, Meta(ge=0, le=10)] = 0
    secret_key: str = ""
    webhook_hosts: str = ""
    breached_passwords: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 0
    metrics_token: str = ""
    traces_url: str = ""
    traces_share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "auto"

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.shown().items())
        return f"Settings({shown})"

    __str__ = __repr__

    def shown(self) -> dict[str, object]:
        """Return the settings by name as they may be shown: passwords and secrets are masked."""
        return {name: _shown(name, value) for name, value in msgspec.structs.asdict(self).items()}


def read_settings(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        file: A TOML file with the fields of `Settings`; default: the one that ORDERBELL_SETTINGS names, if any.
        environment: Where `ORDERBELL_PORT` and the like are looked up; default: that of the process.

    Raises:
        SettingsInvalid: Names the setting, where it was found and what is wrong with it.
    """
    variables = os.environ if environment is None else environment
    named = variables.get(FILE)
    path = file or (Path(named) if named else None)
    values = _read_file(path) if path is not None else {}
    for name in values:
        _check_known(name, f"{path}: {name}", "")
    for variable, value in variables.items():
        if variable.startswith(PREFIX) and variable not in _OTHERS:
            name = variable.removeprefix(PREFIX).lower()
            _check_known(name, f"the environment: {variable}", PREFIX)
            values[name] = value
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as wrong:
        problem, _, where = str(wrong).partition(" - at `$.")
        name = where.rstrip("`")
        raise SettingsInvalid(f"the setting {name} ({PREFIX}{name.upper()}): {problem}") from None


def _shown(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    return "***" if value and name in _SECRET else mask(value)


def _read_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as problem:
        raise SettingsInvalid(f"the settings file {path} cannot be read: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsInvalid(f"the settings file {path} is not TOML: {problem}") from problem


def _check_known(name: str, where: str, prefix: str) -> None:
    known = Settings.__struct_fields__
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {prefix + near[0].upper() if prefix else near[0]}?" if near else ""
        raise SettingsInvalid(f"{where} is no setting{meant} Known: {', '.join(known)}")
