"""The route under test: the same files and the same bytes through the product's own bundle and engine."""

from __future__ import annotations

from typing import cast

from interlock.core import call as calls
from interlock.core.canonical import Unrepresentable, decode
from interlock.core.decision import Decision
from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, write_lock
from interlock.core.policy import engine
from interlock.core.policy.bundle import Bundle, load_bundle
from interlock.core.run import RunFacts
from interlock.core.tool import pinned_tool
from oracle.generate import CHANNEL, Draft
from oracle.json_value import elements
from oracle.world import Moment


def load(draft: Draft) -> Bundle:
    """Load a generated bundle.

    Raises:
        BundleInvalid: what was generated is not a bundle.
    """
    upstreams = {
        upstream: PinnedUpstream(
            upstream,
            "2026-07-28",
            "generated",
            tuple(pinned_tool(upstream, tool.definition) for tool in draft.tools if tool.upstream == upstream),
        )
        for upstream in {tool.upstream for tool in draft.tools}
    }
    files = {path: text.encode() for path, text in draft.policies.items()}
    return load_bundle({**files, LOCK_NAME: write_lock(upstreams)}, frozenset({CHANNEL}))


def circumstances(moment: Moment) -> engine.Circumstances:
    """The product's words for what is known beside the call."""
    run = moment.run
    return engine.Circumstances(
        RunFacts(
            id=str(run["id"]),
            implicit=run["implicit"] is True,
            task=str(run["task"]) if "task" in run else None,
            labels=tuple(str(label) for label in elements(run["labels"])),
            steps=cast(int, run["steps"]),
            calls=cast(int, run["calls"]),
            records=cast(int, run["records"]),
        ),
        moment.now_us,
        approved=moment.approved,
        repeats_unknown=moment.repeats_unknown,
    )


def decide(bundle: Bundle, agent: str, qualified: str, sent: bytes, moment: Moment) -> Decision | None:
    """The decision on one call as its bytes arrive; None where it is refused as malformed."""
    tool = bundle.catalogue.tools[qualified]
    try:
        value = decode(sent)
        if not isinstance(value, dict):
            return None
        arguments = calls.canonical_arguments(tool.pinned, value, additional=tool.additional_arguments)
    except (Unrepresentable, calls.MalformedCall):
        return None
    call = calls.canonical_call(agent, str(moment.run["id"]), tool.pinned, arguments, {})
    return engine.decide(bundle.book, bundle.slice(agent, qualified), call, circumstances(moment))
