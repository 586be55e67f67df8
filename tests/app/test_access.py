"""Keys that are made and revoked at the command line must stand in the trail, as those of the console do."""

from orderbell.app.access import keys_of, new_key, revoke
from orderbell.settings import Settings
from orderbell.store.keys import SCOPES, fingerprint_of
from orderbell.store.postgres import Store
from orderbell.store.trail import SYSTEM, Trail


async def test_keys_leave_lines_in_the_trail(store: Store) -> None:
    """Making and revoking must each leave a line that names the key by its fingerprint alone."""
    settings = Settings(database_url=store.dsn)
    key = await new_key(settings, "acme", "till")
    fingerprint = fingerprint_of(key)
    assert [one.fingerprint for one in await keys_of(settings, "acme")] == [fingerprint]
    assert await revoke(settings, "acme", fingerprint)
    assert not await revoke(settings, "acme", fingerprint)
    lines = await Trail(store).read("acme")
    assert [(one.actor, one.action, one.object) for one in lines] == [
        (SYSTEM, "key.revoke", fingerprint),
        (SYSTEM, "key.make", fingerprint),
    ]
    assert lines[1].detail == {"label": "till", "scopes": sorted(SCOPES)}
