"""Settings: the environment wins over the file, mistakes are named, passwords are not shown."""

from pathlib import Path

import pytest

from orderbell.errors import SettingsInvalid
from orderbell.settings import Settings, read_settings


def test_settings_have_defaults() -> None:
    """Nothing needs to be set."""
    assert read_settings(environment={}) == Settings()


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """Both are read, numbers come as texts from the environment."""
    file = tmp_path / "orderbell.toml"
    file.write_text('host = "0.0.0.0"\nport = 1\n')
    found = read_settings(environment={"ORDERBELL_SETTINGS": str(file), "ORDERBELL_PORT": "8080", "PATH": "x"})
    assert (found.host, found.port) == ("0.0.0.0", 8080)  # noqa: S104 - only read, nothing listens


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ORDERBELL_PORT": "many"}, "ORDERBELL_PORT"),
        ({"ORDERBELL_PORT": "70000"}, "65535"),
        ({"ORDERBELL_PROT": "1"}, "did you mean ORDERBELL_PORT"),
        ({"ORDERBELL_LOG_LEVEL": "loud"}, "log_level"),
        ({"ORDERBELL_REGION": "cn"}, "ORDERBELL_REGION"),
        ({"ORDERBELL_REGION": "CHN"}, "ORDERBELL_REGION"),
        ({"ORDERBELL_REGION": "CN\n"}, "ORDERBELL_REGION"),
        ({"ORDERBELL_SETTINGS": "/nonexistent/file"}, "/nonexistent/file"),
    ],
)
def test_mistake_is_named(environment: dict[str, str], said: str) -> None:
    """The message names the setting, and where there is one, the remedy."""
    with pytest.raises(SettingsInvalid, match=said):
        read_settings(environment=environment)


def test_password_is_not_shown() -> None:
    """Neither the text form nor the list of settings shows the password of the database."""
    settings = Settings(database_url="postgresql://ann:pa55word@db/shop")
    assert "pa55word" not in f"{settings} {settings!r} {settings.shown()}"
    assert settings.database_url.endswith("pa55word@db/shop")


def test_secret_is_not_shown() -> None:
    """The secret never appears, not even a part of it; that it is set does."""
    settings = read_settings(environment={"ORDERBELL_SECRET_KEY": "5ec2e7" * 11})
    assert "5ec2e7" not in f"{settings} {settings!r} {settings.shown()}"
    assert (settings.shown()["secret_key"], Settings().shown()["secret_key"]) == ("***", "")
    assert settings.secret_key.startswith("5ec2e7")
