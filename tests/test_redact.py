"""Redaction of requests: nothing sensitive leaves, from any place; what may stay keeps its bytes; replay matches."""

import base64
import json
import re
import string
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policies.redaction import compose, rules
from policies.redaction.binary import Blocked
from policies.redaction.exact import Exact
from policies.redaction.profile import Profile, read_profile, shipped
from policies.redaction.pseudonym import MARK
from policies.redaction.redact import Redactor, Unredacted
from policies.redaction.scan import Scanner
from policies.redaction.span import Span
from policies.redaction.walk import Collided

KEY = b"run key, 32 bytes, of one ledger"
TOKEN = "gh" + "p_" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"
OTHER_TOKEN = "gh" + "p_" + "zB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"
KNOWN = "corr3ct-horse\tba'tt\"ery\\"
HOME = "/home/mira"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(100))).decode()
SEALED = "gAAAAAB" + "x1y2" * 20
ADDRESS = "artifact://" + "0f1e2d3c" * 8
ALL = rules.shipped()
HOMEBREW, RESEARCH, STRICT = (shipped(name) for name in ("homebrew", "research", "strict"))
SCANNERS = {of.profile_id: compose.scanner(of, ALL) for of in (HOMEBREW, RESEARCH, STRICT)}


def redactor(of: Profile = HOMEBREW, key: bytes = KEY, **rest: Any) -> Redactor:
    return Redactor(of, SCANNERS[of.profile_id], Exact([("env:KNOWN", KNOWN)]), key, **rest)


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def call(arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"type": "function_call", "call_id": "call_1", "name": "run", "arguments": text}


def custom(text: str) -> dict[str, Any]:
    return {"type": "custom_tool_call", "call_id": "call_1", "name": "run", "input": text}


def answered(output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "call_1", "output": output}


def one(item: Any, of: Profile = HOMEBREW) -> Any:
    return redactor(of).redact({"input": [item]}).value["input"][0]


def twice(text: str) -> str:
    return json.dumps(json.dumps({"deep": {"text": [text]}}))


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "instructions": lambda s: {"instructions": f"use {s} for it"},
    "input": lambda s: {"input": f"use {s} for it"},
    "a message": lambda s: {"input": [said(f"use {s} for it")]},
    "a message's content as a text": lambda s: {"input": [{"role": "user", "content": s}]},
    "arguments": lambda s: {"input": [call({"cmd": f"echo {s}"})]},
    "a name in arguments": lambda s: {"input": [call({s: 1})]},
    "arguments, double escaped": lambda s: {"input": [call({"body": twice(s)})]},
    "arguments cut off": lambda s: {"input": [call(json.dumps({"cmd": f"echo {s}"})[:-1])]},
    "a custom tool's input": lambda s: {"input": [custom(f"*** Begin Patch\n+{s}\n")]},
    "output": lambda s: {"input": [answered(f"$ env\nA={s}\n")]},
    "output in JSON": lambda s: {"input": [answered(json.dumps({"stdout": s}))]},
    "output in lines of JSON": lambda s: {"input": [answered(json.dumps({"log": s}) + "\n" + twice(s))]},
    "output in parts": lambda s: {"input": [answered([{"type": "input_text", "text": s}])]},
    "a shell's command": lambda s: {"input": [{"type": "local_shell_call", "action": {"command": ["echo", s]}}]},
    "a shell's environment": lambda s: {"input": [{"type": "local_shell_call", "action": {"env": {"A": s}}}]},
    "a summary": lambda s: {"input": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": s}]}]},
    "a file's name": lambda s: {
        "input": [{"role": "user", "content": [{"type": "input_file", "filename": f"{s}.txt", "file_data": "data:,"}]}]
    },
    "a file's text": lambda s: {
        "input": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "input_file",
                        "file_data": "data:text/plain;base64," + base64.b64encode(f"use {s}\n".encode()).decode(),
                    }
                ],
            }
        ]
    },
    "a tool's description": lambda s: {"tools": [{"type": "function", "name": "f", "description": f"as {s}"}]},
    "a schema": lambda s: {"tools": [{"type": "function", "parameters": {"properties": {"a": {"default": s}}}}]},
    "metadata": lambda s: {"metadata": {"note": s}},
    "a name in metadata": lambda s: {"metadata": {s: "x"}},
    "the user": lambda s: {"user": s},
    "an unknown member of an item": lambda s: {"input": [{"type": "message", "x": {"y": [s]}, s: s}]},
    "an item of unknown type": lambda s: {"input": [{"type": s, "role": s, "status": s}]},
    "an item that is a text": lambda s: {"input": [s]},
    "an id": lambda s: {"input": [{"type": "function_call_output", "call_id": f"call_{s}", "id": s, "output": ""}]},
    "sealed content": lambda s: {"input": [{"type": "reasoning", "encrypted_content": s}]},
    "behind sealed content": lambda s: {"input": [{"type": "reasoning", "encrypted_content": f"{SEALED} {s}"}]},
    "sealed content that is a text": lambda s: {
        "input": [{"type": "reasoning", "encrypted_content": base64.b64encode(f"{s} ".encode() * 9).decode()}]
    },
    "sealed content of no sealed item": lambda s: {
        "input": [{"type": "message", "encrypted_content": "x1y2" * 50 + "-" + s}]
    },
    "an address": lambda s: {"input": [said(f"{ADDRESS}/{s}")]},
    "a URL of an image": lambda s: {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64," + s}]}]
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_a_token_leaves_from_no_place(place: str) -> None:
    redacted = redactor().redact(PLACES[place](TOKEN))
    sent = json.dumps(redacted.value, ensure_ascii=False)
    assert TOKEN[8:30] not in sent
    assert TOKEN not in "".join(map(bytes.decode, _decoded(sent)))
    assert redacted.found
    told = json.dumps([redacted.found, redacted.counts, redacted.mapping])
    assert TOKEN[8:] not in told


def _decoded(text: str) -> list[bytes]:
    return [base64.b64decode(match) for match in re.findall(r"base64,([A-Za-z0-9+/=]+)", text)]


@pytest.mark.parametrize("place", PLACES)
def test_a_known_value_leaves_from_no_place(place: str) -> None:
    value = redactor().redact(PLACES[place](KNOWN)).value
    assert not Exact([("a", KNOWN)]).found(json.dumps(value).encode())
    assert "corr3ct" not in json.dumps(value) + "".join(map(bytes.decode, _decoded(json.dumps(value))))


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_" + "0f1e" * 12, "encrypted_content": SEALED, "summary": []},
        {"type": "function_call", "id": "fc_" + "a1B2" * 9, "call_id": "call_" + "x9Y8" * 6, "arguments": '{"a":1}'},
        {"type": "message", "id": "msg_" + "0f1e2d3c" * 6, "status": "completed", "role": "assistant", "content": []},
        {"type": "function_call_output", "call_id": "0f1e2d3c-1111-4222-8333-444455556666", "output": ADDRESS},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"exit_code": 0, "path": "src/main.rs"}'},
    ],
)
def test_what_is_no_text_stays_and_is_the_same_object(item: dict[str, Any]) -> None:
    redacted = redactor(STRICT).redact({"input": [item]})
    assert redacted.value["input"][0] is item
    assert redacted.found == ()


