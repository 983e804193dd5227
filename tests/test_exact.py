"""Exact values: a secret that is known by name is found however it is spelled, and nothing of it is left."""

import base64
import html
import json
import os
import re
import shlex
import time
import urllib.parse
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.redaction.exact import SHORTEST, Exact
from policies.redaction.splice import Put, Spliced
from schemas.errors import Malformed

PLAIN = "corr3ct-horse"
HARD = 'pa\'ss "w\\rd"/ü&<$`%+\tend'
LINES = 'first line\nse\'cond "line"\nthird'
# Ten lines of 64 characters, as a key in armour has them.
KEY = "\n".join(base64.b64encode(bytes(range(i, i + 48))).decode() for i in range(10))
MARK = "⟦secret⟧"


def masked(exact: Exact, text: str, mark: Callable[[str], str]) -> tuple[str, int]:
    """A text with every stretch masked in which a value stands; and how many those are."""
    data = text.encode("utf-8", "surrogatepass")
    puts: list[Put] = []
    for hit in sorted(exact.find(data), key=lambda hit: (hit.start, -hit.end)):
        if puts and hit.start < puts[-1].end:
            puts[-1] = puts[-1]._replace(end=max(puts[-1].end, hit.end))
        else:
            puts.append(Put(hit.start, hit.end, mark(hit.value).encode()))
    return Spliced(data, puts).text.decode("utf-8", "surrogatepass"), len(puts)


def within(levels: int, *, ascii: bool = True) -> Callable[[str], str]:
    def spelled(value: str) -> str:
        for _ in range(levels):
            value = json.dumps(value, ensure_ascii=ascii)
        return value

    return spelled


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": within(1),
    "in JSON, UTF-8": within(1, ascii=False),
    "in JSON in JSON": within(2),
    "in JSON four times": within(4),
    "in JSON of Go": lambda v: json.dumps(v).replace("<", "\\u003c").replace("&", "\\u0026"),
    "in JSON of PHP": lambda v: json.dumps(v).replace("/", "\\/"),
    "in JSON of PHP in JSON": lambda v: json.dumps(json.dumps(v).replace("/", "\\/")),
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
    "hex with colons": lambda v: v.encode().hex(":"),
    "hex dump": lambda v: v.encode().hex(" "),
    "bytes of C": lambda v: ", ".join(f"0x{byte:02x}" for byte in v.encode()),
    "escapes of C": lambda v: "".join(f"\\x{byte:02x}" for byte in v.encode()),
    "URL": lambda v: urllib.parse.quote(v, safe=""),
    "URL, lower case": lambda v: re.sub("%..", lambda match: match[0].lower(), urllib.parse.quote(v, safe="")),
    "form": urllib.parse.quote_plus,
    "URL in URL": lambda v: urllib.parse.quote(urllib.parse.quote(v, safe=""), safe=""),
    "every byte in percent": lambda v: "".join(f"%{byte:02X}" for byte in v.encode()),
    "shell": shlex.quote,
    "shell, closed and opened": lambda v: "'" + v.replace("'", "'\\''") + "'",
    "shell in JSON": lambda v: json.dumps("'" + v.replace("'", "'\\''") + "'"),
    "HTML": html.escape,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 behind one byte": lambda v: base64.b64encode(b"u" + v.encode()).decode(),
    "base64 behind two bytes": lambda v: base64.b64encode(b"u:" + v.encode() + b"\n").decode(),
    "base64 for URLs": lambda v: base64.urlsafe_b64encode(b"?" + v.encode()).decode(),
    "base64 of UTF-16": lambda v: base64.b64encode(v.encode("utf-16-le")).decode(),
    "Windows lines": lambda v: v.replace("\n", "\r\n"),
    "newlines as escapes": lambda v: v.replace("\n", "\\n"),
}


