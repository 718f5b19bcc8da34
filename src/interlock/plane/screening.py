"""Screening a result: leaked secrets withhold it, a scope cuts it to the granted fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Code
from interlock.core.policy.scopes import project
from interlock.plane.ports import Answer

_ERROR_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Screened:
    """What is left of an answer.

    Attributes:
        outcome: What the record says became of the call.
        body: The result for the agent; None where `code` says why there is none.
        message: With a code: one sentence, safe to show.
    """

    outcome: Literal["succeeded", "failed"]
    body: bytes | None
    code: Code | None = None
    message: str = ""


Leaked = Callable[[bytes], bool] | None
"""Whether a text holds a secret of the upstream; None where the upstream has no secrets."""


def screen(answer: Answer, scope: tuple[str, ...] | None, leaked: Leaked) -> Screened:
    """Screen one answer.

    Args:
        answer: The upstream's answer.
        scope: Fields of the structured result that the agent may see; None is all.
        leaked: How to look for the upstream's secrets.
    """
    if answer.result is None:
        return _protocol_error(answer.error or {}, scope, leaked)
    head = _head(answer.result)
    if head is None:
        return Screened("failed", None, Code.UPSTREAM_FAILED, "The upstream's result is not a JSON object.")
    if head.resultType != "complete":
        message = "The upstream asks for input, which this gateway does not carry yet."
        return Screened("failed", None, Code.UPSTREAM_FAILED, message)
    failed = head.isError is True
    outcome: Literal["succeeded", "failed"] = "failed" if failed else "succeeded"
    if scope is None and leaked is None:
        return Screened(outcome, answer.result)
    result = _read(answer.result)
    # Escapes can spell anything, so the decoded text is searched beside the raw bytes.
    if leaked and (
        result is None
        or leaked(answer.result)
        or leaked(json.dumps(result, ensure_ascii=False).encode("utf-8", "replace"))
    ):
        message = "The result held a credential of the upstream and is withheld."
        return Screened(outcome, None, Code.RESULT_WITHHELD, message)
    if scope is None:
        return Screened(outcome, answer.result)
    return _project(result or {}, scope, failed=failed)


def _project(result: dict[str, Any], scope: tuple[str, ...], *, failed: bool) -> Screened:
    """Keep the granted fields and nothing else: no other block, no `_meta`, no error text."""
    if failed:
        message = "The tool reported an error; its text is withheld, because only some fields may be seen."
        return Screened("failed", None, Code.UPSTREAM_FAILED, message)
    structured = cast(Json, result.get("structuredContent"))
    if not isinstance(structured, dict | list):
        message = "The result has no structure to cut to the granted fields, so it is withheld."
        return Screened("succeeded", None, Code.RESULT_NOT_PROJECTABLE, message)
    try:
        projected = project(structured, scope)
        text = json.dumps(projected, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        message = "The result has a number beyond a double or nests too deep to be cut, so it is withheld."
        return Screened("succeeded", None, Code.RESULT_NOT_PROJECTABLE, message)
    body: JsonObject = {"content": [{"type": "text", "text": text}], "structuredContent": projected}
    return Screened("succeeded", json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _protocol_error(error: JsonObject, scope: tuple[str, ...] | None, leaked: Leaked) -> Screened:
    text = str(error.get("message", ""))
    # The whole text is searched: a cut could leave most of a secret, and hide that it is one.
    if scope is not None or (leaked and leaked(text.encode("utf-8", "replace"))):
        text = "its message is withheld"
    return Screened("failed", None, Code.UPSTREAM_FAILED, f"The upstream answered with an error: {text[:_ERROR_TEXT]}")


class _Head(msgspec.Struct, gc=False):
    """The members that say what a result is; the rest is skipped without being made into objects."""

    resultType: Any = "complete"  # noqa: N815 - the wire's name
    isError: Any = False  # noqa: N815 - the wire's name


_decode_head = msgspec.json.Decoder(_Head).decode


def _head(result: bytes) -> _Head | None:
    try:
        result.decode()  # what is skipped is not looked at by the decoder
        return _decode_head(result)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _read(result: bytes) -> dict[str, Any] | None:
    """The whole result; None where it cannot be read, such as beyond a depth."""
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
