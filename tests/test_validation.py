"""Validation before execution: what breaks its schema, is not declared or is not finished reaches nobody."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.complexity import MAX_DEPTH, visits
from policies.jsonschema import MAX_SCHEMA
from policies.validation import Tools, check_output, compile_schema
from schemas.errors import LedgerError, Malformed, TooLarge

PLAN = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": {"type": "string"}, "maxItems": 3}, "cost": {"type": "integer"}},
    "required": ["steps"],
    "additionalProperties": False,
}
SECRET = "sk-live-1234567890"


def nested(depth: int, inner: Any = 1) -> str:
    return "[" * depth + json.dumps(inner) + "]" * depth


@pytest.mark.parametrize(
    "text", ['{"steps":[]}', '{"steps":["a","b","c"],"cost":7}', ' {"steps" : [] }\n', b'{"steps":[]}']
)
def test_m05_what_meets_its_schema_passes(text: str | bytes) -> None:
    assert check_output(compile_schema(PLAN), text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{",
        '{"steps":[]} x',
        '{"steps":[]}{"steps":[]}',
        "{'steps':[]}",
        '{"steps":[],}',
        '{"steps":[] /* */}',
        '{"steps":["a","b","c","d"]}',
        '{"steps":"a"}',
        '{"steps":[1]}',
        '{"steps":[],"cost":1.5}',
        '{"steps":[],"cost":"1"}',
        '{"steps":[],"cost":true}',
        '{"steps":[],"cost":NaN}',
        '{"steps":[],"cost":1e999}',
        '{"steps":[],"cost":Infinity}',
        '{"steps":[],"more":1}',
        '{"cost":1}',
        # Two readings: some take the first, others the last.
        '{"steps":["rm"],"steps":[]}',
        '{"steps":[],"\\u0073teps":["rm"]}',
        '{"steps":["\\ud800"]}',
        '{"steps":["\ud800"]}',
        b'{"steps":["\xff"]}',
        '\ufeff{"steps":[]}',
        nested(100_000),
        nested(500),
        '{"steps":[],"cost":' + "9" * 5_000 + "}",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_m05_what_does_not_meet_its_schema_is_invalid(text: str | bytes) -> None:
    problem = check_output(compile_schema(PLAN), text)
    assert problem is not None
    assert len(problem) < 300


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f'{{"steps":"{SECRET}"}}',
        f'{{"steps":[],"{SECRET}":1}}',
        f'{{"steps":[],"cost":"{SECRET}"}}',
        f'{{"{SECRET}":1,"{SECRET}":1}}',
        f'{{"steps":["{SECRET}\\ud800"]}}',
    ],
)
def test_what_is_said_of_an_output_never_repeats_it(text: str) -> None:
    problem = check_output(compile_schema(PLAN), text)
    assert problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    "schema",
    [
        b"",
        b"x",
        b"[]",
        b"1",
        b'"a"',
        b"\xff",
        b'{"type":"object","type":"string"}',
        {"type": "objekt"},
        {"type": 7},
        {"properties": []},
        {"required": "a"},
        {"minimum": "a"},
        {"$ref": 7},
        # Outside of itself.
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"properties": {"a": {"$ref": "//example.com/x"}}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "https://example.com/"}}},
        {"$ref": "#anchor", "$defs": {"a": {"$anchor": "anchor"}}},
        {"$schema": "https://example.com/dialect"},
        {"$schema": "http://json-schema.org/draft-04/schema#"},
        {"$schema": 7},
        {"$dynamicRef": "#a"},
        {"$recursiveRef": "#"},
        {"properties": {"a": {"$id": "https://example.com/b", "$ref": "#/properties"}}},
        # In circles.
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        # Patterns that take forever elsewhere, or much memory.
        {"pattern": "(?=a)b"},
        {"pattern": r"(a)\1"},
        {"pattern": "("},
        {"pattern": "(a{1000}){1000}"},
        {"pattern": "((a{100}){100}){100}"},
        {"patternProperties": {"(?<!a)b": {}}},
    ],
    ids=lambda schema: repr(schema)[:60],
)
def test_a_schema_that_is_none_or_looks_elsewhere_is_refused(schema: Any) -> None:
    began = time.perf_counter()
    with pytest.raises(Malformed) as refused:
        compile_schema(schema)
    assert refused.value.what
    assert time.perf_counter() - began < 1


def test_a_schema_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        compile_schema({"description": "x" * MAX_SCHEMA})
    compile_schema({"description": "x" * (MAX_SCHEMA - 100)})


@pytest.mark.parametrize("depth", [300, 5_000, 60_000])
def test_a_schema_that_is_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(LedgerError):
        compile_schema(b'{"not":' * depth + b"{}" + b"}" * depth)


def doubling(levels: int) -> dict[str, Any]:
    """Each definition applies the one before twice: 2^levels schemas, in a few lines."""
    defs: dict[str, Any] = {"a0": {"type": "integer"}}
    for level in range(1, levels + 1):
        defs[f"a{level}"] = {"allOf": [{"$ref": f"#/$defs/a{level - 1}"}] * 2}
    return {"$defs": defs, "$ref": f"#/$defs/a{levels}"}


def test_a_schema_that_multiplies_itself_is_refused_before_it_is_tried() -> None:
    assert check_output(compile_schema(doubling(8)), "1") is None
    began = time.perf_counter()
    for levels in (20, 40, 200):
        with pytest.raises(Malformed):
            compile_schema(doubling(levels))
    assert time.perf_counter() - began < 1


def test_a_schema_that_multiplies_with_depth_refuses_deep_values_only() -> None:
    twice = {"anyOf": [{"type": "null"}, {"properties": {"x": {"$ref": "#"}}}, {"properties": {"x": {"$ref": "#"}}}]}
    compiled = compile_schema(twice)
    shallow = '{"x":' * 4 + "null" + "}" * 4
    deep = '{"x":' * 60 + "null" + "}" * 60
    assert check_output(compiled, shallow) is None
    began = time.perf_counter()
    assert "deep" in (check_output(compiled, deep) or "")
    assert time.perf_counter() - began < 0.5


def test_a_recursive_schema_that_does_not_multiply_is_as_good_as_any() -> None:
    tree = {
        "type": "object",
        "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "leaf": {"type": "integer"}},
        "additionalProperties": False,
    }
    value: Any = {"leaf": 1}
    for _ in range(MAX_DEPTH - 1):
        value = {"left": value, "right": {"leaf": 2}}
    assert check_output(compile_schema(tree), json.dumps(value)) is None
    assert check_output(compile_schema(tree), json.dumps({"left": value}))


def test_work_is_bounded_by_the_value_too() -> None:
    wide = compile_schema({"items": {"anyOf": [{"const": n} for n in range(2_000)]}})
    began = time.perf_counter()
    assert check_output(wide, json.dumps([-1] * 1_000_000))
    assert time.perf_counter() - began < 5


def test_a_catastrophic_pattern_takes_linear_time() -> None:
    compiled = compile_schema({"type": "string", "pattern": "^(a+)+$"})
    began = time.perf_counter()
    assert check_output(compiled, json.dumps("a" * 200_000 + "b"))
    assert time.perf_counter() - began < 1


SCHEMAS = st.recursive(
    st.sampled_from([{}, {"type": "string"}, {"type": "integer"}, {"$ref": "#/$defs/a"}, {"$ref": "#"}, True, False]),
    lambda inner: (
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)})
        | st.fixed_dictionaries({"items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"not": inner})
        | st.fixed_dictionaries({"additionalProperties": inner})
    ),
    max_leaves=8,
)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=200, deadline=2_000)
@given(SCHEMAS, SCHEMAS, VALUES)
def test_any_schema_is_refused_or_answers_in_time(root: Any, other: Any, value: Any) -> None:
    schema = root | {"$defs": {"a": other}} if isinstance(root, dict) else root
    try:
        compiled = compile_schema(schema)
    except Malformed:
        return
    counts = visits(schema)
    assert counts == sorted(counts)
    check_output(compiled, json.dumps(value))


FUNCTION = {"type": "function", "name": "write", "parameters": PLAN, "strict": True}
PLAIN = {"type": "function", "name": "ping"}
REGEX = {
    "type": "custom",
    "name": "digits",
    "format": {"type": "grammar", "syntax": "regex", "definition": "a|[0-9]{2}"},
}
LARK = {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}}
FREE = {"type": "custom", "name": "shell"}
CRM = {"type": "namespace", "name": "crm", "description": "", "tools": [FUNCTION, {**FREE, "name": "note"}]}
TOOLS = [FUNCTION, PLAIN, REGEX, LARK, FREE, CRM, {"type": "web_search"}, {"type": "local_shell"}]


def call(name: str = "write", arguments: Any = '{"steps":[]}', **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "c", "name": name, "arguments": arguments, "status": "completed"} | more


def custom(name: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"type": "custom_tool_call", "call_id": "c", "name": name, "input": text} | more


@pytest.mark.parametrize(
    "item",
    [
        call(),
        call(status=None),
        call("ping", "{}"),
        call("ping", '{"anything":[1]}'),
        call(namespace="crm"),
        custom("digits", "42"),
        custom("digits", "a"),
        custom("patch", "*** Begin Patch"),
        custom("shell", "ls"),
        custom("note", "x", namespace="crm"),
        {"type": "message", "content": []},
        {"type": "reasoning", "summary": []},
        {"type": "web_search_call", "status": "completed"},
        {"type": "web_search_call", "status": "failed"},
        {"type": "local_shell_call", "status": "completed"},
    ],
    ids=str,
)
def test_m05_calls_of_declared_tools_pass(item: dict[str, Any]) -> None:
    assert Tools(TOOLS).check(item) is None


@pytest.mark.parametrize(
    "item",
    [
        call("rm"),
        call("Write"),
        call("shell", "{}"),
        call("crm.write"),
        call("write", namespace="other"),
        call("ping", "{}", namespace="crm"),
        call(name=None),
        call(name=["write"]),
        call(namespace=7),
        call(arguments=None),
        call(arguments={"steps": []}),
        call(arguments=""),
        call(arguments="{"),
        call(arguments="[]"),
        call(arguments='{"steps":[],"force":true}'),
        call(arguments='{"steps":[1]}'),
        call(arguments='{"steps":["rm -rf"],"steps":[]}'),
        call(arguments=nested(100_000)),
        call("ping", "1"),
        call("ping", "null"),
        call(status="incomplete"),
        call(status="in_progress"),
        call(status=7),
        custom("digits", "421"),
        custom("digits", "42\n"),
        custom("digits", "\n42"),
        custom("digits", ""),
        custom("digits", "ab"),
        custom("digits", None),
        custom("digits", "\ud800"),
        custom("write", "{}"),
        custom("unknown", "x"),
        custom("shell", "ls", status="incomplete"),
        custom("note", "x"),
        {"type": "mcp_call", "name": "x"},
        {"type": "mcp_approval_request"},
        {"type": "code_interpreter_call"},
        {"type": "shell_call"},
        {"type": "apply_patch_call"},
        {"type": "computer_call"},
        {"type": "program"},
        {"type": "local_shell_call", "status": "incomplete"},
        {"type": "local_shell_call", "status": "in_progress"},
        {"type": "something_new"},
        {"type": "function"},
        {"type": 7},
        {"type": None},
        {},
        None,
        [],
        "function_call",
    ],
    ids=lambda item: repr(item)[:80],
)
def test_m05_what_is_undeclared_unfinished_or_wrong_is_not_for_execution(item: Any) -> None:
    problem = Tools(TOOLS).check(item)
    assert problem
    assert len(problem) < 400


def test_m05_a_call_without_any_tools_is_refused() -> None:
    for tools in (None, []):
        assert Tools(tools).check(call())
        assert Tools(tools).check({"type": "web_search_call"})
        assert Tools(tools).check({"type": "message"}) is None


def test_what_is_said_of_a_call_never_repeats_its_arguments() -> None:
    tools = Tools(TOOLS)
    for item in (
        call(arguments=f'{{"steps":"{SECRET}"}}'),
        call(arguments=SECRET),
        call(SECRET),
        custom("digits", SECRET),
    ):
        assert SECRET not in (tools.check(item) or SECRET)


def test_what_nothing_can_check_is_named() -> None:
    look = {"type": "custom", "name": "look", "format": {"type": "grammar", "syntax": "regex", "definition": "(?=a)"}}
    assert Tools([*TOOLS, look]).opaque == ["crm.note", "look", "patch", "shell"]


def test_a_grammar_can_not_break_out_of_its_anchors() -> None:
    for definition in ("a)|(?:b", "a$|^b)(", "(?x) a # "):
        form = {"type": "grammar", "syntax": "regex", "definition": definition}
        tools = Tools([{"type": "custom", "name": "t", "format": form}])
        assert tools.opaque == ["t"]
    form = {"type": "grammar", "syntax": "regex", "definition": "^a$|b"}
    tools = Tools([{"type": "custom", "name": "t", "format": form}])
    assert tools.check(custom("t", "a")) is None
    assert tools.check(custom("t", "xb"))


@pytest.mark.parametrize(
    "tools",
    [
        {},
        "x",
        7,
        [7],
        [None],
        [{}],
        [{"type": 7}],
        [{"type": "function"}],
        [{"type": "function", "name": ""}],
        [{"type": "function", "name": 7}],
        [{"type": "function", "name": "x" * 300}],
        [FUNCTION, FUNCTION],
        [FUNCTION, {"type": "custom", "name": "write"}],
        [{"type": "function", "name": "a", "parameters": {"type": "objekt"}}],
        [{"type": "function", "name": "a", "parameters": {"$ref": "https://example.com"}}],
        [{"type": "function", "name": "a", "parameters": [1]}],
        [{"type": "namespace", "name": "a"}],
        [{"type": "namespace", "tools": [PLAIN]}],
        [{"type": "namespace", "name": "a", "tools": [CRM]}],
        [{"type": "namespace", "name": "a", "tools": [{"type": "web_search"}]}],
        [PLAIN] * 3_000,
    ],
    ids=lambda tools: repr(tools)[:60],
)
def test_tools_that_are_none_are_refused_by_their_place(tools: Any) -> None:
    with pytest.raises(Malformed, match=r"^tools"):
        Tools(tools)


def test_m05_tools_brought_by_items_may_repeat_what_is_declared_and_not_contradict_it() -> None:
    tools = Tools([FUNCTION, CRM], [PLAIN, PLAIN, {**FUNCTION, "description": "other words"}, CRM])
    assert tools.check(call("ping", "{}")) is None
    assert tools.check(call("ping", "[]"))
    assert tools.check(call("write", "{}"))
    for other in ({**FUNCTION, "parameters": {}}, {"type": "custom", "name": "write"}, {"type": "function"}, None):
        with pytest.raises(Malformed, match=r"^tools of the input"):
            Tools([FUNCTION], [other])
    with pytest.raises(Malformed, match=r"^tools"):
        Tools([PLAIN], [{"type": "function", "name": f"f{n}"} for n in range(2_000)])
    # Found again and again is found once.
    assert Tools([], [PLAIN] * 5_000).check(call("ping", "{}")) is None


def test_m05_of_tools_that_were_found_again_the_newest_holds() -> None:
    def of(value: Any) -> dict[str, Any]:
        return {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object", "properties": {"a": {"const": value}}},
        }

    tools = Tools([], [of(True), of(1)])
    assert tools.check(call("f", '{"a":1}')) is None
    assert tools.check(call("f", '{"a":true}'))
    assert Tools([], [of(1), {"type": "custom", "name": "f"}]).check(call("f", '{"a":1}'))
    with pytest.raises(Malformed, match="twice"):
        Tools([of(True)], [of(1)])


@pytest.mark.parametrize("kind", ["message", "reasoning", "function_call", "additional_tools", "tool_search_output"])
@pytest.mark.parametrize("tools", [[{**PLAIN, "name": "rm"}], [{"type": "local_shell"}], [5], 5, "x", {"a": 1}, [CRM]])
def test_m05_no_item_of_an_answer_brings_a_tool(kind: str, tools: Any) -> None:
    judge = Tools([FUNCTION, PLAIN, {"type": "tool_search"}])
    item = call() | {"type": kind, "tools": tools}
    assert judge.check(item), item


def test_m05_a_search_of_the_other_side_finds_what_is_declared() -> None:
    judge = Tools([FUNCTION, CRM, {"type": "tool_search"}])
    for found in ([FUNCTION], [CRM], [{**FUNCTION, "defer_loading": True}], []):
        assert judge.check({"type": "tool_search_output", "tools": found}) is None
    assert judge.check({"type": "tool_search_output", "tools": [{**FUNCTION, "parameters": {}}]})
    assert Tools([FUNCTION]).check({"type": "tool_search_output", "tools": [FUNCTION]})


@pytest.mark.parametrize("tool", ["web_search_preview", "web_search_preview_2025_03_11", "web_search_2025_08_26"])
def test_a_hosted_tools_dated_name_is_that_tool(tool: str) -> None:
    assert Tools([{"type": tool}]).check({"type": "web_search_call"}) is None
    assert Tools([{"type": tool}]).check({"type": "file_search_call"})
    assert Tools([{"type": f"x{tool}"}]).check({"type": "web_search_call"})
