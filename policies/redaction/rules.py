"""Rules as data: a pattern, the keywords without which it can't match, and what its secret must look like.

Patterns run on RE2, in time linear in the text, and only in windows around their keywords, which one automaton
(Aho-Corasick, a DFA) finds in one pass. A counted repetition before the first literal makes RE2 build states without
end: patterns begin with what names the secret.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from blake3 import blake3

from policies.redaction import likely, structured
from policies.redaction.detector import Detector, Found
from policies.redaction.patterns import Pattern, compiled
from policies.redaction.pseudonym import KIND
from schemas.errors import Malformed

_FILES = ("cloud", "models", "hosting", "services", "text", "personal", "console")
_WORD = r"(?:^|[^0-9A-Za-z]|\\[nrt])"
_END = r"(?:[^0-9A-Za-z]|$)"
# Between what names a key and the key: `…_API_TOKEN"] => "`, `-key: `, ` secret is `; no other value in between.
_TO = (
    r"[0-9A-Za-z_ .\x60'\"\])/-]{0,40}?"
    r"(?:=|:|=>|:=|,|\(|>|[ \t]|\b(?:is|ist|est|es|to)\b)"
    r"(?:[ \t]{0,8}(?:[A-Za-z]{0,12}\()?[brfuL@]?[\"'\x60]{0,3}|[ \t]{0,8}\r?\n[ \t]{0,24}[\"'\x60])"
)
_AROUND = 96
"""Bytes beside a secret that tell whether it stands within base64."""
_LAST_RUN = compiled(r"[0-9A-Za-z+/]{16,}$", "last run")
_NEXT_RUN = compiled(r"(?:[+/]|\r?\n|\\n)([0-9A-Za-z+/]{16,})", "next run")
# What stands in the place of what was masked.
PSEUDONYM = compiled(rf"(?:⟦|\\+u27[eE]6){KIND}:[A-Z2-7]{{16}}(?:⟧|\\+u27[eE]7)", "pseudonym")
"""Where it stands as it is, and in JSON that is all ASCII."""

CHECKS = MappingProxyType({**likely.CHECKS, **structured.CHECKS})
"""What a secret must look like, by the names that rules use."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule, as it is written in TOML.

    Attributes:
        id: its name.
        kind: of what it finds.
        keywords: one of them stands in the window, in any case; none named: all text is looked through, as it stands.
        token: pattern of the secret itself, which has a form that nothing else has. Or:
        near: pattern, in any case, of what names the secret, which follows as:
        value: pattern of the secret, where its name stands before it. Or:
        pattern: the whole, whose group is the secret.
        group: of `pattern`; where it took no part in the match, the next group that did.
        check: what the secret must look like; see `CHECKS`.
        needs: pattern, fast, without which the other can't match in a window.
        unless: pattern; what it matches, before the secret or in it, is none.
        before, after: bytes around a keyword that the pattern must see.
        lone: whether `token` has letters and digits only, so that chance writes it into a long base64 text: none is
            found within one.
        wraps: whether `token` is looked for across line breaks too.
        lines, weight: see `Detector`.
        examples, misses: texts in which it finds something, and nothing; see `examples`.
        source: where the vendor describes the format.
    """

    id: str
    kind: str
    keywords: list[str]
    token: str | None = None
    near: str | None = None
    value: str | None = None
    pattern: str | None = None
    group: int = 1
    check: str = "token"
    needs: str | None = None
    unless: str | None = None
    before: int = 24
    after: int = 400
    lone: bool = False
    wraps: bool = True
    lines: bool = False
    weight: int = 2
    examples: list[str] = []
    misses: list[str] = []
    source: str = ""

    def whole(self) -> str:
        """The pattern that runs.

        Raises:
            Malformed: the rule has none, or several.
        """
        forms = [form for form in (self.token, self.near, self.pattern) if form is not None]
        if len(forms) != 1 or (self.near is None) != (self.value is None):
            raise Malformed(f"rule {self.id}: it has one of token, pattern, or near with value")
        if self.token is not None:
            return f"{_WORD}({self.token})"
        if self.near is not None:
            return f"(?i:{self.near}){_TO}({self.value}){_END}"
        return self.pattern or ""


class RuleSet(NamedTuple):
    """Rules that run.

    Attributes:
        detectors: one for each rule.
        version: BLAKE3 of the rules as they are written, hex.
    """

    detectors: tuple[Detector, ...]
    version: str

    @property
    def kinds(self) -> frozenset[str]:
        """What they may find."""
        return frozenset(kind for detector in self.detectors for kind in detector.kinds)

    def joined(self, other: "RuleSet") -> "RuleSet":
        """Both sets' rules."""
        version = blake3(f"{self.version} {other.version}".encode()).hexdigest()
        return RuleSet(self.detectors + other.detectors, version)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    rule: list[Rule]


