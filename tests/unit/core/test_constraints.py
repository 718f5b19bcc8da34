"""Constraints: each kind bounds exactly what it says, and a key that would do nothing does not load."""

from __future__ import annotations

import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.decision import Decision
from interlock.core.errors import Code
from interlock.core.policy.checks import argument_candidates, same_value
from support import bundles
from support.bundles import FLAG, INTEGER, NUMBER, TEXT, TEXTS, agent_file, entry, record, tool

ANYTHING: JsonObject = {}
PROPERTIES: JsonObject = {
    "status": TEXT,
    "category": {"enum": ["book", "game"]},
    "kinds": {"type": "array", "items": {"enum": ["x", "y"]}},
    "amount": NUMBER,
    "count": INTEGER,
    "urgent": FLAG,
    "to": TEXTS,
    "prices": {"type": "array", "items": NUMBER},
    "path": TEXT,
    "folders": TEXTS,
    "source": TEXT,
    "note": {"type": ["string", "null"]},
    "either": {"anyOf": [TEXT, INTEGER]},
    "any": ANYTHING,
    "address": record(city=TEXT),
    "order_ids": TEXTS,
    "name": TEXT,
    "names": TEXTS,
    "steps": INTEGER,
}
UPDATE = tool("update", PROPERTIES)
PING = tool("ping", {"host": TEXT})
CATALOGUE = """\
upstream: crm
tools:
  update:
    effect: reversible
    records: {count: order_ids}
    arguments: {source: {type: url}, path: {type: path}, folders: {type: path}, to: {type: email}}
  ping: {effect: read}
"""


def _files(constraints: str, name: str = "update", catalogue: str = CATALOGUE) -> dict[str, bytes]:
    agent = agent_file(entry(name, "constraints:", f"  {constraints}"))
    return bundles.files_of([UPDATE, PING], agent, catalogue=catalogue)


def _ask(constraint: str, arguments: JsonObject) -> Decision:
    return bundles.ask(bundles.load(_files(constraint)), "crm/update", arguments)


def _refusal(constraint: str, name: str = "update") -> str:
    [finding] = bundles.refusals(_files(constraint, name))
    assert finding.startswith("agents/a.yaml:6:")
    return finding.removeprefix("agents/a.yaml:6:")


_HOLDS: list[tuple[str, Json]] = [
    # allowed_<x>: by type and value; each item of a list
    ("allowed_status: [a, b]", "a"),
    ("allowed_statuses: [a, b]", "b"),
    ("allowed_categories: [book]", "book"),
    ("allowed_to: [a@x, b@x]", ["a@x", "b@x", "a@x"]),
    ("allowed_amount: [1, 2.5]", 1.0),
    ("allowed_amounts: [1, 2.5]", 2.5),
    ("allowed_count: [9007199254740993]", 9007199254740993),
    ("allowed_urgent: [true]", True),
    ("allowed_either: [a, 1]", 1),
    ('allowed_either: [a, "1"]', "1"),
    ("allowed_any: [a]", ["a"]),
    ("allowed_kinds: [x]", ["x", "x"]),
    # min_<x>, max_<x>: inclusive
    ("min_amount: 1.5", 1.5),
    ("max_amount: 100", 100),
    ("max_amount: 0.1", 0.1),
    ("max_count: 9007199254740993", 9007199254740993),
    ("min_prices: 1", [1, 2.5]),
    ("max_prices: 3", [1, 2.5]),
    # match_<x>, under_<x>, host_<x>: one pattern or several, each item of a list
    ('match_status: "ord-*"', "ord-17"),
    ("match_status: [a*, b*]", "bee"),
    ('match_to: "*@example.org"', ["a@example.org", "b@example.org"]),
    ("under_path: /data", "/data/x"),
    ("under_folders: [/data, /tmp]", ["/data/x", "/tmp"]),
    ("host_source: example.org", "https://example.org/x"),
    ("host_source: [example.org, '*.example.net']", "https://a.example.net"),
]


@pytest.mark.parametrize(("constraint", "value"), _HOLDS)
def test_a_value_within_its_constraint_is_permitted(constraint: str, value: Json) -> None:
    assert _ask(constraint, {_argument(constraint): value}).verdict == "permit"


