"""The support agent: what its file allows happens, everything else does not."""

from __future__ import annotations

from demo.agent import Agent, agent
from demo.stage import Scenario, Stage

_EMAIL = {
    "to": ["customer-0042@example.com"],
    "subject": "Your refund",
    "body": "Order O-0042-1 is refunded.",
}


async def story(stage: Stage) -> None:
    stage.step("The host application opens a run for the agent, with the user's task.")
    run = stage.open_run("refund of order O-0042-1")
    stage.fact(f"{run['run']}: at most {run['ceilings']['max_steps']} steps, unmetered: {', '.join(run['unmetered'])}")
    async with agent(stage, run["token"]) as support:
        listed = await support.tools()
        stage.fact(f"the agent sees {len(listed)} tools: {', '.join(listed)}")
        stage.expect(len(listed) == 3, "the agent should see exactly the three tools that its file allows")
        await _read(stage, support)
        await _update(stage, support)
        await _blocked(stage, support)
        await _email(stage, support)
        await _loop(stage, support)
    _account(stage)


async def _read(stage: Stage, support: Agent) -> None:
    stage.step("It reads a customer's record, and gets the granted fields alone.")
    record = await support.call("read_customer_record", {"customer_id": "C-0042"})
    stage.expect(set(record) == {"customer_id", "order_history", "contact_info"}, f"unexpected fields: {list(record)}")
    stage.permitted(f"fields {', '.join(sorted(record))}")
    stage.fact("payment_card, internal_notes and credit_score never left the plane")


async def _update(stage: Stage, support: Agent) -> None:
    stage.step("It updates orders: ten records a run, three statuses.")
    for first, last in ((42, 45), (46, 51)):
        orders = [f"O-{number:04}-1" for number in range(first, last + 1)]
        done = await support.call("update_order_status", {"order_ids": orders, "status": "refunded"})
        stage.expect(done.get("updated") == len(orders), f"the update should have happened: {done}")
        stage.permitted(f"{len(orders)} records updated")
    stage.step("An eleventh record is refused.")
    await _refused(stage, support, "update_order_status", {"order_ids": ["O-0060-1"], "status": "refunded"}, "limit")
    stage.step("So is a status that the file does not list.")
    await _refused(stage, support, "update_order_status", {"order_ids": ["O-0042-1"], "status": "shipped"}, "status")


async def _refused(stage: Stage, support: Agent, tool: str, arguments: dict[str, object], why: str) -> None:
    answer = await support.call(tool, arguments)
    stage.expect(answer.get("error", {}).get("code") == "constraint_violated", f"{why} should refuse it: {answer}")
    stage.denied(answer["error"])


async def _blocked(stage: Stage, support: Agent) -> None:
    stage.step("It is talked into deleting the customer. The tool is blocked.")
    answer = await support.call("delete_customer_record", {"customer_id": "C-0042"})
    stage.expect(answer.get("error", {}).get("code") == "policy_denied", f"the deletion should be denied: {answer}")
    stage.denied(answer["error"])


async def _email(stage: Stage, support: Agent) -> None:
    stage.step("It writes to the customer. An e-mail cannot be taken back, so a person decides.")
    held = (await support.call("send_customer_email", _EMAIL)).get("error", {})
    stage.expect(held.get("code") == "approval_pending", f"the e-mail should be held: {held}")
    stage.held(held["message"])
    approval = stage.operator("approvals", "show", held["approval_id"])
    stage.fact(f"person: interlock approvals show {held['approval_id']}")
    stage.fact(f"        {approval['sentence']}")
    stage.operator("approvals", "approve", held["approval_id"], "--reason", "the customer asked for it")
    stage.fact("person: interlock approvals approve …")
    stage.expect(not stage.upstream_rows("SELECT 1 FROM outbox"), "a verdict must not execute anything by itself")
    sent = await support.call("send_customer_email", _EMAIL)
    stage.expect(sent.get("written") == 1, f"the approved e-mail should have been sent: {sent}")
    stage.permitted("sent once; the approval is used up")
    again = await support.call("send_customer_email", _EMAIL)
    stage.expect(again.get("written") == 1, f"the repeat should get the stored result: {again}")
    stage.expect(len(stage.upstream_rows("SELECT 1 FROM outbox")) == 1, "the e-mail must have been sent exactly once")
    stage.permitted("the same call again gets the stored result, nothing is sent twice")


async def _loop(stage: Stage, support: Agent) -> None:
    stage.step("It falls into a loop. The step ceiling halts the run.")
    answer: dict[str, dict[str, str]] = {}
    count = 0
    while "error" not in answer and count < 100:
        count += 1
        answer = await support.call("read_customer_record", {"customer_id": "C-0042"}, quietly=count > 1)
    stage.expect(answer.get("error", {}).get("code") == "run_halted", f"the loop should have been halted: {answer}")
    stage.denied(answer["error"])
    notices = stage.notices()
    stage.expect(bool(notices) and notices[-1]["event"] == "run_halted", "the halt should have been escalated")
    stage.fact(f"#oncall-agents was told: {notices[-1]['why']}")


def _account(stage: Stage) -> None:
    stage.step("What the server's own database says.")
    changes = stage.upstream_rows("SELECT count(*) FROM audit_of_changes")[0][0]
    mails = stage.upstream_rows("SELECT count(*) FROM outbox")[0][0]
    reached = dict(stage.upstream_rows("SELECT tool, count(*) FROM calls GROUP BY tool"))
    stage.fact(f"{changes} orders changed, {mails} e-mail sent, tools that were reached: {', '.join(sorted(reached))}")
    stage.expect(changes == 10, f"exactly ten orders should have changed, not {changes}")
    stage.expect(mails == 1, f"exactly one e-mail should have been sent, not {mails}")
    stage.expect("delete_customer_record" not in reached, "the deletion must never have reached the server")
    states = stage.operator("calls", "list", "--limit", "100")["calls"]
    rings = {call["ring"] for call in states}
    if rings == {"cooperative"}:
        stage.fact("The agent ran as the plane's own user, so its calls are labelled cooperative:")
        stage.fact("run the plane as another user, and they are enforced structurally (docs/how-to/separate-users.md).")


SCENARIO = Scenario(
    title="Interlock: a support agent and its envelope",
    upstream="crm",
    agent="support-agent-v2",
    folder="customer-operations",
    story=story,
    next_steps=(
        ("status", "what the plane is doing"),
        ("calls list", "every attempt, with the rule that decided it; `calls show ID` has arguments and facts"),
        ("runs list", "the halted run; `resume RUN` gives it a fresh allowance"),
        (
            """policy explain support-agent-v2 update_order_status -a '{"order_ids": ["O-1"], "status": "shipped"}'""",
            "why a call would be refused, line by line",
        ),
        ("token --agent support-agent-v2", "a token for an MCP client of your own"),
        ("halt all --reason 'trying it'", "the big red button; `resume all` lifts it"),
    ),
)
