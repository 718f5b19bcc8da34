"""Unchanged agents: the official client through the gateway, in both eras."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.plane import PlaneProcess

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


async def structured(client: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return (await client.call_tool(tool, arguments)).structured_content


@ERAS
async def test_an_allowed_call_gets_the_granted_fields_and_nothing_else(crm_plane: PlaneProcess, mode: str) -> None:
    async with crm_plane.client(crm_plane.token(), mode=mode) as client:
        result = await client.call_tool("read_customer_record", {"customer_id": "C-0042"})
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(result.structured_content) == {"customer_id", "order_history", "contact_info"}
    assert json.loads(result.content[0].text) == result.structured_content
    assert set(listed) == {"read_customer_record", "update_order_status", "send_customer_email"}
    assert set(listed["read_customer_record"].output_schema["properties"]) == set(result.structured_content)


@ERAS
async def test_a_refusal_is_an_error_that_a_model_can_act_on(crm_plane: PlaneProcess, mode: str) -> None:
    async with crm_plane.client(crm_plane.token(), mode=mode) as client:
        result = await client.call_tool("update_order_status", {"order_ids": ["O-0042-1"], "status": "shipped"})
    error = result.structured_content["error"]
    assert result.is_error
    assert error["code"] == "constraint_violated"
    assert "cancelled, refunded, processing" in error["message"]
    assert error["rule"].endswith("constraints.allowed_statuses")
    assert error["retryable"] is False
    assert error["call_id"].startswith("call_")
    assert error["run_id"].startswith("run_")


@ERAS
async def test_a_held_call_runs_once_after_its_approval_and_its_repeat_gets_the_stored_result(
    crm_plane: PlaneProcess, mode: str
) -> None:
    mail = {"to": ["customer-0042@example.com"], "subject": "Refund", "body": "Done."}
    async with crm_plane.client(crm_plane.token(), mode=mode) as client:
        held = (await structured(client, "send_customer_email", mail))["error"]
        assert held["code"] == "approval_pending"
        assert (await structured(client, "send_customer_email", mail))["error"]["approval_id"] == held["approval_id"]
        crm_plane.command("approvals", "approve", held["approval_id"])
        assert await structured(client, "send_customer_email", mail) == {"written": 1}
        replayed = await client.call_tool("send_customer_email", mail)
    assert replayed.structured_content == {"written": 1}
    assert replayed.meta["interlock/replayed"] is True
    calls = crm_plane.api("GET", "/v1/calls?tool=send_customer_email")["calls"]
    assert [call["state"] for call in calls] == ["succeeded"]
