"""Matching of attacker-controlled strings: globs, paths under a directory, hosts of URLs.

All three are exact about what they refuse; docs/reference/policy-files.md states it in words.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final

_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_AUTHORITY = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?")
_PORTS: Final = {"http": 80, "https": 443}
_MAX_URL: Final = 8192
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks that are not shown: with the category Cf, what Unicode calls default ignorable."""


def glob_match(pattern: str, text: str) -> bool:
    """Whether `*` (any characters, also none) and `?` (one character) match the whole text.

    Every other character stands for itself. At most len(pattern) x len(text) steps, none of them in
    Python code for patterns without `?`: each piece between stars is taken where it first occurs, which
    leaves most to the pieces after it.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return len(first) == len(text) and _piece_at(first, text, 0)
    *middle, last = rest
    position, end = len(first), len(text) - len(last)
    if position > end or not _piece_at(first, text, 0) or not _piece_at(last, text, end):
        return False
    for piece in middle:
        found = _find_piece(piece, text, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _piece_at(piece: str, text: str, position: int) -> bool:
    if "?" not in piece:
        return text.startswith(piece, position)
    return _piece(piece).match(text, position) is not None


def _find_piece(piece: str, text: str, start: int, end: int) -> int:
    if "?" not in piece:
        return text.find(piece, start, end)
    found = _piece(piece).search(text, start, end)
    return found.start() if found else -1


@lru_cache(maxsize=1024)
def _piece(piece: str) -> re.Pattern[str]:
    # No quantifiers, so no backtracking beyond one attempt at each place.
    return re.compile("".join("." if character == "?" else re.escape(character) for character in piece), re.DOTALL)


def is_glob(name: str) -> bool:
    return "*" in name or "?" in name


def path_problem(directory: str) -> str | None:
    """Why a directory cannot stand in `under_…`; None if it can."""
    return "it is a glob, and stands for a directory" if is_glob(directory) else _unsafe_path(directory)


def is_under(directory: str, path: str) -> bool:
    """Whether `path` lies in `directory` or is it, by its text alone.

    Refused whatever the directory: segments of nothing but dots and spaces (before a `;`, whose rest
    some servers strip), empty segments, backslashes, percent signs, a leading tilde, control and
    invisible characters, which some systems drop, and characters that Unicode compatibility folding would
    turn into others (a full-width slash or dot).
    Symbolic links are the upstream's to resolve.
    """
    if _unsafe_path(path) is not None:
        return False
    parent = directory.rstrip("/")
    child = path.rstrip("/")
    return child == parent or child.startswith(parent + "/")


def _unsafe_path(path: str) -> str | None:
    if not path:
        return "it is empty"
    if any(unicodedata.category(character) in ("Cc", "Cf") or character in _FILLERS for character in path):
        return "it has control or invisible characters"
    if "\\" in path or "%" in path:
        return "it has a backslash or a percent sign"
    if path.startswith("~"):
        return "it begins with a tilde"
    if not path.isascii() and unicodedata.normalize("NFKC", path) != path:
        return "it has characters that fold into others"
    segments = path[:-1].split("/") if len(path) > 1 and path.endswith("/") else path.split("/")
    if path.startswith("/"):
        segments = segments[1:]
    if path != "/" and any(not segment.partition(";")[0].strip(" .") for segment in segments):
        return "it has an empty, `.` or `..` segment"
    return None


def host_problem(entry: str) -> str | None:
    """Why an entry cannot stand in `host_…`; None if it can."""
    parsed = _split_entry(entry)
    if parsed is None:
        return "it is not a host name, `*.` and a host name, or an address, each with an optional port"
    host, port = parsed
    if port is not None and not 0 < port < 65536:
        return "its port is not a number from 1 to 65535"
    bare = host.removeprefix("*.")
    if bare != bare.lower():
        return "it is not lower case"
    if _is_address(bare):
        return "a wildcard does not go with an address" if bare != host else None
    if not _HOST.fullmatch(bare):
        return "it is not a host name, `*.` and a host name, or an address, each with an optional port"
    return None


def host_matches(entry: str, url: str) -> bool:
    """Whether `url` is http(s), has no tricks in it, and its host and port are the entry's.

    `*.example.com` matches any name below example.com, not example.com itself. Without a port in the
    entry, only the scheme's default port matches. Refused whatever the entry: user information,
    backslashes, white space, control or non-ASCII characters, percent signs in the authority.
    """
    if len(url) > _MAX_URL or not url.isascii() or "\\" in url:
        return False
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url):
        return False
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in _PORTS:
        return False
    asked = _split_authority(re.split(r"[/?#]", rest, maxsplit=1)[0].lower())
    wanted = _split_entry(entry)
    if asked is None or wanted is None:
        return False
    default = _PORTS[scheme.lower()]
    (host, port), (wanted_host, wanted_port) = asked, wanted
    if not (_is_address(host) or _HOST.fullmatch(host)):
        return False
    if (default if port is None else port) != (default if wanted_port is None else wanted_port):
        return False
    if wanted_host.startswith("*."):
        return host.endswith(wanted_host[1:]) and not _is_address(host)
    return host == wanted_host


def _split_entry(entry: str) -> tuple[str, int | None] | None:
    """Split an entry of `host_…`: an authority without user information, or an IPv6 address without brackets."""
    return (entry, None) if _is_address(entry) else _split_authority(entry)


def _split_authority(text: str) -> tuple[str, int | None] | None:
    """Split `host`, `host:port`, `[v6]` or `[v6]:port`; None for anything else."""
    found = _AUTHORITY.fullmatch(text)
    if found is None or (found["address"] is not None and not _is_address(found["address"])):
        return None
    return found["address"] or found["name"], int(found["port"]) if found["port"] else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
