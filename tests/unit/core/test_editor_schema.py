"""The JSON Schema for editors says of a file what the reader says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import jsonschema_rs
import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Finding
from interlock.core.files.editor_schema import editor_schema
from interlock.core.files.located import parse, to_json
from interlock.core.files.reader import read
from interlock.core.policy.document import AgentFile, CatalogueFile
from support import crm

FULL_AGENT_FILE = """
version: 1
agent: {id: a, identity: a@example.org}
tools:
  allowed:
    - name: pay
      scope: [id]
      constraints: {max_records_per_run: 3, max_calls_per_run: 0, allowed_x: [a, 1, true], min_y: 0.5, under_z: /x}
      arguments: {properties: {x: {maximum: 5}}}
      when: context.input has x
      requires_approval: false
      justification: because
      approval_timeout_seconds: 5
      auto_deny_on_timeout: false
    - {name: "get_*", effect: read}
  blocked: ["drop_*"]
execution:
  max_steps: 1
  max_cost_usd: 0
  on_budget_exceeded: {action: halt}
"""
FULL_CATALOGUE = """
version: 1
upstream: crm
tools:
  pay:
    effect: irreversible
    tags: [money]
    records: {count: to}
    fields_argument: fields
    arguments: {to: {type: email}}
    additional_arguments: allow
    idempotent: true
  get: {effect: read, records: {per_call: 1}}
"""
FILES: list[tuple[type[Any], str]] = [
    (AgentFile, crm.AGENT_FILE),
    (AgentFile, FULL_AGENT_FILE),
    (CatalogueFile, crm.CATALOGUE),
    (CatalogueFile, FULL_CATALOGUE),
]
OTHER_VALUES: list[Json] = [None, True, -1, 0, 7, 0.5, "", " ", "x", "read", "a b", [], ["x"], [7], {}, {"x": 1}, [{}]]


def _schema(target: type[Any]) -> JsonObject:
    return editor_schema(target, title="t", schema_id="https://example.org/t.json")


def _json(text: str) -> Any:
    node, findings = parse("f.yaml", text.encode())
    assert node is not None
    assert not findings
    return to_json(node)


def _read_by_us(target: type[Any], value: Json) -> bool:
    """Whether the reader accepts a value, written as the JSON that is also YAML."""
    findings: list[Finding] = []
    node, _ = parse("f.yaml", json.dumps(value).encode())
    return read("f.yaml", node, target, findings) is not None and not findings


def _changes(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every copy of a JSON value with one part replaced, taken away or added."""
    for other in OTHER_VALUES:
        yield f"{path or 'root'} = {other!r}", other
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        yield f"{path}.unknown added", {**members, "unknown": 1}
        for name, member in members.items():
            yield f"{path}.{name} taken away", {key: other for key, other in members.items() if key != name}
            for what, changed in _changes(member, f"{path}.{name}"):
                yield what, {**members, name: changed}
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for index, item in enumerate(items):
            for what, changed in _changes(item, f"{path}[{index}]"):
                yield what, [*items[:index], changed, *items[index + 1 :]]


@pytest.mark.parametrize(("target", "text"), FILES)
def test_a_valid_file_is_valid_for_editors(target: type[Any], text: str) -> None:
    assert jsonschema_rs.is_valid(_schema(target), _json(text))


@pytest.mark.parametrize(("target", "text"), FILES)
def test_the_reader_and_editors_agree_on_every_file_with_one_change(target: type[Any], text: str) -> None:
    editor = jsonschema_rs.validator_for(_schema(target))
    verdicts: set[bool] = set()
    for what, changed in _changes(_json(text)):
        verdict = _read_by_us(target, changed)
        # Below `constraints`, keys with an argument's name are typed by the pinned tool, which comes later.
        later = any(f".constraints.{prefix}_" in what for prefix in ("allowed", "min", "under"))
        assert verdict == editor.is_valid(changed) or (verdict and later), what
        verdicts.add(verdict)
    assert verdicts == {True, False}


@pytest.mark.parametrize(
    ("constraints", "valid"),
    [
        ({"allowed_x": ["a", 1, 0.5, False]}, True),
        ({"allowed_x": []}, False),
        ({"allowed_x": "a"}, False),
        ({"allowed_x": [None]}, False),
        ({"min_x": 1, "max_x": 1.5}, True),
        ({"max_x": "1"}, False),
        ({"match_x": "*", "under_x": ["/a", "/b"], "host_x": "example.org"}, True),
        ({"under_x": []}, False),
        ({"host_x": 7}, False),
        ({"alowed_x": ["a"]}, False),
    ],
)
def test_editors_check_the_shape_of_constraints_on_arguments(constraints: JsonObject, *, valid: bool) -> None:
    file = _json(FULL_AGENT_FILE)
    file["tools"]["allowed"][0]["constraints"] = constraints
    assert jsonschema_rs.is_valid(_schema(AgentFile), file) is valid


def test_the_schema_names_itself_its_title_and_every_key_with_a_sentence() -> None:
    schema = _schema(AgentFile)
    assert schema["$id"] == "https://example.org/t.json"
    assert schema["title"] == "t"
    assert schema["description"] == "Agent file: the envelope of one agent role."
    properties = schema["properties"]
    assert isinstance(properties, dict)
    agent = properties["agent"]
    assert isinstance(agent, dict)
    assert agent["description"] == "who the agent is"


def test_the_schema_is_a_valid_one_of_2020_12() -> None:
    for target in (AgentFile, CatalogueFile):
        jsonschema_rs.meta.validate(_schema(target))
