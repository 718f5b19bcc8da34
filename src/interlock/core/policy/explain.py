"""Explain: why a call is decided as it is, rule by rule, with the lines that say so."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.core.call import CanonicalCall
from interlock.core.canonical import Json, JsonObject
from interlock.core.decision import Decision
from interlock.core.policy.rules import Rule
from interlock.core.policy.slices import Slice


def explain(
    decision: Decision, rules: Slice | None, call: CanonicalCall | None, files: Mapping[str, bytes]
) -> JsonObject:
    """A decision with everything that went into it.

    Args:
        decision: The decision.
        rules: The slice; None where no rule speaks of the tool.
        call: The canonical call; None where there is none.
        files: The bundle's files, for the lines that are quoted.

    Returns:
        `verdict`, `code`, `sentence`, `rules` (those that decided), `bundle`, `slice`, `digest`, `facts`;
        and `considered`: every rule of the slice with the line it stands on, and for constraints whether
        they hold.
    """
    deciding = {rule.id for rule in decision.rules}
    considered: list[Json] = []
    if rules is not None:
        holds = {check.key: check.holds(call.arguments.value) for check in rules.checks} if call else {}
        for rule in rules.rules.values():
            entry = _rule(rule, files)
            entry["decided"] = rule.id in deciding
            if rule.key in holds:
                entry["holds"] = holds[rule.key]
            considered.append(entry)
    return {
        "verdict": decision.verdict,
        "code": str(decision.code) if decision.code else None,
        "sentence": decision.sentence,
        "rules": [_rule(rule, files) for rule in decision.rules],
        "considered": considered,
        "guards": [
            {"counter": guard.counter, "amount": guard.amount, "limit": guard.limit, "rule": guard.rule.id}
            for guard in decision.guards
        ],
        "listed": rules.listed if rules else False,
        "scope": list(rules.scope) if rules and rules.scope is not None else None,
        "effect": rules.tool.effect if rules else None,
        "bundle": decision.bundle,
        "slice": decision.slice,
        "digest": call.digest if call else None,
        "facts": decision.facts,
    }


def _rule(rule: Rule, files: Mapping[str, bytes]) -> JsonObject:
    return {**rule.as_json(), "accepted": rule.accepted, "text": quoted_line(files, rule.file, rule.line)}


def quoted_line(files: Mapping[str, bytes], file: str, line: int) -> str:
    """The line of a file that a rule stands on; empty for the plane's own rules."""
    # Not splitlines(), which breaks lines where neither the parsers nor editors do.
    lines = files.get(file, b"").decode("utf-8", "replace").split("\n")
    return lines[line - 1].strip() if 0 < line <= len(lines) else ""
