"""Explain: a decision with every rule that was considered and the line that it stands on."""

from __future__ import annotations

from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.canonical import JsonObject, encode
from interlock.core.policy.explain import explain, quoted_line
from support import crm

FILES = {"a.yaml": b"one\n  two\nthree"}


def _explained(name: str, arguments: JsonObject) -> JsonObject:
    bundle = crm.load()
    pinned = bundle.catalogue.tools[f"crm/{name}"].pinned
    call = canonical_call(crm.AGENT, "run_1", pinned, canonical_arguments(pinned, arguments, additional=False), {})
    rules = bundle.slice(crm.AGENT, f"crm/{name}")
    return explain(crm.ask(bundle, name, arguments), rules, call, bundle.files)


def test_every_rule_considered_is_quoted_and_says_whether_it_decided_and_held() -> None:
    explained = _explained("update_order_status", {"order_ids": ["o1"], "status": "shipped"})
    considered = explained["considered"]
    assert isinstance(considered, list)
    found = {(str(rule["text"]), rule["decided"], rule.get("holds")) for rule in considered if isinstance(rule, dict)}
    assert found == {
        ('- name: "update_order_status"', False, None),
        ('allowed_statuses: ["cancelled", "refunded", "processing"]', True, False),
        ("max_records_per_run: 10", False, None),
    }
    assert (explained["verdict"], explained["code"]) == ("deny", "constraint_violated")
    assert (explained["effect"], explained["listed"], explained["scope"]) == ("reversible", True, None)


def test_a_permit_is_explained_with_its_guards() -> None:
    explained = _explained("update_order_status", {"order_ids": ["o1", "o2"], "status": "refunded"})
    assert explained["guards"] == [
        {
            "counter": "records:crm/update_order_status",
            "amount": 2,
            "limit": 10,
            "rule": "support-agent-v2:tools.allowed[1].constraints.max_records_per_run",
        }
    ]
    assert explained["code"] is None


def test_a_tool_that_no_rule_speaks_of_is_explained_too() -> None:
    explained = _explained("attach_file", {})
    assert explained["considered"] == []
    assert (explained["listed"], explained["effect"], explained["slice"]) == (False, None, "")


def test_an_explanation_is_plain_json() -> None:
    assert encode(_explained("read_customer_record", {"customer_id": "c1"}))


def test_lines_are_quoted_by_their_number_and_nothing_where_there_is_none() -> None:
    quoted = [quoted_line(FILES, "a.yaml", line) for line in (0, 1, 2, 3, 4)]
    assert quoted == ["", "one", "two", "three", ""]
    assert quoted_line(FILES, "b.yaml", 1) == ""


def test_lines_are_counted_as_findings_count_them() -> None:
    # A form feed or a line separator is no line break to YAML 1.2, to Cedar or to an editor.
    assert quoted_line({"g.cedar": "// one\x0c two\u2028 three\nforbid".encode()}, "g.cedar", 2) == "forbid"
