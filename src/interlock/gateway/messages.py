"""Inbound JSON-RPC: one strictly decoded message, or the protocol's own error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from interlock.core.canonical import (
    INT64_MAX,
    INT64_MIN,
    MAX_VALUES,
    Json,
    JsonObject,
    Unrepresentable,
    count_values,
    decode,
)
from interlock.core.mcp import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR

RequestId: TypeAlias = "int | str"

IDEMPOTENCY_META: Final = "interlock/idempotency-key"
_MAX_ID: Final = 256
_MAX_KEY: Final = 128
_BYTES_OF_WEIGHT: Final = 16_384
_VALUES_OF_WEIGHT: Final = 500
_CALL_MEMBERS: Final = frozenset({"name", "arguments", "_meta"})


class RpcError(Exception):
    """A JSON-RPC error to answer with.

    Attributes:
        request_id: The id to answer to; None where it is not known.
    """

    def __init__(self, code: int, message: str, request_id: RequestId | None = None, data: Json = None) -> None:
        super().__init__(message)
        self.code, self.message, self.request_id, self.data = code, message, request_id, data


@dataclass(frozen=True, slots=True)
class Rpc:
    """One message of a client.

    Attributes:
        id: None for a notification.
        malformed: A tools/call whose text has no single exact meaning, and why; its `params` are empty.
        raw: The body as received.
    """

    id: RequestId | None
    method: str
    params: JsonObject
    raw: bytes
    malformed: str | None = None
    tool: str = ""
    """Of a malformed call: the name, as far as it can be told."""


@dataclass(frozen=True, slots=True)
class CallParams:
    """The parameters of a tools/call.

    Attributes:
        malformed: Why they are none; the other members are then as good as could be told.
    """

    name: str
    arguments: JsonObject | None
    progress_token: int | str | None
    idempotency_key: str
    malformed: str | None = None


def weight(body: bytes) -> int:
    """What reading and deciding a message costs, in messages of common size: by its bytes and its values."""
    return 1 + len(body) // _BYTES_OF_WEIGHT + min(count_values(body), MAX_VALUES) // _VALUES_OF_WEIGHT


def unread_weight(limit: int) -> int:
    """What a body costs that was received for nothing: at most so many bytes arrived."""
    return 1 + limit // _BYTES_OF_WEIGHT


def read_message(body: bytes) -> Rpc:
    """Decode one message.

    A tools/call that is JSON but not exact (duplicate keys, NaN, too deep, too many values, …) comes back as malformed,
    so that it is recorded and counted like any other attempt.

    Raises:
        RpcError: not JSON, a batch, a response, or not a JSON-RPC 2.0 request or notification.
    """
    try:
        value = decode(body, max_values=MAX_VALUES)
        malformed = None
    except Unrepresentable as error:
        value, malformed = _leniently(body), str(error)
        if not isinstance(value, dict) or value.get("method") != "tools/call":
            raise RpcError(PARSE_ERROR, f"Parse error: {malformed}") from None
    if isinstance(value, list):
        raise RpcError(INVALID_REQUEST, "Batches are not supported")
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, "Not a JSON-RPC 2.0 message")
    method, request_id = value.get("method"), _request_id(value)
    if not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, "Not a request or notification", request_id)
    if malformed is not None:
        return Rpc(request_id, method, {}, body, malformed, _tool_name(value))
    params = value.get("params", {})
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "params must be an object", request_id)
    return Rpc(request_id, method, params, body)


def _leniently(body: bytes) -> Json:
    """What a careless parser would read; used only to tell whether this was meant as a call."""
    try:
        return cast(Json, json.loads(body))
    except (ValueError, RecursionError):
        return None


def _request_id(value: JsonObject) -> RequestId | None:
    if "id" not in value:
        return None
    found = value["id"]
    # Messages that are not exact were read leniently: their ids may be what no answer can repeat.
    if isinstance(found, int) and not isinstance(found, bool) and INT64_MIN <= found <= INT64_MAX:
        return found
    if isinstance(found, str) and len(found) <= _MAX_ID and _encodable(found):
        return found
    raise RpcError(INVALID_REQUEST, "id must be a short text or an integer of 64 bits")


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _tool_name(value: dict[str, Any]) -> str:
    params = value.get("params")
    name = cast("dict[str, Any]", params).get("name") if isinstance(params, dict) else None
    return name if isinstance(name, str) and _encodable(name) else ""


def call_params(rpc: Rpc) -> CallParams:
    """The parameters of a tools/call; whatever is wrong with them makes the call malformed, never an error."""
    if rpc.malformed is not None:
        return CallParams(rpc.tool, None, None, "", rpc.malformed)
    params = rpc.params
    name, arguments, meta = params.get("name"), params.get("arguments", {}), params.get("_meta", {})
    problem: str | None = None
    if not isinstance(name, str):
        problem = "params.name is not text"
    elif unknown := params.keys() - _CALL_MEMBERS:
        problem = f"params has the member {min(unknown)[:64]!r}, which is not supported"
    elif not isinstance(arguments, dict):
        problem = "params.arguments is not an object"
    elif not isinstance(meta, dict):
        problem = "params._meta is not an object"
    members = meta if isinstance(meta, dict) else {}
    token, key = members.get("progressToken"), members.get(IDEMPOTENCY_META, "")
    if isinstance(token, bool) or not isinstance(token, int | str):
        token = None
    if not isinstance(key, str) or len(key) > _MAX_KEY:
        problem, key = problem or f"{IDEMPOTENCY_META} is not a short text", ""
    return CallParams(
        name if isinstance(name, str) else "",
        arguments if problem is None and isinstance(arguments, dict) else None,
        token,
        key,
        problem,
    )
