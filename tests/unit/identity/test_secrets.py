"""Secrets for upstreams: which one goes where, and how it is found again in whatever comes back."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import SecretUnavailable
from interlock.identity.secrets import SecretReference, UpstreamSecrets
from support.examples import tries

PLAIN = SecretReference("Authorization", is_header=True, prefix="", variable="SECRET", file=None, agent=None, tool=None)
VALUE = "s3cret/Value+with?ends=é"


def _for(variable: str, **changes: object) -> SecretReference:
    return replace(PLAIN, variable=variable, **changes)  # type: ignore[arg-type]


def _secrets(*references: SecretReference) -> UpstreamSecrets:
    return UpstreamSecrets({"crm": references})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", VALUE)
    for name in ("ALL", "AGENT", "TOOL", "BOTH", "LATER"):
        monkeypatch.setenv(name, f"value-of-{name}")


# Which one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "tool", "expected"),
    [("a", "t", "BOTH"), ("b", "t", "TOOL"), ("a", "u", "AGENT"), ("b", "u", "ALL")],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_most_specific_entry_wins_wherever_it_stands(agent: str, tool: str, expected: str, reverse: bool) -> None:
    references = [_for("ALL"), _for("AGENT", agent="a"), _for("TOOL", tool="t"), _for("BOTH", agent="a", tool="t")]
    secrets = _secrets(*(references[::-1] if reverse else references))
    assert secrets.profile("crm", agent, tool)[1] == {"Authorization": f"value-of-{expected}"}


def test_of_two_equally_specific_entries_the_later_wins() -> None:
    assert _secrets(_for("ALL"), _for("LATER")).profile("crm", "a", "t")[1] == {"Authorization": "value-of-LATER"}


def test_an_entry_for_somebody_else_is_left_out() -> None:
    assert _secrets(_for("AGENT", agent="a"), _for("TOOL", tool="t")).profile("crm", "b", "u")[1] == {}


def test_header_names_are_the_same_in_any_case_and_variables_are_not() -> None:
    headers = _secrets(_for("ALL"), _for("TOOL", target="authorization", tool="t"))
    assert headers.profile("crm", "a", "t")[1] == {"authorization": "value-of-TOOL"}
    variables = _secrets(_for("ALL", target="KEY", is_header=False), _for("TOOL", target="key", is_header=False))
    assert variables.profile("crm", "a", "t")[1] == {"KEY": "value-of-ALL", "key": "value-of-TOOL"}


def test_each_target_gets_its_own_value_and_prefix() -> None:
    secrets = _secrets(_for("ALL", prefix="Bearer "), _for("TOOL", target="X-Key"))
    assert secrets.profile("crm", "a", "t")[1] == {"Authorization": "Bearer value-of-ALL", "X-Key": "value-of-TOOL"}


def test_an_upstream_without_entries_has_no_secrets() -> None:
    secrets = _secrets()
    assert secrets.profile("crm", "a", "t")[1] == {}
    assert secrets.profile("other", "a", "t")[1] == {}
    assert not secrets.has_secrets("crm")
    assert not secrets.has_secrets("other")
    assert _secrets(PLAIN).has_secrets("crm")


# Names of profiles ----------------------------------------------------------------------------------


def test_callers_with_the_same_set_share_a_profile_and_others_do_not() -> None:
    secrets = _secrets(_for("ALL"), _for("TOOL", tool="t"))
    names = {(agent, tool): secrets.profile("crm", agent, tool)[0] for agent in "ab" for tool in "tu"}
    assert names["a", "t"] == names["b", "t"]
    assert names["a", "u"] == names["b", "u"]
    assert names["a", "t"] != names["a", "u"]


def test_a_rotated_value_is_another_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = _secrets(PLAIN)
    before = secrets.profile("crm", "a", "t")[0]
    assert secrets.profile("crm", "a", "t")[0] == before
    monkeypatch.setenv("SECRET", "another-value")
    after, values = secrets.profile("crm", "a", "t")
    assert after != before
    assert values == {"Authorization": "another-value"}


def test_a_profile_s_name_says_nothing_of_the_values() -> None:
    one, two = _secrets(PLAIN), _secrets(PLAIN)
    assert VALUE not in one.profile("crm", "a", "t")[0]
    assert one.profile("crm", "a", "t")[0] != two.profile("crm", "a", "t")[0], "a guess cannot be confirmed offline"


# Where values come from -----------------------------------------------------------------------------


def test_a_value_is_read_from_a_private_file_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("value-of-file\r\n")
    file.chmod(0o600)
    assert _secrets(replace(PLAIN, variable=None, file=file)).profile("crm", "a", "t")[1] == {
        "Authorization": "value-of-file"
    }


def _unavailable(reference: SecretReference) -> str:
    with pytest.raises(SecretUnavailable) as unavailable:
        _secrets(reference).profile("crm", "a", "t")
    return str(unavailable.value)


def test_a_missing_variable_is_said_by_name() -> None:
    assert "NOT_SET" in _unavailable(_for("NOT_SET"))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"one\ntwo", b"one\0two", b"tab\tbed", b"\xff\xfe-not-utf-8", b"del\x7f"]
)
def test_a_file_that_holds_no_clean_value_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    said = _unavailable(replace(PLAIN, variable=None, file=file))
    assert "one" not in said
    assert "not-utf-8" not in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("value-of-file")
    file.chmod(mode)
    assert f"mode {mode:o}" in _unavailable(replace(PLAIN, variable=None, file=file))


@pytest.mark.parametrize("place", ["missing", ".", "token/below"])
def test_a_place_without_a_file_makes_the_secret_unavailable(tmp_path: Path, place: str) -> None:
    (tmp_path / "token").touch(0o600)
    assert "cannot be read" in _unavailable(replace(PLAIN, variable=None, file=tmp_path / place))


@pytest.mark.parametrize("value", ["", "two\nlines", "x\ry"])
def test_a_variable_that_holds_no_clean_value_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SECRET", value)
    assert "control characters" in _unavailable(PLAIN)


# Leaks ----------------------------------------------------------------------------------------------


def _leaks(value: str, text: bytes) -> bool:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SECRET", value)
        secrets = _secrets(replace(PLAIN, prefix="Bearer "))
        secrets.profile("crm", "a", "t")
        return secrets.leaked("crm", text)


FORMS = {
    "plain": lambda value: value.encode(),
    "in JSON": lambda value: json.dumps({"x": value}).encode(),
    "in JSON, not escaped": lambda value: json.dumps({"x": value}, ensure_ascii=False).encode(),
    "as a percent-encoded query": lambda value: urllib.parse.quote(value, safe="").encode(),
    "in hexadecimal": lambda value: value.encode().hex().encode(),
    "in upper-case hexadecimal": lambda value: value.encode().hex().upper().encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["exactly8", 'quote"and\\slash', VALUE, "\U0001f511-unicode-ключ"])
def test_a_secret_is_found_in_every_form_it_may_take(form: str, value: str) -> None:
    text = FORMS[form](value)
    assert _leaks(value, b"before " + text + b" after")
    assert not _leaks(value, b"before  after")


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
@tries(200)
@given(value=st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=8, max_size=40), data=st.data())
def test_a_secret_is_found_in_base64_at_any_offset(
    alphabet: Callable[[bytes], bytes], value: str, data: st.DataObject
) -> None:
    before, after = data.draw(st.binary(max_size=7)), data.draw(st.binary(max_size=7))
    assert _leaks(value, alphabet(before + value.encode() + after))


@pytest.mark.parametrize("before", [b"", b"x", b"xx"])
@pytest.mark.parametrize("length", range(8, 17))
def test_the_shortest_secrets_are_found_in_base64_too(length: int, before: bytes) -> None:
    value = "Zk3q9XwT7LmB2vYd"[:length]
    assert _leaks(value, base64.b64encode(before + value.encode() + b"tail"))


@pytest.mark.parametrize("value", ["exactly8", VALUE])
def test_a_basic_authorization_gives_its_secret_away(value: str) -> None:
    assert _leaks(value, b"Authorization: Basic " + base64.b64encode(b"user:" + value.encode()))


@pytest.mark.parametrize(("value", "found"), [("abcd", True), ("abcdefg", True), ("abc", False)])
def test_a_short_secret_is_looked_for_plain_and_the_shortest_not_at_all(value: str, found: bool) -> None:
    assert _leaks(value, f"before {value} after".encode()) == found
    assert not _leaks(value, value.encode().hex().encode())


def test_a_prefix_is_no_secret() -> None:
    assert not _leaks(VALUE, b"Bearer tokens are sent in headers")


def test_secrets_of_one_upstream_are_not_looked_for_in_another_s_results() -> None:
    secrets = UpstreamSecrets({"crm": (PLAIN,), "other": (_for("ALL"),)})
    secrets.profile("crm", "a", "t")
    secrets.profile("other", "a", "t")
    assert secrets.leaked("crm", VALUE.encode())
    assert not secrets.leaked("other", VALUE.encode())
    assert secrets.leaked("other", b"value-of-ALL")


def test_a_secret_that_no_call_has_used_yet_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream may have it from before the plane was restarted."""
    secrets = _secrets(_for("NOT_SET", tool="v"), _for("AGENT", agent="a"), _for("TOOL", tool="t"))
    secrets.profile("crm", "a", "u")
    assert secrets.leaked("crm", b"value-of-TOOL")
    monkeypatch.setenv("NOT_SET", "value-that-came-later")
    secrets.profile("crm", "a", "v")
    assert secrets.leaked("crm", b"value-that-came-later")


def test_a_rotated_value_is_still_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = _secrets(PLAIN)
    secrets.profile("crm", "a", "t")
    monkeypatch.setenv("SECRET", "another-value")
    secrets.profile("crm", "a", "t")
    assert secrets.leaked("crm", VALUE.encode())
    assert secrets.leaked("crm", b"another-value")


# Redaction ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_what_is_logged_holds_no_form_of_a_secret(form: str) -> None:
    secrets = _secrets(PLAIN)
    secrets.profile("crm", "a", "t")
    text = FORMS[form](VALUE).decode()
    redacted = secrets.redact("crm", f"the upstream says {text} and more")
    assert not secrets.leaked("crm", redacted.encode())
    assert redacted.startswith("the upstream says ")
    assert redacted.endswith(" and more")
    assert "[secret]" in redacted


def test_a_text_without_secrets_is_logged_as_it_is() -> None:
    secrets = _secrets(PLAIN)
    secrets.profile("crm", "a", "t")
    assert secrets.redact("crm", "nothing to hide") == "nothing to hide"
    assert secrets.redact("other", VALUE) == VALUE
