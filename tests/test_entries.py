"""Entries, statements and identifiers: one spelling each, and everything else refused."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger import note
from ledger.trust import read_keys, read_trust
from schemas.entries import (
    KINDS,
    MAX_ENTRY,
    ActionEnded,
    ActionStarted,
    Approval,
    ApprovalBreakGlass,
    ApprovalConsumed,
    ApprovalRequested,
    Artifact,
    Decided,
    Disclosure,
    Erasure,
    KeysChanged,
    Known,
    ModelRequest,
    ModelResponse,
    PolicyInForce,
    Prompt,
    Redaction,
    Replayed,
    ReservationReleased,
    Response,
    Routing,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    SchemaAdded,
    TrustChanged,
    Uninterpreted,
    Value,
    Violation,
    decode,
    encode,
    kind_of,
    references,
)
from schemas.errors import Malformed, NotSound, TooLarge, UsageError
from schemas.ids import address, check_origin, cid_of, is_run_id, new_run_id, run_key_id
from schemas.trust import Approver, Author, KeysNote, TrustNote, TrustRoot, check_name, check_recipient
from store.signers import Signer

TIME = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)
RUN = "019aa5b2-1c00-7abc-8def-0123456789ab"
HEX = sha256(b"hex").hexdigest()
HEX128 = HEX + HEX
PLACE = address(sha256(b"a blob").digest())
ELSEWHERE = address(sha256(b"another blob").digest())

THIRD, FOURTH = (f"artifact://{digit * 64}" for digit in "34")
EVERY_KIND: list[Known] = [
    TrustChanged(1, TIME, note="a\nb\n\n— c d\n"),
    KeysChanged(1, TIME, note="a"),
    RunStarted(1, TIME, RUN, 1, key=HEX, detail=PLACE),
    RunFinished(1, TIME, RUN, 9, status="failed", detail=PLACE),
    Prompt(1, TIME, RUN, 2, content=PLACE, digest=HEX, model="gpt-5.2-codex"),
    Response(1, TIME, RUN, 3, content=PLACE, digest=HEX, to=7),
    Artifact(1, TIME, RUN, 4, "build", "gfx", "task 7", True, content=PLACE, digest=HEX, detail=ELSEWHERE),
    Approval(1, TIME, RUN, 5, request=PLACE, sha512=HEX128, signature="AAAA", to=4, denied=True, detail=ELSEWHERE),
    Erasure(1, TIME, of=RUN, keys=[HEX[:32], HEX[32:]], detail=PLACE),
    Disclosure(1, TIME, content=PLACE),
    PolicyInForce(1, TIME, RUN, 6, content=PLACE, digest=HEX, policy="local", version=HEX),
    SchemaAdded(1, TIME, content=PLACE, digest=HEX, schema="plan@1"),
    Decided(
        1,
        TIME,
        RUN,
        7,
        content=PLACE,
        digest=HEX,
        action="model.request",
        effect="deny",
        rules=["model"],
        policies=[HEX],
        request=ELSEWHERE,
    ),
    Routing(1, TIME, RUN, 8, asked="gpt-5.2-codex", model="gpt-5.3-codex", reason="alias"),
    Redaction(
        1, TIME, RUN, 9, content=PLACE, digest=HEX, profile="homebrew", version=HEX, counts={"exact": 2, "pem": 1}
    ),
    ModelRequest(
        1,
        TIME,
        RUN,
        10,
        content=PLACE,
        digest=HEX,
        decision=7,
        model="gpt-5.3-codex",
        key=HEX,
        attempt=1,
        envelope=ELSEWHERE,
        continues=4,
        reserved=12_345,
        cap=5_000_000,
    ),
    ModelResponse(
        1,
        TIME,
        RUN,
        11,
        content=PLACE,
        digest=HEX,
        to=10,
        status="completed",
        verdict="valid",
        http=200,
        input=1000,
        cached=200,
        output=30,
        reasoning=10,
        cost=2345,
        reserved=12_345,
        latency=870,
        wire=ELSEWHERE,
    ),
    ReservationReleased(1, TIME, RUN, 12, to=10, reserved=12_345, detail=PLACE),
    Violation(1, TIME, RUN, 13, rule="cost", to=11, detail=PLACE),
    RunPaused(1, TIME, RUN, 14, detail=PLACE),
    RunResumed(1, TIME, RUN, 15, detail=PLACE),
    Value(1, TIME, RUN, 16, content=PLACE, digest=HEX, detail=ELSEWHERE),
    ApprovalRequested(
        1,
        TIME,
        RUN,
        17,
        "release",
        content=PLACE,
        digest=HEX,
        action="model.request",
        subject=HEX,
        request=ELSEWHERE,
        policies=[HEX],
        quorum=["1", "2 of lead,security"],
        requester="ci",
        nonce=HEX[:32],
        expires=TIME.replace(microsecond=0) + timedelta(hours=8),
        model="gpt-5.3-codex",
        reserved=12_345,
    ),
    ApprovalBreakGlass(1, TIME, RUN, 18, request=PLACE, sha512=HEX128, signature="AAAA", to=17, detail=ELSEWHERE),
    ApprovalConsumed(1, TIME, RUN, 19, to=17, decision=15),
    ActionStarted(1, TIME, RUN, 20, content=PLACE, digest=HEX, egress="enforced", inputs=ELSEWHERE),
    ActionEnded(
        1,
        TIME,
        RUN,
        21,
        content=PLACE,
        digest=HEX,
        to=20,
        exit=143,
        outputs=ELSEWHERE,
        stdout=THIRD,
        stderr=FOURTH,
    ),
    Replayed(1, TIME, RUN, 22, content=PLACE, digest=HEX, of=RUN, verdict="not_replayable"),
]
FULL = EVERY_KIND[6]
RAW = encode(FULL)


# The tables of docs/FORMAT.md.

FORMAT = (Path(__file__).parents[1] / "docs" / "FORMAT.md").read_text().splitlines()
MEMBER = re.compile(r"`([a-z0-9]+)`(\??)")


def table(header: str) -> list[list[str]]:
    at = FORMAT.index(header) + 2
    return [line.strip("|").split("|", 1) for line in takewhile(lambda line: line.startswith("|"), FORMAT[at:])]


@cache
def book() -> dict[str, list[tuple[str, bool]]]:
    """Kinds with their members and whether each may be left out, as the book has them."""
    common = [(name, bool(mark)) for cell, _ in table("| member | |") for name, mark in MEMBER.findall(cell)]
    assert common.pop(0) == ("kind", False)
    found = {}
    for kind, cell in table("| kind | members |"):
        own = [MEMBER.match(part.strip()) for part in cell.split(";")]
        found[kind.strip(" `")] = common + [(match[1], bool(match[2])) for match in own if match]
        assert all(own)
    return found


def test_kinds_are_those_of_the_book() -> None:
    assert list(KINDS) == list(book())
    assert {kind_of(entry) for entry in EVERY_KIND} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_members_order_and_optionality_are_those_of_the_book(kind: str) -> None:
    fields = msgspec.structs.fields(KINDS[kind])
    assert [(field.encode_name, not field.required) for field in fields] == book()[kind]
    assert {field.default for field in fields if not field.required} <= {"", 0}


@pytest.mark.parametrize("entry", EVERY_KIND, ids=kind_of)
def test_an_entry_is_read_back(entry: Known) -> None:
    assert decode(encode(entry)) == entry
    assert encode(entry).startswith(f'{{"kind":"{kind_of(entry)}","v":1,"time":"2026-11-22T10:00:00.123456Z"'.encode())


def test_an_entry_as_the_book_spells_it() -> None:
    assert RAW.decode() == (
        f'{{"kind":"artifact","v":1,"time":"2026-11-22T10:00:00.123456Z","run":"{RUN}","step":4,"stage":"build",'
        f'"lane":"gfx","task":"task 7","imported":true,"content":"{PLACE}","digest":"{HEX}","detail":"{ELSEWHERE}"}}'
    )


def quoted(text: str) -> str:
    """A string as the book spells it."""
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
    return '"' + "".join(short.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


@pytest.mark.parametrize(
    "code", [*range(0x30), 0x5C, 0x7F, 0x80, 0xAD, 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F600]
)
def test_characters_are_spelled_as_in_the_book(code: int) -> None:
    raw = RAW.replace(b'"task 7"', quoted(f"a{chr(code)}b").encode())
    entry = decode(raw)
    assert isinstance(entry, Artifact)
    assert entry.task == f"a{chr(code)}b"
    assert encode(entry) == raw


def spelled(old: str, new: str | bytes) -> bytes:
    assert RAW.count(old.encode()) == 1, old
    return RAW.replace(old.encode(), new if isinstance(new, bytes) else new.encode())


def reordered() -> Iterator[bytes]:
    members = list(json.loads(RAW).items())
    for i in range(1, len(members) - 1):
        moved = [*members[:i], members[i + 1], members[i], *members[i + 2 :]]
        yield json.dumps(dict(moved), separators=(",", ":")).encode()


SPELLINGS = {
    **{f"two members exchanged, {i}": raw for i, raw in enumerate(reordered())},
    "a name twice": spelled('"step":4', '"step":4,"step":4'),
    "a name twice, at the end": spelled("}", ',"step":4}'),
    "a name twice, another value": spelled('"step":4', '"step":5,"step":4'),
    "the kind twice": spelled('"v":1', '"kind":"artifact","v":1'),
    "another kind behind": spelled("}", ',"kind":"prompt"}'),
    "a space behind a comma": spelled(',"step"', ', "step"'),
    "a space behind a colon": spelled('"step":', '"step": '),
    "a space before the end": spelled("}", " }"),
    "a space behind": RAW + b" ",
    "a newline behind": RAW + b"\n",
    "CRLF behind": RAW + b"\r\n",
    "a null behind": RAW + b"\x00",
    "a tab within": spelled(',"step"', ',\t"step"'),
    "a space before": b" " + RAW,
    "a space behind the brace": b"{ " + RAW[1:],
    "a space within the kind": RAW.replace(b'"kind":', b'"kind": '),
    "a byte order mark": b"\xef\xbb\xbf" + RAW,
    "two entries": RAW + RAW,
    "a comma at the end": spelled("}", ",}"),
    "a comment": spelled('"step"', '/**/"step"'),
    "no end": RAW[:-1],
    "UTF-16": RAW.decode().encode("utf-16"),
    "a letter escaped": spelled('"task 7"', '"t\\u0061sk 7"'),
    "a letter of a name escaped": spelled('"step"', '"st\\u0065p"'),
    "a letter of the kind escaped": spelled('"artifact"', '"artif\\u0061ct"'),
    "a letter of the name kind escaped": spelled('"kind"', '"k\\u0069nd"'),
    "a slash escaped": spelled('"task 7"', '"task\\/7"'),
    "an umlaut escaped": spelled('"task 7"', '"t\\u00e4sk"'),
    "an emoji escaped": spelled('"task 7"', '"\\ud83d\\ude00"'),
    "a newline as \\u000a": spelled('"task 7"', '"\\u000a"'),
    "a backspace as \\u0008": spelled('"task 7"', '"\\u0008"'),
    "a control character in capitals": spelled('"task 7"', '"\\u001F"'),
    "a control character as it is": spelled('"task 7"', '"\x1f"'),
    "a delete escaped": spelled('"task 7"', '"\\u007f"'),
    "half a surrogate pair": spelled('"task 7"', '"\\ud800"'),
    "half a surrogate pair in bytes": spelled('"task 7"', b'"\xed\xa0\x80"'),
    "no UTF-8": spelled('"task 7"', b'"\xff"'),
    "UTF-8 longer than it need be": spelled('"task 7"', b'"\xc1\xa1"'),
    "an unknown escape": spelled('"task 7"', '"\\x41"'),
    "single quotes": spelled('"task 7"', "'task 7'"),
    "an empty member": spelled('"task 7"', '""'),
    "a step of 0": spelled('"step":4', '"step":0'),
    "imported, false": spelled("true", "false"),
    "an empty detail": spelled(f'"{ELSEWHERE}"', '""'),
    "an unknown member": spelled("}", ',"more":1}'),
    "an unknown member in between": spelled('"step"', '"more":1,"step"'),
    "a member of another kind": spelled("}", ',"to":1}'),
    "a name in capitals": spelled('"step"', '"Step"'),
    "an empty name": spelled('"step"', '"":1,"step"'),
    **{
        f"no {name}": re.sub(rf'"{name}":[^,}}]*,?', "", RAW.decode()).replace(",}", "}").encode()
        for name in ("kind", "v", "time", "content", "digest")
    },
}
NUMBERS = [
    "04",
    "+4",
    "-4",
    "-0",
    "4.0",
    "4e0",
    "4E0",
    "0x4",
    "4_0",
    '"4"',
    "true",
    "null",
    "[4]",
    "{}",
    "4.5",
    "",
    "9007199254740992",
    "18446744073709551616",
    "1e30",
    "1" * 400,
    "NaN",
    "Infinity",
    "-Infinity",
    "٤",
]
TIMES = [
    "2026-11-22T10:00:00.123456+00:00",
    "2026-11-22T12:00:00.123456+02:00",
    "2026-11-22T10:00:00.123456-00:00",
    "2026-11-22T10:00:00.123456",
    "2026-11-22T10:00:00.123456z",
    "2026-11-22t10:00:00.123456Z",
    "2026-11-22 10:00:00.123456Z",
    "2026-11-22T10:00:00.1234567Z",
    "2026-11-22T10:00:00.12345Z",
    "2026-11-22T10:00:00.5Z",
    "2026-11-22T10:00:00.000000Z",
    "2026-11-22T10:00:00.Z",
    "2026-11-22T10:00:00,123456Z",
    "2026-11-22T10:00Z",
    "2026-11-22T10Z",
    "2026-11-22",
    "20261122T100000Z",
    "2026-11-22T24:00:00Z",
    "2026-11-22T23:59:60Z",
    "2026-11-22T10:60:00Z",
    "2026-13-22T10:00:00Z",
    "2026-02-29T10:00:00Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "-026-11-22T10:00:00Z",
    "26-11-22T10:00:00Z",
    " 2026-11-22T10:00:00Z",
    "2026-11-22T10:00:00Z ",
    "2026-11-22T10:00:00ZZ",
    "2026-11-22T10:00:00+24:00",
    "1763805600",
    "now",
    "",
    "２026-11-22T10:00:00Z",
]


def rejected(raw: bytes) -> None:
    """Neither read nor followed."""
    with pytest.raises(NotSound) as error:
        references(decode(raw), raw)
    assert error.value.step == 3


@pytest.mark.parametrize("raw", SPELLINGS.values(), ids=SPELLINGS)
def test_another_spelling_rejected(raw: bytes) -> None:
    assert raw != RAW
    rejected(raw)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("member", ["step", "v"])
def test_another_spelling_of_a_number_rejected(member: str, number: str) -> None:
    rejected(re.sub(f'"{member}":[0-9]', f'"{member}":{number}', RAW.decode()).encode())


@pytest.mark.parametrize("version", [0, 2, 10])
def test_another_version_rejected(version: int) -> None:
    rejected(spelled('"v":1', f'"v":{version}'))


@pytest.mark.parametrize("time", TIMES)
def test_another_spelling_of_a_time_rejected(time: str) -> None:
    rejected(spelled("2026-11-22T10:00:00.123456Z", time))


@pytest.mark.parametrize("time", ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000001Z", "2024-02-29T23:59:59.100000Z"])
def test_a_time_in_its_only_spelling_is_read(time: str) -> None:
    decode(spelled("2026-11-22T10:00:00.123456Z", time))


@pytest.mark.parametrize("zone", [timezone(timedelta(hours=2)), timezone(timedelta(0), "GMT"), None])
def test_a_time_of_another_zone_never_passes(zone: timezone | None) -> None:
    """Whatever a writer hands in, what it writes is refused, or is UTC."""
    raw = encode(Disclosure(1, TIME.replace(tzinfo=zone), content=PLACE))
    if b'.123456Z"' in raw:
        decode(raw)
    else:
        rejected(raw)


def changed(entry: Known, **members: Any) -> bytes:
    """The entry with other members, checked by nothing on the way."""
    raw = json.loads(encode(entry))
    return json.dumps({**raw, **members}, separators=(",", ":"), ensure_ascii=False).encode()


DIGITS = [
    "",
    HEX[:-1],
    HEX + "0",
    HEX.upper(),
    HEX[:-1] + "g",
    HEX + "\n",
    "\n" + HEX,
    " " + HEX[1:],
    "0x" + HEX[2:],
    HEX[:-1] + "٣",
    f"{HEX}\n{HEX}",
    0,
    None,
    [HEX],
]
NOT_ADDRESSES = [
    "",
    "x",
    HEX,
    "artifact://",
    PLACE[:-1],
    PLACE + "0",
    PLACE.upper(),
    "Artifact" + PLACE[8:],
    PLACE + "\n",
    PLACE[:-1] + "g",
    PLACE + "/",
    " " + PLACE,
    PLACE + PLACE,
    "http://example.com",
    PLACE.replace("//", "/"),
    "artifact:///" + HEX,
    0,
    None,
    [PLACE],
    {"a": PLACE},
]
NOT_RUNS = [
    "x",
    RUN.upper(),
    RUN.replace("-", ""),
    RUN[:-1],
    RUN + "0",
    RUN + "\n",
    "{" + RUN + "}",
    "urn:uuid:" + RUN,
    RUN.replace("-7", "-4"),
    RUN.replace("-8", "-c"),
    "00000000-0000-0000-0000-000000000000",
    0,
    None,
    [RUN],
]
TOO_LONG = ["x" * 201, "é" * 201, "😀" * 201, "x" * 60_000, 0, None, ["x"]]
APPROVAL, ERASURE, FINISHED = EVERY_KIND[7], EVERY_KIND[8], EVERY_KIND[3]
STARTED, ENDED, REPLAYED = EVERY_KIND[-3:]
POLICY, DECIDED, ROUTED, REDACTED, REQUEST, ANSWER = (EVERY_KIND[i] for i in (10, 12, 13, 14, 15, 16))
NOT_INDEXES = [-1, 2**53, 1.5, "7", None, True]
NOT_RULES = ["", "Model", "a b", "-a", "a\n", "é", "artifact://", "x" * 101, 0, None]
CHARACTERS: dict[str, tuple[Known, str, list[Any]]] = {
    "digest": (FULL, "digest", DIGITS),
    "commitment": (EVERY_KIND[2], "key", DIGITS),
    "sha512": (APPROVAL, "sha512", [HEX, HEX128 + "\n", HEX128.upper(), HEX128[:-1], HEX128 + "0", "", None]),
    "content": (FULL, "content", NOT_ADDRESSES),
    "disclosed content": (EVERY_KIND[9], "content", NOT_ADDRESSES),
    "detail": (FULL, "detail", NOT_ADDRESSES),
    "request": (APPROVAL, "request", NOT_ADDRESSES),
    "run": (FULL, "run", NOT_RUNS),
    "erased run": (ERASURE, "of", ["", *NOT_RUNS]),
    "erased keys": (ERASURE, "keys", [HEX[:32], None, {}, [0], [HEX], [HEX[:31]], [HEX[:32] + "\n"], [HEX[:32].upper()],
                                      [HEX[:32], ""], [[HEX[:32]]]]),
    "signature": (APPROVAL, "signature", ["A" * 8193, None, 0]),
    "status": (FINISHED, "status", ["", "done", "Succeeded", "succeeded ", "failed\n", None, 0, True]),
    "stage": (FULL, "stage", TOO_LONG),
    "lane": (FULL, "lane", TOO_LONG),
    "task": (FULL, "task", TOO_LONG),
    "model": (EVERY_KIND[4], "model", TOO_LONG),
    "imported": (FULL, "imported", [1, "true", None, []]),
    "note": (EVERY_KIND[0], "note", [None, 0, ["a"], {"a": "b"}]),
    "to": (EVERY_KIND[5], "to", NOT_INDEXES),
    "version": (POLICY, "version", DIGITS),
    "effect": (DECIDED, "effect", ["", "Allow", "allow ", "ask", None, 0]),
    "rules": (DECIDED, "rules", [None, {}, "model", *([name] for name in NOT_RULES)]),
    "policies": (DECIDED, "policies", [None, HEX, [HEX[:-1]], [HEX.upper()], [HEX, ""], [[HEX]]]),
    "refused request": (DECIDED, "request", NOT_ADDRESSES),
    "reason of a routing": (ROUTED, "reason", ["", "whim", None, 0]),
    "counts": (REDACTED, "counts", [None, [], {"b": 1, "a": 1}, {"a": -1}, {"a": "1"}, {"a": True}, {"A": 1},
                                    {"artifact://": 1}]),
    "key": (REQUEST, "key", DIGITS),
    "envelope": (REQUEST, "envelope", ["", *NOT_ADDRESSES]),
    "reserved": (REQUEST, "reserved", NOT_INDEXES),
    "decision": (REQUEST, "decision", NOT_INDEXES),
    "status of an answer": (ANSWER, "status", ["", "done", "completed\n", None, 0]),
    "verdict": (ANSWER, "verdict", ["", "ok", None, 0]),
    "wire": (ANSWER, "wire", NOT_ADDRESSES),
    "egress": (STARTED, "egress", ["", "Enforced", "none", None, 0]),
    "inputs": (STARTED, "inputs", NOT_ADDRESSES),
    "exit status": (ENDED, "exit", [-1, 256, 1.5, "0", None, True]),
    "outputs": (ENDED, "outputs", NOT_ADDRESSES),
    "stdout": (ENDED, "stdout", NOT_ADDRESSES),
    "verdict of a replay": (REPLAYED, "verdict", ["", "same", "not replayable", None, 1]),
    "replayed run": (REPLAYED, "of", ["", *NOT_RUNS]),
    "rule": (EVERY_KIND[18], "rule", NOT_RULES),
}  # fmt: skip


@pytest.mark.parametrize("what", CHARACTERS)
def test_a_member_of_another_form_rejected(what: str) -> None:
    entry, member, values = CHARACTERS[what]
    assert changed(entry) == encode(entry)
    passed = []
    for value in values:
        raw = changed(entry, **{member: value})
        try:
            references(decode(raw), raw)
        except NotSound:
            continue
        passed.append(value)
    assert passed == []


@pytest.mark.parametrize("label", ["x" * 200, "é" * 200, "😀" * 200, "\n", "  "])
def test_a_label_of_200_characters_is_read(label: str) -> None:
    assert isinstance(decode(changed(FULL, stage=label)), Artifact)


OF_NO_RUN = [EVERY_KIND[i] for i in (0, 1, 8, 9, 11, 18)]
OF_RUNS = [entry for entry in EVERY_KIND if entry not in OF_NO_RUN]
RUNLESS = {
    "a step without a run": (EVERY_KIND[8], {"step": 4}),
    "a run without a step": (EVERY_KIND[8], {"run": RUN}),
    "a run with a step of 0": (EVERY_KIND[8], {"run": RUN, "step": 0}),
    **{f"{kind_of(entry)} without a run": (entry, {"run": None}) for entry in OF_RUNS},
    **{f"{kind_of(entry)} without a step": (entry, {"step": None}) for entry in OF_RUNS},
    **{f"{kind_of(entry)} without both": (entry, {"run": None, "step": None}) for entry in OF_RUNS},
}


def arranged(entry: Known, members: dict[str, Any]) -> bytes:
    """The entry with other members, or without those that are None; in the order of the book."""
    order = [name for name, _ in book()[kind_of(entry)]]
    made = {**json.loads(encode(entry)), **members}
    kept = {name: made[name] for name in ["kind", *order] if made.get(name) is not None}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(("entry", "members"), RUNLESS.values(), ids=RUNLESS)
def test_a_run_without_a_step_or_a_step_without_a_run_rejected(entry: Known, members: dict[str, Any]) -> None:
    rejected(arranged(entry, members))


@pytest.mark.parametrize("entry", OF_NO_RUN, ids=kind_of)
def test_other_kinds_may_be_steps_of_a_run(entry: Known) -> None:
    assert decode(encode(msgspec.structs.replace(entry, run=RUN, step=4))).step == 4


HEADS = [b"", b"{", b"{}", b"[]", b"null", b'"kind"', b'{"kind":"artifact"', b'{"v":1,"kind":"artifact"}',
         b'{"kind":1}',
         b'{"kind":null}', b'{"kind":""}', b'{"kind":"Artifact"}', b'{"kind":"artifact."}', b'{"kind":".artifact"}',
         b'{"kind":"a..b"}', b'{"kind":"a b"}', b'{"kind":"a_b"}', b'{"kind":"a-b"}', b'{"kind":"a1"}',
         b'{"kind":"\xc3\xa9"}',
         b'{"kind":"a\n"}', b'{"Kind":"a"}', b'[{"kind":"a"}]', b"\x00", b"\xff" * 9, RAW[1:]]  # fmt: skip


@pytest.mark.parametrize("raw", HEADS)
def test_what_does_not_begin_with_its_kind_rejected(raw: bytes) -> None:
    rejected(raw)


def of_length(length: int) -> bytes:
    raw = encode(TrustChanged(1, TIME, note="x"))
    return raw.replace(b'"x"', b'"' + b"x" * (length - len(raw) + 1) + b'"')


def test_an_entry_of_65536_bytes_rejected() -> None:
    longest = decode(of_length(MAX_ENTRY))
    assert isinstance(longest, TrustChanged)
    assert len(encode(longest)) == MAX_ENTRY == 65_535
    rejected(of_length(MAX_ENTRY + 1))
    with pytest.raises(TooLarge):
        encode(TrustChanged(1, TIME, note=longest.note + "x"))


# Kinds that this version does not know.


def unknown(body: str | bytes) -> bytes:
    return b'{"kind":"other.kind"' + (body.encode() if isinstance(body, str) else body) + b"}"


UNKNOWN_GOOD = ["", ',"a":1', ',"a":1.5e3', ',"a":[1,{"b":null}]', ',"a":"é\\n\\u00e9"', ',"v":2', ',"a":-0',
                ', "a" : 1',
                ',"a":{"x":1},"b":{"x":1}', ',"":1', ',"a":123456789012345678901234567890',
                ',"a":' + "[" * 63 + "]" * 63, ',"a":' + '{"a":' * 62 + "{}" + "}" * 62, ',"a":"\\ud83d\\ude00"',
                ',"a":{"run":"x","step":"y"}', ',"run":"","step":0']  # fmt: skip


@pytest.mark.parametrize("body", UNKNOWN_GOOD)
def test_an_unknown_kind_is_kept_uninterpreted(body: str) -> None:
    entry = decode(unknown(body))
    assert isinstance(entry, Uninterpreted)
    assert (entry.kind, kind_of(entry), entry.run) == ("other.kind", "other.kind", "")
    assert entry.value == json.loads(unknown(body))


def test_an_unknown_kind_may_be_a_step_of_a_run() -> None:
    entry = decode(unknown(f',"step":4,"run":"{RUN}"'))
    assert isinstance(entry, Uninterpreted)
    assert (entry.run, entry.step) == (RUN, 4)


UNKNOWN_BAD = {
    "a name twice": ',"a":1,"a":1',
    "a name twice, once escaped": ',"a":1,"\\u0061":1',
    "a name twice within": ',"a":{"b":1,"b":1}',
    "a name twice within a list": ',"a":[{"b":1,"b":2}]',
    "the kind twice": ',"kind":"other.kind"',
    "the kind twice, once a known one": ',"kind":"artifact"',
    "NaN": ',"a":NaN',
    "Infinity": ',"a":[Infinity]',
    "-Infinity": ',"a":{"b":-Infinity}',
    "a newline": ',\n"a":1',
    "a newline in a string": ',"a":"\n"',
    "a control character in a string": ',"a":"\x01"',
    "a carriage return": ',\r"a":1',
    "a carriage return behind": "}\r",
    "no UTF-8": b',"a":"\xff"',
    "half a surrogate pair in bytes": b',"a":"\xed\xa0\x80"',
    "half a surrogate pair": ',"a":"\\ud800"',
    "the other half": ',"a":["\\udc00"]',
    "a surrogate pair in the wrong order": ',"a":"\\ude00\\ud83d"',
    "half a surrogate pair in a name": ',"\\ud800":1',
    "65 levels of lists": ',"a":' + "[" * 64 + "]" * 64,
    "65 levels of objects": ',"a":' + '{"a":' * 63 + "{}" + "}" * 63,
    "a run without a step": f',"run":"{RUN}"',
    "a step without a run": ',"step":1',
    "a run with a step of 0": f',"run":"{RUN}","step":0',
    "a negative step": f',"run":"{RUN}","step":-1',
    "a step with a fraction": f',"run":"{RUN}","step":1.0',
    "a step that is true": f',"run":"{RUN}","step":true',
    "a step that is text": f',"run":"{RUN}","step":"1"',
    "a step of 2^53": f',"run":"{RUN}","step":9007199254740992',
    "a run that is no run id": ',"run":"x","step":1',
    "a run in capitals": f',"run":"{RUN.upper()}","step":1',
    "a run that is a number": ',"run":7,"step":1',
    "a comma at the end": ",",
    "a leading zero": ',"a":01',
    "a comment": ',"a":1/**/',
    "single quotes": ",'a':1",
    "no value": ',"a":',
    "no name": ",1",
    "something behind": '},{"a":1',
    "another behind": "}{",
    "a null behind": "}\x00",
    "a mismatched brace": ',"a":[}',
}


@pytest.mark.parametrize("body", UNKNOWN_BAD.values(), ids=UNKNOWN_BAD)
def test_a_malformed_entry_of_an_unknown_kind_rejected(body: str | bytes) -> None:
    rejected(unknown(body))


def test_an_unknown_kind_of_65536_bytes_rejected() -> None:
    assert isinstance(decode(unknown(',"a":"' + "x" * (65_535 - 28) + '"')), Uninterpreted)
    rejected(unknown(',"a":"' + "x" * (65_536 - 28) + '"'))


NESTED = {"lists": ("[", "]"), "objects": ('{"a":', "}"), "lists in objects": ('[{"a":', "}]")}


@pytest.mark.parametrize("depth", [500, 2000, 5000, 9000])
@pytest.mark.parametrize(("begin", "end"), NESTED.values(), ids=NESTED)
def test_deep_nesting_is_no_crash(begin: str, end: str, depth: int) -> None:
    raw = unknown(',"a":' + begin * depth + "1" + end * depth)
    for data in (raw, spelled('"task 7"', begin * depth + "1" + end * depth), raw[: len(raw) // 2]):
        try:
            references(decode(data), data)
        except NotSound as error:
            if error.step != 3:
                raise


def verdict(raw: bytes) -> str:
    try:
        references(decode(raw), raw)
    except NotSound:
        return "refused"
    return "read"


def beneath(frames: int, call: Callable[[], str]) -> str:
    return beneath(frames - 1, call) if frames else call()


def test_a_verdict_does_not_depend_on_who_asks() -> None:
    """Writer and auditor must agree, whatever else is on their stacks."""
    raw = unknown(',"a":' + "[" * 800 + "]" * 800)
    assert beneath(0, lambda: verdict(raw)) == beneath(500, lambda: verdict(raw))


def test_a_verdict_does_not_depend_on_settings_of_the_interpreter() -> None:
    raw, limit = unknown(',"a":' + "9" * 5000), sys.get_int_max_str_digits()
    usual = verdict(raw)
    try:
        sys.set_int_max_str_digits(0)
        assert verdict(raw) == usual
    finally:
        sys.set_int_max_str_digits(limit)


# References.


def found(raw: bytes) -> list[str]:
    return [address(cid) for cid in references(decode(raw), raw)]


def test_references_of_every_kind() -> None:
    named = [PLACE, ELSEWHERE, THIRD, FOURTH]
    for entry in EVERY_KIND:
        members = msgspec.to_builtins(entry).values()
        assert found(encode(entry)) == [value for value in members if value in named], kind_of(entry)
    assert {len(found(encode(entry))) for entry in EVERY_KIND} == {0, 1, 2, 4}


NEARLY = ["artifact:", "artifact:/", " " + PLACE, "Artifact://", "x" + PLACE, 'x"' + PLACE + '"', '"' + PLACE,
          "\\" + PLACE,
          '\\"' + PLACE, '":"' + PLACE, '",' + PLACE, "\\\\", "\n" + PLACE, "x\\"]  # fmt: skip
FALSE = ["artifact://", "artifact://x", PLACE[:-1], PLACE + "0", PLACE + '"', PLACE + "\\", PLACE + " ", PLACE + "\n",
         "artifact://" + HEX.upper(), "artifact://" + HEX[:-1] + "é", PLACE + '","x":"y']  # fmt: skip


@pytest.mark.parametrize("text", NEARLY)
def test_a_string_that_holds_an_address_elsewhere_is_none(text: str) -> None:
    assert found(changed(FULL, stage=text)) == [PLACE, ELSEWHERE]
    assert found(unknown(f',"a":[{quoted(text)},{quoted(PLACE)}]')) == [PLACE]


@pytest.mark.parametrize("text", FALSE)
def test_a_malformed_address_rejected(text: str) -> None:
    rejected(changed(FULL, stage=text))
    for body in (
        f',"a":{quoted(text)}',
        f',"a":{{"b":[[{quoted(text)}]]}}',
        f',"a":{quoted(PLACE)},"b":{quoted(text)}',
    ):
        rejected(unknown(body))


def test_an_address_is_found_wherever_it_stands() -> None:
    assert found(changed(FULL, task=ELSEWHERE, lane="\\")) == [ELSEWHERE, PLACE, ELSEWHERE]
    body = f',"a":{{"b":[1,{{"c":"{PLACE}"}}]}},"d":"\\u0061rtifact:\\/\\/{PLACE[11:]}","{ELSEWHERE}":1'
    assert found(unknown(body)) == [PLACE, PLACE]


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for inner in value.values() for s in strings(inner)]
    return [s for inner in value for s in strings(inner)] if isinstance(value, list) else []


pieces = st.sampled_from(['"', "\\", "artifact://", HEX, PLACE, ":", ",", "x", "\n", " ", "é"])
texts = st.lists(pieces, max_size=5).map("".join).filter(lambda text: len(text) <= 200)


@settings(deadline=None, max_examples=200)
@given(texts, texts, texts)
@example("\\", PLACE, "")
def test_references_are_what_a_plain_reader_finds(stage: str, lane: str, task: str) -> None:
    for raw in (
        encode(msgspec.structs.replace(FULL, stage=stage, lane=lane, task=task)),
        unknown(f',"a":{json.dumps([stage, {"b": lane}, task])}'),
    ):
        named = [text for text in strings(json.loads(raw)) if text.startswith("artifact://")]
        if all(re.fullmatch("artifact://[0-9a-f]{64}", text) for text in named):
            assert sorted(found(raw)) == sorted(named)
        else:
            rejected(raw)


# Fuzz: every entry has one spelling.

labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda t: not t.startswith("artifact://")
)
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))
addresses = st.binary(min_size=32, max_size=32).map(address)
runs = st.builds(new_run_id, st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
indexes = st.integers(0, 2**53 - 1)
hex32 = st.binary(min_size=32, max_size=32).map(bytes.hex)
common: dict[str, Any] = {
    "v": st.just(1), "time": times, "run": st.just("") | runs, "step": indexes, "stage": labels, "lane": labels,
    "task": labels, "imported": st.booleans(),
}  # fmt: skip
detail = {"detail": st.just("") | addresses}
content = {"content": addresses, "digest": hex32, **detail}
entries = st.one_of(
    st.builds(TrustChanged, **common, note=st.text(max_size=50)),
    st.builds(RunStarted, **common, key=hex32, **detail),
    st.builds(RunFinished, **common, status=st.sampled_from(["succeeded", "failed"]), **detail),
    st.builds(Prompt, **common, **content, model=labels),
    st.builds(Response, **common, **content, to=indexes),
    st.builds(Artifact, **common, **content),
    st.builds(Erasure, **common, of=runs, keys=st.lists(hex32.map(lambda h: h[:32]), max_size=3), **detail),
)


def by_the_book(entry: Known) -> bytes:
    """The spelling of docs/FORMAT.md, without our encoder."""
    parts = [f'"kind":"{kind_of(entry)}"']
    for name, optional in book()[kind_of(entry)]:
        value = getattr(entry, name)
        if isinstance(value, datetime):
            fraction = f".{value.microsecond:06d}" if value.microsecond else ""
            text = f'"{value.year:04d}-{value:%m-%dT%H:%M:%S}{fraction}Z"'
        elif isinstance(value, str):
            text = quoted(value)
        elif isinstance(value, list):
            text = "[" + ",".join(map(quoted, value)) + "]"
        elif isinstance(value, dict):
            text = "{" + ",".join(f"{quoted(member)}:{count}" for member, count in value.items()) + "}"
        else:
            text = str(value).lower()
        if not (optional and value in ("", 0, False)):
            parts.append(f'"{name}":{text}')
    return ("{" + ",".join(parts) + "}").encode()


def _in_its_place(entry: Known) -> Known:
    """Run and step are both there or both not; most kinds need them."""
    needs = not isinstance(entry, TrustChanged | Erasure)
    run = entry.run or (RUN if needs or entry.step else "")
    return msgspec.structs.replace(entry, run=run, step=max(1, entry.step) if run else 0)


@settings(deadline=None, max_examples=200)
@given(entries.map(_in_its_place))
def test_any_entry_is_spelled_by_the_book(entry: Known) -> None:
    raw = encode(entry)
    assert raw == by_the_book(entry)
    assert decode(raw) == entry


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(EVERY_KIND))
def test_changed_bytes_are_refused_or_another_entry(seed: int, entry: Known) -> None:
    random, raw = Random(seed), bytearray(encode(entry))
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(10, len(raw))
        if random.random() < 0.5:
            raw[at] = random.choice(b'0123456789abcdefTZ"\\:,{}[] .-+\n\x00\xff/')
        elif random.random() < 0.5:
            del raw[at : at + random.randrange(1, 20)]
        else:
            raw[at:at] = random.choice([b" ", b"0", b',"step":1', b"\\u0041", b'"', b"\n", b'"x":1,', b"artifact://"])
        if len(raw) < 11:
            return
    try:
        read = decode(bytes(raw))
    except NotSound:
        return
    if not isinstance(read, Uninterpreted):
        assert encode(read) == bytes(raw) == by_the_book(read)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_an_entry(body: bytes) -> None:
    for raw in (body, b'{"kind":"artifact"' + body, b'{"kind":"a"' + body, b'{"kind":"' + body + b'"}'):
        try:
            read = decode(raw)
        except NotSound:
            continue
        assert isinstance(read, Uninterpreted) or encode(read) == raw


# Statements.

ORIGIN = "log.example/a"


def signer(name: str) -> Signer:
    return Signer(name, sha256(name.encode()).digest())


OWNER, LOG, CI, DEV = signer(ORIGIN), Signer(ORIGIN, bytes(32)), signer(f"{ORIGIN}/ci"), signer(f"{ORIGIN}/dev")
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"
SK = (
    "sk-ssh-ed25519@openssh.com "
    "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnASAAAABHNzaDo="
)
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
TRUST = TrustNote(
    ORIGIN,
    3,
    LOG.verifier.vkey,
    (Author(CI.verifier.vkey, 0), Author(DEV.verifier.vkey, 5, 99)),
    (Approver("alice", SSH, 0), Approver("bob@example.com", SK, 7, 8, ("break-glass", "lead"))),
)
KEYS = KeysNote(ORIGIN, 2, 1, AGE, HEX, (AGE, SSH))


def test_statements_are_laid_out_as_the_book_says() -> None:
    assert TRUST.format() == (
        f"agent-ledger/trust@v1\n{ORIGIN}\n3\nlog {LOG.verifier.vkey}\n"
        f"author 0 - {CI.verifier.vkey}\nauthor 5 99 {DEV.verifier.vkey}\n"
        f"approver 0 - alice - {SSH}\napprover 7 8 bob@example.com break-glass,lead {SK}\n"
    )
    assert KEYS.format() == (
        f"agent-ledger/keys@v1\n{ORIGIN}\n2\nroot 1 {AGE}\nproject {HEX}\nreader {AGE}\nreader {SSH}\n"
    )


def test_statements_are_read_back() -> None:
    assert TrustNote.parse(TRUST.format()) == TRUST
    assert KeysNote.parse(KEYS.format()) == KEYS
    alone = TrustNote(ORIGIN, 0, LOG.verifier.vkey, ())
    assert TrustNote.parse(alone.format()) == alone
    assert KeysNote.parse(msgspec.structs.replace(KEYS, readers=()).format()).readers == ()
    assert [author.name for author in TRUST.authors] == ["ci", "dev"]


def altered(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


T, K = TRUST.format(), KEYS.format()
AUTHOR_LINE, APPROVER_LINE = f"author 0 - {CI.verifier.vkey}\n", f"approver 0 - alice - {SSH}\n"
SHARED_DAMAGE: dict[str, Callable[[str], str]] = {
    "nothing": lambda t: "",
    "a newline": lambda t: "\n",
    "another header": lambda t: "x" + t,
    "version 2": lambda t: altered(t, "@v1", "@v2"),
    "an empty line before": lambda t: "\n" + t,
    "an empty line behind": lambda t: t + "\n",
    "an empty line within": lambda t: altered(t, f"{ORIGIN}\n", f"{ORIGIN}\n\n"),
    "no newline at the end": lambda t: t[:-1],
    "CRLF": lambda t: t.replace("\n", "\r\n"),
    "no origin": lambda t: altered(t, f"{ORIGIN}\n", ""),
    "an empty origin": lambda t: altered(t, f"\n{ORIGIN}\n", "\n\n"),
    "an origin in capitals": lambda t: altered(t, f"\n{ORIGIN}\n", f"\n{ORIGIN.upper()}\n"),
    "an origin with a space": lambda t: altered(t, f"\n{ORIGIN}\n", f"\n{ORIGIN} \n"),
    "an origin that climbs": lambda t: altered(t, f"\n{ORIGIN}\n", "\n../a\n"),
    "an unknown line": lambda t: t + "more 1\n",
    "a remark": lambda t: t + "# a remark\n",
    "the statement twice": lambda t: t + t,
    "the header alone": lambda t: t.partition("\n")[0] + "\n",
    "header and origin alone": lambda t: "\n".join(t.split("\n")[:2]) + "\n",
    "no more than a serial": lambda t: "\n".join(t.split("\n")[:3]) + "\n",
}
TRUST_DAMAGE = {
    **{f"serial {s!r}": altered(T, "\n3\n", f"\n{s}\n")
       for s in ("", "03", "+3", "-3", "3 ", " 3", "3.0", "x", "٣", "9" * 17)},
    "no serial": altered(T, "\n3\n", "\n"),
    "no log key": altered(T, f"log {LOG.verifier.vkey}\n", ""),
    "two log keys": altered(T, "log ", f"log {LOG.verifier.vkey}\nlog "),
    "the log key behind the authors": altered(T, f"log {LOG.verifier.vkey}\n", "") + f"log {LOG.verifier.vkey}\n",
    "an author behind the approvers": T + AUTHOR_LINE,
    "a space before a line": altered(T, "author 0", " author 0"),
    "a tab for a space": altered(T, "author 0", "author\t0"),
    "two spaces": altered(T, "author 0", "author  0"),
    "a line in capitals": altered(T, "author 0", "AUTHOR 0"),
    **{f"since {s!r}": altered(T, "author 0 ", f"author {s} ")
       for s in ("", "00", "-1", "+0", "-", "x", "0.0", "9" * 17)},
    **{f"until {s!r}": altered(T, "author 0 - ", f"author 0 {s} ") for s in ("", "--", "−", "09", "-1", "x", "none")},
    "no until": altered(T, "author 0 - ", "author 0 "),
    "no vkey": altered(T, AUTHOR_LINE, "author 0 -\n"),
    "an author alone": altered(T, AUTHOR_LINE, "author\n"),
    "an approver without a key": altered(T, APPROVER_LINE, "approver 0 - alice -\n"),
    "an approver without roles": altered(T, APPROVER_LINE, f"approver 0 - alice {SSH}\n"),
    **{f"roles {r!r}": altered(T, "alice - ", f"alice {r} ")
       for r in ("", "--", "a,", ",a", "b,a", "a,a", "-a", "A", "é", "a,-", "a b", "a/b", "a" * 51)},
    **{f"an approver named {n!r}": altered(T, "alice", n) for n in ("", "älice", "-alice", "a" * 101, "a/b", "a+b")},
}  # fmt: skip
KEYS_DAMAGE = {
    **{f"serial {s!r}": altered(K, "\n2\n", f"\n{s}\n") for s in ("", "02", "+2", "-2", "2 ", "x")},
    **{f"root {s!r}": altered(K, "root 1 ", f"root {s} ") for s in ("", "01", "-1", "-", "x", "9" * 17)},
    "no root": altered(K, f"root 1 {AGE}\n", ""),
    "no recipient": altered(K, f"root 1 {AGE}", "root 1"),
    "no project key": altered(K, f"project {HEX}\n", ""),
    "another order": altered(altered(K, f"root 1 {AGE}\n", ""), f"project {HEX}\n", f"project {HEX}\nroot 1 {AGE}\n"),
    "a root behind the readers": altered(K, f"root 1 {AGE}\n", "") + f"root 1 {AGE}\n",
    "two roots": altered(K, "root 1", f"root 1 {AGE}\nroot 1"),
    **{f"a project key {h!r}": altered(K, f"project {HEX}", f"project {h}")
       for h in ("", HEX[:-1], HEX + "0", HEX.upper(), HEX[:-1] + "g", HEX + " ", "-")},
    **{f"a reader {r!r}": altered(K, f"reader {AGE}", f"reader {r}")
       for r in ("", "x", "age1", AGE.upper(), AGE + " ", f"{AGE} {AGE}", "AGE-SECRET-KEY-1QQQQ", f"{SSH} a comment",
                 "ssh-dss AAAAB3NzaC1kc3MAAACBAP", "age1" + "a" * 5000, "ssh-ed25519 " + "=" * 68, SSH[:-1])},
}  # fmt: skip


@pytest.mark.parametrize("damage", SHARED_DAMAGE.values(), ids=SHARED_DAMAGE)
def test_a_malformed_statement_rejected(damage: Callable[[str], str]) -> None:
    for kind, text in ((TrustNote, T), (KeysNote, K)):
        with pytest.raises(Malformed):
            kind.parse(damage(text))


@pytest.mark.parametrize("text", TRUST_DAMAGE.values(), ids=TRUST_DAMAGE)
def test_a_malformed_statement_of_trust_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        TrustNote.parse(text)


NO_SSH_KEYS = [
    "x", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 !!!!", "ssh-ed25519 é", f"{SSH} a comment", f" {SSH}",
    f"{SSH} ", f"{SSH}\t", AGE, SK[:60],
    SSH.replace("AAAAC3", "AAAAD3"), SSH[:-8], SSH + "AAAA", SSH.replace("ssh-", "sk-ssh-"), SSH.partition(" ")[2],
]  # fmt: skip


@pytest.mark.parametrize("text", KEYS_DAMAGE.values(), ids=KEYS_DAMAGE)
def test_a_malformed_statement_of_keys_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        KeysNote.parse(text)


def test_a_statement_of_one_kind_is_none_of_the_other() -> None:
    with pytest.raises(Malformed):
        TrustNote.parse(K)
    with pytest.raises(Malformed):
        KeysNote.parse(T)


def signed(text: str, by: Signer = OWNER) -> str:
    return note.sign(text, by).decode()


def test_the_owner_names_who_may_sign_where() -> None:
    trust = read_trust(signed(T), OWNER.verifier, ORIGIN, 3)
    names = [[v.name for v in trust.authors_at(i)] for i in (0, 4, 5, 98, 99)]
    assert names == [[CI.name], [CI.name], [CI.name, DEV.name], [CI.name, DEV.name], [CI.name]]
    assert [sorted(trust.approvers_at(i).values()) for i in (0, 6, 7, 8)] == [
        ["alice"], ["alice"], ["alice", "bob@example.com"], ["alice"],
    ]  # fmt: skip
    assert read_keys(signed(K), OWNER.verifier, ORIGIN, 2).note == KEYS


def trust_of(**members: Any) -> str:
    return signed(msgspec.structs.replace(TRUST, **members).format())


NOT_TRUSTED: dict[str, tuple[str, str, int]] = {
    "of an author": (signed(T, CI), ORIGIN, 3),
    "of the log key": (signed(T, LOG), ORIGIN, 3),
    "of a stranger": (signed(T, signer("stranger.example/x")), ORIGIN, 3),
    "changed after signing": (signed(T).replace("alice", "mallory"), ORIGIN, 3),
    "unsigned": (f"{T}\n", ORIGIN, 3),
    "text alone": (T, ORIGIN, 3),
    "of another log": (trust_of(origin="log.example/b"), ORIGIN, 3),
    "for another log": (signed(T), "log.example/b", 3),
    "put back": (signed(T), ORIGIN, 4),
    "too early": (signed(T), ORIGIN, 2),
    "a statement of keys": (signed(K), ORIGIN, 2),
    "log and author the same key": (trust_of(authors=(Author(LOG.verifier.vkey, 0),)), ORIGIN, 3),
    "log and author the same key, named otherwise": (
        trust_of(authors=(Author(Signer(f"{ORIGIN}/ci", bytes(32)).verifier.vkey, 0),)), ORIGIN, 3
    ),
    "a log key of another name": (trust_of(log=Signer("log.example/b", bytes(32)).verifier.vkey), ORIGIN, 3),
    "a log key that is none": (trust_of(log="x+00000000+AQ=="), ORIGIN, 3),
    "an author that is none": (trust_of(authors=(Author(CI.verifier.vkey[:-4], 0),)), ORIGIN, 3),
    "an author of another log": (trust_of(authors=(Author(signer("log.example/b/ci").verifier.vkey, 0),)), ORIGIN, 3),
    "an author named by the origin alone": (trust_of(authors=(Author(signer(ORIGIN).verifier.vkey, 0),)), ORIGIN, 3),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "origin", "serial"), NOT_TRUSTED.values(), ids=NOT_TRUSTED)
def test_a_statement_of_trust_that_is_not_the_owners_next_one_rejected(raw: str, origin: str, serial: int) -> None:
    with pytest.raises(NotSound) as error:
        read_trust(raw, OWNER.verifier, origin, serial)
    assert error.value.step == 5


def test_an_author_whose_name_is_no_last_part_of_an_origin_rejected() -> None:
    passed = []
    for name in ("", "CI", "a/b", "-ci", "ci-", ".ci", "ci.", "c@i", "ü", "/", "/ci", "ci/"):
        author = Author(signer(f"{ORIGIN}/{name}").verifier.vkey, 0)
        try:
            read_trust(trust_of(authors=(author,)), OWNER.verifier, ORIGIN, 3)
        except NotSound:
            continue
        passed.append(name)
    assert passed == []


def test_a_statement_that_names_another_log_key_rejected() -> None:
    """Another log key means another log."""
    other = Signer(ORIGIN, sha256(b"another log key").digest()).verifier.vkey
    read_trust(signed(T), OWNER.verifier, ORIGIN, 3, LOG.verifier.vkey)
    with pytest.raises(NotSound) as error:
        read_trust(signed(T), OWNER.verifier, ORIGIN, 3, other)
    assert error.value.step == 5


@pytest.mark.parametrize(
    ("raw", "origin", "serial"),
    [
        (signed(K, CI), ORIGIN, 2),
        (signed(K), ORIGIN, 3),
        (signed(K), ORIGIN, 1),
        (signed(K), "b", 2),
        (signed(T), ORIGIN, 3),
        (K, ORIGIN, 2),
    ],
)
def test_a_statement_of_keys_that_is_not_the_owners_next_one_rejected(raw: str, origin: str, serial: int) -> None:
    with pytest.raises(NotSound) as error:
        read_keys(raw, OWNER.verifier, origin, serial)
    assert error.value.step == 5


def test_a_trust_root_is_one_vkey() -> None:
    assert TrustRoot.parse(f"# of the log\n{OWNER.verifier.vkey}\n\n").origin == ORIGIN
    for text in ("", "# nothing\n", ORIGIN, "a+b", f"{OWNER.verifier.vkey}\n{OWNER.verifier.vkey}\n"):
        with pytest.raises(UsageError):
            TrustRoot.parse(text)


@pytest.mark.parametrize("text", ["", "a b", "-a", "é", "a" * 101, "a\n", "a/b"])
def test_a_malformed_name_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        check_name(text)
    with pytest.raises(Malformed):
        check_recipient(text)


# Identifiers.

ORIGINS = ["a", "0", "a.b", "a/b", "acme.example/recompile-7f3a", "a_b/c.d/e-f", "a" * 128]
NOT_ORIGINS = ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", ".a", "a.", "-a", "a-", "_a", "a_", "a/.b", "A",
               "a b",
               "a+b", "a\n", "\na", "a\\b", "é", "a:b", "a" * 129, "http://a", "a/b ", "a\x00b", "ａ"]  # fmt: skip


@pytest.mark.parametrize("text", ORIGINS)
def test_an_origin_is_read(text: str) -> None:
    assert check_origin(text) == text


@pytest.mark.parametrize("text", NOT_ORIGINS)
def test_a_malformed_origin_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        check_origin(text)


def test_origins_take_no_time_however_they_are_made() -> None:
    for text in ("a" * 128 + "!", "a-" * 64, "a" * 127 + "-", "a/" * 64, "." * 128):
        with pytest.raises(Malformed):
            check_origin(text)


@pytest.mark.parametrize("text", [text for text in NOT_ADDRESSES if isinstance(text, str)])
def test_a_malformed_identifier_rejected(text: str) -> None:
    with pytest.raises(Malformed):
        cid_of(text)


@pytest.mark.parametrize("text", [text for text in NOT_RUNS if isinstance(text, str)])
def test_a_malformed_run_id_rejected(text: str) -> None:
    assert not is_run_id(text)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**64), st.binary(min_size=10, max_size=10))
def test_a_run_id_is_a_uuid_of_version_7(unix_ms: int, random: bytes) -> None:
    run = new_run_id(unix_ms, random)
    assert is_run_id(run)
    assert run_key_id(run).hex() == run.replace("-", "")
    assert int(run.replace("-", "")[:12], 16) == unix_ms % 2**48
