"""Scopes: an agent sees the granted fields of a result, and of the schema that describes it, and no more."""

from __future__ import annotations

import jsonschema_rs
import pytest

from interlock.core.canonical import Json, JsonObject, encode
from interlock.core.errors import Code
from interlock.core.policy.scopes import project, project_schema
from support import bundles, crm
from support.bundles import INTEGER, TEXT, TEXTS, agent_file, entry, record, tool
from support.limits import within

SECRET = "078-05-1120"


@pytest.mark.parametrize(
    ("value", "scope", "seen"),
    [
        ({"id": 1, "ssn": SECRET}, ["id"], {"id": 1}),
        ({"id": 1, "ssn": SECRET}, ["other"], {}),
        ({"a": {"b": 1, "c": SECRET}}, ["a.b"], {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, ["a"], {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1, "c": 2}}, ["a.b", "a"], {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": {"x": 1, "y": SECRET}, "c": 2}}, ["a.b.x", "a.c"], {"a": {"b": {"x": 1}, "c": 2}}),
        ({"a": None}, ["a"], {"a": None}),
        # Arrays are transparent to paths, also when they nest.
        ([{"id": 1, "ssn": SECRET}, {"ssn": SECRET}], ["id"], [{"id": 1}, {}]),
        ({"l": [{"x": 1, "y": SECRET}]}, ["l.x"], {"l": [{"x": 1}]}),
        ({"l": [[{"x": 1, "y": SECRET}], []]}, ["l.x"], {"l": [[{"x": 1}], []]}),
        ({"l": [SECRET, {"x": 1}, None, 7, [SECRET]]}, ["l.x"], {"l": [{"x": 1}, []]}),
        # Something else stands where the granted object should be.
        ({"a": SECRET}, ["a.b"], {}),
        ({"a": None}, ["a.b"], {}),
        ({"a": True}, ["a.b"], {}),
        (SECRET, ["a"], None),
        (7, ["a"], None),
        (None, ["a"], None),
        # A dot in a name is not a path.
        ({"a.b": SECRET}, ["a.b"], {}),
        ({"a": {"": SECRET}}, ["a.b"], {"a": {}}),
    ],
)
def test_only_granted_fields_remain(value: Json, scope: list[str], seen: Json) -> None:
    assert project(value, tuple(scope)) == seen


def test_no_grant_at_all_shows_nothing() -> None:
    assert project({"ssn": SECRET}, ()) != {"ssn": SECRET}


# The schema ---------------------------------------------------------------------------------------------------------

CUSTOMER: JsonObject = {
    **record(
        id=TEXT,
        contact={"$ref": "#/$defs/contact"},
        orders={"type": "array", "items": record(id=TEXT, card={"type": "string", "description": SECRET})},
        ssn={"type": "string", "description": SECRET},
        friends={"type": "array", "items": {"$ref": "#"}},
        mirror={"$ref": "#/properties/ssn"},
        email={"$ref": "#/$defs/contact/properties/email"},
        note={"type": ["string", "null"]},
        maybe={"anyOf": [{"type": "null"}, record(x=TEXT, y={"description": SECRET})]},
    ),
    "required": ["id", "ssn"],
    "description": SECRET,
    "examples": [{"ssn": SECRET}],
    "$defs": {
        "contact": record(email=TEXT, phone={"type": "string", "description": SECRET}),
        "unused": {"description": SECRET},
    },
}
VALUE: JsonObject = {
    "id": "c1",
    "contact": {"email": "a@example.org", "phone": SECRET},
    "orders": [{"id": "o1", "card": SECRET}],
    "ssn": SECRET,
    "friends": [{"id": "c2", "ssn": SECRET}],
    "mirror": SECRET,
    "email": "a@example.org",
    "note": None,
    "maybe": {"x": "1", "y": SECRET},
}
SCOPES = [
    ["id"],
    ["contact.email"],
    ["orders.id", "id"],
    ["friends.id"],
    ["friends.friends.contact.email"],
    ["email"],
    ["note", "maybe.x"],
    ["mirror"],
]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_the_projected_schema_describes_what_projection_leaves(scope: list[str]) -> None:
    assert jsonschema_rs.is_valid(CUSTOMER, VALUE)
    schema = project_schema(CUSTOMER, tuple(scope))
    jsonschema_rs.meta.validate(schema)
    assert jsonschema_rs.is_valid(schema, project(VALUE, tuple(scope)))


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_nothing_of_other_fields_remains_in_the_projected_schema(scope: list[str]) -> None:
    assert SECRET.encode() not in encode(project_schema(CUSTOMER, tuple(scope)))


def test_a_whole_granted_field_keeps_its_schema_with_the_definitions_it_needs() -> None:
    schema = project_schema(CUSTOMER, ("contact",))
    assert schema == {
        "type": "object",
        "properties": {"contact": {"$ref": "#/$defs/contact"}},
        "$defs": {"contact": record(email=TEXT, phone={"type": "string", "description": SECRET})},
    }
    assert not jsonschema_rs.is_valid(schema, {"contact": {"email": 7}})


def test_definitions_that_need_one_another_are_kept_together_and_the_others_are_not() -> None:
    definitions: JsonObject = {
        "tree": record(left={"$ref": "#/$defs/tree"}, leaf={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a~1b"}]}),
        "a/b": record(x={"$ref": "#/$defs/text"}),
        "text": TEXT,
        "other": {"description": SECRET},
    }
    schema = project_schema(
        {**record(t={"$ref": "#/$defs/tree"}, o={"$ref": "#/$defs/other"}), "$defs": definitions}, ("t",)
    )
    assert schema["$defs"] == {name: found for name, found in definitions.items() if name != "other"}


_FORMS: list[tuple[JsonObject, list[str], Json]] = [
    (record(a=TEXT), ["a"], record(a=TEXT)),
    ({"type": "array", "items": record(a=TEXT, b=TEXT)}, ["a"], {"type": "array", "items": record(a=TEXT)}),
    (
        record(a={"type": "array", "items": record(x=INTEGER, y=TEXT)}),
        ["a.x"],
        record(a={"type": "array", "items": record(x=INTEGER)}),
    ),
    ({"type": "object", "additionalProperties": TEXT}, ["x"], record(x=TEXT)),
]


@pytest.mark.parametrize(("schema", "scope", "projected"), _FORMS)
def test_the_projected_schema_is_the_granted_part(schema: JsonObject, scope: list[str], projected: Json) -> None:
    assert project_schema(schema, tuple(scope)) == projected


_AWKWARD: dict[str, tuple[JsonObject, Json, list[str]]] = {
    "a field without type": (record(a={}), {"a": {"b": 1}}, ["a.b"]),
    "a root without type": ({"properties": {"a": record(b=TEXT)}}, {"a": {"b": "x"}}, ["a.b"]),
    "a field of any type but null": (record(a={"not": {"type": "null"}}), {"a": [{"b": 1}]}, ["a.b"]),
    "lists in lists in themselves": (
        {**record(l={"$ref": "#/$defs/l"}), "$defs": {"l": {"type": "array", "items": {"$ref": "#/$defs/l"}}}},
        {"l": [[[]]]},
        ["l.x"],
    ),
    "a field of neither of two closed records": (
        record(
            a={
                "anyOf": [
                    {**record(b=TEXT), "additionalProperties": False},
                    {**record(c=TEXT), "additionalProperties": False},
                ]
            }
        ),
        {"a": {"b": "x"}},
        ["a.d"],
    ),
    "a field that is text": (record(a=TEXT), {"a": "x"}, ["a.b"]),
    "a tuple": (
        record(a={"type": "array", "prefixItems": [record(b=TEXT)], "items": record(b=INTEGER)}),
        {"a": [{"b": "x"}, {"b": 1}]},
        ["a.b"],
    ),
    "one of two": (
        record(a={"oneOf": [{"$ref": "#/properties/t"}, INTEGER]}, t=TEXT),
        {"a": 5, "t": "x"},
        ["a"],
    ),
    "not another field": (record(a={"not": {"$ref": "#/properties/t"}}, t=TEXT), {"a": 5}, ["a"]),
    "draft 7": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            **record(a={"type": "array", "items": [TEXT, INTEGER]}),
        },
        {"a": ["x", 1]},
        ["a"],
    ),
}


@pytest.mark.parametrize(("schema", "value", "scope"), _AWKWARD.values(), ids=_AWKWARD)
def test_awkward_schemas_are_projected_to_valid_ones_too(schema: JsonObject, value: Json, scope: list[str]) -> None:
    assert jsonschema_rs.is_valid(schema, value)
    projected = project_schema(schema, tuple(scope))
    jsonschema_rs.meta.validate(projected)
    assert jsonschema_rs.is_valid(projected, project(value, tuple(scope)))


# In agent files -----------------------------------------------------------------------------------------------------

READ = tool(
    "read",
    {"id": TEXT, "fields": {"anyOf": [TEXT, TEXTS, {"type": "null"}]}},
    output=record(
        id=TEXT, name=record(first=TEXT), orders={"type": "array", "items": record(id=TEXT)}, free={"type": "object"}
    ),
)
CATALOGUE = "upstream: crm\ntools: {read: {effect: read, fields_argument: fields}}\n"


def _files(scope: str, output: Json = None) -> dict[str, bytes]:
    pinned = READ if output is None else tool("read", {"fields": TEXT}, output=output)
    return bundles.files_of([pinned], agent_file(entry("read", f"scope: {scope}")), catalogue=CATALOGUE)


@pytest.mark.parametrize("scope", ["[id]", "[name.first]", "[orders.id]", "[free.any.thing]", "[id, name, orders]"])
def test_a_scope_of_fields_that_exist_loads(scope: str) -> None:
    rules = bundles.rules_for(bundles.load(_files(scope)), "crm/read")
    assert rules.scope is not None


@pytest.mark.parametrize(
    ("scope", "finding"),
    [
        ("[id, nmae]", "19: the output of crm/read has no field 'nmae'; expected a field; did you mean 'name'?"),
        (
            "[name.frist]",
            "15: the output of crm/read has no field 'name.frist'; expected a field; did you mean 'first'?",
        ),
        ("[orders.idd]", "15: the output of crm/read has no field 'orders.idd'; expected a field; did you mean 'id'?"),
        ("['*']", "15: the output of crm/read has no field '*'"),
        ("[]", "14: `tools.allowed[0].scope` has 0 items; expected at least 1"),
        ("id", "14: `tools.allowed[0].scope` is 'id'; expected a list"),
        ("[7]", "15: `tools.allowed[0].scope[0]` is 7; expected text"),
        ("['']", "15: `tools.allowed[0].scope[0]` is ''; expected a dotted path"),
        ("['.id']", "15: `tools.allowed[0].scope[0]` is '.id'; expected a dotted path"),
        ("['a b']", "15: `tools.allowed[0].scope[0]` is 'a b'; expected a dotted path"),
        ("[id.sub]", "15: the output of crm/read has no field 'id.sub'"),
        ("['free.']", "15: `tools.allowed[0].scope[0]` is 'free.'; expected a dotted path"),
        (f"[{'a.' * 32}a]", "15: `tools.allowed[0].scope[0]` is '"),
        ("['free..x']", "15: `tools.allowed[0].scope[0]` is 'free..x'; expected a dotted path"),
    ],
)
def test_a_scope_that_grants_what_is_not_there_is_a_finding(scope: str, finding: str) -> None:
    [found] = bundles.refusals(_files(scope))
    assert found.startswith(f"agents/a.yaml:5:{finding}")


def test_a_scope_over_a_tool_without_output_schema_is_pointed_out() -> None:
    pinned = tool("read", {"fields": TEXT})
    files = bundles.files_of([pinned], agent_file(entry("read", "scope: [id]")), catalogue=CATALOGUE)
    [warning] = bundles.load(files).warnings
    assert str(warning).startswith("agents/a.yaml:5:7: crm/read declares no output schema")


def test_checking_a_scope_ends_also_in_lists_of_themselves() -> None:
    nested: JsonObject = {
        **record(l={"$ref": "#/$defs/l"}),
        "$defs": {"l": {"type": "array", "items": {"$ref": "#/$defs/l"}}},
    }
    with within(100_000):
        bundles.refusals(_files("[l.x]", nested))


@pytest.mark.parametrize(
    "fields",
    [None, ["customer_id"], ["contact_info.email", "order_history"], ["contact_info", "customer_id", "customer_id"]],
)
def test_a_call_may_ask_for_granted_fields(fields: list[Json] | None) -> None:
    decision = crm.ask(crm.load(), "read_customer_record", {"customer_id": "c1", "fields": fields})
    assert decision.verdict == "permit"


@pytest.mark.parametrize(
    "fields", [["ssn"], ["customer_id", "ssn"], [], ["*"], ["contact_infos"], [""], ["Customer_id"], ["contact_info "]]
)
def test_a_call_may_ask_for_no_others(fields: list[Json]) -> None:
    decision = crm.ask(crm.load(), "read_customer_record", {"customer_id": "c1", "fields": fields})
    assert (decision.verdict, decision.code) == ("deny", Code.CONSTRAINT_VIOLATED)
    assert decision.rules[0].accepted == "fields may only name: customer_id, order_history, contact_info"


def test_leaving_the_fields_out_is_left_to_projection() -> None:
    assert crm.ask(crm.load(), "read_customer_record", {"customer_id": "c1"}).verdict == "permit"


@pytest.mark.parametrize(("fields", "verdict"), [("id", "permit"), ("ssn", "deny"), ("id,ssn", "deny"), ("", "deny")])
def test_fields_asked_for_as_text_are_one_name(fields: str, verdict: str) -> None:
    assert bundles.ask(bundles.load(_files("[id]")), "crm/read", {"fields": fields}).verdict == verdict
