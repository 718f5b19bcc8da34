"""Inbound for people and scripts: a client of the administrative API on the operator socket."""
