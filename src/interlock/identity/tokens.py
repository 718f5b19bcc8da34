"""Tokens: ES256 JWTs of at most 15 minutes, from the plane's own key, for one audience.

The token decides who is asking; nothing in a request's body does. Shape after RFC 9068 (`at+jwt`), with
one private claim, `interlock`, that says what kind of bearer it is and what it is bound to.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from joserfc import jwk, jwt

from interlock.core.errors import SettingsInvalid, TokenRefused
from interlock.core.ids import TOKEN, make_id
from interlock.identity.keyfiles import load_or_make
from interlock.plane.ports import Clock, Entropy

MAX_TTL_S: Final = 900
_SKEW_S: Final = 5
_CACHE: Final = 4096
_MAX_TOKEN: Final = 4096

Kind = Literal["agent", "run-opener"]


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds a valid token.

    Attributes:
        kind: An agent, or a host application that may open runs.
        subject: The agent's identity, or the opener's name.
        agents: The agents it speaks for: exactly one for an agent, those it may open runs for otherwise.
        run: The run it is bound to, if any.
        expires_at: Seconds since the epoch.
    """

    kind: Kind
    subject: str
    agents: tuple[str, ...]
    run: str | None
    expires_at: int
    token_id: str

    @property
    def agent(self) -> str:
        return self.agents[0]


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh token; `text` is the secret, and never printed by accident."""

    text: str
    token_id: str
    expires_at: int

    def __repr__(self) -> str:
        return f"Minted({self.token_id})"


def audience(public_url: str, kind: Kind) -> str:
    """The one audience of a kind of token: an agent's opens no runs, an opener's calls no tools."""
    return public_url.rstrip("/") + ("/mcp" if kind == "agent" else "/v1/runs")


class TokenService:
    """Mints and verifies; verification is cached by the token's hash until it expires."""

    def __init__(self, key_file: Path, public_url: str, clock: Clock, entropy: Entropy) -> None:
        self._key = _read_key(key_file)
        self._kid = self._key.thumbprint()
        self._url, self._clock, self._entropy = public_url.rstrip("/"), clock, entropy
        self._cache: OrderedDict[bytes, Bearer] = OrderedDict()

    def mint(self, kind: Kind, subject: str, agents: tuple[str, ...], run: str | None, ttl_s: int) -> Minted:
        """Make a token; `ttl_s` is cut to 15 minutes."""
        now = self._clock.now_us() // 1_000_000
        expires = now + min(max(1, ttl_s), MAX_TTL_S)
        token_id = make_id(TOKEN, now * 1000, self._entropy.take(10))
        claims: dict[str, Any] = {
            "iss": self._url,
            "sub": subject,
            "aud": audience(self._url, kind),
            "iat": now,
            "exp": expires,
            "jti": token_id,
            "interlock": {"kind": kind, "agents": list(agents), **({"run": run} if run else {})},
        }
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._kid}
        return Minted(jwt.encode(header, claims, self._key, algorithms=["ES256"]), token_id, expires)

    def verify(self, token: str, kind: Kind) -> Bearer:
        """Return who holds this token.

        Raises:
            TokenRefused: not ours, altered, expired, of another kind or for another audience. The
                message never repeats the token.
        """
        if not token or len(token) > _MAX_TOKEN:
            raise TokenRefused("A bearer token is required.")
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        bearer = self._cache.get(key)
        if bearer is None:
            bearer = self._verify(token)
            self._cache[key] = bearer
            if len(self._cache) > _CACHE:
                self._cache.popitem(last=False)
        now = self._clock.now_us() // 1_000_000
        if now >= bearer.expires_at:
            self._cache.pop(key, None)
            raise TokenRefused("The token has expired.")
        if bearer.kind != kind:
            raise TokenRefused("The token is for another audience.")
        return bearer

    def _verify(self, token: str) -> Bearer:
        try:
            decoded = jwt.decode(token, self._key, algorithms=["ES256"])
        except Exception:  # noqa: BLE001 - any bytes may be sent: whatever breaks the reading of them is no token
            raise TokenRefused("The token is not valid here.") from None
        header, claims = decoded.header, decoded.claims
        private = claims.get("interlock")
        if header.get("typ") != "at+jwt" or not isinstance(private, dict):
            raise TokenRefused("The token is not an access token of this plane.")
        bound = cast("dict[str, Any]", private)
        kind = bound.get("kind")
        if kind not in ("agent", "run-opener"):
            raise TokenRefused("The token is not an access token of this plane.")
        if claims.get("iss") != self._url or claims.get("aud") != audience(self._url, kind):
            raise TokenRefused("The token is for another audience.")
        now = self._clock.now_us() // 1_000_000
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(expires, int) or expires - issued > MAX_TTL_S:
            raise TokenRefused("The token lives longer than this plane allows.")
        if issued > now + _SKEW_S:
            raise TokenRefused("The token is not valid yet.")
        agents = tuple(str(agent) for agent in cast("list[Any]", bound.get("agents") or []))
        if not agents or (kind == "agent" and len(agents) != 1):
            raise TokenRefused("The token names no agent.")
        run = bound.get("run")
        return Bearer(
            kind, str(claims.get("sub")), agents, run if isinstance(run, str) else None, expires, str(claims["jti"])
        )


def _read_key(key_file: Path) -> jwk.ECKey:
    text = load_or_make(key_file, _new_key)
    try:
        key = jwk.ECKey.import_key(cast("dict[str, Any]", json.loads(text)))
        jwt.encode({"alg": "ES256"}, {}, key, algorithms=["ES256"])
    except Exception:  # noqa: BLE001 - the library has no one error for what is no key; its text could hold the key
        raise SettingsInvalid(
            f"The file {key_file} holds no ES256 key.",
            remedy="Restore its backup, or remove it: a new key is made, and older tokens are refused.",
        ) from None
    return key


def _new_key() -> bytes:
    key = jwk.ECKey.generate_key("P-256", private=True, auto_kid=True)
    return json.dumps(key.as_dict(private=True)).encode()
