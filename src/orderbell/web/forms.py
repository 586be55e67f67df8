"""Forms as browsers send them without scripts: `application/x-www-form-urlencoded`, nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

from litestar import Request
from msgspec import Struct

from orderbell.web.access import say_no

BODY_BYTES_MAX: Final = 64 * 1024
FIELDS_MAX: Final = 200
_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"


class Form(Struct, frozen=True):
    """What was filled in; a field that is not there is empty."""

    values: Mapping[str, Sequence[str]]

    def __repr__(self) -> str:
        return f"Form({', '.join(self.values)})"  # never what was written: it may be a password

    __str__ = __repr__

    def raw(self, name: str) -> str:
        """A field, sign for sign."""
        found = self.values.get(name)
        return found[0] if found else ""

    def text(self, name: str) -> str:
        """A field without blanks around it."""
        return self.raw(name).strip()

    def many(self, name: str) -> Sequence[str]:
        """What was chosen of a field with several choices."""
        return self.values.get(name, ())


async def read_form(request: Request[Any, Any, Any], bytes_max: int = BODY_BYTES_MAX) -> Form:
    """Read the form of a request; what is no form, or has more than `bytes_max` bytes, is refused."""
    media_type = request.headers.get("content-type", _MEDIA_TYPE).partition(";")[0].strip().lower()
    if media_type != _MEDIA_TYPE:
        say_no(415, "wrong_media_type", "Unsupported media type", f"send a form as {_MEDIA_TYPE}")
    body = await request.body()
    if len(body) > bytes_max:
        say_no(413, "too_large", "Too large", f"a form has at most {bytes_max:,} bytes")
    try:
        values = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        say_no(400, "not_a_form", "Not a form", f"a form is text in UTF-8 and has at most {FIELDS_MAX} fields")
    return Form({name: [text.replace("\0", "\ufffd") for text in texts] for name, texts in values.items()})
