"""Rights: what somebody may do, and which of them a role has. Those that an API key may be given are its scopes.

Every route names the one right that it needs in its `opt`: `opt={"right": "orders:read"}`; one that needs none says
why: `opt={"public": "a health check"}`. A route that says neither answers nobody. `account:write` is the right over
one's own account, which everybody has who is signed in.
"""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from orderbell.store.accounts import Role
from orderbell.store.keys import SCOPES, Scope

ForPeople: TypeAlias = Literal["users:write", "keys:write", "trail:read", "account:write"]
"""What no API key may be given."""

Right: TypeAlias = Scope | ForPeople

RIGHTS: Final[tuple[Right, ...]] = (*SCOPES, *get_args(ForPeople))

_VIEWER: Final[frozenset[Right]] = frozenset(
    {
        "orders:read",
        "messages:read",
        "cases:read",
        "playbooks:read",
        "providers:read",
        "metrics:read",
        "account:write",
    }
)
_AGENT: Final[frozenset[Right]] = _VIEWER | {"people:read", "people:write", "links:write"}
_OPERATOR: Final[frozenset[Right]] = _AGENT | {"playbooks:write", "hooks:read", "hooks:write", "settings:write"}

ROLES: Final[Mapping[Role, frozenset[Right]]] = {
    "owner": frozenset(RIGHTS),
    "operator": _OPERATOR,
    "agent": _AGENT,
    "viewer": _VIEWER,
}
"""What each role may do; a viewer sees no people, and names only masked; addresses of webhooks may hold secrets."""


class Visitor(Struct, frozen=True, kw_only=True):
    """Who is signed in, and for which tenant.

    `tenants` are all that the account may switch to, `tenant` among them; `locale` is `zh-CN`, `en`, or empty where the
    browser's language counts; `session` is the public name of the session, by which it is listed and ended.
    """

    account: int
    name: str
    tenant: str
    role: Role
    tenants: tuple[str, ...]
    locale: str
    session: str = ""

    def may(self, right: Right) -> bool:
        """Say whether the visitor's role in this tenant has a right."""
        return right in ROLES[self.role]

    @property
    def actor(self) -> str:
        """How the trail names the visitor."""
        return f"user:{self.name}"
