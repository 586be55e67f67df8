"""The file of providers: every kind can be named in it, every mistake is said in words that help, no secret shows."""

import importlib
import tomllib
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from orderbell.app.providers import _COMMON, BY_PHONE, TOKEN_LENGTH_MIN, ProviderSpec, _read, read_providers
from orderbell.channels import registry
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Token
from orderbell.channels.registry import KINDS, KindUnknown, options_type
from orderbell.dispatch.routes import Terms
from orderbell.errors import DatabaseUnavailable, SettingsInvalid
from orderbell.sources.callbacks import Caller
from tests.kinds import SECRET, SECRETS, TOKEN, every_kind, table

TWILIO = 'name = "tw"\nkind = "twilio"\naccount_sid = "AC1"\nauth_token = "hidden"\nsender = "+15005550006"\n'


def now() -> datetime:
    """Tell the time."""
    return datetime(2026, 3, 2, tzinfo=UTC)


def read(folder: Path, text: str, **environment: str) -> list[ProviderSpec]:
    """Read a file of these words."""
    file = folder / "providers.toml"
    file.write_text(text, "utf-8")
    return read_providers(file, environment)


def refusal(folder: Path, text: str, **environment: str) -> str:
    """What is said of a file that is refused; it must show nothing secret."""
    with pytest.raises(SettingsInvalid) as refused:
        read(folder, text, **environment)
    words = str(refused.value)
    assert not any(secret in words for secret in SECRETS), words
    return words.replace(str(folder / "providers.toml"), "FILE")


def test_every_kind_is_known_to_these_tests() -> None:
    """A kind that is added must be added here."""
    assert set(every_kind()) == set(KINDS)


def test_file_with_every_kind(tmp_path: Path) -> None:
    """A file with one provider of every kind must be read, in its order, with the options of each."""
    found = read(tmp_path, "".join(table(kind) for kind in KINDS))
    assert [one.kind for one in found] == list(KINDS)
    assert [one.name for one in found] == [f"p_{kind}" for kind in KINDS]
    assert all(isinstance(one.options, options_type(one.kind)) for one in found)
    assert {one.terms for one in found} == {Terms()}


@pytest.mark.parametrize("kind", KINDS)
async def test_channel_of_every_kind(kind: str, tmp_path: Path) -> None:
    """Every kind must open a channel under the name of its provider, without asking anybody anything."""
    (spec,) = read(tmp_path, table(kind))
    channel = spec.open(now, KeptInMemory(now))
    assert channel.name == f"p_{kind}"
    await channel.close()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_secret_is_printed(kind: str, tmp_path: Path) -> None:
    """Options, specs and callers must not show secrets, whoever prints them and however."""
    (spec,) = read(tmp_path, table(kind, callback_token=f'"{TOKEN}"'))
    assert spec.callback_token == TOKEN
    nested = [getattr(spec.options, name) for name in spec.options.__struct_fields__]
    structs = [one for one in nested if isinstance(one, msgspec.Struct)]
    structs += [
        one for group in nested if isinstance(group, tuple | list) for one in group if isinstance(one, msgspec.Struct)
    ]
    structs += [
        one for group in nested if isinstance(group, dict) for one in group.values() if isinstance(one, msgspec.Struct)
    ]
    for shown in (spec, spec.options, Caller(spec.open(now, KeptInMemory(now)), spec.callback_token), *structs):
        for words in (repr(shown), str(shown), f"{shown}", f"{[shown]}", f"{ ({'a': shown}) }"):
            assert not any(secret in words for secret in SECRETS), words