def detector(rule: Rule) -> Detector:
    """What runs for a rule.

    Raises:
        Malformed: the rule makes no sense; names it.
    """
    check = CHECKS.get(rule.check)
    if check is None:
        raise Malformed(f"rule {rule.id}: no check is named {rule.check[:40]!r}", hint=f"one of {', '.join(CHECKS)}")
    if not all(rule.keywords):
        raise Malformed(f"rule {rule.id}: it has an empty keyword", hint="a literal that every match holds")
    pattern = compiled(rule.whole(), rule.id)
    group = rule.group if rule.pattern is not None else 1
    if not 0 <= group <= pattern.groups:
        raise Malformed(f"rule {rule.id}: its pattern has no group {group}")
    needs = None if rule.needs is None else compiled(rule.needs, rule.id)
    unless = None if rule.unless is None else compiled(rule.unless, rule.id)
    return Detector(
        rule.id,
        (rule.kind,),
        tuple(dict.fromkeys(word.lower().encode() for word in rule.keywords)),
        max(rule.before, _AROUND) if rule.lone else rule.before,
        rule.after + _AROUND if rule.lone else rule.after,
        _finder(_Parts(pattern, group, check, needs, unless, rule.kind, rule.lone)),
        wraps=rule.wraps and rule.token is not None,
        lines=rule.lines,
        weight=rule.weight + (rule.token is not None),
    )


class _Parts(NamedTuple):
    """A rule, compiled; see `Rule`."""

    pattern: Pattern
    group: int
    check: Callable[[bytes], bool]
    needs: Pattern | None
    unless: Pattern | None
    kind: str
    lone: bool


def _finder(rule: _Parts) -> Callable[[bytes], Iterator[Found]]:
    pattern, group, check, needs, unless, kind, lone = rule
    groups = tuple(range(group, pattern.groups + 1)) if group else (0,)

    def find(text: bytes) -> Iterator[Found]:
        if needs is not None and needs.search(text) is None:
            return
        at = 0
        while (match := pattern.search(text, at)) is not None:
            start, end = next((span for span in map(match.span, groups) if span[0] >= 0), match.span())
            # The sign that ends one secret may be the one before the next.
            at = max(end, match.start() + 1)
            if end == start or not check(text[start:end]):
                continue
            if lone and _within_base64(text, start, end):
                continue
            if unless is None or unless.search(text[max(match.start() - 40, 0) : end]) is None:
                yield Found(start, end, kind)

    return find


def _within_base64(text: bytes, start: int, end: int) -> bool:
    """Whether base64 goes on before or behind a stretch, across a `+` or `/` or to the next of its lines."""
    before, after = text[max(start - 80, 0) : start], text[end : end + 80]
    glued, broken = before.endswith((b"+", b"/")), before.endswith((b"\n", b"\\n"))
    if glued or broken:
        run = _LAST_RUN.search(before.removesuffix(b"\n").removesuffix(b"\\n").removesuffix(b"\r"))
        if run is not None and (broken or likely.random(run[0])):
            return True
    run = _NEXT_RUN.match(after)
    return run is not None and likely.random(run[1])


def rule_set(text: bytes, where: str) -> RuleSet:
    """Rules in our own form, TOML.

    Args:
        where: the file's name, for messages.

    Raises:
        Malformed: they are none; names the rule.
    """
    try:
        rules = msgspec.convert(tomllib.loads(text.decode()), _File).rule
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise Malformed(
            f"{where}: {str(error)[:200]}", hint="rules in TOML: [[rule]], id, kind, keywords, token"
        ) from None
    if len({rule.id for rule in rules}) != len(rules):
        raise Malformed(f"{where}: two rules have one id")
    return RuleSet(tuple(map(detector, rules)), blake3(text).hexdigest())


def texts() -> Mapping[str, bytes]:
    """Our own rules as they are written, by the file's name."""
    folder = files("policies").joinpath("data", "redaction")
    return MappingProxyType({name: folder.joinpath(f"{name}.toml").read_bytes() for name in _FILES})


@cache
def shipped() -> RuleSet:
    """Our own rules."""
    sets = [rule_set(text, name) for name, text in texts().items()]
    version = blake3(" ".join(one.version for one in sets).encode()).hexdigest()
    return RuleSet(tuple(detector for one in sets for detector in one.detectors), version)
