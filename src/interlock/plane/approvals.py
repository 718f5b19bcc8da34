"""Approvals: what a held call's caller gets, and what a person sees and decides."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Final

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Code, Conflict, NotFound
from interlock.core.policy.rules import UNKNOWN_OUTCOME
from interlock.core.sentence import call_sentence
from interlock.plane.bundles import ActivePolicy
from interlock.plane.callers import CallError, CallResult, Reply
from interlock.plane.commands import Hold, Verdict
from interlock.plane.ports import Page, Reader, Sealer, Store

_log = logging.getLogger("interlock.approvals")
POLL_MS: Final = 2000


class Approvals:
    """Verdicts bind to the digest of one call and execute nothing; only the agent's own repeat does."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        sealer: Sealer,
        policy: ActivePolicy,
        task: Callable[[str], str | None],
        tell: Callable[[JsonObject], None],
    ) -> None:
        """Wire it up.

        Args:
            store: Takes verdicts.
            reader: Knows holds and what calls left behind.
            sealer: Opens arguments and results.
            policy: The rules that held a call.
            task: The task text of a run.
            tell: Tells people of an event.
        """
        self._store, self._reader, self._sealer, self._policy = store, reader, sealer, policy
        self._task, self._tell = task, tell

    def placed(self, hold: Hold) -> None:
        """Tell people that a call waits for one of them; its arguments stay where they are sealed."""
        self._tell(
            {
                "event": "approval_pending",
                "approval": hold.id,
                "agent": hold.agent,
                "run": hold.run,
                "upstream": hold.upstream,
                "tool": hold.tool,
                "expires_at": hold.expires_at_us,
            }
        )

    def answer(self, hold: Hold, rule: str | None) -> Reply:
        """What the same call gets while its hold stands, or after it was decided."""
        if hold.state == "open":
            message = f"The call waits for a person's approval ({hold.id}). Send exactly the same call again later."
            return self._error(hold, Code.APPROVAL_PENDING, message, rule, retry_after_ms=POLL_MS)
        if hold.state == "denied":
            return self._error(hold, Code.APPROVAL_DENIED, f"A person refused the call{self._why(hold)}.", rule)
        if hold.state == "redeemed":
            return self._replayed(hold, rule)
        return self._error(hold, Code.APPROVAL_EXPIRED, "No approval was given and used in time.", rule)

    def _why(self, hold: Hold) -> str:
        sealed = self._reader.payload(hold.call, "reason")
        reason = self._sealer.open(hold.call, "reason", sealed).decode() if sealed else ""
        return f": {reason}" if reason else ""

    def _replayed(self, hold: Hold, rule: str | None) -> Reply:
        """The stored result of the approved call: it ran once, whatever the connection did since."""
        if hold.call_state == "permitted":
            message = "The approved call is being executed; send the same call again for its result."
            return self._error(hold, Code.APPROVAL_PENDING, message, rule, retry_after_ms=POLL_MS)
        if hold.call_state == "unknown":
            message = "The approved call was executed, and nobody can tell whether it happened."
            return self._error(hold, Code.OUTCOME_UNKNOWN, message, rule)
        sealed = self._reader.payload(hold.call, "output")
        body = self._sealer.open(hold.call, "output", sealed) if sealed else b""
        if body:
            return CallResult(body, hold.call, hold.run, replayed=True)
        code, message = self._stored_error(hold)
        return self._error(hold, code, message, rule)

    def _stored_error(self, hold: Hold) -> tuple[Code, str]:
        found = self._reader.call(hold.call) or {}
        code = found.get("code")
        sealed = self._reader.payload(hold.call, "problem")
        problem = self._sealer.open(hold.call, "problem", sealed).decode() if sealed else ""
        if code is None:
            return Code.RESULT_WITHHELD, "The approved call was executed; its result was too large to be kept."
        return Code(str(code)), problem or "The approved call did not produce a result."

    def _error(
        self, hold: Hold, code: Code, message: str, rule: str | None, *, retry_after_ms: int | None = None
    ) -> CallError:
        return CallError(code, message, rule, hold.call, hold.run, hold.id, retry_after_ms)

    # For people -------------------------------------------------------------------------------------

    def list(self, state: str | None, page: Page) -> list[JsonObject]:
        return [self._shown(hold) for hold in self._reader.list_holds(state, page)]

    def show(self, hold_id: str) -> JsonObject:
        """One hold with the exact arguments that an approval binds to."""
        hold = self._reader.hold(hold_id)
        if hold is None:
            raise NotFound(f"There is no approval {hold_id}.", remedy="`interlock approvals list` shows them.")
        return {**self._shown(hold), "digest": hold.digest}

    def _shown(self, hold: Hold) -> JsonObject:
        sealed = self._reader.payload(hold.call, "input")
        arguments = json.loads(self._sealer.open(hold.call, "input", sealed)) if sealed else None
        held_by = self._held_by(hold)
        where = str(held_by[0]["where"]) if held_by else ""
        task = self._task(hold.run)
        rules: list[Json] = list(held_by)
        return {
            "id": hold.id,
            "sentence": call_sentence(hold.agent, hold.tool, arguments, where, task),
            "task": task,
            "state": hold.state,
            "call": hold.call,
            "run": hold.run,
            "agent": hold.agent,
            "upstream": hold.upstream,
            "tool": hold.tool,
            "arguments": arguments,
            "held_by": rules,
            "created_at": hold.created_at_us,
            "expires_at": hold.expires_at_us,
            "auto_deny": hold.auto_deny,
            "decided_at": hold.decided_at_us,
            "decided_by": hold.decided_by,
            "redeem_until": hold.redeem_until_us,
            "call_state": hold.call_state,
        }

    def _held_by(self, hold: Hold) -> list[JsonObject]:
        """The rules that held it, with their lines as far as the active bundle still has them."""
        bundle = self._policy.bundle
        rules = bundle.slice(hold.agent, f"{hold.upstream}/{hold.tool}") if bundle else None
        known = {UNKNOWN_OUTCOME.id: UNKNOWN_OUTCOME, **(rules.rules if rules else {})}
        found: list[JsonObject] = []
        for name in hold.rules:
            rule = known.get(name)
            found.append(
                {"id": name, "where": rule.where if rule else name, "sentence": rule.sentence if rule else name}
            )
        return found

    def _rules_changed(self, hold: Hold) -> bool:
        bundle = self._policy.bundle
        rules = bundle.slice(hold.agent, f"{hold.upstream}/{hold.tool}") if bundle else None
        return rules is None or rules.digest != hold.slice

    async def decide(self, hold_id: str, *, approve: bool, by: str, reason: str) -> JsonObject:
        """Record a verdict by an authenticated person; it is used up when the agent repeats the call."""
        hold = self._reader.hold(hold_id)
        if hold is None:
            raise NotFound(f"There is no approval {hold_id}.", remedy="`interlock approvals list` shows them.")
        if approve and hold.state == "open" and self._rules_changed(hold):
            problem = f"The rules for this call changed since it was held, so {hold_id} cannot be used any more."
            raise Conflict(problem, remedy="If the agent sends the call again, it is decided by the new rules.")
        payloads = (self._sealer.seal(hold.call, "reason", reason.encode()),) if reason else ()
        decided = await self._store.give_verdict(Verdict(hold_id, approve, by, payloads))
        _log.info("verdict", extra={"approval": hold_id, "approve": approve, "by": by, "call": hold.call})
        return self._shown(decided)