@pytest.mark.parametrize("kind", KINDS)
def test_options_have_names_of_their_own(kind: str) -> None:
    """No kind may have an option of a name that every provider has: nobody could ever set it."""
    assert not set(options_type(kind).__struct_fields__) & _COMMON


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_option_of_every_kind(kind: str, tmp_path: Path) -> None:
    """A slip of the pen in an option must be named for every kind, and not be passed over."""
    words = refusal(tmp_path, table(kind, timeout_seconds="3"))
    assert words == f"FILE: provider 1 (p_{kind}): there is no option timeout_seconds; did you mean timeout_s?"


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_value_of_every_option(kind: str) -> None:
    """Whatever stands in an option that cannot stand there must be said in plain words, with the option's name."""
    entry = tomllib.loads(table(kind))["provider"][0]
    for name in options_type(kind).__struct_fields__:
        with pytest.raises(SettingsInvalid) as refused:
            _read({**entry, name: date(1979, 5, 27)}, "FILE: provider 1", {})
        words = str(refused.value)
        assert f"(p_{kind}): {name}: must be " in words, words
        assert not any(secret in words for secret in ("`", *SECRETS)), words


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ('robots.desk = {kind = "dingding", url = "https://localhost"}',
         "robots.desk.kind: must be one of dingtalk, wecom, feishu, slack"),
        ('robots.desk = {kind = "fieshu", url = "https://localhost"}',
         "robots.desk.kind: must be one of dingtalk, wecom, feishu, slack; did you mean feishu?"),
        ('robots.desk = {kind = "slack", url = "https://localhost", rols = []}',
         "robots.desk: there is no option rols; did you mean roles?"),
        ('robots.desk = {kind = "slack", url = "https://localhost", colour = 1}',
         "robots.desk: there is no option colour; known: kind, url, secret, mention, roles"),
        ('robots.desk = {kind = "slack"}', "robots.desk: url is missing"),
        ('robots.desk = {kind = "slack", url = "https://localhost", roles = ["service", 5]}',
         "robots.desk.roles 2: must be text in quotes, not a whole number"),
        ('robots.desk = "https://localhost"', "robots.desk: must be a table, not text in quotes"),
        ('robots.desk = {kind = "slack", url = "localhost/hidden"}',
         "robots.desk: the url of a robot must begin with https:// and a host"),
    ],
)  # fmt: skip
def test_robot_is_named(wrong: str, words: str, tmp_path: Path) -> None:
    """Of several robots the one with the mistake must be named by its key, and the way out be shown."""
    good = 'robots.till = {kind = "slack", url = "https://localhost"}'
    for lines in (f"{good}\n{wrong}", f"{wrong}\n{good}"):
        told = refusal(tmp_path, f'[[provider]]\nname = "team"\nkind = "staff"\n{lines}')
        assert told == f"FILE: provider 1 (team): {words}"


@pytest.mark.parametrize(
    ("kind", "line", "words"),
    [
        ("alibaba", 'acces_key_id = "id"', "there is no option acces_key_id; did you mean access_key_id?"),
        ("alibaba", 'tenant = ["my-shop"]', "there is no option tenant; did you mean tenants?"),
        ("alibaba", 'ref_key = "short"', "ref_key: must have at least 8 characters"),
        ("alibaba", "batch_max = 101", "batch_max: must be at most 100"),
        ("alibaba", "price_millifen = -1", "price_millifen: must be at least 0"),
        ("alibaba", 'sign = "【叮咚】"', "sign: write it without 【】, they are added"),
        ("tencent", 'sign = "【叮咚】"', "sign: write it without 【】, they are added"),
        ("tencent", 'sign_abroad = "叮咚】"', "sign_abroad: write it without 【】, they are added"),
        ("mail", 'tls = "ssl"', "tls: must be one of starttls, implicit, none"),
    ],
)  # fmt: skip
def test_mistake_in_an_option(kind: str, line: str, words: str, tmp_path: Path) -> None:
    """What cannot stand in an option must be said as a person says it, with what can."""
    head, *lines = [one for one in table(kind).splitlines() if not one.startswith(f"{line.partition(' ')[0]} = ")]
    assert refusal(tmp_path, "\n".join([head, line, *lines])) == f"FILE: provider 1 (p_{kind}): {words}"


@pytest.mark.parametrize("address", ["127.0.0.1:8480", "//host", "ftp://host", "https://", "http://a b", "http://h:x"])
@pytest.mark.parametrize("kind", ["alibaba", "tencent", "twilio", "wechat", "jpush", "fcm", "apns"])
def test_address_that_is_none(kind: str, address: str, tmp_path: Path) -> None:
    """An address that nobody could call must be refused when the file is read, wherever it stands."""
    head, _, rest = table(kind).partition("\n")
    told = refusal(tmp_path, f'{head}\nurl = "{address}"\n{rest}')
    assert told == f"FILE: provider 1 (p_{kind}): url: must begin with http:// or https://, and name a host"


@pytest.mark.parametrize(
    ("kind", "old", "new", "field"),
    [
        ("twilio", "https://bell.example", "bell.example", "callback_url"),
        ("fcm", "[provider.service_account]", '[provider.service_account]\ntoken_uri = "localhost:8485"',
         "service_account.token_uri"),
    ],
)  # fmt: skip
def test_address_besides_that_of_the_provider(kind: str, old: str, new: str, field: str, tmp_path: Path) -> None:
    """Other addresses than `url` must be looked at too, and what is secret in them stay hidden."""
    told = refusal(tmp_path, table(kind).replace(old, new))
    assert told == f"FILE: provider 1 (p_{kind}): {field}: must begin with http:// or https://, and name a host"


