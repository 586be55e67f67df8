"""Pages: every word in both languages, everything escaped, one strict policy, errors that people can read."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from litestar import Litestar, Request, Response, get
from litestar.params import FromQuery
from litestar.testing import TestClient

from orderbell.errors import DatabaseUnavailable
from orderbell.web import rendering
from orderbell.web.rendering import Hall, fragment, page, raw_json, rendered, static_url, view_of
from orderbell.web.site import create_site

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
FOLDER = Path(rendering.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").rglob("*.html"))
WORDS = sorted((FOLDER / "words").glob("*.yaml"))


HALL = Hall(now=lambda: NOW, zone_of=lambda _: "Asia/Shanghai", names=lambda _: {})


async def _ready() -> list[str]:
    return []


@get("/page", opt={"public": "a test"})
async def show(request: Request[Any, Any, Any], said: FromQuery[str] = "") -> Response[str]:
    """A page that says what it is asked to."""
    return page("error.html", view_of(request), heading=said, words="", back="/")


@get("/broken", opt={"public": "a test"})
async def broken() -> None:
    """A page that breaks."""
    raise RuntimeError("the secret inside")


@get("/away", opt={"public": "a test"})
async def away() -> None:
    """A page whose database is away."""
    raise DatabaseUnavailable("postgres at 10.0.0.7")


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    """A browser at a site of these pages."""
    site = create_site([show, broken, away], _ready, HALL)
    with TestClient(site, raise_server_exceptions=False) as made:
        yield made


@pytest.mark.parametrize("file", WORDS, ids=lambda file: file.stem)
def test_words_stand_in_both_languages(file: Path) -> None:
    """Every key must have words in Chinese and in English, with the same values to fill in."""
    for key, said in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        assert set(said) == {"zh", "en"}, key
        assert all(isinstance(words, str) and words.strip() for words in said.values()), key
        fields = [set(re.findall(r"{(\w+)", words)) for words in said.values()]
        assert fields[0] == fields[1], key


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_template_uses_known_words_and_keeps_to_the_policy(file: Path) -> None:
    """A template must name words that exist, have no inline style or handler, and never mark data as safe."""
    text = file.read_text(encoding="utf-8")
    known = rendering._words()
    for key in re.findall(r"\bt\(\s*[\"']([\w.]+)[\"']\s*[,)]", text):
        assert key in known, key
    assert not re.search(r"<[^>]*\sstyle=", text)
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert "|safe" not in text.replace(" ", "")
    assert not re.search(r"(src|href)=[\"']https?://", text)


def test_page_escapes_and_says_its_policy(client: TestClient[Litestar]) -> None:
    """What is filled in must come out as text, under a policy that lets nothing else in."""
    answer = client.get("/page", params={"said": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in answer.text
    assert "&lt;script&gt;" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
    nonces = {
        re.findall(r"'nonce-([^']+)'", client.get("/page").headers["content-security-policy"])[0] for _ in range(3)
    }
    assert len(nonces) == 3
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in answer.headers


def test_language_is_chosen_and_kept(client: TestClient[Litestar]) -> None:
    """A choice must win over the browser's wish and hold for the pages after it; Chinese where nobody says."""
    assert 'lang="zh-CN"' in client.get("/page", headers={"accept-language": "fr"}).text
    assert 'lang="en"' in client.get("/page", headers={"accept-language": "fr, en-GB;q=0.8"}).text
    assert 'lang="zh-CN"' in client.get("/page?lang=zh", headers={"accept-language": "en"}).text
    assert 'lang="zh-CN"' in client.get("/page", headers={"accept-language": "en"}).text
    assert 'lang="en"' in client.get("/page?lang=en&x=1").text
    assert 'href="/page?x=1&amp;lang=zh"' in client.get("/page?lang=en&x=1").text


def test_error_is_a_page_for_people_and_a_document_for_programs(client: TestClient[Litestar]) -> None:
    """A browser must get a page in its language, everybody else a problem document, and nobody what is inside."""
    for path, status in (("/nowhere", 404), ("/broken", 500), ("/away", 503)):
        shown = client.get(path, headers={"accept": "text/html,*/*", "accept-language": "en"})
        assert (shown.status_code, shown.headers["content-type"].partition(";")[0]) == (status, "text/html")
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        told = client.get(path)
        assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json")
        for answer in (shown, told):
            assert "secret inside" not in answer.text
            assert "10.0.0.7" not in answer.text
    program = client.get("/v1/nowhere", headers={"accept": "text/html"})
    assert program.headers["content-type"] == "application/problem+json"


def test_static_file_may_be_kept(client: TestClient[Litestar]) -> None:
    """A file must come with its type, to be kept for as long as its address stays the same; nothing else is there."""
    answer = client.get(static_url("console.css"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/../rendering.py").status_code == 404
    assert client.get("/static/%2e%2e/rendering.py").status_code == 404


@pytest.fixture
def view() -> rendering.View:
    """How an English visitor in Shanghai sees it."""
    return rendering.View(
        "en", "n", "/here", {"b": "2"}, ZoneInfo("Asia/Shanghai"), NOW, {"topics": {"shipped": "sent"}}
    )


def test_moments_and_spans_are_short(view: rendering.View) -> None:
    """A moment must be as short as it can be said, with the exact one for machines beside it."""
    today = rendering._time(NOW, view)
    assert today == '<time datetime="2026-11-22T04:00:00Z">12:00</time>'
    assert ">21 Nov 12:00<" in rendering._time(NOW - timedelta(days=1), view)
    assert ">22 Nov 2025 12:00<" in rendering._time(NOW - timedelta(days=365), view)
    assert ">5 minutes ago<" in rendering._ago(NOW - timedelta(minutes=5), view)
    assert ">in 3 hours<" in rendering._ago(NOW + timedelta(hours=3), view)
    assert ">90 minutes ago<" in rendering._ago(NOW - timedelta(minutes=90), view)
    assert rendering._time(None, view) == "—"
    assert rendering._yuan(1520000) == "¥15,200.00"
    assert rendering._percent(0.987) == "98.7%"


def test_link_changes_the_query(view: rendering.View) -> None:
    """A link to the same page must keep the other values and drop empty ones."""
    assert view.link(a="x y") == "/here?b=2&a=x+y"
    assert view.link(b="") == "/here"
    assert view.called("topics", "shipped") == "sent"
    assert view.called("topics", "<b>") == "<b>"


def test_json_in_a_page_cannot_end_its_element() -> None:
    """JSON that stands in a page must hold no sign that means something to HTML, and mean the same."""
    text = raw_json({"a": "</script><img src=x onerror='alert(1)'>&"})
    assert not set("<>&'") & set(text)
    assert yaml.safe_load(text) == {"a": "</script><img src=x onerror='alert(1)'>&"}


def test_fragment_is_a_page_without_its_frame(view: rendering.View) -> None:
    """A piece of a page must come under the same policy."""
    response = fragment("parts.html", view)
    assert "<html" not in response.content
    assert "Content-Security-Policy" in response.headers
    assert rendered("parts.html", view).strip() == ""


def test_codes_are_text_between_backticks() -> None:
    """What stands between two backticks must be code, and everything be escaped."""
    assert rendering._codes("add `a: <b>` & `c`") == "add <code>a: &lt;b&gt;</code> &amp; <code>c</code>"
    assert rendering._codes("<one` alone") == "&lt;one` alone"
