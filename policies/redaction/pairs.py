"""Name and value in members of their own, as Kubernetes, ECS, CI systems, HCL and XML write an environment.

`- name: X_TOKEN` above `value: …` says what `X_TOKEN=…` says, in either order and with a scalar or two in between: it
is put into one line, and judged as that line is.
"""

from collections.abc import Callable, Iterator
from itertools import chain

from blake3 import blake3

from policies.redaction.detector import Detector, Found
from policies.redaction.patterns import compiled

_Q = "[\"'`]?"
# Between two members: what JSON, YAML, HCL and XML put there, with line breaks.
_GAP = r"(?:[ \t\r\n,;+>|-]|</?[A-Za-z]+>){1,48}"
_IS = r"[ \t]*(?:[:=]|=>)[ \t]*"
_SCALAR = (
    rf"(?:{_Q}[A-Za-z_]+{_Q}{_IS}(?:\"[^\"\n]*\"|'[^'\n]*'|[A-Za-z0-9_.-]+)"
    rf"(?:[ \t\r\n,;+>|-]|</?[A-Za-z]+>)+){{0,2}}"
)
_NAMED = r"(?i:name|key|variable|var|envvar|env_var|id)"
_VALUED = r"(?i:value|val|defaultvalue|default_value|plaintext|content|secret)"
_NAME = "([A-Za-z][0-9A-Za-z_.:/-]+)"
# Without quotes, in YAML: where no space follows the sign, it is a program's.
_QUOTED = r"(?:\"([^\"\n⟦⟧]{3,})\"|'([^'\n⟦⟧]{3,})')"
_BARE = r"[ \t]*:[ \t]+([^\s\"'⟦⟧<>{}\[\],;][^\s\"'⟦⟧<>{}\[\],;]{2,})"
_VALUE = f"(?:{_IS}{_QUOTED}|{_BARE})"
_BEFORE = rf"(?:^|[^0-9A-Za-z_]){_Q}"
_NAME_FIRST = compiled(
    f"{_BEFORE}{_NAMED}{_Q}{_IS}{_Q}{_NAME}{_Q}{_GAP}{_SCALAR}{_Q}{_VALUED}{_Q}{_VALUE}", "name and value"
)
_VALUE_FIRST = compiled(
    f"{_BEFORE}{_VALUED}{_Q}{_VALUE}{_GAP}{_SCALAR}{_Q}{_NAMED}{_Q}{_IS}{_Q}{_NAME}(?:[^0-9A-Za-z_.:/-]|$)",
    "value and name",
)
_ELEMENTS = compiled(
    rf"<{_NAMED}>\s*{_NAME}\s*</[A-Za-z]+>\s*<{_VALUED}>\s*([^<>⟦⟧]{{3,}})</",
    "elements",
)
_NEEDS = compiled(rf"{_NAMED}{_Q}[ \t]*[:=]|<{_NAMED}>", "a name")
_SENSITIVE = compiled(
    r"(?i)pass|pwd|_pw|secret|token|key|cred|auth|salt|seed|dsn|conn|ur[il]|cert|cookie|session|sid|pin|license|webhook",
    "sensitive",
)
_UNDERLINED = bytes.maketrans(b".:/-", b"____")

ID = "named-value"
"""Of the one rule that is here."""

_KNOWN = 4096
"""Pairs whose kind is remembered: each is seen in several spellings of its window."""

_KEYWORDS = ("value", "plaintext", "content", "secret")
_FOLLOWED = ('"', "'", ":", "=", " =", "  ", ">")


def named(judge: Callable[[bytes], str | None], kinds: tuple[str, ...]) -> Detector:
    """What finds values by their names.

    Args:
        judge: the kind of secret that a line such as `X_TOKEN=…` holds; None: it holds none.
        kinds: that it may tell.
    """
    known: dict[bytes, str | None] = {}

    def judged(name: bytes, value: bytes) -> str | None:
        # By digest: what was judged may be a secret, and is not to lie about.
        which = blake3(name + b"=" + value).digest(16)
        if which not in known:
            if len(known) >= _KNOWN:
                known.clear()
            known[which] = judge(name + b"=" + value) or judge(name + b'="' + value + b'"')
        return known[which]

    def find(text: bytes) -> Iterator[Found]:
        if _NEEDS.search(text) is None:
            return
        first = ((match, 1, (2, 3, 4)) for match in _NAME_FIRST.finditer(text))
        second = ((match, 4, (1, 2, 3)) for match in _VALUE_FIRST.finditer(text))
        third = ((match, 1, (2,)) for match in _ELEMENTS.finditer(text))
        for match, name, values in chain(first, second, third):
            start, end = next(span for span in map(match.span, values) if span[0] >= 0)
            if _SENSITIVE.search(match[name]) is None:
                continue
            kind = judged(match[name].translate(_UNDERLINED), text[start:end].strip())
            if kind is not None:
                yield Found(start, end, kind)

    keywords = tuple((word + sign).encode() for word in _KEYWORDS for sign in _FOLLOWED)
    return Detector(ID, kinds, keywords, 600, 4400, find, lines=True)
