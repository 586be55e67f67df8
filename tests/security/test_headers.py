"""Headers: every answer of every route says what it is, who may keep it, and what a page may do.

Nothing here lists routes: they are walked as `tests/web/test_rights.py` finds them.
"""

from typing import Final

from orderbell.settings import Settings
from orderbell.store.keys import create_key
from orderbell.store.postgres import Store
from tests.web.front_site import running_front
from tests.web.test_rights import Rig, _doors, _ids_of

KEPT: Final = ("/static/", "/docs", "/schema")
"""What is the same for everybody, and may be kept."""


async def test_every_answer_carries_its_headers(store: Store) -> None:
    """No answer may be taken for something else or kept, no page be framed, run foreign scripts or be sent in clear."""
    async with running_front(store, Settings(public_url="https://bell.example")) as front:
        rig = Rig(front, await _ids_of(front), _doors(front.app))
        owner = await front.signed_in("owner", "other")
        key = await create_key(store, "other")
        wrong, pages = [], 0
        for door in (one for one in rig.doors if one.method == "GET"):
            cookie = f"__Host-orderbell={owner.token}"
            sent = {"cookie": cookie, "accept": "text/html", "authorization": f"Bearer {key}"}
            async with front.http.stream("GET", door.url(rig.ids), headers=sent) as answer:
                headers = answer.headers
            kind = headers.get("content-type", "").partition(";")[0]
            policy = headers.get("content-security-policy", "")
            told = {
                "policy": "default-src 'none'" in policy and "unsafe" not in policy,
                "frames": "frame-ancestors 'none'" in policy,
                "nosniff": headers.get_list("x-content-type-options") == ["nosniff"] or answer.status_code == 303,
                "not kept": "no-store" in headers.get("cache-control", "") or door.path.startswith(KEPT),
                "nothing of the server": not {"server", "x-powered-by"} & set(headers),
            }
            if kind == "text/html" and not door.path.startswith(("/docs", "/schema")):
                pages += 1
                told["forms"] = "form-action" in policy and "base-uri 'none'" in policy
                told["https"] = headers.get("strict-transport-security", "").startswith("max-age=31536000")
                told["referrer"] = headers.get("referrer-policy", "") in {"no-referrer", "same-origin"}
            wrong += [(str(door), answer.status_code, what) for what, kept in told.items() if not kept]
        assert pages > 20
        assert wrong == []
