"""Globs, paths under a directory and hosts of URLs, against text that an attacker wrote."""

from __future__ import annotations

import pytest

from interlock.core.policy.matching import glob_match, host_matches, host_problem, is_glob, is_under, path_problem
from support.limits import within


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a", "a"),
        ("*", ""),
        ("*", "anything\nat all"),
        ("a*", "a"),
        ("*@example.org", "x@example.org"),
        ("a*b*c", "a-b-b-c"),
        ("a?c", "abc"),
        ("??", "\u20ac\u20ac"),
        ("*aab", "aaaab"),
        ("[ab].x", "[ab].x"),
        ("***", "x"),
        ("*a?c*", "ab_abc"),
        ("?*?", "ab"),
        ("a?*b", "a\nb"),
        ("*b?", "abb."),
    ],
)
def test_a_glob_matches_the_whole_text(pattern: str, text: str) -> None:
    assert glob_match(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a", "A"),
        ("a", "a\n"),
        ("a", "ba"),
        ("*@example.org", "x@example.org.evil.example"),
        ("*@example.org", "x@example.org\n"),
        ("a?c", "ac"),
        ("?", ""),
        ("a*b*c", "a-c-b"),
        ("[ab]", "a"),
        (".", "x"),
        ("", "x"),
        ("?*?", "a"),
        ("ab*ba", "aba"),
        ("*a?c*", "a_abbc"),
        ("é", "e\u0301"),
    ],
)
def test_a_glob_matches_nothing_else(pattern: str, text: str) -> None:
    assert not glob_match(pattern, text)


def test_a_long_text_does_not_make_a_glob_slow() -> None:
    with within(1_000):
        assert not glob_match("*" + "a" * 300 + "b", "a" * 100_000)
        assert not glob_match("*a*a*a*a*a*b", "a" * 100_000)


def test_a_name_with_a_star_or_a_question_mark_is_a_glob() -> None:
    assert [is_glob(name) for name in ("get_*", "get_?", "crm/*", "get", "[a]")] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("directory", "path"),
    [
        ("/data", "/data"),
        ("/data", "/data/"),
        ("/data/", "/data/a"),
        ("/data", "/data/a/b.txt"),
        ("/data", "/data/a b/.hidden/x..y"),
        ("/data", "/data/ünïcode"),
        ("/", "/etc"),
        ("reports", "reports/2026"),
    ],
)
def test_a_plain_path_in_the_directory_is_under_it(directory: str, path: str) -> None:
    assert is_under(directory, path)


_ESCAPES = {
    "outside": "/etc/passwd",
    "a sibling with the same beginning": "/database",
    "the parent": "/",
    "relative": "data/x",
    "dot dot": "/data/../etc/passwd",
    "dot dot at the end": "/data/x/..",
    "dot": "/data/./x",
    "an empty segment": "/data//etc",
    "two leading slashes": "//data/x",
    "two trailing slashes": "/data/x//",
    "percent encoding": "/data/%2e%2e/etc",
    "double percent encoding": "/data/%252e%252e/etc",
    "a backslash": "/data\\..\\etc",
    "a NUL": "/data/x\x00.png",
    "a newline": "/data/x\n/etc",
    "DEL": "/data/\x7f",
    "a tilde": "~/data/x",
    "full-width dots": "/data/\uff0e\uff0e/etc",
    "a one-dot leader": "/data/\u2024\u2024/etc",
    "a full-width slash": "/data/\uff0f/etc",
    "decomposed letters": "/data/e\u0301",
    "another case": "/Data/x",
    "a file URL": "file:///data/x",
    "nothing": "",
    # Servers strip these from a segment before they resolve it.
    "dot dot and a path parameter": "/data/..;/etc/passwd",
    "dot dot and a path parameter with a value": "/data/..;a=b/etc/passwd",
    "dot dot and a trailing space": "/data/.. /etc",
    "dot dot and trailing dots": "/data/.. ./etc",
}


@pytest.mark.parametrize("path", _ESCAPES.values(), ids=_ESCAPES)
def test_a_path_with_a_trick_in_it_is_under_no_directory(path: str) -> None:
    assert not is_under("/data", path)


@pytest.mark.parametrize("directory", ["", "/data/..", "/data//x", "./data", "~/x", "/da%74a", "a\\b", "."])
def test_a_directory_with_a_trick_in_it_cannot_stand_in_a_rule(directory: str) -> None:
    assert path_problem(directory)


