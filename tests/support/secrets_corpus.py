"""Made-up secrets planted in texts of the kinds that pass through a gateway, and whether a detector hid them.

Everything comes from a seed. `planted` gives the texts with the places of what must not leave; `leaked` is the one
judge of both our scanner and others'.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple

from tests.support.secret_kinds import KINDS, Kind, draw
from tests.support.secret_values import CLOSE, OPEN

PLACEMENTS = ("raw", "json", "json twice", "diff", "tool output", "source")
SHOWN = 8
"""Consecutive characters of a secret that must not remain; of shorter ones, half."""


class Planted(NamedTuple):
    """A text that holds one secret.

    Attributes:
        kind, placement: of the secret, and where it stands.
        ending: of the file's name that such a text would have.
        text: the whole.
        places: byte ranges of what must not leave; more than one where lines are prefixed.
    """

    kind: str
    placement: str
    ending: str
    text: bytes
    places: tuple[tuple[int, int], ...]


def planted(seed: int = 0, each: int = 6, *, held_out: bool = False) -> Iterator[Planted]:
    """So many secrets of each kind, each in every placement; `held_out`: in lines that rules were not written by."""
    for kind in KINDS:
        chance = Random(f"{seed} {kind.name}")
        for number in range(each):
            value, line = draw(kind, chance, number, held_out=held_out)
            yield _settled(kind, "raw", "txt", line)
            yield _settled(kind, "json", "json", _json(line, number))
            yield _settled(kind, "json twice", "json", _twice(line))
            yield _settled(kind, "diff", "diff", _diff(line, number))
            yield _settled(kind, "tool output", "log", _output(kind, value, line, number))
            ending, text = _source(kind, value, line, chance.randrange(len(_LANGUAGES)))
            yield _settled(kind, "source", ending, text)


def leaked(one: Planted, masked: Iterable[tuple[int, int]]) -> bool:
    """Whether too much of a secret remains when these byte ranges are masked."""
    spans = sorted(masked)
    for start, end in one.places:
        most = min(SHOWN, (end - start + 1) // 2)
        at = start
        for left, right in spans:
            if right <= at or left >= end:
                continue
            if left - at >= most:
                return True
            at = max(at, right)
        if end - at >= most:
            return True
    return False


def _settled(kind: Kind, placement: str, ending: str, text: str) -> Planted:
    """A text without the marks, and where they were."""
    content, places, start = bytearray(), [], 0
    for char in text:
        if char == OPEN:
            start = len(content)
        elif char == CLOSE:
            if len(content) > start:
                places.append((start, len(content)))
        else:
            content += char.encode()
    return Planted(kind.name, placement, ending, bytes(content), tuple(places))


def _lines(text: str) -> list[str]:
    """Lines, each with marks of its own where a marked text spans several."""
    lines, inside = [], False
    for line in text.split("\n"):
        begun = OPEN + line if inside else line
        inside = begun.count(OPEN) > begun.count(CLOSE)
        lines.append(begun + CLOSE if inside else begun)
    return lines


# --- JSON, diffs, output ---------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(line: str, number: int) -> str:
    """An item of a request; as some encoders do, with escapes that JSON does not need."""
    item = {"type": "function_call_output", "call_id": f"call_{number:024x}", "output": line}
    text = json.dumps(item, ensure_ascii=False)
    if number % 5 == 3:
        text = text.replace("/", "\\/")
    if number % 5 == 4:
        text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return text


def _twice(line: str) -> str:
    inner = json.dumps({"command": ["bash", "-lc", line], "workdir": "/srv/app"}, ensure_ascii=False)
    item = {"type": "function_call", "name": "shell", "arguments": inner, "status": "completed"}
    return json.dumps(item, ensure_ascii=False)


def _diff(line: str, number: int) -> str:
    sign = "+-"[number % 2]
    changed = "\n".join(sign + part for part in _lines(line))
    return (
        "diff --git a/deploy/settings b/deploy/settings\nindex 3b18e51..9daeafb 100644\n"
        "--- a/deploy/settings\n+++ b/deploy/settings\n@@ -12,6 +12,7 @@ settings\n"
        f" region = eu\n{changed}\n retries = 3\n"
    )


def _output(kind: Kind, value: str, line: str, number: int) -> str:
    which = number % 4
    if which == 0:
        return f"$ ./deploy.sh --env staging\n[12:01:07] loading settings\n{line}\n[12:01:09] done in 1.8s\n$ "
    if which == 1 and kind.field:
        return f"SHELL=/bin/bash\nPWD=/srv/app\nHOSTNAME=build-7\n{kind.field}={value}\nLANG=C.UTF-8\nSHLVL=1\n"
    if which == 1:
        return "\n".join(f"2026-03-04T12:01:0{n % 10}Z worker[31]: {part}" for n, part in enumerate(_lines(line)))
    if which == 2 and kind.field:
        header = kind.field.title().replace("_", "-")
        return (
            "*   Trying 10.1.2.3:443...\n* Connected to api.acme.internal (10.1.2.3) port 443\n"
            "> GET /v1/items HTTP/1.1\n> Host: api.acme.internal\n> User-Agent: curl/8.5.0\n> Accept: */*\n"
            f"> {header}: {value}\n>\n< HTTP/1.1 200 OK\n"
        )
    where = 'Traceback (most recent call last):\n  File "/srv/app/main.py", line 31, in main\n    connect(settings)\n'
    if kind.field:
        shown = value.replace("\n", "\\n")
        return where + f"SettingsError: refused by server: {{'{kind.field}': '{shown}', 'retries': 3}}\n"
    return where + f"subprocess.CalledProcessError: status 1\n{line}\n"


# --- Source files ----------------------------------------------------------------------------------------------


def _joined(text: str) -> str:
    """Adjacent literals, a line of the text each, as C, and with `+` Java, have it."""
    lines = _lines(text)
    parts = [_quoted(line + "\n")[:-1] + '"' for line in lines[:-1]] + [_quoted(lines[-1])]
    return "\n    ".join(parts)


def _python(name: str, text: str) -> str:
    literal = f'"""{text}"""' if "\n" in text else _quoted(text)
    name = name.upper()
    return f"from acme import Client\n\n{name} = {literal}\n\n\ndef main() -> None:\n    Client({name}).run()\n"


def _javascript(name: str, text: str) -> str:
    literal = f"`{text}`" if "\n" in text else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    name = _camel(name)
    return f"const acme = require('acme');\n\nconst {name} = {literal};\n\nmodule.exports = acme.connect({name});\n"


def _go(name: str, text: str) -> str:
    literal = f"`{text}`" if "\n" in text else _quoted(text)
    name = _camel(name)
    start = 'package main\n\nimport "acme.internal/client"\n\n'
    return f"{start}const {name} = {literal}\n\nfunc main() {{\n\tclient.Run({name})\n}}\n"


def _java(name: str, text: str) -> str:
    literal = _joined(text).replace("\n", " +\n    ")
    return f"package acme;\n\npublic final class Settings {{\n    static final String {name.upper()} = {literal};\n}}\n"


def _yaml(name: str, text: str) -> str:
    block = "|\n    " + "\n    ".join(_lines(text)) if "\n" in text else _quoted(text)
    return f"service:\n  replicas: 2\n  {name.lower()}: {block}\n  region: eu\n"


def _toml(name: str, text: str) -> str:
    literal = f'"""\n{text}"""' if "\n" in text else _quoted(text)
    return f'[service]\nreplicas = 2\n{name.lower()} = {literal}\nregion = "eu"\n'


def _env(name: str, text: str) -> str:
    bare = text.replace(OPEN, "").replace(CLOSE, "")
    value = _quoted(text) if any(c in bare for c in "\n \"'#$") else text
    return f"# staging\nREGION=eu\n{name.upper()}={value}\nRETRIES=3\n"


def _dockerfile(name: str, text: str) -> str:
    return f"FROM debian:12\nENV REGION=eu\nENV {name.upper()}={_quoted(text)}\nRUN make install\n"


def _c(name: str, text: str) -> str:
    name = name.lower()
    start = f"#include <acme.h>\n\nstatic const char *{name} =\n    {_joined(text)};\n\n"
    return start + f"int main(void) {{ return acme_run({name}); }}\n"


def _shell(name: str, text: str) -> str:
    literal = "'" + text.replace("'", "'\\''") + "'"
    return f"#!/bin/sh\nset -eu\n{name.upper()}={literal}\nexport {name.upper()}\n./run.sh\n"


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(part.title() for part in rest)


_LANGUAGES: tuple[tuple[str, Callable[[str, str], str]], ...] = (
    ("py", _python),
    ("js", _javascript),
    ("go", _go),
    ("java", _java),
    ("yaml", _yaml),
    ("toml", _toml),
    ("env", _env),
    ("Dockerfile", _dockerfile),
    ("c", _c),
    ("sh", _shell),
)


def _source(kind: Kind, value: str, line: str, language: int) -> tuple[str, str]:
    """A file of some language that holds the value in a variable, or the line of its use in a literal."""
    if kind.name == "byte-array":
        return "c", f'#include "config.h"\n\n{line}\n\nint main(void) {{ return run(); }}\n'
    ending, write = _LANGUAGES[language]
    if kind.field:
        return ending, write(kind.field, value)
    return ending, write("USAGE", line)
