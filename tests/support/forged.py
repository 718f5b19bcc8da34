"""Tokens that no plane minted, made from the plane's own key file or from nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from joserfc import jwk, jws

from support.odd_http_upstream import AGENT


def part(value: Any) -> str:
    """One part of a compact token; bytes are taken as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Header, claims and signature of a real token."""
    header, claims, signature = token.split(".")
    return json.loads(_bytes(header)), json.loads(_bytes(claims)), signature


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Forger:
    """Signs whatever it is given, with the key in a plane's data folder or with another."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self.key = jwk.ECKey.import_key(json.loads((data_dir / "tokens.key").read_bytes()))
        self.foreign = jwk.ECKey.generate_key("P-256", private=True, auto_kid=True)
        self.url = url

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a good token of the agent claims; a value of None leaves the claim out."""
        now = int(time.time())
        good: dict[str, Any] = {
            "iss": self.url,
            "sub": "odd@example",
            "aud": f"{self.url}/mcp",
            "iat": now,
            "exp": now + 300,
            "jti": "tok_forged",
            "interlock": {"kind": "agent", "agents": [AGENT]},
            **changed,
        }
        return {name: value for name, value in good.items() if value is not None}

    def sign(self, claims: Any = None, *, key: jwk.ECKey | None = None, **header: Any) -> str:
        """A signed token; a header value of None is left out."""
        full = {"alg": "ES256", "typ": "at+jwt", "kid": self.key.thumbprint(), **header}
        kept = {name: value for name, value in full.items() if value is not None}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims or self.claims()).encode()
        return jws.serialize_compact(kept, payload, key or self.key, algorithms=["ES256"])

    def unsigned(self, alg: str) -> str:
        return f"{part({'alg': alg, 'typ': 'at+jwt'})}.{part(self.claims())}."

    def hmac_with_public_key(self, form: str) -> str:
        """The public key taken for a shared secret: HS256 over its PEM, or over its JSON."""
        public = (
            self.key.as_pem(private=False) if form == "PEM" else json.dumps(self.key.as_dict(private=False)).encode()
        )
        signed = f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{part(self.claims())}"
        return f"{signed}.{part(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"