@pytest.mark.parametrize("directory", ["/", "/data", "/data/", "reports", "reports/2026"])
def test_a_plain_directory_can_stand_in_a_rule(directory: str) -> None:
    assert path_problem(directory) is None


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("example.org", "https://example.org/x?y#z"),
        ("example.org", "HTTP://EXAMPLE.org"),
        ("example.org", "http://example.org:80/"),
        ("example.org", "https://example.org:443/"),
        ("example.org", "https://example.org?next=https://evil.example/@x"),
        ("example.org:8443", "https://example.org:8443/"),
        ("*.example.org", "https://a.b.example.org/"),
        ("192.0.2.7", "http://192.0.2.7/"),
        ("[2001:db8::1]", "http://[2001:db8::1]/"),
        ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/"),
    ],
)
def test_a_url_on_the_host_matches(entry: str, url: str) -> None:
    assert host_problem(entry) is None
    assert host_matches(entry, url)


_URL_TRICKS = {
    "another host": "https://evil.example/",
    "the host as a prefix": "https://example.org.evil.example/",
    "the host as a suffix": "https://evilexample.org/",
    "a name below": "https://www.example.org/",
    "another port": "https://example.org:8443/",
    "the other scheme's port": "http://example.org:443/",
    "a port beyond the range": "http://example.org:65616/",
    "an empty port": "https://example.org:/",
    "a port in other digits": "https://example.org:\u0664\u0664\u0663/",
    "two ports": "http://example.org:80:80/",
    "user information": "https://example.org@evil.example/",
    "user information before the host": "https://evil.example@example.org/",
    "an encoded at sign": "https://evil.example%40example.org/",
    "a backslash": "https://evil.example\\@example.org/",
    "a backslash as a slash": "https:\\\\example.org/",
    "a tab": "https://exam\tple.org/",
    "a newline": "https://example.org/\n",
    "a leading space": " https://example.org/",
    "no scheme": "example.org/x",
    "a relative scheme": "//example.org/x",
    "one slash": "https:/example.org/",
    "three slashes": "https:///example.org/",
    "another scheme": "ftp://example.org/",
    "javascript": "javascript://example.org/%0aalert(1)",
    "a trailing dot": "https://example.org./",
    "full-width letters": "https://ｅxample.org/",
    "a Cyrillic letter": "https://ex\u0430mple.org/",
    "a comma": "https://example.org,evil.example/",
    "a semicolon": "https://example.org;.evil.example/",
    "brackets around a name": "https://[example.org]/",
    "a bracket behind another name": "https://evil.example[example.org]/",
    "nothing": "",
    "too long": "https://example.org/" + "x" * 9000,
}


@pytest.mark.parametrize("url", _URL_TRICKS.values(), ids=_URL_TRICKS)
def test_a_url_with_a_trick_in_it_is_on_no_host(url: str) -> None:
    assert not host_matches("example.org", url)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("*.example.org", "https://example.org/"),
        ("*.example.org", "https://evilexample.org/"),
        ("*.example.org", "https://.example.org/"),
        ("*.0.0.1", "http://127.0.0.1/"),
        ("127.0.0.1", "http://127.1/"),
        ("127.0.0.1", "http://2130706433/"),
        ("127.0.0.1", "http://0x7f.0.0.1/"),
        ("[::1]", "http://[0:0:0:0:0:0:0:1]/"),
        ("[::1]", "http://[::1%25eth0]/"),
        ("[::1]", "http://evil.example[::1]/"),
        ("example.org:8443", "https://example.org/"),
    ],
)
def test_wildcards_and_addresses_match_no_further_than_they_are_written(entry: str, url: str) -> None:
    assert not host_matches(entry, url)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        ".",
        "https://example.org",
        "example.org/x",
        "Example.org",
        "example.org:0",
        "example.org:65536",
        "example.org:https",
        "example.org:",
        "example.org:\u0663",
        "example.org.",
        "a..b",
        "a*.org",
        "*.*.org",
        "*.192.0.2.7",
        "[::1",
        "[::1]x",
        "[example.org]",
        "user@example.org",
        "ex\u0430mple.org",
    ],
)
def test_what_is_no_host_cannot_stand_in_a_rule(entry: str) -> None:
    assert host_problem(entry)
