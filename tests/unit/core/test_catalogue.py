"""The catalogue: what each tool does, joined with its pin; an upstream can only add caution."""

from __future__ import annotations

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.policy.catalogue import Tool
from support import bundles
from support.bundles import FLAG, INTEGER, TEXT, TEXTS, record, tool
from support.limits import within


def _catalogue(entry: str) -> str:
    return f"upstream: crm\ntools:\n  t: {entry}\n"


def _tool(
    entry: str | None, properties: JsonObject | None = None, annotations: JsonObject | None = None
) -> tuple[Tool, list[str]]:
    """The tool `t` as policy sees it, and the warnings."""
    pinned = tool("t", {} if properties is None else properties, annotations={} if annotations is None else annotations)
    catalogue = "" if entry is None else _catalogue(entry)
    bundle = bundles.load(bundles.files_of([pinned], "", catalogue=catalogue))
    return bundle.catalogue.tools["crm/t"], [str(warning) for warning in bundle.warnings]


def _refusals(entry: str, properties: JsonObject | None = None) -> list[str]:
    pinned = tool("t", {} if properties is None else properties)
    return bundles.refusals(bundles.files_of([pinned], "", catalogue=_catalogue(entry)))


def test_a_tool_that_no_catalogue_names_counts_as_irreversible_and_closed() -> None:
    found, _ = _tool(None, {"to": TEXTS})
    assert found.effect == "irreversible"
    assert (found.tags, found.idempotent, found.additional_arguments) == ((), False, False)
    assert found.groups == {"effect:irreversible", "upstream:crm"}


def test_a_catalogued_tool_is_what_its_entry_says() -> None:
    found, warnings = _tool(
        "{effect: reversible, tags: [money, deletion], records: {count: to}, fields_argument: fields,"
        " arguments: {to: {type: email}}, additional_arguments: allow, idempotent: true}",
        {"to": TEXTS, "fields": TEXT},
    )
    assert found.groups == {"effect:reversible", "tag:money", "tag:deletion", "upstream:crm"}
    assert (found.count_argument, found.fields_argument) == (("to",), "fields")
    assert found.argument_kinds == {"to": "email"}
    assert (found.additional_arguments, found.idempotent) == (True, True)
    assert warnings == []


READ_ONLY: JsonObject = {"readOnlyHint": True}
WRITES: JsonObject = {"readOnlyHint": False}
DESTROYS: JsonObject = {"destructiveHint": True}


@pytest.mark.parametrize(
    ("catalogued", "annotations", "effect"),
    [
        ("read", {}, "read"),
        ("read", READ_ONLY, "read"),
        ("read", WRITES, "reversible"),
        ("read", DESTROYS, "irreversible"),
        ("read", {**WRITES, **DESTROYS}, "irreversible"),
        ("read", {**READ_ONLY, **DESTROYS}, "read"),
        ("reversible", DESTROYS, "irreversible"),
        ("reversible", READ_ONLY, "reversible"),
        ("reversible", WRITES, "reversible"),
        ("irreversible", READ_ONLY, "irreversible"),
        ("irreversible", {**READ_ONLY, "destructiveHint": False}, "irreversible"),
        ("read", {"readOnlyHint": "false", "destructiveHint": 1}, "read"),
    ],
)
def test_an_upstreams_annotations_raise_caution_and_never_lower_it(
    catalogued: str, annotations: JsonObject, effect: str
) -> None:
    found, warnings = _tool(f"{{effect: {catalogued}}}", annotations=annotations)
    assert found.effect == effect
    assert len(warnings) == (catalogued != effect)
    if warnings:
        assert warnings[0].startswith("tools/crm.yaml:3:7: crm/t is catalogued as")
        assert f"it is treated as {effect}" in warnings[0]


def test_annotations_cannot_lower_an_uncatalogued_tool() -> None:
    assert _tool(None, annotations=READ_ONLY)[0].effect == "irreversible"


def test_a_tool_is_idempotent_only_where_catalogue_and_upstream_do_not_disagree() -> None:
    entry = "{effect: reversible, idempotent: true}"
    assert _tool(entry)[0].idempotent
    assert not _tool(entry, annotations={"idempotentHint": False})[0].idempotent
    assert not _tool("{effect: reversible}", annotations={"idempotentHint": True})[0].idempotent