@pytest.mark.parametrize("prefix", ["86", "0086", "+86 ", "138", "+86-138", ""])
def test_prefix_that_no_number_has(prefix: str, tmp_path: Path) -> None:
    """A prefix that no phone number begins with would keep every message away, so it must be refused."""
    told = refusal(tmp_path, table("alibaba", prefixes=f'["+852", "{prefix}"]'))
    assert told.endswith(f"prefixes: '{prefix}' begins no phone number; write + and the country, such as \"+86\"")


def test_prefix_of_another_address(tmp_path: Path) -> None:
    """Addresses that are no phone numbers begin with other things."""
    (spec,) = read(tmp_path, table("webhook", prefixes='["https://shop.example/"]'))
    assert spec.terms.prefixes == ("https://shop.example/",)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"apprise"}))
async def test_kinds_that_go_by_phone(kind: str, tmp_path: Path) -> None:
    """Those that carry SMS and nothing else must be known as such; what Apprise carries says its file."""
    (spec,) = read(tmp_path, table(kind))
    channel = spec.open(now, KeptInMemory(now))
    assert (channel.carries == {"sms"}) == (kind in BY_PHONE)
    await channel.close()


def test_terms(tmp_path: Path) -> None:
    """Weight, tenants, prefixes and token must be taken over."""
    text = f'[[provider]]\nweight = 2\ntenants = ["acme"]\nprefixes = ["+86", "+852"]\ncallback_token = "{TOKEN}"\n{TWILIO}'
    (spec,) = read(tmp_path, text)
    assert spec.terms == Terms(2.0, frozenset({"acme"}), ("+86", "+852"))
    assert (spec.name, spec.kind, spec.callback_token) == ("tw", "twilio", TOKEN)


def test_secrets_from_elsewhere(tmp_path: Path) -> None:
    """A secret must be taken from the environment or a file wherever it stands, without the line break at its end."""
    key = tmp_path / "key"
    key.write_text("from the file\n", "utf-8")
    text = f"""
[[provider]]
name = "ops"
kind = "staff"
callback_token = {{env = "TOKEN"}}
[provider.robots.one]
kind = "dingtalk"
url = {{env = "ROBOT"}}
secret = {{file = "{key}"}}
mention = [{{env = "BOSS"}}]
"""
    (spec,) = read(tmp_path, text, TOKEN=TOKEN, ROBOT="https://localhost/robot", BOSS="13800138000")
    robot = spec.options.robots["one"]  # type: ignore[attr-defined]
    assert (robot.url, robot.secret, robot.mention) == ("https://localhost/robot", "from the file", ("13800138000",))
    assert spec.callback_token == TOKEN


def test_table_from_a_file(tmp_path: Path) -> None:
    """A key file must be taken as it was downloaded, whatever else stands in it."""
    key = tmp_path / "fcm.json"
    account = {"type": "service_account", "project_id": "my-shop", "client_email": "a@b.example", "private_key": "k"}
    key.write_bytes(msgspec.json.encode(account))
    (spec,) = read(tmp_path, f'[[provider]]\nname = "fcm"\nkind = "fcm"\nservice_account = {{json = "{key}"}}')
    assert spec.options.service_account.project_id == "my-shop"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "words"), [("-----BEGIN PRIVATE KEY-----", "is not JSON; take the key file"), ("", "is empty")]
)
def test_file_that_is_no_table(content: str, words: str, tmp_path: Path) -> None:
    """A file that holds no JSON must be named, and nothing of it be shown."""
    key = tmp_path / "fcm.json"
    key.write_text(content, "utf-8")
    with pytest.raises(SettingsInvalid, match=words) as caught:
        read(tmp_path, f'[[provider]]\nname = "fcm"\nkind = "fcm"\nservice_account = {{json = "{key}"}}')
    assert "BEGIN" not in str(caught.value)


