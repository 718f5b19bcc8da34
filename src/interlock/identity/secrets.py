"""Secrets for upstreams: references, values read when they are needed, and found again in results."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock.core.errors import InterlockError, SecretUnavailable
from interlock.identity.keyfiles import read_private

_PERCENT: Final = re.compile("%[0-9A-F]{2}")
_SHORTEST: Final = 8
"""Shorter values occur by chance; looking for them would withhold innocent results."""


@dataclass(frozen=True, slots=True)
class SecretReference:
    """One secret of an upstream: where its value is, where it goes, and for whom.

    Attributes:
        target: Name of the header, or of the environment variable of the upstream's process.
        is_header: Which of the two it is.
        prefix: Text before the value, such as `Bearer `.
        variable: Environment variable of the plane that holds the value; else `file` does.
        agent: Only for this agent; None is all.
        tool: Only for this tool; None is all.
    """

    target: str
    is_header: bool
    prefix: str
    variable: str | None
    file: Path | None
    agent: str | None
    tool: str | None


class UpstreamSecrets:
    """Implements `plane.ports.Secrets`."""

    def __init__(self, references: Mapping[str, tuple[SecretReference, ...]]) -> None:
        self._references = references
        self._known: dict[str, dict[str, tuple[bytes, ...]]] = {}
        self._read: set[str] = set()
        self._key = os.urandom(32)

    def profile(self, upstream: str, agent: str, tool: str) -> tuple[str, Mapping[str, str]]:
        """The name and values of the most specific entry for each target.

        Agent and tool beat tool beats agent beats neither. The name tells sets apart without saying
        anything about the values.
        """
        chosen: dict[str, int] = {}
        references = self._references.get(upstream, ())
        for index, reference in enumerate(references):
            if reference.agent not in (None, agent) or reference.tool not in (None, tool):
                continue
            # Header names are the same in any case; variables are not.
            target = reference.target.lower() if reference.is_header else reference.target
            best = chosen.get(target)
            if best is None or _weight(reference) >= _weight(references[best]):
                chosen[target] = index
        indices = sorted(chosen.values())
        values = {references[i].target: references[i].prefix + self._value(upstream, references[i]) for i in indices}
        return self._name(indices, values), values

    def _name(self, indices: list[int], values: Mapping[str, str]) -> str:
        """Tells sets of credentials apart, also before and after a value was rotated; says nothing of them."""
        digest = hashlib.blake2b(key=self._key, digest_size=8)
        for target, value in sorted(values.items()):
            digest.update(f"{target}\x00{value}\x00".encode())
        return f"{','.join(map(str, indices))}:{digest.hexdigest()}"

    def _value(self, upstream: str, reference: SecretReference) -> str:
        if reference.variable is not None:
            value = os.environ.get(reference.variable)
            if value is None:
                raise SecretUnavailable(
                    f"The environment variable {reference.variable} for the upstream {upstream} is not set.",
                    remedy="Set it where the plane is started.",
                )
        else:
            assert reference.file is not None  # a reference has one of the two
            try:
                value = read_private(reference.file).decode("utf-8").rstrip("\r\n")
            except (InterlockError, UnicodeDecodeError) as error:
                raise SecretUnavailable(f"A secret of the upstream {upstream} cannot be read: {error}") from None
        if not value or any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            raise SecretUnavailable(f"A secret of the upstream {upstream} is empty or has control characters.")
        self._known.setdefault(upstream, {}).setdefault(value, _forms(value))
        return value

    def has_secrets(self, upstream: str) -> bool:
        return bool(self._references.get(upstream))

    def leaked(self, upstream: str, text: bytes) -> bool:
        """Whether a secret of the upstream occurs in a text, plain or commonly encoded."""
        if upstream not in self._read:
            self._read.add(upstream)
            # The upstream may still hold one that no call has used since the plane was started.
            for reference in self._references.get(upstream, ()):
                with contextlib.suppress(SecretUnavailable):
                    self._value(upstream, reference)
        return any(form in text for forms in self._known.get(upstream, {}).values() for form in forms)

    def redact(self, upstream: str, text: str) -> str:
        """Blank an upstream's secrets in a text for the log."""
        for forms in self._known.get(upstream, {}).values():
            for form in forms:
                text = text.replace(form.decode(), "[secret]")
        return text


def _weight(reference: SecretReference) -> int:
    return (2 if reference.tool is not None else 0) + (1 if reference.agent is not None else 0)


def _forms(value: str) -> tuple[bytes, ...]:
    """How a value may look in JSON, URLs, headers and encodings; base64 at each of its three offsets."""
    if len(value) < _SHORTEST:
        return (value.encode(),) if len(value) >= 4 else ()
    raw = value.encode()
    forms = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        # Twice, because the text of a tool's result is often JSON itself.
        forms |= {escaped.encode(), json.dumps(escaped, ensure_ascii=ascii_only)[1:-1].encode()}
    for quoted in (urllib.parse.quote(value, safe=""), urllib.parse.quote(value), urllib.parse.quote_plus(value)):
        # The case of hexadecimal digits is the writer's choice (RFC 3986 section 2.1).
        forms |= {quoted.encode(), _PERCENT.sub(lambda found: found[0].lower(), quoted).encode()}
    for offset in range(3):
        # The characters at both ends depend on the neighbours; the middle is the same in any text.
        encoded = base64.b64encode(b"\0" * offset + raw)
        middle = encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        forms |= {middle, middle.replace(b"+", b"-").replace(b"/", b"_")}
    return tuple(sorted(forms, key=len, reverse=True))
