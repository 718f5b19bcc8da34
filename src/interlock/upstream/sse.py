"""Reading server-sent events incrementally (WHATWG HTML §9.2.6), with a bound on each event."""

from __future__ import annotations

import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_AROUND: Final = len(_BYTE_ORDER_MARK + b"data: \r")
"""What a line may have around the data that the bound is for."""


class EventTooLarge(ValueError):
    """One event exceeds the bound."""


class EventReader:
    """Feeds on chunks, gives whole events' data. Names, ids and retry hints are not needed here."""

    def __init__(self, max_event_bytes: int) -> None:
        self._limit = max_event_bytes
        self._buffer = bytearray()
        # What was searched for the end of a line is not searched again: a line may come byte by byte.
        self._searched = 0
        self._at_start = True
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of every event that this chunk completes.

        Raises:
            EventTooLarge: an event, or a line without end, is larger than the bound.
        """
        self._buffer += chunk
        events: list[bytes] = []
        start = 0
        while (end := _LINE_END.search(self._buffer, self._searched)) is not None:
            if end.end() == len(self._buffer) and end.group() == b"\r":
                break  # a LF may follow in the next chunk
            self._take(bytes(self._buffer[start : end.start()]), events)
            start = self._searched = end.end()
        del self._buffer[:start]
        self._searched = len(self._buffer) - self._buffer.endswith(b"\r")
        if len(self._buffer) > self._limit + _AROUND:
            raise EventTooLarge
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        """Interpret one line, without its end."""
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        value = value.removeprefix(b" ")
        # The line feed that joins it to the line before counts, so that empty lines are bounded too.
        self._size += len(value) + bool(self._data)
        if self._size > self._limit:
            raise EventTooLarge
        self._data.append(value)