def test_environment_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anything else, variables must be those of the process."""
    monkeypatch.setenv("ORDERBELL_TEST_SECRET", TOKEN)
    file = tmp_path / "providers.toml"
    file.write_text(f'[[provider]]\n{TWILIO}callback_token = {{env = "ORDERBELL_TEST_SECRET"}}\n', "utf-8")
    assert read_providers(file)[0].callback_token == TOKEN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "FILE: write one [[provider]] table for each provider, and nothing else"),
        ("[provider]\nname = 'a'", "FILE: write one [[provider]] table for each provider, and nothing else"),
        ("debug = 1\n[[provider]]\n" + TWILIO, "FILE: write one [[provider]] table for each provider, and nothing else"),
        ("provider = [1]", "FILE: provider 1 is no table; write [[provider]] above it"),
        ('[[provider]]\nkind = "twilio"', "FILE: provider 1 (without a name): name is missing"),
        ('[[provider]]\nname = "a"', "FILE: provider 1 (a): kind is missing"),
        ('[[provider]]\nname = 5\nkind = "twilio"', "FILE: provider 1 (5): name: must be text in quotes, not a whole number"),
        (
            '[[provider]]\nname = "a-b"\nkind = "twilio"',
            "FILE: provider 1 (a-b): name: use letters, digits and _, beginning with a letter, such as ali_main",
        ),
        (
            '[[provider]]\nname = "叮咚"\nkind = "twilio"',
            "FILE: provider 1 (叮咚): name: use letters, digits and _, beginning with a letter, such as ali_main",
        ),
        (
            f"[[provider]]\n{TWILIO}weight = 'much'",
            "FILE: provider 1 (tw): weight: must be a number, not text in quotes",
        ),
        (f"[[provider]]\n{TWILIO}tenants = 'acme'", "FILE: provider 1 (tw): tenants: must be a list in [ ], not text in quotes"),
        (f"[[provider]]\n{TWILIO}timeout_s = 'long'", "FILE: provider 1 (tw): timeout_s: must be a number, not text in quotes"),
        (
            f"[[provider]]\n{TWILIO}callback_token = {{env = 'NO_SUCH'}}",
            "FILE: provider 1 (tw): the environment has no variable NO_SUCH; set it to the secret",
        ),
        (
            f"[[provider]]\n{TWILIO}callback_token = {{env = 'EMPTY'}}",
            "FILE: provider 1 (tw): the environment has no variable EMPTY; set it to the secret",
        ),
        (
            f"[[provider]]\n{TWILIO}callback_token = {{env = ['A']}}",
            'FILE: provider 1 (tw): write the name of a variable after env, such as {env = "ALI_SECRET"}',
        ),
        (
            f"[[provider]]\n{TWILIO}callback_token = {{file = 5}}",
            'FILE: provider 1 (tw): write a path after file, such as {file = "/run/secrets/ali"}',
        ),
        (
            f"[[provider]]\n{TWILIO}callback_token = {{file = '/nowhere/at/all'}}",
            "FILE: provider 1 (tw): the file /nowhere/at/all cannot be read: No such file or directory",
        ),
        (
            f'[[provider]]\n{TWILIO}callback_token = {{file = "a\\u0000b"}}',
            "FILE: provider 1 (tw): the file a\0b cannot be read: it is no text in UTF-8",
        ),
        (
            f"[[provider]]\n{TWILIO}[[provider]]\n{TWILIO}",
            "FILE: tw: two providers of one name; give each its own",
        ),
    ],
)  # fmt: skip
def test_mistake_is_said_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    """Every mistake must be said with file, provider and field."""
    assert refusal(tmp_path, text, EMPTY="") == words


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "-inf"])
def test_weight_that_is_none(weight: str, tmp_path: Path) -> None:
    """A weight by which nobody could draw must be refused."""
    words = refusal(tmp_path, f"[[provider]]\n{TWILIO}weight = {weight}")
    assert words.endswith("weight: must be a number above 0; leave the provider out to stop using it")


def test_token_that_can_be_guessed(tmp_path: Path) -> None:
    """A token that is too short must be refused with the way to a better one; one of the least length is taken."""
    short = SECRET.ljust(TOKEN_LENGTH_MIN - 1, "x")
    words = refusal(tmp_path, f'[[provider]]\n{TWILIO}callback_token = "{short}"')
    assert "callback_token: at least 22 characters" in words
    assert "secrets.token_urlsafe()" in words
    (spec,) = read(tmp_path, f'[[provider]]\n{TWILIO}callback_token = "{short}x"')
    assert spec.callback_token == f"{short}x"


def test_kind_that_is_none(tmp_path: Path) -> None:
    """An unknown kind must be answered with all that there are."""
    words = refusal(tmp_path, '[[provider]]\nname = "a"\nkind = "pigeon"')
    assert words.startswith("FILE: provider 1 (a): kind: there is no kind of provider 'pigeon'; known: alibaba, ")
    assert all(kind in words for kind in KINDS)


@pytest.mark.parametrize("text", ["provider", "[[provider]]\nname = ", "a = hidden", "\x00"])
def test_file_that_is_no_toml(text: str, tmp_path: Path) -> None:
    """What is no TOML must be said to be none, with its line."""
    assert refusal(tmp_path, text).startswith("the file of providers FILE is not TOML: ")


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no text must be said to be none."""
    file = tmp_path / "providers.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match="is not TOML"):
        read_providers(file)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be read must be named, with the system's reason."""
    with pytest.raises(SettingsInvalid, match="cannot be read: No such file"):
        read_providers(tmp_path / "none.toml")
    with pytest.raises(SettingsInvalid, match="cannot be read: Is a directory"):
        read_providers(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [(b"\xff", "it is no text in UTF-8"), (b" \n", "is empty")])