def test_members_in_which_nothing_was_found_are_the_same_objects() -> None:
    request = {"instructions": "x", "input": [said("x")], "tools": [{"name": TOKEN}], "metadata": {"a": "b"}, "n": 1}
    value = redactor().redact(request).value
    assert [name for name in request if value[name] is not request[name]] == ["tools"]
    assert request["tools"] == [{"name": TOKEN}]


def test_ids_and_sealed_content_drawn_by_chance_raise_no_alarm() -> None:
    chance = Random(4)

    def drawn(count: int) -> str:
        return "".join(chance.choices(string.ascii_letters + string.digits, k=count))

    items: list[Any] = []
    for _ in range(400):
        items += [
            {"type": "function_call", "id": f"fc_{drawn(48)}", "call_id": f"call_{drawn(24)}", "arguments": "{}"},
            {"type": "reasoning", "encrypted_content": base64.urlsafe_b64encode(chance.randbytes(900)).decode()},
            {"type": "reasoning", "encrypted_content": base64.b64encode(chance.randbytes(901)).decode()},
            {"type": "function_call_output", "call_id": f"toolu_01{drawn(22)}", "output": chance.randbytes(32).hex()},
        ]
    assert redactor(STRICT).redact({"input": items, "prompt_cache_key": drawn(32)}).found == ()


@pytest.mark.parametrize("member", ["id", "call_id", "encrypted_content"])
def test_a_known_value_leaves_not_even_in_the_form_of_an_id(member: str) -> None:
    values = {"id": "msg_Abcd1234Efgh", "call_id": "call_Abcd1234Efgh", "encrypted_content": SEALED + "Abcd1234Efgh"}
    exact = Exact([("a", "Abcd1234Efgh")])
    item = {"type": "reasoning", member: values[member]}
    value = Redactor(HOMEBREW, None, exact, KEY).redact({"input": [item]}).value
    assert "Abcd1234Efgh" not in json.dumps(value)


def test_a_weak_value_is_known_by_the_name_of_what_holds_it() -> None:
    weak = "s3cr3t!hunter"
    for item in (
        {"metadata": {"password": weak}},
        {"input": [call({"password": weak})]},
        {"input": [answered(json.dumps({"db": {"password": weak}}))]},
        {"input": [{"type": "local_shell_call", "action": {"env": {"DB_PASSWORD": weak}}}]},
    ):
        assert weak not in json.dumps(redactor().redact(item).value), item


def test_only_what_is_masked_changes_in_json_within_a_text() -> None:
    text = '{ "n" : 1.50e+3 , "n":2,\t"\\u00e9":"\\/x\\u0041 %s" , "t":"%s"}\n'
    value = one(call(text % ("", TOKEN)))["arguments"]
    assert MARK.search(value.encode())
    assert re.sub("⟦[^⟧]*⟧", TOKEN, value) == text % ("", TOKEN)