@pytest.mark.parametrize(
    ("entry", "finding"),
    [
        (
            "{effect: raed}",
            "3:15: `tools.t.effect` is 'raed'; expected one of read, reversible, irreversible; did you mean 'read'?",
        ),
        ("{}", "3:6: `tools.t` lacks the key 'effect'"),
        ("{effect: read, tags: [mony]}", "3:28: `tools.t.tags[0]` is 'mony'; expected one of"),
        (
            "{effect: read, tag: [money]}",
            "3:21: unknown key 'tag' in `tools.t`; expected a known key; did you mean 'tags'?",
        ),
        ("{effect: read, records: {}}", "3:21: records is ambiguous; expected either `count` or `per_call: 1`"),
        ("{effect: read, records: {count: to, per_call: 1}}", "3:21: records is ambiguous"),
        ("{effect: read, records: {per_call: 2}}", "3:41: `tools.t.records.per_call` is 2; expected one of 1"),
        (
            "{effect: read, records: {count: too}}",
            "3:31: the tool has no argument 'too'; expected a list argument; did you mean 'to'?",
        ),
        ("{effect: read, records: {count: name}}", "3:31: the argument 'name' is not a list; expected a list argument"),
        ("{effect: read, records: {count: nested.nme}}", "3:31: the tool has no argument 'nested.nme'"),
        (
            "{effect: read, fields_argument: feilds}",
            "3:21: crm/t has no argument 'feilds'; expected a declared argument; did you mean 'fields'?",
        ),
        (
            "{effect: read, arguments: {pth: {type: path}}}",
            "3:33: crm/t has no argument 'pth'; expected a declared argument",
        ),
        (
            "{effect: read, arguments: {to: {type: pathh}}}",
            "3:44: `tools.t.arguments.to.type` is 'pathh'; expected one of path, url, email, id, amount; did you mean 'path'?",
        ),
        ("{effect: read, arguments: {to: path}}", "3:37: `tools.t.arguments.to` is 'path'; expected a mapping of keys"),
        (
            "{effect: read, additional_arguments: yes}",
            "3:43: `tools.t.additional_arguments` is 'yes'; expected one of allow, refuse",
        ),
        ("{effect: read, idempotent: 1}", "3:33: `tools.t.idempotent` is 1; expected true or false"),
    ],
)
def test_a_mistake_in_an_entry_is_reported_in_its_place(entry: str, finding: str) -> None:
    properties: JsonObject = {"to": TEXTS, "name": TEXT, "fields": TEXTS, "nested": record(ids=TEXTS)}
    [found] = _refusals(entry, properties)
    assert found.startswith(f"tools/crm.yaml:{finding}")


def test_a_nested_list_can_count_records() -> None:
    found, _ = _tool("{effect: read, records: {count: order.ids}}", {"order": record(ids=TEXTS)})
    assert found.count_argument == ("order", "ids")


@pytest.mark.parametrize("also", ["string", "object", "integer"])
def test_an_argument_that_can_escape_being_counted_cannot_count_records(also: str) -> None:
    # The agent chooses the form: "a,b,c" as text would count one record, ["a", "b", "c"] three.
    [finding] = _refusals("{effect: read, records: {count: ids}}", {"ids": {"type": ["array", also], "items": TEXT}})
    assert "'ids'" in finding


@pytest.mark.parametrize(
    "ids",
    [TEXTS, {"type": ["array", "null"], "items": TEXT}, {"anyOf": [TEXTS, {"type": "null"}]}, {"$ref": "#/$defs/l"}],
)
def test_a_list_that_may_be_null_can_count_records(ids: JsonObject) -> None:
    pinned = bundles.tool_taking({"properties": {"ids": ids}, "$defs": {"l": TEXTS}})
    files = bundles.files_of([pinned], "", catalogue=_catalogue("{effect: read, records: {count: ids}}"))
    assert bundles.load(files).catalogue.tools["crm/t"].count_argument == ("ids",)


_LISTS: dict[str, JsonObject] = {
    "a list": TEXTS,
    "a list or text": {"anyOf": [TEXT, TEXTS]},
    "anything": {},
    "a list in a record": record(inner=record(ids=TEXTS)),
    "a list six records down": record(a=record(b=record(c=record(d=record(e=record(f=TEXTS)))))),
    "a map of lists": {"type": "object", "additionalProperties": TEXTS},
    "a map by pattern": {"type": "object", "patternProperties": {"^x": TEXTS}},
    "a record of anything": {"type": "object"},
}


