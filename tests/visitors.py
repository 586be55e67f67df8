"""Visitors of the console for tests of its pages: whose session it is stands in the cookie, as `role@tenant`.

::

    site = create_site([signed_in(routes, visitor_of)], ready)
    await http.get("/console/orders", headers=as_visitor("operator"))
"""

from typing import get_args

from orderbell.web.rights import Role, Visitor
from orderbell.web.signed_in import COOKIE


async def visitor_of(token: str) -> Visitor | None:
    """The visitor that a token of `as_visitor` names."""
    role, _, tenant = token.partition("@")
    for known in get_args(Role):
        if role == known:
            return Visitor(account=1, name=f"{role}一", tenant=tenant, role=known, tenants=(tenant,), locale="zh-CN")
    return None


def as_visitor(role: Role = "owner", tenant: str = "acme") -> dict[str, str]:
    """Headers of a browser in which somebody of this role is signed in."""
    return {"cookie": f"{COOKIE}={role}@{tenant}", "sec-fetch-site": "same-origin"}