def test_two_tokens_as_names_stay_two_members() -> None:
    value = redactor().redact({"metadata": {TOKEN: 1, OTHER_TOKEN: 2}}).value["metadata"]
    assert sorted(value.values()) == [1, 2]
    inner = json.loads(one(call({TOKEN: 1, OTHER_TOKEN: 2}))["arguments"])
    assert sorted(inner.values()) == [1, 2]


def test_a_name_that_would_take_anothers_place_is_refused() -> None:
    (mark,) = redactor().redact({"metadata": {TOKEN: 1}}).value["metadata"]
    with pytest.raises(Collided):
        redactor().redact({"metadata": {mark: 1, TOKEN: 2}})


def test_bytes_of_a_key_in_an_array_of_numbers_are_gone_and_the_array_is_one() -> None:
    key = [18, 250, 7, 99, 164, 33, 201, 142, 5, 76, 219, 58, 181, 240, 111, 29]
    for spelled in (json.dumps({"aes_key": key}), json.dumps({"body": json.dumps({"aes_key": key})})):
        value = one(answered(spelled))["output"]
        assert MARK.search(value.encode()), value
        found = json.loads(value)
        found = json.loads(found["body"]) if "body" in found else found
        assert not set(key) & {n for n in found["aes_key"] if isinstance(n, int)}


BYTES = [18, 250, 7, 99, 164, 33, 201, 142, 5, 76, 219, 58, 181, 240, 111, 29]


@pytest.mark.parametrize(
    "request_of",
    [
        lambda a: {"metadata": {"aes_key": a}},
        lambda a: {"input": [{"type": "local_shell_call", "action": {"env": {"aes_key": a}}}]},
        lambda a: {
            "tools": [{"type": "function", "parameters": {"properties": {"aes_key": {"default": {"aes_key": a}}}}}]
        },
    ],
)
def test_an_array_of_bytes_in_the_request_itself_becomes_one_pseudonym(request_of: Callable[[Any], Any]) -> None:
    run = redactor()
    redacted = run.redact(request_of(BYTES))
    assert redacted.found
    assert str(BYTES)[1:20] not in str(redacted.value)
    (mark,) = set(MARK.findall(json.dumps(redacted.value, ensure_ascii=False).encode()))
    assert mark
    masked = json.dumps(redacted.value, ensure_ascii=False)
    assert re.search('"aes_key": "⟦[^⟧]*⟧"', masked)
    assert run.redact(redacted.value).value == redacted.value


@pytest.mark.parametrize("numbers", [list(KNOWN.encode()), [0, *KNOWN.encode(), 0, 0]])
def test_a_known_value_as_numbers_leaves_from_no_place(numbers: list[Any]) -> None:
    for request in ({"metadata": {"x": numbers}}, {"input": [{"x": {"y": numbers}}]}, {"x": numbers}):
        sent = redactor().redact(request).value
        assert "99, 111, 114" not in json.dumps(sent)


@pytest.mark.parametrize("number", [8061275439, 8061275439.5, -8061275439])
def test_a_number_that_is_a_known_value_leaves_from_no_place(number: Any) -> None:
    run = Redactor(HOMEBREW, None, Exact([("a", str(abs(number)))]), KEY)
    for request in ({"seed": number}, {"metadata": {"x": [1, number]}}, {"input": [{"x": number}]}):
        assert "8061275439" not in json.dumps(run.redact(request).value)


def test_numbers_in_which_nothing_is_found_are_the_same_objects() -> None:
    request = {"metadata": {"a": list(range(200)), "b": 1e300, "c": [1.5] * 20, "d": [True] * 20, "e": 10**30}}
    assert redactor(STRICT).redact(request).value["metadata"] is request["metadata"]


def schema(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"place": {"type": "string", **parts}}, "required": ["place"]}


HOLDERS: list[Callable[[Any], dict[str, Any]]] = [
    lambda s: {"tools": [{"type": "function", "name": "f", "parameters": s}]},
    lambda s: {"tools": [{"type": "namespace", "tools": [{"type": "function", "name": "f", "parameters": s}]}]},
    lambda s: {"text": {"format": {"type": "json_schema", "name": "f", "schema": s}}},
]
HELD: list[Callable[[str], dict[str, Any]]] = [
    lambda v: schema(enum=[v, "other"]),
    lambda v: schema(const=v),
    lambda v: schema(const={"a": [v]}),
    lambda v: schema(items={"anyOf": [{"const": v}, {"$ref": "#"}]}),
    lambda v: {"type": "object", "properties": {v: {"type": "string"}}, "required": [v]},
    lambda v: {"$defs": {"x": {"properties": {v: {"properties": {v: True}}}}}},
]


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("of", [HOMEBREW, STRICT])
def test_what_an_answer_must_repeat_of_its_schema_stays_unless_it_is_a_secret(
    holder: Callable[[Any], Any], held: Callable[[str], Any], of: Profile
) -> None:
    request = holder(held(f"{HOME}/src"))
    assert redactor(of).redact(request).value == request
    for secret in (TOKEN, KNOWN, f"{HOME}/{TOKEN}", f"password={TOKEN}{HOME}"):
        sent = json.dumps(redactor(of).redact(holder(held(secret))).value)
        assert TOKEN[8:] not in sent
        assert "corr3ct" not in sent


