"""Answers on the wire: JSON-RPC frames, tool results and errors, in the shape of each era."""

from __future__ import annotations

import msgspec

from interlock.core.canonical import Json, JsonObject, encode
from interlock.gateway.messages import RequestId, RpcError
from interlock.plane.callers import CallResult, Reply
from interlock.plane.ports import Progress

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_COMPLETE = msgspec.Raw(b'"complete"')


def rpc_result(request_id: RequestId, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":' + encode(request_id) + b',"result":' + result + b"}"


def rpc_error(error: RpcError) -> bytes:
    body: JsonObject = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return encode({"jsonrpc": "2.0", "id": error.request_id, "error": body})


def tool_result(reply: Reply, *, modern: bool) -> bytes:
    """The result object of a tools/call: the upstream's own, or a structured error that a model can act on."""
    if isinstance(reply, CallResult):
        return _result_for_era(reply, modern=modern)
    error = reply.as_json()
    body: JsonObject = {
        "content": [{"type": "text", "text": f"{error['code']}: {error['message']}"}],
        "structuredContent": {"error": error},
        "isError": True,
    }
    if modern:
        body["resultType"] = "complete"
    return encode(body)


def _result_for_era(reply: CallResult, *, modern: bool) -> bytes:
    """The bytes of the upstream's result, but for the one member that differs between the eras."""
    if not modern and not reply.replayed and b'"resultType"' not in reply.body:
        return reply.body
    members = _decode_members(reply.body)
    if ("resultType" in members) == modern and not reply.replayed:
        return reply.body  # as it is, in the upstream's own spelling
    if modern:
        members.setdefault("resultType", _COMPLETE)
    else:
        members.pop("resultType", None)
    if reply.replayed:
        meta = _meta(members)
        meta["interlock/replayed"] = msgspec.Raw(b"true")
        members["_meta"] = msgspec.Raw(_encode(meta))
    return _encode(members)


def _meta(members: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The members of a result's `_meta`; none where the upstream sent something else than an object."""
    try:
        return _decode_members(members["_meta"]) if "_meta" in members else {}
    except msgspec.ValidationError:
        return {}


def progress_event(token: int | str, progress: Progress) -> bytes:
    params: dict[str, Json] = {"progressToken": token, "progress": progress.progress}
    if progress.total is not None:
        params["total"] = progress.total
    if progress.message is not None:
        params["message"] = progress.message
    return sse(encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))


def sse(data: bytes) -> bytes:
    """One server-sent event; canonical JSON has no line breaks, an upstream's result may have."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"event: message\ndata: " + data + b"\n\n"
