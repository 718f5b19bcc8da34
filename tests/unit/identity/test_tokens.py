"""Tokens: the bearer is who the plane's own key says, for one audience and at most 15 minutes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk, jwt

from interlock.core.errors import SettingsInvalid, TokenRefused
from interlock.identity.tokens import MAX_TTL_S, Kind, TokenService, audience
from support.clock import SetClock
from support.entropy import CountingEntropy
from support.examples import tries

URL = "http://plane.example:7600"
KINDS: list[Kind] = ["agent", "run-opener"]


class Mint:
    """A service, its clock, and forged claims signed with its own key."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        self.key_file = folder / "tokens.key"
        self.service = self.again()

    def again(self, url: str = URL) -> TokenService:
        """Another service on the same key."""
        return TokenService(self.key_file, url, self.clock, CountingEntropy())

    def agent(self, ttl_s: int = 900, run: str | None = None) -> str:
        return self.service.mint("agent", "a@example.org", ("a",), run, ttl_s).text

    @property
    def now(self) -> int:
        return self.clock.now_us() // 1_000_000

    def forge(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token with the right signature; None leaves a claim out."""
        claims: dict[str, Any] = {
            "iss": URL,
            "sub": "a@example.org",
            "aud": audience(URL, "agent"),
            "iat": self.now,
            "exp": self.now + 900,
            "jti": "tok_1",
            "interlock": {"kind": "agent", "agents": ["a"]},
        }
        claims = {name: value for name, value in (claims | changes).items() if value is not None}
        key = jwk.ECKey.import_key(json.loads(self.key_file.read_bytes()))
        return jwt.encode({"alg": "ES256", "typ": "at+jwt"} | (header or {}), claims, key, algorithms=["ES256"])

    def refusal(self, token: str, kind: Kind = "agent") -> str:
        with pytest.raises(TokenRefused) as refused:
            self.service.verify(token, kind)
        return refused.value.message


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path)


def test_a_token_says_who_holds_it(mint: Mint) -> None:
    minted = mint.service.mint("agent", "a@example.org", ("a",), "run_1", 60)
    bearer = mint.service.verify(minted.text, "agent")
    assert (bearer.kind, bearer.subject, bearer.agents, bearer.agent) == ("agent", "a@example.org", ("a",), "a")
    assert (bearer.run, bearer.expires_at, bearer.token_id) == ("run_1", mint.now + 60, minted.token_id)
    assert minted.expires_at == mint.now + 60


def test_an_opener_s_token_names_the_agents_it_may_open_runs_for(mint: Mint) -> None:
    minted = mint.service.mint("run-opener", "host", ("a", "b"), None, 60)
    bearer = mint.service.verify(minted.text, "run-opener")
    assert (bearer.subject, bearer.agents, bearer.run) == ("host", ("a", "b"), None)


@pytest.mark.parametrize(("asked", "given_s"), [(10, 10), (900, 900), (901, 900), (10**9, 900), (0, 1), (-5, 1)])
def test_a_token_lives_at_most_15_minutes(mint: Mint, asked: int, given_s: int) -> None:
    minted = mint.service.mint("agent", "a@example.org", ("a",), None, asked)
    assert minted.expires_at == mint.now + given_s
    mint.clock.advance(given_s - 1)
    mint.service.verify(minted.text, "agent")
    mint.clock.advance(1)
    assert mint.refusal(minted.text) == "The token has expired."


def test_verification_that_is_remembered_never_outlives_the_token(mint: Mint) -> None:
    token = mint.agent(ttl_s=60)
    for _ in range(3):
        mint.service.verify(token, "agent")
    mint.clock.advance(60)
    for _ in range(2):
        assert mint.refusal(token) == "The token has expired."


def test_a_token_is_verified_once_and_remembered(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    token = mint.agent()
    first = mint.service.verify(token, "agent")
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
    assert mint.service.verify(token, "agent") is first


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_opens_one_kind_of_door(mint: Mint, kind: Kind) -> None:
    other: Kind = "run-opener" if kind == "agent" else "agent"
    token = mint.service.mint(kind, "who", ("a",), None, 60).text
    assert mint.refusal(token, other) == "The token is for another audience."
    mint.service.verify(token, kind)
    assert mint.refusal(token, other) == "The token is for another audience.", "remembered or not"


def test_each_kind_has_its_own_audience() -> None:
    assert audience(URL, "agent") == URL + "/mcp"
    assert audience(URL + "/", "run-opener") == URL + "/v1/runs"


def test_a_token_of_another_plane_is_refused(mint: Mint, tmp_path: Path) -> None:
    other = TokenService(tmp_path / "other.key", URL, mint.clock, CountingEntropy())
    token = other.mint("agent", "a@example.org", ("a",), None, 60).text
    assert mint.refusal(token) == "The token is not valid here."


def test_a_token_is_of_no_use_at_another_address_of_the_same_key(mint: Mint) -> None:
    token = mint.again("http://elsewhere.example").mint("agent", "a@example.org", ("a",), None, 60).text
    assert mint.refusal(token) == "The token is for another audience."


def test_the_key_survives_a_restart(mint: Mint) -> None:
    token = mint.agent()
    assert mint.again().verify(token, "agent").agent == "a"


@pytest.mark.parametrize("content", [b"", b"no key", b"{}", b"[]", b'{"kty": "EC", "crv": "P-256", "x": "", "y": ""}'])
def test_a_file_that_holds_no_key_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsInvalid, match="holds no ES256 key"):
        Mint(tmp_path)
    assert path.read_bytes() == content


def _swap(token: str, part: int, value: object) -> str:
    parts = token.split(".")
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    parts[part] = base64.urlsafe_b64encode(text).decode().rstrip("=")
    return ".".join(parts)


def test_a_token_with_other_claims_than_were_signed_is_refused(mint: Mint) -> None:
    token = mint.agent()
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert mint.refusal(_swap(token, 1, {**claims, "interlock": {"kind": "agent", "agents": ["b"]}}))
    assert mint.refusal(_swap(token, 1, {**claims, "exp": claims["exp"] + 60}))


def test_a_token_is_not_repeated_in_its_refusal(mint: Mint) -> None:
    for token in (mint.agent()[:-2] + "xx", mint.forge(iss="http://elsewhere.example")):
        assert token not in mint.refusal(token)
        assert token.split(".")[1] not in mint.refusal(token)
    assert mint.agent() not in repr(mint.service.mint("agent", "a@example.org", ("a",), None, 60))


@pytest.mark.parametrize(
    "header",
    [
        [],
        "text",
        1,
        None,
        {},
        {"alg": None},
        {"alg": ["ES256"]},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES256", "kid": 5},
        {"alg": "ES256", "crit": 5},
        {"alg": "ES256", "crit": ["unknown"]},
        {"alg": "ES256", "b64": False, "crit": ["b64"]},
        {"alg": "ES256", "enc": "A128GCM"},
        b"\xff\xfe",
        b"[" * 2000,
        b'{"a":' * 400,
    ],
    ids=lambda header: ascii(header)[:40],
)
def test_a_header_of_any_shape_is_refused_and_never_breaks_the_door(mint: Mint, header: object) -> None:
    assert mint.refusal(_swap(mint.agent(), 0, header)) == "The token is not valid here."


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b", "a.b.c", "...", "....", "a.b.c.d.e", "{}", "\x00", "é.b.c", "\ud800", "x" * 4096, "x" * 4097],
    ids=ascii,
)
def test_what_is_no_token_is_refused(mint: Mint, token: str) -> None:
    assert mint.refusal(token)


@tries(60)
@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(mint: Mint, data: st.DataObject) -> None:
    token = mint.agent()
    place = data.draw(st.integers(0, len(token) - 2))  # the last character has spare bits
    other = data.draw(st.sampled_from("AZaz09-_.").filter(lambda character: character != token[place]))
    assert mint.refusal(token[:place] + other + token[place + 1 :])


# Claims that our own key would have to have signed ---------------------------------------------------


def test_what_is_forged_below_differs_from_a_good_token_in_one_thing(mint: Mint) -> None:
    assert mint.service.verify(mint.forge(), "agent").agent == "a"


@pytest.mark.parametrize("kind", ["JWT", "at+JWT ", ""])
def test_another_type_of_token_is_refused(mint: Mint, kind: str) -> None:
    assert mint.refusal(mint.forge({"typ": kind})) == "The token is not an access token of this plane."


@pytest.mark.parametrize(
    "changes",
    [
        {"interlock": None},
        {"interlock": "agent"},
        {"interlock": {}},
        {"interlock": {"kind": "person", "agents": ["a"]}},
        {"interlock": {"kind": ["agent"], "agents": ["a"]}},
    ],
    ids=str,
)
def test_a_token_of_no_known_kind_is_refused(mint: Mint, changes: dict[str, Any]) -> None:
    assert mint.refusal(mint.forge(**changes)) == "The token is not an access token of this plane."


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://elsewhere.example"},
        {"iss": None},
        {"aud": None},
        {"aud": URL},
        {"aud": [URL + "/mcp"]},
        {"aud": URL + "/v1/runs"},
    ],
    ids=str,
)
def test_a_token_for_another_audience_is_refused(mint: Mint, changes: dict[str, Any]) -> None:
    assert mint.refusal(mint.forge(**changes)) == "The token is for another audience."


def test_a_token_that_lives_too_long_or_for_ever_is_refused(mint: Mint) -> None:
    changes: dict[str, Any]
    for changes in ({"exp": mint.now + MAX_TTL_S + 1}, {"exp": None}, {"iat": None}, {"exp": "later"}, {"iat": 1.5}):
        assert mint.refusal(mint.forge(**changes)) == "The token lives longer than this plane allows."


def test_a_token_of_the_future_is_refused_beyond_5_seconds(mint: Mint) -> None:
    mint.service.verify(mint.forge(iat=mint.now + 5), "agent")
    assert mint.refusal(mint.forge(iat=mint.now + 6)) == "The token is not valid yet."


@pytest.mark.parametrize("agents", [[], None, ["a", "b"]])
def test_an_agent_s_token_names_exactly_one_agent(mint: Mint, agents: object) -> None:
    assert mint.refusal(mint.forge(interlock={"kind": "agent", "agents": agents})) == "The token names no agent."


def test_more_tokens_than_are_remembered_are_verified_all_the_same(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.identity import tokens

    monkeypatch.setattr(tokens, "_CACHE", 2)
    every = [mint.agent() for _ in range(5)]
    for token in every * 2:
        assert mint.service.verify(token, "agent").agent == "a"