@pytest.mark.parametrize("holder", [*HOLDERS, lambda s: {"metadata": s}, lambda s: {"input": [answered([s])]}])
@pytest.mark.parametrize("said_there", [lambda v: schema(description=f"in {v}"), lambda v: schema(default=v)])
def test_what_a_schema_only_says_is_masked_as_anywhere(
    holder: Callable[[Any], Any], said_there: Callable[[str], Any]
) -> None:
    assert HOME not in json.dumps(redactor().redact(holder(said_there(HOME))).value)


@pytest.mark.parametrize("held", HELD)
def test_what_only_looks_like_a_schema_hides_no_path(held: Callable[[str], Any]) -> None:
    for request in (
        {"metadata": held(HOME)},
        {"input": [{"type": "function_call", "parameters": held(HOME)}]},
        {"parameters": held(HOME)},
        {"tools": [{"type": "function", "description": held(HOME)}]},
    ):
        assert HOME not in json.dumps(redactor().redact(request).value)


class Cutting:
    """Rules that know nothing of what they cut: each match of a pattern is to go."""

    version = "cutting"

    def __init__(self, pattern: bytes, kind: str = "cut") -> None:
        self._pattern, self._kind = re.compile(pattern), kind

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        return [Span(*m.span(), self._kind, "cut") for m in self._pattern.finditer(data) if m.end() > m.start()]


CUTS = [
    rb'[a-z]","[a-z]',
    rb'[a-z]+"',
    rb'"[^"]*"',
    rb"\\+",
    rb"[0-9, ]+",
    rb'\\"',
    rb"[a-z]\\",
    rb"[^a-z]+",
    rb"n[a-z]",
]
CUTS += [rb"(?s).{5,9}", rb"u00[0-9a-f]{2}", rb'[:{}\[\]",]+', rb"null|true", rb"1", rb"\xc3"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 9999) | st.text('ab\n"\\é😀/:', max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('ab"\\é', max_size=3), inner, max_size=3)
        | inner.map(json.dumps)
    ),
    max_leaves=12,
)


def _alike(before: Any, after: Any) -> bool:
    """Whether two values have one structure, at every level of JSON within JSON; names that stand twice count twice."""
    if isinstance(before, str):
        if (inner := _inner(before)) is None:
            return isinstance(after, str)
        return isinstance(after, str) and _alike(inner, _inner(after))
    if isinstance(before, list | tuple):
        return type(before) is type(after) and len(before) == len(after) and all(map(_alike, before, after))
    return after == before or (type(before) is int and isinstance(after, str))


def _inner(text: str) -> Any:
    """The object, as its pairs, or the array in a text; else None."""
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: tuple(map(list, pairs)))
    except ValueError:
        return None
    return value if isinstance(value, list | tuple) else None


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=3), st.sampled_from(CUTS), st.sampled_from(["cut", "path"]))
def test_wherever_a_rule_cuts_json_stays_json_at_every_level(value: Any, cut: bytes, kind: str) -> None:
    text = json.dumps(value)
    run = Redactor(HOMEBREW, Cutting(cut, kind), Exact([]), KEY)
    try:
        masked = run.text(text.encode()).value
    except Unredacted:
        # Rules that find something in whatever is left: what they refuse does not leave either.
        assume(False)
    assert _alike(text, masked.decode())
    assert run.text(masked).value == masked


@pytest.mark.parametrize(
    ("text", "cut", "left"),
    [
        (r"log {\"pin\": \"hunter2\"} end", rb"hunter2\\", r"log {\"pin\": \"#\"} end"),
        (r"log {\\\"pin\\\": \\\"hunter2\\\"} end", rb"hunter2\\+", r"log {\\\"pin\\\": \\\"#\\\"} end"),
        (r"log {\"dir\": \"\/home\/x\"} end", rb"/home", r"log {\"dir\": \"#\/x\"} end"),
        (r"log {\"q\": \"\"hunter2\"\"} end", rb'"hunter2', r"log {\"q\": \"#\"\"} end"),
        (r"a\\hunter2", rb"hunter2", r"a\\#"),
        ("a\\\\", rb"\\+", "a\\\\"),
    ],
)
def test_an_escape_in_a_part_of_a_text_is_taken_whole_or_left(text: str, cut: bytes, left: str) -> None:
    masked = Redactor(HOMEBREW, Cutting(cut), Exact([]), KEY).text(text.encode()).value.decode()
    assert re.sub("⟦[^⟧]*⟧", "#", masked) == left


