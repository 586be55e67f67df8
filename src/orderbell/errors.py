"""Everything that OrderBell raises on purpose.

::

    OrderBellError
    ├── SettingsInvalid        a setting is missing or makes no sense
    ├── DatabaseUnavailable    no PostgreSQL could be started or reached
    ├── PlaybookInvalid        a playbook does not pass its lint
    ├── ScenarioInvalid        a scenario file does not follow its form
    ├── HistoryUnreadable      a folder of past orders cannot be read
    ├── VaultSealed            personal data cannot be opened with this secret
    ├── AccountRefused         an account cannot be made or changed like this
    ├── ScopeMissing           an API key may not do what it is used for
    ├── TurnConflict           two turns created the same row; the turn is tried again
    └── RequestFailed          the API refused a request of the Python client

An exception's message says what is wrong and what to do next.
"""


class OrderBellError(Exception):
    """Something went wrong that OrderBell knows about."""


class SettingsInvalid(OrderBellError):
    """A setting is missing or makes no sense."""


class DatabaseUnavailable(OrderBellError):
    """No PostgreSQL could be started or reached."""


class PlaybookInvalid(OrderBellError):
    """A playbook does not pass its lint."""


class ScenarioInvalid(OrderBellError):
    """A scenario file does not follow its form."""


class HistoryUnreadable(OrderBellError):
    """A folder of past orders cannot be read."""


class VaultSealed(OrderBellError):
    """Personal data cannot be opened with this secret."""


class AccountRefused(OrderBellError):
    """An account cannot be made or changed like this; `reason` is a word for it.

    Reasons: bad_name, name_taken, last_owner, unknown.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ScopeMissing(OrderBellError):
    """An API key may not do what it is used for."""


class TurnConflict(OrderBellError):
    """Two turns created the same row at the same time; the turn is tried again."""


class RequestFailed(OrderBellError):
    """The API refused a request of the Python client."""
