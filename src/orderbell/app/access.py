"""API keys from the command line."""

from orderbell.app.database import open_database, open_store
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.keys import ApiKey, end_key, list_keys, make_key
from orderbell.store.tenants import add_tenant
from orderbell.store.trail import SYSTEM, Trail


async def new_key(settings: Settings, tenant: str, label: str) -> str:
    """Make a key for a tenant, who is added when new."""
    async with open_database(settings) as dsn, open_store(dsn, settings, 1) as store:
        await add_tenant(store.pool, tenant, load_shelf(settings.playbooks_dir))
        return await make_key(store, Trail(store), tenant, SYSTEM, label)


async def keys_of(settings: Settings, tenant: str) -> list[ApiKey]:
    """The keys of a tenant, the revoked among them."""
    async with open_database(settings) as dsn, open_store(dsn, settings, 1) as store:
        return await list_keys(store, tenant)


async def revoke(settings: Settings, tenant: str, fingerprint: str) -> bool:
    """Revoke a key; False where there is no such valid key."""
    async with open_database(settings) as dsn, open_store(dsn, settings, 1) as store:
        return await end_key(store, Trail(store), tenant, SYSTEM, fingerprint)
