"""The ways in which an upstream may spell a credential in what it answers, each as text inside a JSON string."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Callable

SECRET = 'correct-"horse"/battery\\staple+1'
"""A credential with every character that some encoding escapes."""


def inner(value: object) -> str:
    """JSON without the outer quotes."""
    return json.dumps(value)[1:-1]


FORMS: dict[str, Callable[[str], str]] = {
    "plain": inner,
    "inside a sentence": lambda secret: inner(f"the key is {secret}, keep it"),
    "JSON in JSON": lambda secret: inner(json.dumps({"key": secret})),
    "escaped letters": lambda secret: "".join(f"\\u{ord(character):04x}" for character in secret),
    "escaped slashes": lambda secret: inner(secret).replace("/", "\\/"),
    "URL": lambda secret: inner(urllib.parse.quote(secret, safe="")),
    "URL in small letters": lambda secret: inner(
        re.sub("%..", lambda escape: escape[0].lower(), urllib.parse.quote(secret, safe=""))
    ),
    "URL, slashes kept": lambda secret: inner(urllib.parse.quote(secret)),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64, one byte before": lambda secret: base64.b64encode(b"x" + secret.encode()).decode(),
    "base64, two bytes before": lambda secret: base64.b64encode(b"a:" + secret.encode() + b"tail").decode(),
    "HTTP basic": lambda secret: "Basic " + base64.b64encode(f"service:{secret}".encode()).decode(),
    "hex": lambda secret: secret.encode().hex(),
    "hex in capitals": lambda secret: secret.encode().hex().upper(),
}
