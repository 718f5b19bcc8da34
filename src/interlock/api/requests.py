"""Reading administrative requests and answering them; problems as RFC 9457 documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from interlock.core.canonical import Json, JsonObject, Unrepresentable, decode, encode
from interlock.core.errors import BadRequest, BundleInvalid, InterlockError
from interlock.plane.ports import Page

_MAX_BODY: Final = 4 * 1024 * 1024
_MAX_PAGE: Final = 500
_STATUS: Final = {
    "bad_request": 400,
    "bundle_invalid": 422,
    "conflict": 409,
    "not_found": 404,
    "settings_invalid": 422,
    "store_unavailable": 503,
    "upstream_unavailable": 502,
    "secret_unavailable": 502,
}

Handler = Callable[[Request], Awaitable[Response]]


def answer(value: JsonObject, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def operator(request: Request) -> str:
    """Who is asking: the user at the other end of the socket, as the kernel says."""
    return f"uid:{request.scope['state']['peer_uid']}"


def problem_of(error: InterlockError) -> Response:
    """An operator-facing error as a problem document; findings of policy files are listed."""
    status = _STATUS.get(error.code, 500)
    body: JsonObject = {
        "status": status,
        "title": error.code.replace("_", " "),
        "code": error.code,
        "detail": error.message,
        "remedy": error.remedy,
    }
    if isinstance(error, BundleInvalid):
        body["findings"] = [str(finding) for finding in error.findings]
    return Response(encode(body), status, media_type="application/problem+json")


async def handle_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, InterlockError)  # registered for this type alone
    return problem_of(error)


async def body_of(request: Request, known: frozenset[str]) -> JsonObject:
    """The JSON object of a request, strictly read; unknown members are errors."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _MAX_BODY:
            raise BadRequest(f"The body may have {_MAX_BODY} bytes.")
    try:
        value: Json = decode(bytes(data)) if data else {}
    except Unrepresentable as error:
        raise BadRequest(f"The body cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body is not an object.")
    unknown = value.keys() - known
    if unknown:
        raise BadRequest(f"Unknown member {min(unknown)!r}; known are {', '.join(sorted(known))}.")
    return value


def text(value: JsonObject, name: str, *, required: bool = True, limit: int = 4096) -> str:
    """A text member; empty where it is optional and missing."""
    found = value.get(name)
    if found is None and not required:
        return ""
    if not isinstance(found, str) or len(found) > limit or (required and not found.strip()):
        raise BadRequest(f"`{name}` is not a text of 1 to {limit} characters.")
    return found


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number in the query."""
    found = request.query_params.get(name, str(default))
    # 19 digits hold every 64-bit integer; isdigit alone also takes digits that int() does not.
    if not (found.isascii() and found.isdigit() and len(found) <= 19 and least <= int(found) <= most):
        raise BadRequest(f"`{name}` is not a whole number from {least} to {most}.")
    return int(found)


def page_of(request: Request) -> Page:
    """`limit` and `before` of a listing."""
    return Page(number(request, "limit", 50, 1, _MAX_PAGE), request.query_params.get("before"))


def listing(name: str, rows: list[JsonObject], page: Page, cursor: str = "id") -> Response:
    """One page; `next` continues with `before`."""
    items: list[Any] = list(rows)
    following = str(rows[-1][cursor]) if len(rows) == page.limit else None
    return answer({name: items, "next": following})