PIECES = st.sampled_from(
    [TOKEN, OTHER_TOKEN, KNOWN, HOME, f"{HOME}/src/a.py", "C:\\Users\\theo\\x", "password: hunter2hunter2"]
)
PIECES |= st.sampled_from(
    ["⟦path:AAAAAAAAAAAAAAAA⟧", "⟦", "⟧", '"', "\\", "\n", "=", " ", "Bearer ", "https://u:", "@host/", "key="]
)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=9).map("".join)


@settings(max_examples=250, deadline=None)
@given(TEXTS, st.sampled_from([str, json.dumps, twice]), st.sampled_from([HOMEBREW, RESEARCH, STRICT]))
def test_redacting_twice_is_redacting_once(text: str, spelled: Callable[[str], str], of: Profile) -> None:
    request = {"instructions": text, "input": [answered(spelled(text)), call({text: text})], "metadata": {text: text}}
    masked = redactor(of).redact(request).value
    again = redactor(of).redact(masked)
    assert again.value == masked
    assert again.found == ()
    assert not Exact([("a", KNOWN)]).found(json.dumps(masked).encode())


# What a model may put around a path that it was told.
AROUND = st.sampled_from(
    ["", " ", "cat ", "'", '"', "=", "\n", "/x/y.py", ":", "é", "cd ", " && ", "\\n", "$(", ")", "/a b"]
)
HOMES = st.sampled_from([HOME, "/Users/mira.k", "C:\\Users\\theo", "/home/jürgen"])


@settings(max_examples=250, deadline=None)
@given(st.lists(HOMES | AROUND, max_size=7).map("".join), st.booleans())
def test_what_is_restored_is_what_was_redacted(text: str, plain: bool) -> None:
    item = custom(text) if plain else call({"cmd": text, "deep": json.dumps([text], ensure_ascii=False)})
    run = redactor()
    redacted = run.redact({"input": [item]})
    (masked,) = redacted.value["input"]
    assert run.restore(masked, redacted.mapping) == item


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(["⟦1⟧", "⟦2⟧", "⟦3⟧"]) | AROUND | TEXTS, max_size=6).map("".join), st.booleans())
def test_redacting_the_echo_gives_the_models_bytes_again(text: str, plain: bool) -> None:
    run = redactor()
    told = run.redact({"instructions": f"{HOME} C:\\Users\\theo /Users/mira.k"})
    for number, mark in enumerate(told.mapping, 1):
        text = text.replace(f"⟦{number}⟧", mark)
    said_by_model = one(custom(text) if plain else call({"cmd": text, "deep": json.dumps([text], ensure_ascii=False)}))
    echo = run.restore(said_by_model, told.mapping)
    # In another process, where nothing is remembered.
    assert redactor().redact({"input": [echo]}).value["input"][0] == said_by_model


def test_a_path_that_no_rule_would_know_again_is_not_handed_out() -> None:
    run = redactor()
    mapping = run.redact({"instructions": HOME}).mapping
    (mark,) = mapping
    assert run.restore(custom(f"cat {mark}/x"), mapping)["input"] == f"cat {HOME}/x"
    for text in (f"x{mark}", f"a/b{mark}/c", f"{mark}mira", f"{mark}-2/x"):
        item = custom(text)
        assert run.restore(item, mapping) is item, text


def test_a_value_has_one_pseudonym_in_a_run_and_no_other_run_has_it() -> None:
    request = {
        "instructions": f"{TOKEN} {HOME} {KNOWN}",
        "input": [
            call({"a": TOKEN, "b": KNOWN, "c": HOME}),
            answered(twice(TOKEN + " " + KNOWN)),
            custom(f"cd {HOME}"),
        ],
    }
    marks = set(re.findall("⟦[^⟧]*⟧", json.dumps(redactor().redact(request).value, ensure_ascii=False)))
    assert len(marks) == 3
    other = redactor(key=b"another run's key of 32 bytes.. ").redact(request).value
    assert not marks & set(re.findall("⟦[^⟧]*⟧", json.dumps(other, ensure_ascii=False)))


@pytest.mark.parametrize("of", [HOMEBREW, RESEARCH, STRICT])
def test_no_secret_has_a_way_back_and_paths_only_where_the_profile_says_so(of: Profile) -> None:
    redacted = redactor(of).redact({"instructions": f"{TOKEN} {KNOWN} {HOME} mira@work-place.org"})
    assert list(redacted.mapping.values()) == ([HOME] if of is HOMEBREW else [])
    assert HOME not in redacted.value["instructions"]
    assert ("mira@work-place.org" in redacted.value["instructions"]) is (of is not STRICT)


@pytest.mark.parametrize("of", [HOMEBREW, RESEARCH, STRICT])
@pytest.mark.parametrize("spelled", [str, json.dumps, twice])
def test_every_profile_masks_private_keys(of: Profile, spelled: Callable[[str], str]) -> None:
    body = base64.b64encode(bytes(range(150))).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    key = f"-----BEGIN {'PRIVATE'} KEY-----\n{lines}\n-----END {'PRIVATE'} KEY-----"
    value = json.dumps(one(answered(spelled(f"cat key.pem\n{key}\n")), of))
    assert not [line for line in lines.split("\n") if line[:12] in value]