@pytest.mark.parametrize("properties", [{"x": schema} for schema in _LISTS.values()], ids=_LISTS)
def test_a_tool_that_can_take_a_list_anywhere_has_list_arguments(properties: JsonObject) -> None:
    # A record limit on it is refused unless the catalogue says how to count.
    assert _tool("{effect: read}", properties)[0].list_arguments


def test_a_tool_that_lets_undeclared_arguments_pass_can_take_a_list_in_one() -> None:
    assert _tool("{effect: read, additional_arguments: allow}", {"x": TEXT})[0].list_arguments


@pytest.mark.parametrize(
    "properties", [{}, {"x": TEXT, "y": INTEGER, "z": FLAG}, {"x": {**record(a=TEXT), "additionalProperties": False}}]
)
def test_a_tool_of_plain_arguments_has_none(properties: JsonObject) -> None:
    assert not _tool("{effect: read}", properties)[0].list_arguments


def test_looking_for_lists_ends_also_where_each_step_doubles_the_schema() -> None:
    step: JsonObject = {**record(a={"$ref": "#/$defs/n"}), "additionalProperties": False}
    pinned = bundles.tool_taking(
        {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"anyOf": [step, {**step, "title": "n"}]}}}
    )
    with within(100_000):
        bundles.load(bundles.files_of([pinned], ""))


def test_an_argument_of_a_record_that_need_not_be_one_cannot_count_records() -> None:
    order: JsonObject = {"anyOf": [record(ids=TEXTS), TEXT]}
    [finding] = _refusals("{effect: read, records: {count: order.ids}}", {"order": order})
    assert "'order.ids' may be something else than a list" in finding


def test_looking_for_lists_ends_also_in_a_recursive_schema() -> None:
    pinned = bundles.tool_taking({"properties": {"self": {"$ref": "#"}, "x": TEXT}, "additionalProperties": False})
    with within(100_000):
        assert not bundles.load(bundles.files_of([pinned], "")).catalogue.tools["crm/t"].list_arguments


_FILES = [tool("t", {}), tool("t", {}, upstream="bank")]


def test_a_catalogue_for_an_upstream_that_no_agent_uses_is_fine() -> None:
    catalogues = {"tools/bank.yaml": "upstream: bank\ntools: {t: {effect: read}}\n"}
    files = bundles.files_of(_FILES, bundles.agent_file(bundles.entry("crm/t")), more=catalogues)
    assert bundles.load(files).catalogue.tools["bank/t"].effect == "read"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "upstream: crn\ntools: {t: {effect: read}}\n",
            "tools/x.yaml:1:1: the upstream 'crn' has no pinned tools; did you mean 'crm'?",
        ),
        (
            "upstream: git\ntools: {}\n",
            "tools/x.yaml:1:1: the upstream 'git' has no pinned tools; run `interlock tools pin git`",
        ),
        (
            "upstream: crm\ntools:\n  tt: {effect: read}\n",
            "tools/x.yaml:3:3: the upstream 'crm' has no tool 'tt'; expected a pinned tool; did you mean 't'?",
        ),
        (
            "upstream: bank\ntools: {t: {effect: read}}\n",
            "tools/x.yaml:1:1: the upstream 'bank' already has the catalogue tools/bank.yaml; expected one file for each upstream",
        ),
        (
            "upstream: Crm\ntools: {}\n",
            "tools/x.yaml:1:11: `upstream` is 'Crm'; expected lower-case letters, digits and hyphens",
        ),
        ("upstream: crm\ntools: [t]\n", "tools/x.yaml:2:8: `tools` is a list; expected a mapping of keys"),
        (
            "upstream: crm\ntools: {t: {effect: read}}\nversion: 2\n",
            "tools/x.yaml:3:10: `version` is 2; expected one of 1",
        ),
    ],
)
def test_a_catalogue_must_agree_with_the_pins(text: str, finding: str) -> None:
    more = {"tools/bank.yaml": "upstream: bank\ntools: {t: {effect: read}}\n", "tools/x.yaml": text}
    [found] = bundles.refusals(bundles.files_of(_FILES, "", more=more))
    assert found.startswith(finding)
