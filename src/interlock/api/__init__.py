"""Inbound for people and automation: the one administrative HTTP API, on the operator socket."""
