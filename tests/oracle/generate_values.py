"""Values around a literal: just inside, just outside, of another type, too large, too precise, in disguise."""

from __future__ import annotations

import json
import math

from oracle.json_value import Json

EVERYWHERE = (
    "null",
    "[]",
    "{}",
    "[null]",
    '""',
    '"x"',
    "true",
    "false",
    "0",
    "-0.0",
    "1",
    "1.0",
    "1e0",
    "0.00001",
    "-3.5",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e19",
    "1e300",
    "1e400",
    "NaN",
    "922337203685477.5807",
    "922337203685477.6",
    '"\\ud800"',
    '{"__extn": {"fn": "decimal", "arg": "1.0"}}',
    '{"a": 1, "a": 2}',
    '{"a": null}',
    '{"a": 9007199254740993}',
    '{"a": 2.0}',
    '[1, "x", 2.0]',
    '[9007199254740993, "x"]',
    '"someone@example.com"',
    '"10.0.0.1"',
    '"2026-02-30"',
    '[["x"]]',
    json.dumps("x" * 3000),
    "[" * 40 + "]" * 40,
)
"""Sent as every argument, whatever its type."""

_PATHS = (
    "{0}",
    "{0}/",
    "{0}/a.txt",
    "{0}/a/b.txt",
    "{0}x",
    "{0}/../etc/passwd",
    "{0}/..",
    "{0}/./a",
    "{0}//a",
    "/{0}/a",
    "{0}/a/../b",
    "{0}/%2e%2e/etc",
    "{0}/..\\etc",
    "{0}/a\u0000b",
    "{0}/a\nb",
    "{0}/\uff0e\uff0e/etc",
    "{0}\uff0fa",
    "{0}/caf\u00e9",
    "{0}/cafe\u0301",
    "{0}/\u212b",
    "{0}/...",
    "{0}/.. /etc",
    "{0}/..;a/etc",
    "{0}/a;b..",
    "{0}/.hidden",
    "{0}/ a",
    "~{0}",
    "~/a",
    "..{0}",
    "/etc/passwd",
    "a.txt",
    "/",
    "..",
    "file://{0}/a",
    "{0}/a\u007f",
    "{0}/a\u0085b",
    "{0}/.\u200b./a",
    "{0}/..\u115f/a",
    "{0}/\u202ea",
)
_URLS = (
    "https://{0}",
    "https://{0}/",
    "http://{0}/a?b=c#d",
    "HTTPS://{1}/a",
    "https://{0}:443/",
    "http://{0}:443/",
    "http://{0}:80/",
    "https://{0}:8443/x",
    "https://{0}:08443/x",
    "https://{0}:99999/",
    "https://{0}:/",
    "https://a.{0}/",
    "https://a.b.{0}/",
    "https://.{0}/",
    "https://a..{0}/",
    "https://{0}./",
    "https://evil{0}/",
    "https://{0}.evil.org/",
    "https://{0}@evil.org/",
    "https://evil.org@{0}/",
    "https://user:pw@{0}/",
    "https://evil.org\\@{0}/",
    "https://{0}\\.evil.org/",
    "https://{0}%2eevil.org/",
    "https://{0}/%2e%2e/a",
    "https://{0}/a b",
    "https://{0}/\u00e9",
    "https://ex\u00e4mple.com/",
    "https:/{0}/",
    "https:{0}/",
    "//{0}/",
    "{0}",
    "ftp://{0}/",
    "javascript://{0}/",
    " https://{0}/",
    "https://{0}/\n",
    "https://{0}\t/",
    "https://{0}?@evil.org",
    "https://{0}#@evil.org",
    "https://{0}/@evil.org",
    "https://{0}/{{}}|^`<>",
    "https://2130706433/",
    "https://[::1]:443/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::1%25eth0]/",
    "https://0x7f.0.0.1/",
    "https://evil.org/https://{0}/",
)


def around(literal: Json, *, tricks: str = "") -> list[str]:
    """JSON fragments around one literal of a rule.

    Args:
        tricks: `path` or `url` where the rule speaks of one.
    """
    if isinstance(literal, bool):
        return [json.dumps(value) for value in (literal, not literal, str(literal).lower(), int(literal), [literal])]
    if isinstance(literal, int | float):
        return _numbers(literal)
    if not isinstance(literal, str):
        return [json.dumps(literal)]
    if tricks:
        return [json.dumps(text) for text in _tricks(literal, tricks)]
    return [*(json.dumps(text) for text in _texts(literal)), *_as_other_types(literal)]


def _numbers(literal: int | float) -> list[str]:
    more = literal + 1
    found: list[Json] = [literal, more, literal - 1, str(literal), str(more), literal == 1, float(literal)]
    found.extend(([literal], [literal, more], [literal, str(literal)]))
    double = float(literal)
    found += [math.nextafter(double, math.inf), math.nextafter(double, -math.inf)]
    if abs(double) < 1e15:
        found += [round(double + step, 10) for step in (0.0001, -0.0001, 0.00001, -0.00001, 0.5)]
    texts = [json.dumps(value) for value in found]
    if double.is_integer():
        texts += [f"{int(literal)}.0", f"{int(literal)}e0", f"{int(literal)}0e-1"]
    return texts


def _texts(literal: str) -> list[str]:
    fillings = ("", "x", "x/y", "a\nb", "*", "\u00e9")
    found = [literal.replace("*", filling).replace("?", filling[:1] or "z") for filling in fillings]
    found += [literal, literal.upper(), literal + " ", " " + literal, literal + "\n", literal + "\0", literal[:-1]]
    return [*found, literal + "x", "x" + literal, literal.replace("e", "\u0435"), literal.replace("?", "")]


def _as_other_types(literal: str) -> list[str]:
    quoted, other = json.dumps(literal), json.dumps(literal + "x")
    found = [
        f"[{quoted}]",
        f"[{quoted}, {other}]",
        f"[{other}]",
        f"[{quoted}, null]",
        f"[[{quoted}]]",
        f'{{"a": {quoted}}}',
    ]
    return [*found, literal] if literal in ("1", "true") else found


def _tricks(literal: str, kind: str) -> list[str]:
    if kind == "path":
        return [form.format(literal.rstrip("/")) for form in _PATHS]
    host = literal.removeprefix("*.")
    return [form.format(host, host.upper()) for form in _URLS]
