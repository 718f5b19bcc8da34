"""Calls in flight in this process, and how a halt reaches them."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.plane.callers import Cancellation


@dataclass(frozen=True, slots=True)
class Flight:
    """One call between its permit and its outcome."""

    call: str
    run: str
    agent: str
    upstream: str
    cancellation: Cancellation


class Flights:
    """The registry. Whoever executes a call registers it; whoever stops a scope cancels through it."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        self._flights[flight.call] = flight

    def remove(self, call: str) -> None:
        self._flights.pop(call, None)

    def cancel(self, reason: str, *, run: str | None = None, agent: str | None = None) -> int:
        """Cancel what matches (everything without a filter); return how many."""
        chosen = [
            flight
            for flight in self._flights.values()
            if (run is None or flight.run == run) and (agent is None or flight.agent == agent)
        ]
        for flight in chosen:
            flight.cancellation.cancel(reason)
        return len(chosen)
