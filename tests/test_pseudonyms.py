"""Pseudonyms: the same for the same value of a run, nothing to who has not its key; and the way back for tool calls."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.redaction.pseudonym import MARK, REVERSIBLE, Pseudonyms, restore, restore_arguments, restore_text

RUN = Pseudonyms(b"1" * 32)
HOME = "/home/mira"
WINDOWS = 'C:\\Users\\mira "q"\n'
PATH, OTHER = RUN.of("path", HOME.encode()), RUN.of("path", WINDOWS.encode())
SECRET = RUN.of("github-token", b"a token")
MAPPING = {PATH: HOME, OTHER: WINDOWS}
ESCAPED = PATH.replace("⟦", "\\u27e6").replace("⟧", "\\u27E7")


def call(arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "call_1", "name": "run", "arguments": arguments}


def test_a_value_has_one_pseudonym_in_a_run_and_another_in_each_other() -> None:
    assert RUN.of("path", HOME.encode()) == Pseudonyms(b"1" * 32).of("path", HOME.encode()) == PATH
    others = {Pseudonyms(b"2" * 32).of("path", HOME.encode()), RUN.of("user", HOME.encode()), RUN.of("path", b"/home")}
    assert len(others | {PATH}) == 4


@given(st.text(), st.binary(max_size=40))
def test_whatever_a_rule_calls_its_kind_the_pseudonym_has_one_form(kind: str, value: bytes) -> None:
    assert MARK.fullmatch(RUN.of(kind, value).encode())


def test_kinds_that_look_alike_once_spelled_do_not_share_pseudonyms() -> None:
    assert RUN.of("Api Key", b"x") != RUN.of("api-key", b"x")


def test_kind_and_value_are_told_apart() -> None:
    assert RUN.of("a", b"b\0c") != RUN.of("a\0b", b"c")


@pytest.mark.parametrize(
    "text",
    [
        "⟦" + "0f1e2d3c" * 4 + ":AAAAAAAAAAAAAAAA⟧",
        "⟦a1b2c3d4-e5f6-4a1b-8c2d-e5f6a1b2c3d4:AAAAAAAAAAAAAAAA⟧",
        "⟦sk-ant-api03-hunter2:AAAAAAAAAAAAAAAA⟧",
        "⟦path2:AAAAAAAAAAAAAAAA⟧",
        "⟦path:AAAAAAAAAAAAAAA⟧",
        "⟦path:AAAAAAAAAAAAAAAAA⟧",
        "⟦path:aaaaaaaaaaaaaaaa⟧",
        "⟦Path:AAAAAAAAAAAAAAAA⟧",
        "⟦path AAAAAAAAAAAAAAAA⟧",
        "⟦:AAAAAAAAAAAAAAAA⟧",
        "⟦hunter2 hunter2:AAAAAAAAAAAAAAAA⟧",
        "[path:AAAAAAAAAAAAAAAA]",
    ],
)
def test_what_is_no_pseudonym_does_not_pass_for_one(text: str) -> None:
    assert MARK.search(text.encode()) is None


@pytest.mark.parametrize(
    ("came", "back"),
    [
        ({"cmd": f"cat {PATH}/x"}, {"cmd": f"cat {HOME}/x"}),
        ({"cmd": f"{PATH}{OTHER}{PATH}"}, {"cmd": HOME + WINDOWS + HOME}),
        ({PATH: [1, {"a": OTHER}]}, {HOME: [1, {"a": WINDOWS}]}),
        ([OTHER], [WINDOWS]),
        ({"body": json.dumps({"p": [OTHER]})}, {"body": json.dumps({"p": [WINDOWS]}, ensure_ascii=False)}),
        (
            {"a": json.dumps({"b": json.dumps([OTHER], ensure_ascii=False)}, ensure_ascii=False)},
            {"a": json.dumps({"b": json.dumps([WINDOWS], ensure_ascii=False)}, ensure_ascii=False)},
        ),
    ],
)
def test_values_come_back_as_deep_in_json_as_their_pseudonyms_stood(came: Any, back: Any) -> None:
    restored = restore(call(json.dumps(came, ensure_ascii=False)), MAPPING)
    assert json.loads(restored["arguments"]) == back


def test_a_pseudonym_that_the_model_spelled_in_escapes_comes_back() -> None:
    assert json.loads(restore_arguments(f'{{"p":"{ESCAPED}/x"}}', MAPPING)) == {"p": HOME + "/x"}


@given(st.recursive(st.text() | st.sampled_from([PATH, OTHER, SECRET]), lambda inner: st.lists(inner, max_size=3)))
def test_what_is_not_restored_keeps_its_spelling(value: Any) -> None:
    text = json.dumps([value], indent=3).replace("/", "\\/")
    nothing_here = text.replace("\\u27e6", "<").replace("⟦", "<")
    assert restore_arguments(nothing_here, MAPPING) == nothing_here


def test_spaces_numbers_and_double_names_stay_as_the_model_wrote_them() -> None:
    text = '{ "a" : 1.50e+3 , "a":"%s" ,\t"\\u00e9":"\\/" }\n'
    assert restore_arguments(text % PATH, MAPPING) == text % HOME


@pytest.mark.parametrize("text", ["", PATH, f'"{PATH}"', f'{{"p":"{PATH}"', f"{{'p':'{PATH}'}}", f'{{"p":"{PATH}"}} x'])
def test_arguments_that_are_no_whole_json_stay(text: str) -> None:
    assert restore(call(text), MAPPING) == call(text)


def test_a_secret_never_comes_back_whatever_the_mapping_says() -> None:
    leak = {SECRET: "a token", PATH: HOME}
    assert restore_text(f"{SECRET} {PATH}", leak) == f"{SECRET} {HOME}"
    assert "github-token" not in REVERSIBLE
    assert json.loads(restore_arguments(json.dumps([SECRET]), leak)) == [SECRET]


def test_a_pseudonym_of_another_run_stays() -> None:
    other = Pseudonyms(b"2" * 32).of("path", HOME.encode())
    assert restore_text(other, MAPPING) == other


def test_a_value_that_holds_a_pseudonym_is_not_restored_again() -> None:
    assert restore_text(PATH, {PATH: f"/home/{PATH}"}) == f"/home/{PATH}"


@pytest.mark.parametrize(
    ("item", "back"),
    [
        ({"type": "custom_tool_call", "input": OTHER}, {"type": "custom_tool_call", "input": WINDOWS}),
        (
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls", PATH], "env": {"A": PATH}}},
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls", HOME], "env": {"A": HOME}}},
        ),
        (
            {"type": "apply_patch_call", "operation": {"type": "update_file", "path": f"{PATH}/x", "diff": f"+{PATH}"}},
            {"type": "apply_patch_call", "operation": {"type": "update_file", "path": f"{HOME}/x", "diff": f"+{HOME}"}},
        ),
    ],
)
def test_tools_that_take_plain_text_get_it_plain(item: dict[str, Any], back: dict[str, Any]) -> None:
    assert restore(item, MAPPING) == back


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": PATH}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": PATH}]},
        {"type": "function_call", "call_id": PATH, "name": PATH, "arguments": "{}"},
        {"type": "function_call", "arguments": {"p": PATH}},
        {"type": ["function_call"], "arguments": PATH},
        {"arguments": f'{{"p":"{PATH}"}}'},
    ],
)
def test_only_what_a_tool_is_given_comes_back(item: dict[str, Any]) -> None:
    assert restore(item, MAPPING) is item
