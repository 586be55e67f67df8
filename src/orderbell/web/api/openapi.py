"""What the API's description says of every route alike: scopes, refusals, limits, `Idempotency-Key`, examples.

Litestar describes parameters and answers from the types of the handlers. A handler of `/v1` adds in its `opt`: `right`
(the scope of the key), `example` (an answer), `asks` (the body of a request) and perhaps `body` (its JSON Schema, where
the handler reads it by itself); the rest is written here, so that no route can forget it. A route that describes itself
alone brings `openapi`, a mapping with `paths` and `components`. The document is OpenAPI 3.1
(https://spec.openapis.org/oas/v3.1.1.html).
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final, TypeAlias

import msgspec
from litestar.handlers import BaseRouteHandler
from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute

Json: TypeAlias = dict[str, Any]

PROBLEM_TYPE: Final = "application/problem+json"
SCHEMES: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ob_…",
        "description": (
            "An API key of one tenant, made in the console (Settings, API keys) or by `orderbell key new`. It opens "
            "the routes whose scopes it has."
        ),
    }
}
TAGS: Final = {
    "events": "What a shop tells: the way in.",
    "orders": "Orders as they stand, and what happened to them.",
    "explain": "Why somebody was told something, or not.",
    "people": "Contacts, their wishes, and what they answered.",
    "messages": "What was to be told and what became of it.",
    "cases": "Work for the staff.",
    "playbooks": "The rules: read, checked, tried and activated.",
    "metrics": "Figures.",
    "hooks": "Where OrderBell tells of changes.",
    "links": "Links for customers.",
    "callbacks": "Where providers bring receipts and replies; no key, the address itself is the secret.",
    "health": "Whether the process lives.",
}
CHANGES: Final = frozenset({"post", "put", "patch", "delete"})
KEY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "A text chosen at random, such as a UUID. The same request with the same key is made once within 24 hours; "
        "it gets the first answer again, with `Idempotent-Replayed: true`."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$"},
}

_REFUSED: Final = {
    "401": ("There is no API key, or it is not valid.", "bad_key", "No valid API key"),
    "404": ("There is no such thing, or it is somebody else's.", "unknown", "Nothing there"),
    "422": ("A value is refused; `field` names it.", "wrong_value", "The request is refused"),
    "429": ("The key asks too often; `Retry-After` says when to come again.", "too_many_requests", "Too many requests"),
    "503": ("Nothing can be read or confirmed at the moment; send the same again.", "unavailable", "Unavailable"),
}
_OF_BODIES: Final = {
    "400": ("The body is not JSON.", "not_json", "Not JSON"),
    "408": ("The body did not arrive in time.", "too_slow", "Request timeout"),
    "413": ("The body is too large.", "too_large", "Too large"),
    "415": ("The body has another Content-Type.", "wrong_media_type", "Unsupported media type"),
}
_IN_PROGRESS: Final = ("The first request with this `Idempotency-Key` is under way.", "in_progress", "In progress")


def whole_document(document: Mapping[str, Any], routes: Iterable[BaseRoute], problem: type[msgspec.Struct]) -> Json:
    """Put the document together: Litestar's own, the parts that routes bring in `opt`, and what is written here.

    Args:
        document: What Litestar made; it stays as it is.
        routes: Those of the application.
        problem: The type of an error's answer, by the name `Problem`.
    """
    whole: Json = deepcopy(dict(document))
    whole.pop("servers", None)  # this one
    components = whole.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(msgspec.json.schema_components([problem], ref_template="#/components/schemas/{name}")[1])
    components["securitySchemes"] = SCHEMES
    paths = whole.setdefault("paths", {})
    for route in routes:
        for method, handler in _handlers(route):
            part = deepcopy(handler.opt.get("openapi"))
            if part is not None:
                paths.update(part["paths"])
                schemas.update(part["components"]["schemas"])
            operation = paths.get(route.path_format, {}).get(method.lower())
            if part is None and operation is not None:
                _complete(operation, method.lower(), route.path_format, handler)
    used = {tag for path in paths.values() for one in path.values() for tag in one.get("tags", ())}
    _spell_patterns(whole)
    whole["tags"] = [{"name": name, "description": words} for name, words in TAGS.items() if name in used]
    return whole


def _handlers(route: BaseRoute) -> Iterable[tuple[str, BaseRouteHandler]]:
    if isinstance(route, ASGIRoute):
        yield "", route.route_handler
    elif isinstance(route, HTTPRoute):
        for method, (handler, _) in route.route_handler_map.items():
            yield method, handler


def problem_answer(status: int, words: str, reason: str, title: str) -> Json:
    """The description of a refusal, with an example."""
    example = {
        "type": f"urn:orderbell:problem:{reason}", "title": title, "status": status, "detail": words, "reason": reason,
    }  # fmt: skip
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": words, "content": {PROBLEM_TYPE: {"schema": schema, "example": example}}}


def _complete(operation: Json, method: str, path: str, handler: BaseRouteHandler) -> None:
    operation["operationId"] = _camel(handler.handler_name)
    right = handler.opt.get("right")
    if right is None or not path.startswith("/v1/"):
        operation["responses"].pop("400", None)
        return
    words = f"Needs a key with the scope `{right}`."
    operation["description"] = "\n\n".join(filter(None, [operation.get("description", ""), words]))
    refused = dict(_REFUSED)
    if "{" not in path:
        del refused["404"]
    refused["403"] = (f"The key has no scope `{right}`.", "missing_scope", "The key may not do this")
    if "requestBody" in operation:
        refused |= _OF_BODIES
        content = operation["requestBody"]["content"]
        _fill_in(content, handler.opt.get("asks"))
        for media in content.values():
            media["schema"] = deepcopy(handler.opt.get("body", media.get("schema")))
    if method in CHANGES:
        operation.setdefault("parameters", []).append(KEY_HEADER)
        refused["409"] = _IN_PROGRESS
        refused.setdefault("408", _OF_BODIES["408"])
        refused.setdefault("413", _OF_BODIES["413"])
    responses = operation["responses"]
    responses.pop("400", None)
    for status, said in refused.items():
        own = responses.get(status)
        made = problem_answer(int(status), *said)
        if own is not None:
            made["description"] = own["description"]
        responses[status] = made
    _make_problems(responses)
    for status in ("200", "201", "202"):
        _fill_in(responses.get(status, {}).get("content", {}), handler.opt.get("example"))
    operation["responses"] = dict(sorted(responses.items()))


def _make_problems(responses: Json) -> None:
    """Whatever else a route refuses is a problem document too."""
    for status, response in responses.items():
        if status >= "400" and PROBLEM_TYPE not in response.get("content", {}):
            response["content"] = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _spell_patterns(node: object) -> None:
    r"""Python's end of a text is `\Z`; JSON Schema has the dialect of ECMA-262, where it is `$`."""
    if isinstance(node, dict):
        pattern = node.get("pattern")
        if isinstance(pattern, str):
            node["pattern"] = pattern.replace(r"\Z", "$")
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _spell_patterns(child)


def _fill_in(content: Json, example: object) -> None:
    if example is not None:
        for media in content.values():
            media.setdefault("example", example)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
