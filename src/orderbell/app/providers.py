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

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

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

BY_PHONE: Final = frozenset({"alibaba", "smpp", "tencent", "twilio"})
"""The kinds whose addresses are phone numbers, which always begin with + here."""

_is_prefix = re.compile(r"\+[0-9]*").fullmatch
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_OTHER_TYPE = re.compile(r"Expected `(\w+)`, got `(\w+)`")
_LENGTH = re.compile(r"Expected `str` of length (>=|<=) (\d+)")
_BOUND = re.compile(r"Expected `(?:int|float)` (>=|<=|>|<) (\S+)")
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}
_TYPES: Final = {
    "str": "text in quotes", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list in [ ]", "object": "a table",
}  # fmt: skip


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
        raise SettingsInvalid(f"{where}: name: use letters, digits and _, beginning with a letter, such as ali_main")
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
    _check_prefixes(common, where)
    for field, address in _addresses(options):
        if address and not _is_address(address):
            raise SettingsInvalid(f"{where}: {field}: must begin with http:// or https://, and name a host")
    terms = Terms(common.weight, frozenset(common.tenants), common.prefixes)
    return ProviderSpec(
        name=common.name, kind=common.kind, options=options, terms=terms, callback_token=common.callback_token
    )


def _check_prefixes(common: _Common, where: str) -> None:
    wrong = [prefix for prefix in common.prefixes if not _is_prefix(prefix)]
    if wrong and common.kind in BY_PHONE:
        raise SettingsInvalid(
            f'{where}: prefixes: {wrong[0]!r} begins no phone number; write + and the country, such as "+86"'
        )


def _addresses(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - options, and what they hold
    """Every option that is an HTTP address, at any depth, with its place."""
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            found, place = getattr(value, name), f"{path}.{name}".lstrip(".")
            if isinstance(found, str) and (name in {"url", "token_uri"} or name.endswith("_url")):
                yield place, found
            else:
                yield from _addresses(found, place)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _addresses(one, f"{path}.{key}")
    elif isinstance(value, tuple | list):
        for number, one in enumerate(value, 1):
            yield from _addresses(one, f"{path} {number}")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and not re.search(r"\s", text)


def _converted(values: Mapping[str, Any], kind: type[Made], where: str) -> Made:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as wrong:
        problem, _, path = str(wrong).partition(" - at `")
        holder, field, found = _look_up(path.rstrip("`"), values, kind)
        words = _said(problem, holder, found, _COMMON if holder is kind else ())
        raise SettingsInvalid(f"{where}: {field}: {words}" if field else f"{where}: {words}") from None


def _look_up(path: str, value: Any, kind: Any) -> tuple[Any, str, Any]:  # noqa: ANN401 - types and what a file holds
    """What stands at a path of msgspec: the type that it must have, the path as a person reads it, and the value."""
    shown = ""
    for name, place in _STEP.findall(path):
        if name:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == name)
            value, shown = value[name], f"{shown}.{name}"
        elif place == "...":  # which key of a table it is, it does not say
            kind = get_args(kind)[1]
            key = next(key for key, one in value.items() if not _fits(one, kind))
            value, shown = value[key], f"{shown}.{key}"
        else:
            index, parts = int(place), get_args(kind)
            kind = parts[0] if len(parts) == 1 or parts[1] is ... else parts[index]
            value, shown = value[index], f"{shown} {index + 1}"
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
    return kind, shown.lstrip("."), value


def _fits(value: Any, kind: Any) -> bool:  # noqa: ANN401 - types and what a file holds
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _said(problem: str, kind: Any, value: Any, others: Collection[str]) -> str:  # noqa: ANN401 - as above
    """Say in plain words what msgspec says of a value that should be of a type; the value itself is not shown.

    `others` are further names that stand beside the fields of the type.
    """
    if found := _UNKNOWN.fullmatch(problem):
        known = [*kind.__struct_fields__, *sorted(others)]
        return f"there is no option {found[1]}{_near(found[1], known) or '; known: ' + ', '.join(known)}"
    if found := _MISSING.fullmatch(problem):
        return f"{found[1]} is missing"
    if problem.startswith("Invalid enum value") and get_origin(kind) is Literal:
        choices = [str(one) for one in get_args(kind)]
        return f"must be one of {', '.join(choices)}{_near(str(value), choices)}"
    if found := _OTHER_TYPE.fullmatch(problem):
        return f"must be {_TYPES.get(found[1], found[1])}, not {_TYPES.get(found[2], found[2])}"
    if found := _LENGTH.fullmatch(problem):
        return f"must have {_BOUNDS[found[1]]} {found[2]} characters"
    if found := _BOUND.fullmatch(problem):
        return f"must be {_BOUNDS[found[1]]} {found[2]}"
    return problem


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


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
