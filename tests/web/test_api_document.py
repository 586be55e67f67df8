"""The description of the API: every route is in it, with words, bounds, refusals and examples that are true."""

from typing import Any

import httpx
import jsonschema_rs
import pytest
from litestar.routes import ASGIRoute, HTTPRoute

from orderbell.store.postgres import Store
from tests.api_site import Api, running_api

CHANGES = {"post", "put", "patch", "delete"}


async def document_of(api: Api) -> dict[str, Any]:
    """The document as it is served."""
    whole: dict[str, Any] = (await api.http.get("/schema/openapi.json")).json()
    return whole


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every route of `/v1`."""
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        if path.startswith("/v1/")
        for method, operation in methods.items()
    ]


async def test_every_route_is_described(store: Store) -> None:
    """Whatever the site answers under `/v1` must stand in the document."""
    async with running_api(store) as api:
        document = await document_of(api)
        known = {(path, method) for path, method, _ in operations(document)}
        there = set()
        for route in api.app.routes:
            if route.path_format.startswith("/v1/"):
                if isinstance(route, HTTPRoute):
                    there |= {(route.path_format, method.lower()) for method in route.methods if method != "OPTIONS"}
                elif isinstance(route, ASGIRoute):
                    there.add((route.path_format, "post"))
    assert there == known
    assert all(one["tags"] for methods in document["paths"].values() for one in methods.values()), "a route of nobody"


async def test_descriptions_are_whole(store: Store) -> None:
    """Each route must have words, a tag, a name of its own, its scope, its refusals, and an example of its answer."""
    async with running_api(store) as api:
        document = await document_of(api)
    names = set()
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["operationId"] not in names, where
        names.add(operation["operationId"])
        assert set(operation["tags"]) <= tags, where
        if "callbacks" in operation["tags"]:
            continue
        assert "scope `" in operation["description"], where
        assert operation["description"].index("Needs a key") > 0, f"{where} says nothing but its scope"
        assert operation["security"] == [{"key": []}], where
        assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), where
        assert ("404" in operation["responses"]) == ("{" in path), where
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if status >= "400":
                assert set(content) == {"application/problem+json"}, where
            elif status != "204":
                assert all("example" in media or "examples" in media for media in content.values()), where
        if "requestBody" in operation:
            assert all("example" in media for media in operation["requestBody"]["content"].values()), where
        headers = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"}
        assert ("Idempotency-Key" in headers) == (method in CHANGES and path != "/v1/events"), where


async def test_parameters_have_words_and_bounds(store: Store) -> None:
    """A text or a number that is sent must have a bound, and each parameter must say what it is."""
    async with running_api(store) as api:
        document = await document_of(api)
    for path, method, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            where, schema = f"{method} {path} {parameter['name']}", parameter["schema"]
            bounded = {"maxLength", "maximum", "enum", "oneOf", "format"} & set(schema) or schema["type"] == "boolean"
            assert bounded or parameter["in"] == "path", where
            assert parameter.get("description") or "enum" in schema, where


async def test_examples_follow_the_schema(store: Store) -> None:
    """An example that the document shows must be one that the document allows."""
    async with running_api(store) as api:
        document = await document_of(api)
    for path, method, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in (media for body in bodies for media in body.get("content", {}).values()):
            if "example" in media and media.get("schema"):
                schema = {**media["schema"], "components": document["components"]}
                found = jsonschema_rs.Draft202012Validator(schema).iter_errors(media["example"])
                errors = [error.message for error in found]
                assert errors == [], f"{method} {path}"


async def test_page_of_the_api_needs_nothing_from_elsewhere(store: Store) -> None:
    """The page must load its scripts from this site, with none in the page, and name the document."""
    async with running_api(store) as api, httpx.AsyncClient(base_url=api.url, trust_env=False) as anybody:
        response = await anybody.get("/docs", headers={"accept": "text/html"})
        assert (response.status_code, "http://" in response.text, "https://" in response.text) == (200, False, False)
        policy = response.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        for name in ("vendor/swagger-ui/swagger-ui-bundle.js", "vendor/swagger-ui/swagger-ui.css", "docs.js"):
            assert f"/static/{name}" in response.text
            assert (await anybody.get(f"/static/{name}")).status_code == 200
        assert 'data-document="/schema/openapi.json"' in response.text
        assert (await anybody.get("/schema/openapi.json")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_options_name_all_methods(store: Store, method: str) -> None:
    """Both OPTIONS and a refusal must name every method of a path, whichever handler was made first."""
    async with running_api(store) as api:
        allowed = (await api.http.options("/v1/hooks")).headers["allow"]
        assert method in allowed.split(", ")
        refused = await api.http.put("/v1/hooks")
        assert (refused.status_code, method in refused.headers["allow"]) == (405, True)
