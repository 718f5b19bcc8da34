"""`arguments:` is a JSON Schema 2020-12 on top of the tool's own; a part of it that does nothing is an error."""

from __future__ import annotations

import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Code
from support import bundles
from support.bundles import INTEGER, NUMBER, TEXT, TEXTS, agent_file, entry, record, tool
from support.limits import within

PAY = tool(
    "pay",
    {"amount": NUMBER, "to": TEXT, "tags": TEXTS, "count": INTEGER, "address": record(street=TEXT), "payload": {}},
)
CATALOGUE = "upstream: crm\ntools: {pay: {effect: read}}\n"
OPEN_CATALOGUE = "upstream: crm\ntools: {pay: {effect: read, additional_arguments: allow}}\n"


def _files(schema: str, catalogue: str = CATALOGUE) -> dict[str, bytes]:
    return bundles.files_of([PAY], agent_file(entry("pay", f"arguments: {schema}")), catalogue=catalogue)


def _refusals(schema: str, catalogue: str = CATALOGUE) -> list[str]:
    return bundles.refusals(_files(schema, catalogue))


@pytest.mark.parametrize(
    ("schema", "permitted", "denied"),
    [
        ("{properties: {amount: {maximum: 5}}}", {"amount": 5}, {"amount": 5.01}),
        ("{properties: {amount: {exclusiveMaximum: 5}}}", {}, {"amount": 5}),
        ("{required: [to]}", {"to": "x"}, {"amount": 1}),
        ("{dependentRequired: {amount: [to]}}", {"to": "x"}, {"amount": 1}),
        ("{maxProperties: 1}", {"to": "x"}, {"to": "x", "amount": 1}),
        ("{not: {required: [amount, to]}}", {"to": "x"}, {"to": "x", "amount": 1}),
        ("{properties: {to: {pattern: '^[a-z]+$'}}}", {"to": "abc"}, {"to": "abc1"}),
        ("{properties: {to: {format: email}}}", {"to": "a@example.org"}, {"to": "example.org"}),
        ("{properties: {tags: {maxItems: 1, items: {enum: [a]}}}}", {"tags": ["a"]}, {"tags": ["b"]}),
        ("{properties: {address: {required: [street]}}}", {"address": {"street": "x"}}, {"address": {}}),
        (
            "{if: {properties: {amount: {minimum: 10}}, required: [amount]}, then: {required: [to]}}",
            {"amount": 9},
            {"amount": 10},
        ),
        ("{properties: {to: {$ref: '#/$defs/short'}}, $defs: {short: {maxLength: 2}}}", {"to": "ab"}, {"to": "abc"}),
        ("{properties: {payload: {type: string, maxLength: 2}}}", {"payload": "ab"}, {"payload": ["abc"]}),
    ],
)
def test_the_schema_bounds_the_whole_argument_object(schema: str, permitted: JsonObject, denied: JsonObject) -> None:
    bundle = bundles.load(_files(schema))
    assert bundles.ask(bundle, "crm/pay", permitted).verdict == "permit"
    refused = bundles.ask(bundle, "crm/pay", denied)
    assert (refused.verdict, refused.code) == ("deny", Code.CONSTRAINT_VIOLATED)
    assert [rule.key for rule in refused.rules] == ["tools.allowed[0].arguments"]
    assert refused.rules[0].accepted == "the arguments must be valid against the schema in the agent file"