_FAILS: list[tuple[str, Json]] = [
    ("allowed_status: [a, b]", "A"),
    ("allowed_status: [a, b]", "a "),
    ("allowed_status: ['1']", "2"),
    ("allowed_to: [a@x]", ["a@x", "b@x"]),
    ("allowed_to: [a@x]", []),
    ("allowed_amount: [1, 2.5]", 1.0000001),
    ("allowed_count: [9007199254740993]", 9007199254740992),
    ("allowed_urgent: [true]", False),
    ("allowed_either: [a, 1]", "1"),
    ("allowed_any: [1]", True),
    ("allowed_any: [true]", 1),
    ("allowed_any: [0]", False),
    ("allowed_any: [a]", [["a"]]),
    ("allowed_any: [a]", {"a": "a"}),
    ("allowed_any: [a]", ["a", None]),
    ("min_amount: 1.5", 1.4999999999999),
    ("max_amount: 100", 100.00000000000001),
    ("max_amount: 0.1", 0.10000000000000002),
    ("max_count: 9007199254740992", 9007199254740993),
    ("max_prices: 3", [1, 3.5]),
    ("min_prices: 1", []),
    ("max_any: 5", "4"),
    ("max_any: 5", True),
    ("min_any: -5", False),
    ('match_status: "ord-*"', "x-ord-1"),
    ('match_to: "*@example.org"', ["a@example.org", "b@evil.example"]),
    ('match_any: "*"', 7),
    ("under_path: /data", "/data/../etc/passwd"),
    ("under_folders: [/data, /tmp]", ["/data/x", "/etc"]),
    ("host_source: example.org", "https://example.org.evil.example/"),
]


@pytest.mark.parametrize(("constraint", "value"), _FAILS)
def test_a_value_outside_its_constraint_denies_that_call(constraint: str, value: Json) -> None:
    _denied_by(constraint, {_argument(constraint): value})


def _argument(constraint: str) -> str:
    """The argument that a constraint of these tests is about."""
    name = constraint.partition(":")[0].partition("_")[2]
    return next(found for found in (name, *argument_candidates(name)) if found in PROPERTIES)


def _denied_by(constraint: str, arguments: JsonObject) -> Decision:
    decision = _ask(constraint, arguments)
    key = f"tools.allowed[0].constraints.{constraint.partition(':')[0]}"
    assert (decision.verdict, decision.code) == ("deny", Code.CONSTRAINT_VIOLATED)
    assert [(rule.key, rule.line) for rule in decision.rules] == [(key, 6)]
    return decision


@pytest.mark.parametrize(
    "constraint",
    [
        "allowed_status: [a]",
        "allowed_to: [a@x]",
        "min_amount: 0",
        "max_amount: 5",
        'match_note: "*"',
        "under_path: /",
        "host_source: example.org",
    ],
)
def test_a_constrained_argument_that_is_left_out_fails(constraint: str) -> None:
    _denied_by(constraint, {})


@pytest.mark.parametrize("constraint", ["allowed_note: [a]", 'match_note: "*"', "allowed_any: [a]", "max_any: 1"])
def test_a_constrained_argument_that_is_null_fails(constraint: str) -> None:
    _denied_by(constraint, {_argument(constraint): None})


@pytest.mark.parametrize(
    ("constraint", "accepted"),
    [
        ("allowed_status: [a, 1x]", "status must be one of: a, 1x"),
        ("min_amount: 1.5", "amount must be at least 1.5"),
        ("max_amount: 100", "amount must be at most 100"),
        ('match_status: "ord-*"', "status must match ord-*"),
        ("under_path: [/data, /tmp]", "path must be a plain path under /data or /tmp"),
        ("host_source: example.org", "source must be an http(s) URL on example.org"),
    ],
)
def test_a_denial_says_what_would_be_accepted_and_not_what_was_sent(constraint: str, accepted: str) -> None:
    argument = _argument(constraint)
    wrong: Json = -7_654_321.5 if constraint.startswith("min") else 7_654_321.5
    if not constraint.startswith(("min", "max")):
        wrong = "hunter2"
    decision = _denied_by(constraint, {argument: wrong})
    assert decision.rules[0].accepted == accepted
    assert accepted in decision.sentence
    assert not any(sent in decision.sentence for sent in ("hunter2", "7654321", "7_654_321"))