def test_what_passes_hides_no_secret_beside_it() -> None:
    for text in (f"mira:{TOKEN}@work-place.org", f"https://mira:hunter2hunter2@work-place.org/x {HOME}/{TOKEN}"):
        value = json.dumps(redactor().redact({"instructions": text}).value)
        assert TOKEN[8:] not in value
        assert "hunter2" not in value


def test_a_path_that_holds_a_secret_has_no_way_back() -> None:
    both = Exact([("a", "mira-secret-1")])
    run = Redactor(HOMEBREW, SCANNERS["homebrew"], both, KEY)
    redacted = run.redact({"instructions": "cd /home/mira-secret-1/x"})
    assert redacted.mapping == {}
    assert "mira-secret" not in redacted.value["instructions"]


class Overlapping:
    """Rules of others that find a path, and a secret in it."""

    version = "overlapping"

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        at = data.find(b"/home/")
        found = [Span(at, at + 30, "path", "dir"), Span(at + 10, at + 20, "odd-token", "odd")]
        return found if at >= 0 else []


def test_what_holds_a_secret_is_one_whatever_else_it_is() -> None:
    run = Redactor(HOMEBREW, Overlapping(), Exact([]), KEY)
    redacted = run.redact({"instructions": "cd /home/mira/S3CR3T/and/some/more/of/it"})
    assert redacted.counts == {"odd": 1}
    assert redacted.mapping == {}
    assert "S3CR3T" not in redacted.value["instructions"]


def test_a_secret_named_like_a_kind_does_not_stand_in_every_pseudonym() -> None:
    exact = Exact([("a", "github-token")])
    run = Redactor(HOMEBREW, SCANNERS["homebrew"], exact, KEY)
    value = run.redact({"instructions": f"{TOKEN} github-token"}).value
    assert not exact.found(json.dumps(value, ensure_ascii=False).encode())
    assert run.redact(value).value == value


class Counting(Scanner):
    """Counts the bytes that it looks at."""

    seen = 0

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        self.seen += len(data)
        return super().find(data, late)


def test_a_conversation_that_grows_is_looked_at_once() -> None:
    counting = Counting(ALL)
    run = Redactor(STRICT, counting, Exact([]), KEY)
    items: list[Any] = []
    for turn in range(20):
        items.append(answered(f"{turn} " + "line of output\n" * 200 + (TOKEN if turn % 2 else "")))
        value = run.redact({"instructions": "be brief", "input": items}).value
    assert counting.seen < 2.2 * sum(len(item["output"]) for item in items)
    assert value == Redactor(STRICT, SCANNERS["strict"], Exact([]), KEY).redact(value).value
    assert [found.place for found in run.redact({"input": items}).found] == [
        f"input[{n}].output" for n in range(1, 20, 2)
    ]


def test_a_remembered_turn_of_40_kb_takes_no_time() -> None:
    run = redactor()
    request = {"input": [answered(("x = f(y)  # a line of code\n" * 1600)[:40_000]) for _ in range(1)]}
    run.redact(request)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        run.redact(request)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.0003


def test_what_is_remembered_is_bounded() -> None:
    run = redactor(memory=100_000)
    for turn in range(60):
        run.redact({"input": [said(f"{turn} {TOKEN} " + "x" * 4_000)]})
    assert sum(kept.size for kept in run._kept.values()) <= 100_000
    assert 4 < len(run._kept) < 25


def test_one_large_result_does_not_take_the_place_of_a_runs() -> None:
    run = redactor(memory=100_000)
    small = {"input": [said(f"{TOKEN} {n}") for n in range(20)]}
    run.redact(small)
    remembered = set(run._kept)
    for turn in range(20):
        run.redact({"input": [said(f"{turn} {TOKEN} " + "x" * 10_000)]})
    assert set(run._kept) == remembered


@pytest.mark.parametrize("text", ["x" * 3_000, "é" * 3_000, f"{HOME}/x " * 200, f"{OTHER_TOKEN} " * 60])
def test_what_is_remembered_takes_no_more_memory_than_is_counted(text: str) -> None:
    run = redactor(memory=1 << 30)
    run.redact({"input": [said(f"{TOKEN} {text}")]})
    counted = sum(kept.size for kept in run._kept.values())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for turn in range(50):
            run.redact({"input": [said(f"{turn} {TOKEN} {text}")]})
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = sum(kept.size for kept in run._kept.values()) - counted
    assert held * 0.5 < counted * 1.1
    assert held < counted * 1.25


def test_an_item_in_another_place_is_another_item() -> None:
    run = redactor()
    for request in ({"metadata": {"id": TOKEN}}, {"input": [{"id": TOKEN}]}, {"tools": [{"id": TOKEN}]}):
        assert TOKEN not in json.dumps(run.redact(request).value)


