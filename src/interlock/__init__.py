"""Interlock: the enforcement plane for AI agents.

A reader starts at `interlock.plane.enforce`, the story of a call.
"""

__version__ = "0.1.0"