def test_several_constraints_all_have_to_hold() -> None:
    files = _files("allowed_status: [a]\n        max_amount: 5")
    bundle = bundles.load(files)
    assert bundles.ask(bundle, "crm/update", {"status": "a", "amount": 5}).verdict == "permit"
    both = bundles.ask(bundle, "crm/update", {"status": "b", "amount": 6})
    assert [rule.line for rule in both.rules] == [6, 7]


@pytest.mark.parametrize(
    ("constraint", "finding"),
    [
        (
            "allowed_stauts: [a]",
            "9: crm/update has no argument 'stauts'; expected an argument of the tool, or its plural; did you mean 'allowed_status'?",
        ),
        (
            "allowed_state: [a]",
            "9: crm/update has no argument 'state'; expected an argument of the tool, or its plural",
        ),
        (
            "max_record_per_run: 3",
            "9: crm/update has no argument 'record_per_run'; expected an argument of the tool, or its plural; did you mean 'max_records_per_run'?",
        ),
        (
            "max_call_per_run: 3",
            "9: crm/update has no argument 'call_per_run'; expected an argument of the tool, or its plural; did you mean 'max_calls_per_run'?",
        ),
        (
            "allowed_names: [a]",
            "9: crm/update has both 'names' and 'name'; expected one argument that the key can mean",
        ),
        ("alowed_status: [a]", "9: unknown key 'alowed_status' in `tools.allowed[0].constraints`"),
        ("maximum_amount: 5", "9: unknown key 'maximum_amount'"),
        ("allowed_: [a]", "9: unknown key 'allowed_'"),
        ("Allowed_status: [a]", "9: unknown key 'Allowed_status'"),
        ("allowed_status: a", "9: 'allowed_status' is not a list with items; expected a list of values"),
        ("allowed_status: []", "9: 'allowed_status' is not a list with items; expected a list of values"),
        ("allowed_status: [a, ~]", "29: this is not a value; expected text, a number, true or false"),
        ("allowed_status: [a, [b]]", "29: this is not a value"),
        ("allowed_status: [a, 1]", "29: 'status' of crm/update can never be '1'; expected a value of type string"),
        ("allowed_count: ['1']", "25: 'count' of crm/update can never be '1'; expected a value of type integer"),
        ("allowed_count: [1.5]", "25: 'count' of crm/update can never be '1.5'"),
        ("allowed_amount: [yes]", "26: 'amount' of crm/update can never be 'yes'"),
        ("allowed_urgent: [yes]", "26: 'urgent' of crm/update can never be 'yes'; expected a value of type boolean"),
        (
            "allowed_category: [boek]",
            "28: 'category' of crm/update can never be 'boek'; expected a value that the tool's schema lists; did you mean 'book'?",
        ),
        (
            "allowed_categories: [film]",
            "30: 'category' of crm/update can never be 'film'; expected a value that the tool's schema lists; it lists: book, game",
        ),
        ("allowed_kinds: [x, z]", "28: 'kinds' of crm/update can never be 'z'"),
        ("allowed_address: [x]", "27: 'address' of crm/update can never be 'x'"),
        ("min_status: 5", "9: 'status' of crm/update is not a number; expected a numeric argument"),
        ("max_to: 5", "9: 'to' of crm/update is not a number"),
        ("max_amount: '5'", "9: 'max_amount' is not a number; expected a number"),
        ("max_amount: true", "9: 'max_amount' is not a number"),
        ("max_amount: [5]", "9: 'max_amount' is not a number"),
        ("max_amount: .inf", "9: 'max_amount' is not a number"),
        ("max_amount: 0x10", "9: 'max_amount' is not a number"),
        ("max_amount:", "9: 'max_amount' is not a number"),
        ("match_amount: '*'", "9: 'amount' of crm/update is not text; expected an argument of type string"),
        ("match_status: 5", "9: 'match_status' is not text; expected one pattern, or a list of them"),
        ("match_status: []", "9: 'match_status' is not text"),
        ("match_status: ['']", "9: 'match_status' is not text"),
        ("match_status: [a, 5]", "9: 'match_status' is not text"),
        (
            "match_path: /data/*",
            "9: 'path' is a path, which a glob cannot bound; expected under_path; use under_path: ",
        ),
        ("match_folders: /data/*", "9: 'folders' is a path, which a glob cannot bound; expected under_folders"),
        (
            "match_source: 'https://example.org/*'",
            "9: 'source' is a url, which a glob cannot bound; expected host_source",
        ),
        ("under_source: /data", "9: the catalogue types 'source' as url; expected an argument of type path"),
        ("host_path: example.org", "9: the catalogue types 'path' as path; expected an argument of type url"),
        ("host_to: example.org", "9: the catalogue types 'to' as email; expected an argument of type url"),
        (
            "under_path: /data/../etc",
            "9: '/data/../etc' cannot stand here: it has an empty, `.` or `..` segment; expected a plain directory or host",
        ),
        ("under_path: [/data, ~/x]", "29: '~/x' cannot stand here: it begins with a tilde"),
        ("host_source: https://example.org", "9: 'https://example.org' cannot stand here"),
        ("host_source: '*'", "9: '*' cannot stand here"),
        ("under_amount: /data", "9: 'amount' of crm/update is not text"),
        (
            "max_records_per_run: -1",
            "30: `tools.allowed[0].constraints.max_records_per_run` is -1; expected at least 0",
        ),
        (
            "max_records_per_run: 2.5",
            "30: `tools.allowed[0].constraints.max_records_per_run` is 2.5; expected a whole number",
        ),
        (
            "max_calls_per_run: many",
            "28: `tools.allowed[0].constraints.max_calls_per_run` is 'many'; expected a whole number",
        ),
        (
            "max_calls_per_run:",
            "27: `tools.allowed[0].constraints.max_calls_per_run` is empty; expected a whole number",
        ),
    ],
)
def test_a_key_that_could_not_do_what_it_says_is_a_finding(constraint: str, finding: str) -> None:
    assert _refusal(constraint).startswith(finding)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("alowed_status", "allowed_status"), ("allow_status", "allowed_status"), ("mx_amount", "max_amount")],
)
def test_the_hint_for_a_mistyped_kind_names_the_right_key(wrong: str, right: str) -> None:
    assert f"did you mean '{right}'?" in _refusal(f"{wrong}: [a]")


