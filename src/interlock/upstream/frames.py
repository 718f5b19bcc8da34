"""JSON-RPC frames to and from upstreams: built from canonical bytes, decoded as little as possible."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from interlock.core.call import CanonicalCall
from interlock.core.canonical import INT64_MAX, INT64_MIN, JsonObject, encode
from interlock.core.mcp import INTERNAL_ERROR, METHOD_NOT_FOUND
from interlock.plane.ports import Answer, Progress


class _Frame(msgspec.Struct, gc=False):
    """The outside of any message of an upstream; what is inside `result` stays raw bytes."""

    id: int | str | None | msgspec.UnsetType = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_frame = msgspec.json.Decoder(_Frame).decode


class _ProgressParams(msgspec.Struct, gc=False):
    progressToken: int | str  # noqa: N815 - the wire's name
    progress: float
    total: float | None = None
    message: str | None = None


_decode_progress = msgspec.json.Decoder(_ProgressParams).decode


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to one of our requests."""

    id: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """A request from the upstream to us; we offer nothing, so all but `ping` are declined."""

    id: int | str
    method: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification of the upstream."""

    method: str
    progress: tuple[int, Progress] | None


class NotAFrame(ValueError):
    """Bytes that are no JSON-RPC message we can use."""


def read_frame(data: bytes) -> Reply | ServerRequest | Notice:
    """Decode one message. Raises NotAFrame."""
    try:
        frame = _decode_frame(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise NotAFrame("not a JSON-RPC message") from None
    if isinstance(frame.method, str):
        if isinstance(frame.id, int) and not INT64_MIN <= frame.id <= INT64_MAX:
            raise NotAFrame("a request whose id cannot be written back")
        if isinstance(frame.id, int | str):
            return ServerRequest(frame.id, frame.method)
        return Notice(frame.method, _progress(frame))
    if not isinstance(frame.id, int):
        raise NotAFrame("an answer to nothing we asked")
    if isinstance(frame.result, msgspec.Raw):
        return Reply(frame.id, Answer(bytes(frame.result), None))
    if isinstance(frame.error, msgspec.Raw):
        return Reply(frame.id, Answer(None, _error(bytes(frame.error))))
    raise NotAFrame("neither a result nor an error")


def _error(data: bytes) -> JsonObject:
    """A JSON-RPC error, reduced to its code and message: `data` is whatever the upstream likes."""
    try:
        error: Any = json.loads(data)
    except (ValueError, RecursionError):
        error = None
    members = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    code, message = members.get("code"), members.get("message")
    return {
        "code": code if isinstance(code, int) else INTERNAL_ERROR,
        "message": message if isinstance(message, str) else "the upstream answered with an error",
    }


def _progress(frame: _Frame) -> tuple[int, Progress] | None:
    if frame.method != "notifications/progress" or not isinstance(frame.params, msgspec.Raw):
        return None
    try:
        params = _decode_progress(frame.params)
    except msgspec.MsgspecError:
        return None
    if not isinstance(params.progressToken, int):
        return None
    return params.progressToken, Progress(params.progress, params.total, params.message)


def request_frame(number: int, method: str, params: JsonObject) -> bytes:
    return encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def notification_frame(method: str, params: JsonObject) -> bytes:
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def reply_frame(request: ServerRequest) -> bytes:
    """Our answer to a request of an upstream: pong, or no such method."""
    head: JsonObject = {"jsonrpc": "2.0", "id": request.id}
    if request.method == "ping":
        return encode({**head, "result": {}})
    return encode({**head, "error": {"code": METHOD_NOT_FOUND, "message": "Method not found"}})


def call_frame(number: int, call: CanonicalCall, meta: JsonObject) -> bytes:
    """A tools/call made anew from the canonical request: its arguments are the bytes that were decided."""
    return b"".join(
        (
            b'{"jsonrpc":"2.0","id":',
            str(number).encode(),
            b',"method":"tools/call","params":{"name":',
            encode(call.tool.name),
            b',"arguments":',
            call.arguments.canonical,
            b',"_meta":' + encode({**call.meta, **meta}) if meta or call.meta else b"",
            b"}}",
        )
    )