@pytest.mark.parametrize(
    ("schema", "finding"),
    [
        (
            "{propertys: {}}",
            "5:19: 'propertys' is no keyword of JSON Schema, so it would do nothing; expected a keyword of JSON Schema 2020-12; did you mean 'properties'?",
        ),
        (
            "{properties: {amount: {maxium: 5}}}",
            "5:41: 'maxium' is no keyword of JSON Schema, so it would do nothing; expected a keyword of JSON Schema 2020-12; did you mean 'maximum'?",
        ),
        ("{allOf: [{}, {requird: [to]}]}", "5:32: 'requird' is no keyword of JSON Schema"),
        ("{not: {definitions: {}}}", "5:25: 'definitions' is no keyword of JSON Schema"),
        ("{properties: {tags: {items: {enumm: [a]}}}}", "5:47: 'enumm' is no keyword of JSON Schema"),
        ("{$defs: {x: {maxLenght: 1}}, $ref: '#/$defs/x'}", "5:31: 'maxLenght' is no keyword of JSON Schema"),
        (
            "{properties: {amuont: {maximum: 5}}}",
            "5:32: crm/pay has no argument 'amuont'; expected an argument of the tool; did you mean 'amount'?",
        ),
        ("{required: [amount, tto]}", "5:38: crm/pay has no argument 'tto'; expected an argument of the tool"),
        ("true", "5:7: `arguments` is not a JSON Schema; expected an object such as {properties: …}"),
        ("[]", "5:7: `arguments` is not a JSON Schema"),
        ("", "5:7: `arguments` is not a JSON Schema"),
        ("{properties: {amount: {maximum: '5'}}}", "5:7: the schema cannot be compiled"),
        ("{properties: {amount: {maximum: 5, exclusiveMaximum: true}}}", "5:7: the schema cannot be compiled"),
        ("{properties: {to: {pattern: '('}}}", "5:7: the schema cannot be compiled"),
        ("{properties: {to: {format: emial}}}", "5:7: the schema cannot be compiled: Unknown format: 'emial'"),
        ("{$ref: 'https://example.org/s.json'}", "5:7: $ref points outside the schema"),
        ("{$ref: '#/$defs/none'}", "5:7: the schema cannot be compiled"),
        (
            "{properties: {count: {maximum: 99999999999999999999}}}",
            "5:7: the schema cannot be represented: an integer is beyond 64 bit",
        ),
    ],
)
def test_a_mistake_in_the_schema_is_a_finding(schema: str, finding: str) -> None:
    findings = _refusals(schema)
    assert findings
    assert findings[0].startswith(f"agents/a.yaml:{finding}")


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param("{allOf: [{properties: {amuont: {maximum: 5}}}]}", id="below allOf"),
        pytest.param("{anyOf: [{properties: {amuont: {maximum: 5}}}, {required: [to]}]}", id="below anyOf"),
        pytest.param("{if: {required: [amuont]}, then: {required: [to]}}", id="below if"),
        pytest.param("{$ref: '#/$defs/x', $defs: {x: {properties: {amuont: {maximum: 5}}}}}", id="behind a reference"),
        pytest.param("{dependentRequired: {amuont: [to]}}", id="in dependentRequired"),
        pytest.param("{dependentSchemas: {amuont: {required: [to]}}}", id="in dependentSchemas"),
        pytest.param("{patternProperties: {'^amuont$': {maximum: 5}}}", id="in a pattern"),
        pytest.param("{properties: {address: {properties: {steet: {const: x}}}}}", id="in a nested record"),
    ],
)
def test_a_mistyped_argument_is_found_wherever_the_schema_names_one(schema: str) -> None:
    assert any("amuont" in finding or "steet" in finding for finding in _refusals(schema))


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param("{properties: {amount: {maxLength: 5}}}", id="a length of a number"),
        pytest.param("{properties: {to: {maximum: 5}}}", id="a bound of a text"),
        pytest.param("{properties: {to: {items: {enum: [a]}}}}", id="items of a text"),
        pytest.param("{properties: {amount: {format: email}}}", id="a format of a number"),
        pytest.param("{then: {required: [to]}}", id="then without if"),
        pytest.param("{if: {required: [to]}}", id="if without then or else"),
        pytest.param("{properties: {tags: {minContains: 2}}}", id="minContains without contains"),
        pytest.param("{$defs: {x: {required: [to]}}}", id="a definition that nothing refers to"),
        pytest.param("{}", id="nothing"),
        pytest.param("{type: object}", id="what every call satisfies"),
        pytest.param("{description: at most five}", id="annotations only"),
    ],
)
def test_a_keyword_that_can_never_apply_is_a_finding(schema: str) -> None:
    assert _refusals(schema)


def test_only_the_dialect_that_the_lint_knows_is_accepted() -> None:
    # In draft 7, dependentRequired and the siblings of $ref do nothing.
    draft_7 = "{$schema: 'http://json-schema.org/draft-07/schema#', dependentRequired: {amount: [to]}}"
    assert _refusals(draft_7)
    assert not _refusals("{$schema: 'https://json-schema.org/draft/2020-12/schema', required: [to]}")


def test_a_tool_that_takes_additional_arguments_may_have_them_bounded() -> None:
    bundle = bundles.load(_files("{properties: {memo: {maxLength: 3}}}", OPEN_CATALOGUE))
    assert bundles.ask(bundle, "crm/pay", {"memo": "abc"}).verdict == "permit"
    assert bundles.ask(bundle, "crm/pay", {"memo": "abcd"}).verdict == "deny"


@pytest.mark.parametrize("more", [True, {}, TEXT])
def test_a_member_that_an_argument_says_it_takes_beside_its_declared_ones_may_be_bounded(more: Json) -> None:
    open_record = tool("pay", {"address": {**record(street=TEXT), "additionalProperties": more}})
    schema = "{properties: {address: {properties: {bcc: false}}}}"
    agent = agent_file(entry("pay", f"arguments: {schema}"))
    bundle = bundles.load(bundles.files_of([open_record], agent, catalogue=CATALOGUE))
    assert bundles.ask(bundle, "crm/pay", {"address": {"street": "x"}}).verdict == "permit"
    assert bundles.ask(bundle, "crm/pay", {"address": {"bcc": "x"}}).verdict == "deny"


@pytest.mark.parametrize("schema", ["{properties: {to: {}}, additionalProperties: false}", "{maxProperties: 0}"])
def test_naming_arguments_only_to_exclude_the_others_is_a_bound(schema: str) -> None:
    bundle = bundles.load(_files(schema))
    assert bundles.ask(bundle, "crm/pay", {"amount": 1}).verdict == "deny"


def test_reading_a_schema_that_refers_to_itself_ends_beside_any_schema_of_a_tool() -> None:
    # 49 steps here and 20 there meet in 980 ways.
    steps: JsonObject = {f"d{i}": record(a={"$ref": f"#/$defs/d{(i + 1) % 49}"}) for i in range(49)}
    winding = bundles.tool_taking({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": steps})
    own = ", ".join(f"d{i}: {{properties: {{a: {{$ref: '#/$defs/d{(i + 1) % 20}'}}}}}}" for i in range(20))
    agent = agent_file(entry("t", f"arguments: {{$ref: '#/$defs/d0', maxProperties: 0, $defs: {{{own}}}}}"))
    with within(500_000):
        assert not bundles.refusals(bundles.files_of([winding], agent))


def test_what_costs_too_much_to_check_is_outside_the_schema() -> None:
    wide = ", ".join(["{minLength: 1}"] * 4_000)
    bundle = bundles.load(_files(f"{{properties: {{tags: {{items: {{allOf: [{wide}]}}}}}}}}"))
    few: list[Json] = ["a"] * 10
    many: list[Json] = ["a"] * 3_000
    assert bundles.ask(bundle, "crm/pay", {"tags": few}).verdict == "permit"
    assert bundles.ask(bundle, "crm/pay", {"tags": many}).verdict == "deny"
