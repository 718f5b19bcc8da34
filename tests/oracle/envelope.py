"""The constraints of one entry of an agent file, checked against one call's arguments.

Each function answers "is this kept?"; a missing, null or empty argument keeps nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from unicodedata import category, normalize

from oracle.json_value import Json, JsonObject, elements, exact, is_number, members, same, several

COUNTERS = ("max_records_per_run", "max_calls_per_run")
_RULE = re.compile(r"(allowed|min|max|match|under|host)_(.+)")


def glob(pattern: str, text: str) -> bool:
    """Match the whole text; `*` stands for any characters, none and slashes included, `?` for one."""
    return _glob(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    signs = {"*": ".*", "?": "."}
    return re.compile("".join(signs.get(sign, re.escape(sign)) for sign in pattern), re.DOTALL)


def argument_of(declared: Collection[str], wanted: str) -> str:
    """The one of the declared arguments that a constraint's name means: itself or its singular."""
    singular = [wanted]
    if wanted.endswith("ies"):
        singular.append(wanted[:-3] + "y")
    if wanted.endswith("es"):
        singular.append(wanted[:-2])
    if wanted.endswith("s"):
        singular.append(wanted[:-1])
    found = [name for name in singular if name in declared]
    if len(found) != 1:
        raise LookupError(f"{wanted} means {found}")
    return found[0]


def keeps(declared: Collection[str], key: str, limit: Json, arguments: JsonObject) -> bool:
    """Whether the arguments keep the constraint `key: limit`."""
    rule = _RULE.fullmatch(key)
    assert rule, key
    value = arguments.get(argument_of(declared, rule[2]))
    if value is None or value == []:
        return False
    limits = several(limit)
    return all(_item_keeps(rule[1], limits, item) for item in several(value))


def _item_keeps(kind: str, limits: list[Json], item: Json) -> bool:
    if kind == "allowed":
        return any(same(limit, item) for limit in limits)
    if kind in ("min", "max"):
        return _within(kind, limits[0], item)
    if not isinstance(item, str):
        return False
    test = {"match": glob, "under": under, "host": has_host}[kind]
    return any(test(str(limit), item) for limit in limits)


def _within(kind: str, limit: Json, item: Json) -> bool:
    if not is_number(item) or not isinstance(item, int | float) or not isinstance(limit, int | float):
        return False
    return exact(item) >= exact(limit) if kind == "min" else exact(item) <= exact(limit)


def under(directory: str, path: str) -> bool:
    """Whether a path is a directory or stays below it, however the upstream may read it."""
    if re.search(r"[%\\\x00-\x1f\x7f-\x9f]", path) or path.startswith("~") or normalize("NFKC", path) != path:
        return False
    # What nobody sees, some systems drop: format characters, and letters that are only there to be invisible.
    if any(category(sign) == "Cf" for sign in path) or re.search("[\u034f\u115f\u1160\u17b4\u17b5]", path):
        return False
    steps, base = path.removesuffix("/").split("/"), directory.removesuffix("/").split("/")
    if path == "/":
        return directory == "/"
    # Some systems drop dots and spaces at the end of a name, some servers what follows a semicolon.
    if any(not step.split(";")[0].strip(". ") for step in (steps[1:] if path.startswith("/") else steps)):
        return False
    return steps[: len(base)] == base


_LABELS = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)"
_URL = re.compile(rf"(?P<scheme>(?i:https?))://(?P<host>{_LABELS})(?::(?P<port>[0-9]{{1,5}}))?(?:[/?#][!-\[\]-~]*)?")
_ENTRY = re.compile(rf"(?P<below>\*\.)?(?P<host>{_LABELS})(?::(?P<port>[0-9]+))?")


def has_host(entry: str, url: str) -> bool:
    """Whether a URL plainly names the host and port: nothing in it that two parsers read differently."""
    found, wanted = _URL.fullmatch(url), _ENTRY.fullmatch(entry)
    if not found or not wanted:
        return False
    default = {"http": 80, "https": 443}[found["scheme"].lower()]
    if int(found["port"] or default) != int(wanted["port"] or default):
        return False
    host, name = found["host"].lower(), wanted["host"].lower()
    return host.endswith("." + name) if wanted["below"] else host == name


def fields_kept(scope: list[str], asked: Json) -> bool:
    """Whether a call asks only for granted fields; asking for none by an empty list may mean all of them."""
    if asked is None:
        return True
    return asked != [] and all(
        isinstance(name, str) and any(name == field or name.startswith(field + ".") for field in scope)
        for name in several(asked)
    )


def record_count(path: str, arguments: JsonObject) -> int:
    """What a call takes of `max_records_per_run`: the length of the list that the catalogue names, at least 1."""
    value: Json = arguments
    for step in path.split("."):
        value = members(value).get(step)
    return max(1, len(elements(value)))