def test_file_of_a_secret_that_holds_none(content: bytes, reason: str, tmp_path: Path) -> None:
    """A file without any words must not become an empty secret."""
    key = tmp_path / "key"
    key.write_bytes(content)
    assert reason in refusal(tmp_path, f"[[provider]]\n{TWILIO}callback_token = {{file = '{key}'}}")


def test_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind whose package is missing must say which, when it is configured and not before."""

    def missing(name: str) -> object:
        raise ImportError(f"No module named {name!r}", name="h2")

    monkeypatch.setattr("orderbell.channels.registry.importlib.import_module", missing)
    words = refusal(tmp_path, table("apns"))
    assert (
        words
        == "FILE: provider 1 (p_apns): kind: apns needs the package h2, which is not installed; add it with: pip install h2"
    )


def test_own_module_of_every_kind() -> None:
    """Each kind must have its module, with options and channel of the names that the registry knows."""
    for kind, (module, prefix) in registry._KINDS.items():
        found = importlib.import_module(f"orderbell.channels.{module}")
        assert {f"{prefix}Options", f"{prefix}Channel"} <= set(dir(found)), kind
    with pytest.raises(KindUnknown):
        options_type("pigeon")


def spoilt(kind: str, wrong: str) -> str:
    """The table of a kind with a wrong secret."""
    head, _, tail = table(kind).rpartition(f"{wrong.partition(' ')[0]} = ")
    return head + wrong + tail[tail.find("\n", tail.find("'''", 3) if tail.startswith("'''") else 0) :]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("mail", "private_key = 'hidden'"),
        ("webhook", "secrets = ['hidden']"),
        ("staff", "url = 'hidden'"),
        ("apprise", "urls = {pigeon = 'hidden'}"),
        ("smpp", "password = 'hidden-and-far-too-long'"),
    ],
)
def test_secret_that_is_none(kind: str, wrong: str, tmp_path: Path) -> None:
    """A key that is none must be refused when the platform starts, by the provider's name and without showing it."""
    text = spoilt(kind, wrong)

    def opened() -> None:
        (spec,) = read(tmp_path, text)
        spec.open(now, KeptInMemory(now))

    with pytest.raises(SettingsInvalid) as refused:
        opened()
    words = str(refused.value)
    assert f"p_{kind}" in words
    assert not any(secret in words for secret in SECRETS), words


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("apns", "private_key = 'hidden'"),
        ("fcm", "private_key = 'hidden'"),
        ("webpush", "vapid_private_key = 'hidden'"),
    ],
)
async def test_key_that_is_none(kind: str, wrong: str, tmp_path: Path) -> None:
    """A signing key that is none must be found by the check, without showing it."""
    (spec,) = read(tmp_path, spoilt(kind, wrong))
    channel = spec.open(now, KeptInMemory(now))
    findings = await channel.check()
    assert not all(one.fine for one in findings)
    assert not any(secret in one.words for one in findings for secret in SECRETS), findings
    await channel.close()


class Away(KeptInMemory):
    """The database that keeps the tokens does not answer."""

    async def token(self, fetch: Callable[[], Awaitable[Token]], stale: str = "") -> str:
        """Fail as the store does."""
        raise DatabaseUnavailable("PostgreSQL does not answer")


@pytest.mark.parametrize(("kind", "to"), [("apns", f"apns:{'a1' * 32}"), ("fcm", "fcm:token"), ("wechat", "openid")])
async def test_database_that_keeps_the_token_is_away(kind: str, to: str, tmp_path: Path) -> None:
    """Where no token can be had nothing was sent: the message must not be in doubt for ever."""
    (spec,) = read(tmp_path, table(kind, **({} if kind != "wechat" else {"keys": '{T1 = {name = "thing1"}}'})))
    channel = spec.open(now, Away(now))
    outgoing = Outgoing(
        bytes(16), next(iter(channel.carries)), to, "Tea is on its way", template="{name} is on its way",
        slots=(("name", "Tea"),), template_code="T1",
    )  # fmt: skip
    (answer,) = await channel.send([outgoing])
    assert answer.outcome is Outcome.NOT_SENT, answer
    await channel.close()