@pytest.mark.parametrize(
    "constraint",
    [
        "max_calls_per_run: 99999999999999999999",
        "max_records_per_run: 99999999999999999999",
        "max_count: 99999999999999999999",
        "allowed_count: [99999999999999999999]",
    ],
)
def test_a_number_beyond_64_bit_is_a_finding_and_no_crash(constraint: str) -> None:
    assert _refusal(constraint)


def test_bounds_that_no_number_satisfies_are_a_finding() -> None:
    agent = agent_file(entry("update", "constraints:", "  min_count: 6", "  max_count: 5"))
    [finding] = bundles.refusals(bundles.files_of([UPDATE, PING], agent, catalogue=CATALOGUE))
    assert finding == (
        "agents/a.yaml:7:9: no count is at least 6 and at most 5; expected bounds that some number satisfies"
    )


def test_a_number_that_readers_of_yaml_take_for_different_ones_is_text() -> None:
    assert "'max_count' is not a number" in _refusal("max_count: 010")


def test_a_glob_is_no_directory() -> None:
    assert "it is a glob, and stands for a directory" in _refusal("under_path: /data/*")


# Limits on use ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "amount"),
    [({}, 1), ({"order_ids": []}, 1), ({"order_ids": ["a"]}, 1), ({"order_ids": ["a", "b", "a"]}, 3)],
)
def test_records_are_counted_by_the_list_that_the_catalogue_names(arguments: JsonObject, amount: int) -> None:
    [guard] = _ask("max_records_per_run: 10", arguments).guards
    assert (guard.counter, guard.amount, guard.limit) == ("records:crm/update", amount, 10)
    assert guard.rule.key == "tools.allowed[0].constraints.max_records_per_run"
    assert guard.rule.accepted == "at most 10 records of this tool in one run"


