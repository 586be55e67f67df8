"""Logs under hostile input: whatever is written into a request or a record, each record is one line of JSON.

`tests/operations/test_canaries.py` looks for secrets in the logs of a whole process; here it is the shape of the lines.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import structlog

from orderbell.store.keys import create_key
from orderbell.store.postgres import Store
from tests.web.front_site import running_front
from tests.web.test_tracking import written_logs

_LINE_ENDS: Final = (
    "\r\n",
    "\n",
    "\r",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\\n",
    "\\u000a",
    "%0d%0a",
)
_ESCAPES: Final = (
    "\x1b[2J",
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x08\x08\x08",
    "\x00",
    "\x7f",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\ud800",
)
_BREAKS: Final = (
    '"',
    '"}',
    '", "level": "critical',
    "\\",
    '\\\\"',
    "'}",
    "{{",
    "</script>",
    "%s%s%n",
    "%(x)s",
    "{0}",
    "{event}",
    '\x00"}\n{"',
)
FAKE: Final = '{"event": "injected", "level": "critical"}'
HOSTILE: Final = tuple(f"words{sign}{FAKE}" for sign in (*_LINE_ENDS, *_ESCAPES, *_BREAKS))


def _records(said: str) -> list[dict[str, Any]]:
    lines = said.split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert len(line.splitlines()) == 1, ascii(line)
        assert line.isprintable(), ascii(line)
    records = [json.loads(line) for line in lines]
    assert all(isinstance(record, dict) for record in records)
    return records


def _ways(text: str) -> Iterator[None]:
    """Each way to write a text into a log, one record each."""
    log, library = structlog.get_logger(), logging.getLogger("some.library")
    log.warning("heard", words=text)
    yield
    log.warning(text)
    yield
    log.warning("heard", more={"deep": [{"deeper": (text, {text})}]})
    yield
    log.warning("heard", more={text: text})
    yield
    log.bind(bound=text).warning("heard")
    yield
    log.warning("heard", odd=ValueError(text))
    yield
    library.error("%s", text)
    yield
    library.error(text.replace("%", "%%"), *())
    yield
    library.error("%r %s", text, {text: 1})
    yield
    broken = ValueError(text)
    log.error("failed", words=text, exc_info=broken)
    yield
    library.error("failed %s", text, exc_info=broken)
    yield


async def test_every_record_is_one_line_however_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Texts as values, as keys, as messages, in exceptions, ours or a library's: one line of JSON for each record."""
    async with written_logs():
        written = sum(1 for text in HOSTILE for _ in _ways(text))
    records = _records(capsys.readouterr().err)
    assert len(records) == written
    assert {record["level"] for record in records} == {"warning", "error"}
    assert not any(record.get("event") == "injected" for record in records)


async def test_every_record_of_hostile_requests_is_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths, queries, headers, cookies and bodies that are hostile, also when the site breaks over them."""
    async with written_logs(), running_front(store) as front:
        key = await create_key(store, "acme")
        for text in HOSTILE[::2]:
            raw = text.encode("utf-8", "surrogatepass")
            header = bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F)
            path = "/".join(("", "t", "".join(f"%{byte:02x}" for byte in raw)))
            headers = [
                (b"user-agent", header), (b"cookie", b"__Host-orderbell=" + header.replace(b";", b"")),
                (b"referer", header), (b"x-forwarded-for", header), (b"accept-language", header), (b"host", b"127.0.0.1"),
                (b"traceparent", header), (b"sec-fetch-site", b"same-origin"), (b"accept", b"text/html"),
            ]  # fmt: skip
            event = {"id": text, "source": text, "type": text, "subject": text, "data": {text: text}}
            body = json.dumps(event).encode()
            for method, where, content, kind in (
                ("GET", path, b"", b"text/html"), ("GET", f"{path}?{path[3:]}", b"", b"text/html"),
                ("POST", "/sign-in", b"name=" + path[3:].encode() + b"&password=x", b"application/x-www-form-urlencoded"),
                ("POST", "/v1/events", body, b"application/json"), ("POST", "/v1/events", raw, header[:60]),
            ):  # fmt: skip
                sent = [*headers, (b"content-type", kind), (b"authorization", f"Bearer {key}".encode())]
                url = httpx.URL(front.url).copy_with(raw_path=where.encode())
                await front.http.request(method, url, headers=sent, content=content)
        await store.pool.close()
        statuses = set()
        for text in HOSTILE[:12]:
            where = "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
            bearer = {"authorization": f"Bearer {key}", "sec-fetch-site": "same-origin"}
            filled = f"name={where}&password={where}".encode()
            form = {"content-type": "application/x-www-form-urlencoded", **bearer}
            statuses.add((await front.http.get(f"/v1/contacts/{where}", headers=bearer)).status_code)
            statuses.add((await front.http.post("/sign-in", content=filled, headers=form)).status_code)
    assert 503 in statuses
    records = _records(capsys.readouterr().err)
    assert records, "what broke is told"
    assert not any(record.get("event") == "injected" or record.get("level") == "critical" for record in records)
