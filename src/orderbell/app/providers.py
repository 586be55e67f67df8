"""The providers of an installation, as a file names them.

::

    [[provider]]
    name = "ali"                       # in the ledger, in metrics, in the address of its callbacks
    kind = "alibaba"
    weight = 2                         # twice the traffic of one with weight 1, while both are well
    prefixes = ["+86"]                 # only these addresses; without it, all
    callback_token = {env = "ALI_CALLBACK"}
    access_key_id = "LTAI…"            # from here on what the kind takes (docs/channels.md)
    access_key_secret = {env = "ALI_SECRET"}

A value may be `{env = "NAME"}` or `{file = "PATH"}` instead of the words themselves, so that no secret needs to stand
in the file.
"""

import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from orderbell.channels.protocol import Channel, Shared, Veiled
from orderbell.channels.registry import KindUnknown, make_channel, options_type
from orderbell.dispatch.routes import Terms
from orderbell.errors import SettingsInvalid

TOKEN_LENGTH_MIN = 22
"""Characters of a callback token: 128 random bits in base64. The address is all that keeps strangers away."""

Made = TypeVar("Made", bound=Struct)
_COMMON = {"name", "kind", "weight", "tenants", "prefixes", "callback_token"}


class ProviderSpec(Veiled, frozen=True, kw_only=True):
    """A provider as its file names it; `options` are those of its kind, checked."""

    name: str
    kind: str
    options: msgspec.Struct
    terms: Terms
    callback_token: str = ""

    def open(self, now: Callable[[], datetime], shared: Shared) -> Channel:
        """Make the channel to it.

        Raises:
            SettingsInvalid: Its options cannot be used, such as a key that is none.
        """
        try:
            return make_channel(self.kind, self.options, name=self.name, now=now, shared=shared)
        except (ValueError, TypeError, KindUnknown) as problem:
            raise SettingsInvalid(f"provider {self.name} ({self.kind}): {problem}") from None


class _Common(Veiled, frozen=True, kw_only=True):
    name: str
    kind: str
    weight: float = 1.0
    tenants: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    callback_token: str = ""


def read_providers(file: Path, environment: Mapping[str, str] | None = None) -> list[ProviderSpec]:
    """Read a file of providers.

    Raises:
        SettingsInvalid: Names the provider and the field, and says what is wrong with it.
    """
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except OSError as problem:
        raise SettingsInvalid(f"the file of providers {file} cannot be read: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsInvalid(f"the file of providers {file} is not TOML: {problem}") from problem
    listed = tree.get("provider")
    if set(tree) != {"provider"} or not isinstance(listed, list):
        raise SettingsInvalid(f"{file}: write one [[provider]] table for each provider, and nothing else")
    found = [_read(entry, f"{file}: provider {place}", environment) for place, entry in enumerate(listed, 1)]
    _check_names(found, file)
    return found


def _read(entry: Any, where: str, environment: Mapping[str, str] | None) -> ProviderSpec:  # noqa: ANN401 - what the file holds
    if not isinstance(entry, dict):
        raise SettingsInvalid(f"{where} is no table; write [[provider]] above it")
    where = f"{where} ({entry.get('name', 'without a name')})"
    values = _filled(entry, where, os.environ if environment is None else environment)
    common = _converted({key: values[key] for key in values.keys() & _COMMON}, _Common, where)
    if not common.name.isidentifier() or not common.name.isascii():
        raise SettingsInvalid(f"{where}: name: use letters, digits and _, such as ali_main")
    if not 0 < common.weight < math.inf:
        raise SettingsInvalid(f"{where}: weight: must be a number above 0; leave the provider out to stop using it")
    if common.callback_token and len(common.callback_token) < TOKEN_LENGTH_MIN:
        raise SettingsInvalid(
            f"{where}: callback_token: at least {TOKEN_LENGTH_MIN} characters that nobody can guess; "
            f"make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    try:
        kind = options_type(common.kind)
    except KindUnknown as problem:
        raise SettingsInvalid(f"{where}: kind: {problem}") from problem
    options = _converted({key: value for key, value in values.items() if key not in _COMMON}, kind, where)
    terms = Terms(common.weight, frozenset(common.tenants), common.prefixes)
    return ProviderSpec(
        name=common.name, kind=common.kind, options=options, terms=terms, callback_token=common.callback_token
    )


def _converted(values: Mapping[str, Any], kind: type[Made], where: str) -> Made:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as wrong:
        problem, _, path = str(wrong).partition(" - at `$.")
        field = path.rstrip("`")
        raise SettingsInvalid(f"{where}: {f'{field}: ' if field else ''}{problem}") from None


def _filled(value: Any, where: str, environment: Mapping[str, str]) -> Any:  # noqa: ANN401 - what the file holds
    """The tree with every `{env = …}`, `{file = …}` and `{json = …}` looked up."""
    if isinstance(value, list):
        return [_filled(one, where, environment) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"env"}:
        if not isinstance(value["env"], str):
            raise SettingsInvalid(f'{where}: write the name of a variable after env, such as {{env = "ALI_SECRET"}}')
        if not environment.get(value["env"]):
            raise SettingsInvalid(f"{where}: the environment has no variable {value['env']}; set it to the secret")
        return environment[value["env"]]
    if set(value) == {"file"}:
        if not isinstance(value["file"], str):
            raise SettingsInvalid(f'{where}: write a path after file, such as {{file = "/run/secrets/ali"}}')
        return _read_secret(value["file"], where)
    if set(value) == {"json"}:
        if not isinstance(value["json"], str):
            raise SettingsInvalid(f'{where}: write a path after json, such as {{json = "/run/secrets/fcm.json"}}')
        return _read_json(value["json"], where)
    return {key: _filled(one, where, environment) for key, one in value.items()}


def _read_secret(path: str, where: str) -> str:
    try:
        words = Path(path).read_text("utf-8").strip()
    except OSError as problem:
        raise SettingsInvalid(f"{where}: the file {path} cannot be read: {problem.strerror}") from problem
    except ValueError:
        raise SettingsInvalid(f"{where}: the file {path} cannot be read: it is no text in UTF-8") from None
    if not words:
        raise SettingsInvalid(f"{where}: the file {path} is empty; put the secret into it")
    return words


def _read_json(path: str, where: str) -> Any:  # noqa: ANN401 - what the file holds
    try:
        return msgspec.json.decode(_read_secret(path, where))
    except msgspec.DecodeError:
        raise SettingsInvalid(f"{where}: the file {path} is not JSON; take the key file as it was downloaded") from None


def _check_names(found: Sequence[ProviderSpec], file: Path) -> None:
    names = [one.name for one in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SettingsInvalid(f"{file}: {', '.join(sorted(twice))}: two providers of one name; give each its own")
