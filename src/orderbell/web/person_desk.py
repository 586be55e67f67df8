"""What may be done with people, by API and console alike: they are changed, and that is put into the trail."""

from datetime import datetime

from orderbell.core.model import Contact
from orderbell.core.wishes import Change, apply_change, changed_fields
from orderbell.store.people import People
from orderbell.store.trail import Trail


async def change_person(
    people: People, trail: Trail, known: Contact, change: Change, *, actor: str, at: datetime, region: str, source: str
) -> Contact | None:
    """Change a person; None where there is nobody of this id any more.

    The line in the trail names the fields that differ from what was `known`; where none does, there is no line.
    """
    async with trail.together():
        changed = await people.change(known.id, lambda old: apply_change(old, change, at, region), at, source)
        if changed is not None and changed != known:
            detail = {"fields": changed_fields(known, changed)}
            await trail.write(known.tenant, actor, "person.wishes", f"contact:{known.id}", detail)
    return changed