def test_calls_are_counted_one_by_one() -> None:
    [guard] = _ask("max_calls_per_run: 2", {"order_ids": ["a", "b"]}).guards
    assert (guard.counter, guard.amount, guard.limit) == ("calls:crm/update", 1, 2)
    assert guard.rule.accepted == "at most 2 calls of this tool in one run"


def test_a_record_limit_on_a_tool_with_lists_needs_a_declared_count() -> None:
    catalogue = "upstream: crm\ntools: {update: {effect: read}}\n"
    [finding] = bundles.refusals(_files("max_records_per_run: 3", catalogue=catalogue))
    assert finding == (
        "agents/a.yaml:6:9: crm/update takes lists, and the catalogue does not say how to count records; "
        "add `records: {count: ARGUMENT}` or `records: {per_call: 1}` to its catalogue entry"
    )


def test_a_catalogue_can_say_that_every_call_counts_one() -> None:
    catalogue = "upstream: crm\ntools: {update: {effect: read, records: {per_call: 1}}}\n"
    bundle = bundles.load(_files("max_records_per_run: 3", catalogue=catalogue))
    assert [guard.amount for guard in bundles.ask(bundle, "crm/update", {"order_ids": ["a", "b"]}).guards] == [1]


def test_a_record_limit_on_a_tool_without_lists_counts_calls() -> None:
    bundle = bundles.load(_files("max_records_per_run: 3", name="ping"))
    assert [guard.amount for guard in bundles.ask(bundle, "crm/ping", {}).guards] == [1]


def test_a_limit_that_could_also_bound_an_argument_is_a_finding() -> None:
    odd = tool("odd", {"calls_per_run": INTEGER})
    files = bundles.files_of([odd], agent_file(entry("odd", "constraints: {max_calls_per_run: 3}")))
    [finding] = bundles.refusals(files)
    assert "'max_calls_per_run' could also bound the argument 'calls_per_run'" in finding


def test_a_denied_call_has_no_guards() -> None:
    files = _files("max_calls_per_run: 2\n        allowed_status: [a]")
    assert bundles.ask(bundles.load(files), "crm/update", {"status": "b"}).guards == ()


# Two entries for one tool ------------------------------------------------------------------------------------


def test_two_entries_for_one_tool_leave_the_strictest_of_each_key() -> None:
    entries = entry("update", "constraints: {max_calls_per_run: 5, allowed_status: [a, b]}", "scope: [x, y.z]") + entry(
        "crm/update", "constraints: {max_calls_per_run: 3, allowed_status: [b, c]}", "scope: [y, w]"
    )
    bundle = bundles.load(
        bundles.files_of([UPDATE], agent_file(entries), catalogue=CATALOGUE.replace("  ping: {effect: read}\n", ""))
    )
    assert bundles.ask(bundle, "crm/update", {"status": "a"}).verdict == "deny"
    permitted = bundles.ask(bundle, "crm/update", {"status": "b"})
    assert permitted.verdict == "permit"
    assert sorted(guard.limit for guard in permitted.guards) == [3, 5]
    assert bundles.rules_for(bundle, "crm/update").scope == ("y.z",)


def test_two_entries_whose_scopes_have_nothing_in_common_are_a_finding() -> None:
    entries = entry("ping", "scope: [x]") + entry("ping", "scope: [y]")
    [finding] = bundles.refusals(bundles.files_of([PING], agent_file(entries)))
    assert "the scopes of the entries for crm/ping have no field in common" in finding


# Words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("statuses", "status"), ("categories", "category"), ("addresses", "address"), ("ids", "id"), ("prices", "price")],
)
def test_a_key_may_name_an_argument_in_the_plural(plural: str, singular: str) -> None:
    assert argument_candidates(plural)[0] == plural
    assert singular in argument_candidates(plural)


@pytest.mark.parametrize("name", ["status", "s", "es", "class"])
def test_a_word_that_only_looks_like_a_plural_has_no_singular_of_two_words(name: str) -> None:
    assert len(argument_candidates(name)) <= 2
    assert "" not in argument_candidates(name)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (True, True, True),
        (None, None, True),
        (2**53 + 1, 2.0**53, False),
    ],
)
def test_values_are_the_same_by_type_and_value(left: Json, right: Json, *, same: bool) -> None:
    assert same_value(left, right) is same
    assert same_value(right, left) is same
