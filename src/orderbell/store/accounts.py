"""Accounts: who may sign in, and the role that each has in a tenant."""

from typing import Final, Literal, TypeAlias, get_args

Role: TypeAlias = Literal["owner", "operator", "agent", "viewer"]

ROLE_NAMES: Final[tuple[Role, ...]] = get_args(Role)
"""From the one who may everything to the one who may only look."""