def test_time_that_is_up_denies() -> None:
    with pytest.raises(Unredacted, match="time"):
        redactor().redact({"input": [said("x")]}, lambda: True)
    left = iter([False] * 3 + [True] * 1000)
    with pytest.raises(Exception, match="time"):
        redactor().redact({"input": [said(f"{n}" + "password " * 200_000) for n in range(9)]}, lambda: next(left))


@pytest.mark.parametrize("unit", [f"{HOME}/x ", f"{KNOWN} ", json.dumps({"a": HOME}) + ","])
def test_more_finds_than_anybody_could_look_at_are_refused_soon(unit: str) -> None:
    started = time.process_time()
    with pytest.raises(Unredacted, match="200,000"):
        redactor().redact({"instructions": unit * (9_000_000 // len(unit))})
    with pytest.raises(Unredacted, match="200,000"):
        redactor().redact({"input": [said(f"{n} " + unit * 30_000) for n in range(8)]})
    assert time.process_time() - started < 60


def test_of_a_value_that_overlaps_itself_everywhere_there_are_not_as_many_finds_as_bytes() -> None:
    with pytest.raises(Unredacted, match="200,000"):
        Redactor(HOMEBREW, None, Exact([("a", "a" * 8)]), KEY).redact({"instructions": "a" * 4_000_000})


@pytest.mark.parametrize("spelled", [str, json.dumps, lambda text: json.dumps([1] * 300_000 + [text])])
def test_the_time_is_asked_for_at_every_stage(spelled: Callable[[str], str]) -> None:
    asked = [time.process_time()]

    def expired() -> bool:
        asked.append(time.process_time())
        return False

    redactor().redact({"instructions": spelled(f"{HOME}/x " * 60_000)}, expired)
    asked.append(time.process_time())
    assert max(later - earlier for earlier, later in pairwise(asked)) < 1.5


class Failing:
    """Rules with a bug."""

    version = "failing"

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        raise ZeroDivisionError


class Greedy:
    """Rules that find one more byte each time."""

    version = "greedy"

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        at = MARK.sub(lambda match: b"\0" * len(match[0]), data).find(b"a")
        return [Span(at, at + 1, "letter", "greedy")] if at >= 0 else []


def test_a_redactor_that_errs_lets_nothing_through() -> None:
    run = Redactor(HOMEBREW, Failing(), Exact([]), KEY)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            run.redact({"input": [said("x")]})


def test_what_does_not_settle_is_refused() -> None:
    run = Redactor(HOMEBREW, Greedy(), Exact([]), KEY)
    with pytest.raises(Unredacted, match="settle"):
        run.redact({"instructions": "a" * 100})
    assert run.redact({"instructions": "a b a"}).value["instructions"].count("letter") == 2


def test_what_is_no_character_is_refused() -> None:
    with pytest.raises(Unredacted):
        redactor().redact({"instructions": "\ud800"})


def part(kind: str, **members: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": kind, **members}]}


IMAGE = part("input_image", image_url=f"data:image/png;base64,{PNG}")
FILE = part("input_file", filename="x", file_data=f"data:application/pdf;base64,{PNG}")
BARE = part("input_file", filename="x", file_data=PNG)
SCREEN = {
    "type": "computer_call_output",
    "output": {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PNG}"},
}
DRAWN = {"type": "image_generation_call", "id": "ig_1", "result": PNG}
SOUND = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}]}
SHOWN = answered([{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}])
DIGEST = read_profile(b'profile_id = "digest"\nbinary = "digest"', "x")


@pytest.mark.parametrize("item", [IMAGE, FILE, BARE, SCREEN, DRAWN, SOUND, SHOWN])
@pytest.mark.parametrize("of", [RESEARCH, STRICT])
def test_a_profile_that_blocks_lets_no_image_or_file_leave(of: Profile, item: Any) -> None:
    run = redactor(of)
    for _ in range(2):
        with pytest.raises(Blocked, match=r"^input\[1\]\.") as refused:
            run.redact({"input": [said("x"), item]})
        assert PNG[:20] not in str(refused.value)


@pytest.mark.parametrize("item", [IMAGE, SHOWN, SCREEN, DRAWN])
def test_a_profile_that_passes_them_sends_images_as_they_are(item: Any) -> None:
    assert one(item) is item


@pytest.mark.parametrize("item", [IMAGE, FILE, BARE, SHOWN])
def test_a_digest_takes_the_place_of_what_is_no_text(item: Any) -> None:
    run = Redactor(DIGEST, SCANNERS["strict"], Exact([]), KEY)
    redacted = run.redact({"input": [item]})
    (found,) = redacted.value["input"][0].get("content") or redacted.value["input"][0]["output"]
    assert found["type"] == "input_text"
    assert MARK.fullmatch(found["text"].encode())
    assert redacted.counts == {"binary": 1}
    assert run.redact(redacted.value).value == redacted.value


@pytest.mark.parametrize("item", [SCREEN, DRAWN, SOUND])
def test_where_no_text_can_stand_a_digest_blocks(item: Any) -> None:
    with pytest.raises(Blocked):
        Redactor(DIGEST, SCANNERS["strict"], Exact([]), KEY).redact({"input": [item]})


NOISE = Random(7).randbytes(3000)
OPUS = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": PNG, "format": "opus"}}]}
UNTOLD = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": PNG}}]}
B64_JSON = {"type": "image_generation_call", "data": [{"b64_json": PNG}]}
PARTIAL = {"type": "image_generation_call", "partial_images": [PNG]}


@pytest.mark.parametrize("item", [OPUS, UNTOLD, B64_JSON, PARTIAL])
@pytest.mark.parametrize("of", [STRICT, DIGEST])
def test_sounds_of_any_form_and_pictures_by_any_name_do_not_leave(of: Profile, item: Any) -> None:
    with pytest.raises(Blocked) as refused:
        Redactor(of, SCANNERS["strict"], Exact([]), KEY).redact({"input": [item]})
    assert PNG[:20] not in str(refused.value)


def test_how_many_pictures_a_tool_sends_is_no_picture() -> None:
    request = {"tools": [{"type": "image_generation", "partial_images": 2}]}
    assert redactor(STRICT).redact(request).value == request


@pytest.mark.parametrize(
    "begin",
    [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"%PDF-1.7\n", b"GIF89a", b"\x1f\x8b\x08\0", b"OggS"],
)
@pytest.mark.parametrize("spelled", [str, lambda text: wrapped(text), lambda text: json.dumps({"a": [wrapped(text)]})])
@pytest.mark.parametrize("of", [STRICT, DIGEST])
def test_bare_base64_of_what_is_no_text_does_not_leave(
    of: Profile, spelled: Callable[[str], str], begin: bytes
) -> None:
    text = base64.b64encode(begin + NOISE).decode()
    run = Redactor(of, SCANNERS["strict"], Exact([]), KEY)
    for item in (answered(spelled(text)), {"type": "message", "x": spelled(text)}, said(f"see: {spelled(text)}")):
        value = run.redact({"input": [item]}).value
        assert not [at for at in range(0, len(text) - 70, 70) if text[at : at + 60] in json.dumps(value)]
        assert run.redact(value).value == value
    assert one(answered(spelled(text))) == answered(spelled(text))


def wrapped(text: str) -> str:
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


def test_long_base64_of_anything_else_stays() -> None:
    for text in (base64.b64encode(NOISE).decode(), "//svn/" + "a/" * 700, "/9j/" + "a" * 600):
        assert one(said(text), STRICT) == said(text)


@pytest.mark.parametrize("begin", [b"%PDF-1.7\n", b"ID3", b"RIFF", b"GIF89a", b"PK\x03\x04"])
def test_what_begins_as_a_picture_and_goes_on_as_a_text_is_read(begin: bytes) -> None:
    content = base64.b64encode(begin + f" not one, but {TOKEN} in a text ".encode() * 4).decode()
    for item in (
        part("input_file", filename="x", file_data=f"data:application/pdf;base64,{content}"),
        part("input_image", image_url=f"data:image/png;base64,{content}"),
    ):
        assert TOKEN.encode() not in b"".join(_decoded(json.dumps(one(item))))


def test_a_data_url_within_a_text_is_masked_where_images_are_not_to_leave() -> None:
    css = f"a {{ background: url(data:image/png;base64,{PNG}) }}"
    for item in (said(css), answered(json.dumps({"css": css})), said(f"DATA:image/png;BASE64,{PNG}")):
        assert PNG[:30] not in json.dumps(one(item, STRICT))
    assert one(said(css)) == said(css)


def test_a_message_names_no_member_that_somebody_else_named() -> None:
    with pytest.raises(Blocked) as refused:
        redactor(STRICT).redact({"input": [{"x": {TOKEN: {"image_url": f"data:image/png;base64,{PNG}"}}}]})
    assert TOKEN not in str(refused.value)
    found = redactor().redact({"metadata": {TOKEN: {TOKEN + "x": TOKEN}}}).found
    assert TOKEN not in json.dumps(found)


def test_what_claims_to_be_an_image_and_is_none_is_read() -> None:
    text = base64.b64encode(f"not an image, but {TOKEN} in a text".encode()).decode()
    for item in (
        part("input_image", image_url=f"data:image/png;base64,{text}"),
        part("input_image", image_url=f"data:image/png;base64,{TOKEN}"),
        part("input_image", image_url=f"data:image/png,{TOKEN}"),
    ):
        sent = json.dumps(one(item))
        assert TOKEN[8:] not in sent
        assert TOKEN not in "".join(map(bytes.decode, _decoded(sent)))


def test_where_something_was_is_told_as_an_offset_into_the_text_there() -> None:
    text = json.dumps({"a": "é", "token": TOKEN})
    redacted = redactor().redact({"input": [said("x"), answered(text)]})
    (found,) = redacted.found
    assert found.place == "input[1].output"
    assert text.encode()[found.start : found.end].decode() == TOKEN
    assert redacted.counts == {found.rule: 1}