@pytest.mark.parametrize("value", [PLAIN, HARD, LINES, KEY], ids=["plain", "hard", "lines", "key"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_value_is_found_and_masked_in_every_spelling(spelling: str, value: str) -> None:
    exact = Exact([("env:A", value)])
    text = f"x {SPELLINGS[spelling](value)} y"
    assert exact.found(text.encode())
    left, count = masked(exact, text, lambda found: MARK if found == value else "?")
    assert count >= 1
    assert MARK in left
    assert not exact.found(left.encode())
    assert left.startswith("x ")
    assert left.endswith(" y")


def wrapped(text: str, columns: int, between: str = "\n") -> str:
    return between.join(text[at : at + columns] for at in range(0, len(text), columns))


def dumped(data: bytes, line: Callable[[int, bytes], str]) -> str:
    return "".join(line(at, data[at : at + 16]) for at in range(0, len(data), 16))


def xxd(at: int, row: bytes) -> str:
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"{at:08x}: {row.hex(' ', -2):<39}  {shown}\n"


def hexdump(at: int, row: bytes) -> str:
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"{at:08x}  {row[:8].hex(' ')}  {row[8:].hex(' '):<23}  |{shown}|\n"


def b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


# Each as a line of its own sets it, or as a program does; with something before and behind.
BROKEN: dict[str, Callable[[str], str]] = {
    "base64 in lines of 64": lambda v: wrapped(b64("u" * 40 + v + "x" * 30), 64),
    "base64 in lines of 76": lambda v: wrapped(b64("u" * 50 + v), 76, "\r\n"),
    "base64 in lines, in JSON": lambda v: json.dumps(wrapped(b64("u" * 50 + v), 64)),
    "base64 in lines, in JSON in JSON": lambda v: json.dumps(json.dumps(wrapped(b64("u" * 50 + v), 64))),
    "base64 in lines, indented": lambda v: wrapped(b64("u" * 44 + v), 64, "\n        "),
    "base64 in lines, in a diff": lambda v: "+" + wrapped(b64("u" * 44 + v), 64, "\n+  "),
    "base64 in lines, quoted": lambda v: '"' + wrapped(b64("u" * 44 + v), 64, '" \\\n    "') + '"',
    "base64 for URLs in lines": lambda v: wrapped(base64.urlsafe_b64encode(f"?{v}".encode()).decode(), 16),
    "base64 twice": lambda v: b64(b64(v)),
    "base64 twice, in the midst": lambda v: b64("k=" + b64("u:" + v)),
    "base32": lambda v: base64.b32encode(v.encode()).decode(),
    "base32 in the midst": lambda v: base64.b32encode(f"u:{v};".encode()).decode().lower(),
    "xxd -p": lambda v: wrapped(("u" * 22 + v).encode().hex(), 60),
    "xxd": lambda v: dumped(("u" * 11 + v).encode(), xxd),
    "xxd, in JSON": lambda v: json.dumps(dumped(("u" * 11 + v).encode(), xxd)),
    "hexdump -C": lambda v: dumped(("u" * 5 + v + "more").encode(), hexdump),
    "hex in a certificate": lambda v: wrapped(("u" * 9 + v).encode().hex(":"), 45, "\n    "),
    "hex of mixed case": lambda v: "".join(c.upper() if i % 3 else c for i, c in enumerate(v.encode().hex())),
    "hex of UTF-16": lambda v: v.encode("utf-16-le").hex(),
    "over two lines": lambda v: f"{v[: len(v) // 2]}\n    {v[len(v) // 2 :]}",
    "over two lines of a diff": lambda v: f"+ {v[:5]}\n+ {v[5:]}",
    "over two lines, in JSON": lambda v: json.dumps(f"{v[:5]}\r\n{v[5:]}"),
    "over two literals": lambda v: f'"{v[:4]}" + "{v[4:]}"',
    "HTML by numbers": lambda v: "".join(f"&#{ord(c)};" for c in v),
    "HTML by hex numbers": lambda v: "".join(f"&#x{ord(c):x};" for c in v),
    "escapes of ES6": lambda v: "".join(f"\\u{{{ord(c):x}}}" for c in v),
    "escapes of C, mixed": lambda v: "".join(f"\\x{b:02X}" if b % 2 else f"\\x{b:02x}" for b in v.encode()),
    "octal": lambda v: "".join(f"\\{b:03o}" for b in v.encode()),
    "octal in JSON": lambda v: json.dumps("".join(f"\\{b:03o}" for b in v.encode())),
    "percent of what needs none": lambda v: urllib.parse.quote(v).replace("-", "%2d").replace("o", "%6F"),
    "percent twice": lambda v: urllib.parse.quote(urllib.parse.quote(v).replace("-", "%2d")),
    "bytes in JSON": lambda v: json.dumps(list(v.encode())),
    "bytes in JSON, indented": lambda v: json.dumps({"k": [0, *v.encode()]}, indent=4),
    "bytes in JSON in JSON": lambda v: json.dumps(json.dumps(list(v.encode()), indent=2)),
    "bytes of Python": lambda v: str(list(v.encode())).replace(" ", "\n"),
    "bytes of Go": lambda v: "[]byte{" + wrapped(", ".join(f"0x{b:x}" for b in v.encode()), 48, "\n\t") + "}",
    "bytes, separated by spaces": lambda v: " ".join(map(str, v.encode())),
}


@pytest.mark.parametrize("value", [PLAIN, PLAIN * 3, 'pa$$-"w\\rd"/9&<'], ids=["plain", "long", "hard"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_value_is_found_however_lines_and_programs_break_it(broken: str, value: str) -> None:
    exact = Exact([("env:A", value)])
    text = f"x {BROKEN[broken](value)} y"
    assert exact.found(text.encode())
    left, _ = masked(exact, text, lambda _: MARK)
    assert not exact.found(left.encode())
    assert value[4:10] not in left
    assert not re.search(re.escape(value[:4]) + r"\W+" + re.escape(value[4:8]), left)
    assert left.startswith("x ")
    assert left.endswith(" y")


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("at", [1, 5, 11])
def test_another_value_broken_alike_is_left_alone(broken: str, at: int) -> None:
    other = PLAIN[:at] + "#" + PLAIN[at + 1 :]
    assert not Exact([("env:A", PLAIN)]).found(BROKEN[broken](other).encode())


@given(st.integers(1, len(PLAIN) - 1), st.sampled_from(["\n", "\r\n", "\\n", "\n+", "\n  > ", "=\n"]))
def test_wherever_a_line_breaks_within_a_value_it_is_found_and_the_lines_around_stay(at: int, between: str) -> None:
    exact = Exact([("env:A", PLAIN)])
    text = f"one\n{PLAIN[:at]}{between}{PLAIN[at:]}\ntwo\n"
    assert masked(exact, text, lambda _: MARK) == (f"one\n{MARK}\ntwo\n", 1)


@pytest.mark.parametrize("broken", ["bytes in JSON", "xxd", "hexdump -C", "bytes of Go", "hex in a certificate"])
@pytest.mark.parametrize("before", [32_760, 65_536 + 7, 200_000])
def test_in_a_list_or_dump_without_end_a_value_is_found_wherever_it_stands(broken: str, before: int) -> None:
    text = BROKEN[broken]("." * before + PLAIN + "." * 40_000).encode()
    assert Exact([("env:A", PLAIN), ("file:key", KEY)]).found(text)


def test_ordinary_text_is_looked_through_once_more_only_where_something_may_stand() -> None:
    text = b"def found(self, data: bytes) -> bool:\n    return self.horses[data] != 'x'\n" * 100_000
    exact = Exact([(f"env:{i}", f"value-number-{i:05}-of-many") for i in range(20)])
    times = []
    for _ in range(3):
        started = time.process_time()
        assert not exact.found(text)
        times.append(time.process_time() - started)
    assert len(text) / min(times) > 30e6


@pytest.mark.parametrize(
    "unit", [b"corr", b"3,", b"63 ", b"\\x63", b"%63", b"00000000: 63 6f 72 72\n", b"\n+", b"Y29y"]
)
def test_beginnings_without_end_take_linear_time(unit: bytes) -> None:
    exact = Exact([("env:A", PLAIN), ("env:B", HARD), ("file:key", KEY)])

    def taken(size: int) -> float:
        started = time.process_time()
        exact.find((unit * size)[:size])
        return time.process_time() - started

    assert taken(1 << 21) < max(taken(1 << 18) * 20, 0.5)


@pytest.mark.parametrize("unit", [b"%63", b"\\u0063", b"1,", b"63 ", b"corr", b"00000000: 63 6f 72 72\n"])
def test_the_time_is_asked_for_in_every_view(unit: bytes) -> None:
    asked = [time.process_time()]
    for _ in Exact([("env:A", PLAIN), ("env:B", HARD)]).hits(unit * 300_000, lambda: asked.append(time.process_time())):
        pass
    asked.append(time.process_time())
    assert max(later - earlier for earlier, later in pairwise(asked)) < 3


@given(before=st.binary(max_size=7), after=st.binary(max_size=7), urlsafe=st.booleans())
def test_base64_leaves_no_bit_of_a_value_wherever_it_begins(before: bytes, after: bytes, urlsafe: bool) -> None:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    text = encode(before + PLAIN.encode() + after).decode()
    (start, *_), *_ = hits = Exact([("env:A", PLAIN)]).find(text.encode())
    assert len({hit.value for hit in hits}) == 1
    end = max(hit.end for hit in hits)
    # Characters that hold any bit of the value's first and last byte are gone.
    assert start <= len(before) * 8 // 6
    assert end >= -(-(len(before) + len(PLAIN)) * 8 // 6)


@given(at=st.integers(0, len(PLAIN) - 1), spelling=st.sampled_from(["as it is", "hex", "base64", "URL in URL"]))
def test_a_value_with_one_character_changed_is_another(at: int, spelling: str) -> None:
    other = PLAIN[:at] + ("#" if PLAIN[at] != "#" else "+") + PLAIN[at + 1 :]
    assert not Exact([("env:A", PLAIN)]).found(SPELLINGS[spelling](other).encode())


@given(st.text(min_size=SHORTEST, max_size=40), st.integers(0, 4))
def test_any_text_is_found_in_json_in_json(value: str, levels: int) -> None:
    exact = Exact([("env:A", value)])
    if len(value.strip("\r\n\t ")) >= SHORTEST:
        assert exact.found(within(levels)(value).encode())
        assert exact.found(within(levels, ascii=False)(value).encode())


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_value_spelled_in_needless_escapes_is_found(levels: int) -> None:
    text = "".join(f"\\u{ord(c):04x}" for c in PLAIN)
    text = within(levels - 1)(f'"{text}"')
    left, count = masked(Exact([("env:A", PLAIN)]), f"x {text} y", lambda _: MARK)
    assert count == 1
    assert "\\u0063" not in left
    assert left.startswith("x ")
    assert left.endswith(" y")


def test_lines_of_a_key_are_found_apart_as_a_diff_shows_them() -> None:
    exact = Exact([("file:key", KEY)])
    diff = "".join(f"+    {line}\r\n" for line in KEY.split("\n"))
    left, count = masked(exact, diff, lambda _: MARK)
    assert (left, count) == (f"+    {MARK}\r\n", 1)
    left, count = masked(exact, diff.replace("    ", "    12: "), lambda _: MARK)
    assert (left, count) == (f"+    12: {MARK}\r\n" * 10, 10)


def test_a_value_within_another_leaves_nothing_of_the_longer() -> None:
    exact = Exact([("a", "inner-secret"), ("b", "outer-inner-secret-outer")])
    left, count = masked(exact, "x outer-inner-secret-outer y inner-secret", lambda value: f"⟦{len(value)}⟧")
    assert (left, count) == ("x ⟦24⟧ y ⟦12⟧", 2)


def test_values_that_overlap_are_both_gone() -> None:
    exact = Exact([("a", "alpha-bravo"), ("b", "bravo-delta")])
    left, count = masked(exact, "x alpha-bravo-delta y", lambda _: MARK)
    assert left == f"x {MARK} y"
    assert count == 1


def test_values_that_begin_alike_are_told_apart() -> None:
    start = "the same first twenty-four characters "
    exact = Exact([("a", start + "one"), ("b", start + "two")])
    assert [hit.value for hit in exact.find((start + "two").encode())] == [start + "two"]
    assert not exact.found((start + "six").encode())


def test_what_surrounds_a_secret_in_its_file_does_not_hide_it() -> None:
    assert Exact([("file:a", f"{PLAIN}\n")]).found(f"key={PLAIN};".encode())


@pytest.mark.parametrize("value", ["", "short", "seven77", "   \n  \n  ", "      ab"])
def test_a_value_too_short_is_not_looked_for(value: str) -> None:
    exact = Exact([("a", value)])
    assert not exact
    assert not exact.found(f"x{value}y".encode() * 3)


def test_a_secret_that_is_no_text_is_refused_and_not_repeated() -> None:
    with pytest.raises(Malformed, match="env:A") as refused:
        Exact([("env:A", os.fsdecode(b"hunter2\xffhunter2"))])
    assert "hunter2" not in str(refused.value)


def test_half_a_surrogate_pair_breaks_nothing() -> None:
    assert masked(Exact([("a", PLAIN)]), f"\ud800 {PLAIN}", lambda _: MARK) == (f"\ud800 {MARK}", 1)


def test_many_values_are_found_in_one_pass() -> None:
    values = [(f"env:{i}", f"value-number-{i:05}-of-many") for i in range(300)]
    exact = Exact(values)
    text = json.dumps([value for _, value in values]).encode()
    assert {hit.value for hit in exact.find(text)} == {value for _, value in values}
    assert not exact.found(text.replace(b"-of-", b"-or-"))


def test_the_version_tells_how_many_values_there_are_and_nothing_of_them() -> None:
    assert Exact([("a", PLAIN)]).version == Exact([("b", PLAIN[::-1])]).version
    assert Exact([("a", PLAIN)]).version != Exact([]).version
