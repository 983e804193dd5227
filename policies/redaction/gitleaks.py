"""Rules in the format of gitleaks' configuration, TOML: what people have already is of use here.

Read are id, regex, secretGroup, entropy, keywords and allowlists, in the old form and the new. A text has no commit,
and mostly no path: rules that only look at paths find nothing here and are named in `ignored`, and an allowlist that
needs a path or commit allows nothing, so that more may be found than gitleaks finds. Less is found where a match
reaches further from its keyword than the window does (8 kB), and where finds overlap: one stretch has one rule.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec
from blake3 import blake3

from policies.redaction.detector import Detector, Found
from policies.redaction.likely import entropy
from policies.redaction.patterns import Match, Pattern, compiled
from policies.redaction.rules import RuleSet
from schemas.errors import Malformed

MAX_CONFIG = 4 << 20
"""Bytes of a configuration."""

_WINDOW = 8192
_NO_KIND = re.compile(r"[^a-z0-9]+")


class Loaded(NamedTuple):
    """What a configuration holds.

    Attributes:
        rules: that run.
        ignored: for each rule that has nothing to do here, its id and why.
    """

    rules: RuleSet
    ignored: tuple[str, ...]


class _Allowlist(msgspec.Struct, frozen=True, rename="camel"):
    """Of finds that are none; unknown members, such as a description, say nothing to us."""

    condition: Literal["OR", "AND", "||", "&&", "or", "and"] = "OR"
    regexes: list[str] = []
    stopwords: list[str] = []
    paths: list[str] = []
    commits: list[str] = []
    regex_target: Literal["", "secret", "match", "line"] = ""
    target_rules: list[str] = []


class _Rule(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    regex: str | None = None
    path: str | None = None
    secret_group: int = 0
    entropy: float = 0.0
    keywords: list[str] = []
    allowlist: _Allowlist | None = None
    allowlists: list[_Allowlist] = []


class _Config(msgspec.Struct, frozen=True):
    rules: list[_Rule] = []
    allowlist: _Allowlist | None = None
    allowlists: list[_Allowlist] = []
    extend: dict[str, Any] | None = None


class _Allowed(NamedTuple):
    """An allowlist, ready to judge."""

    patterns: tuple[Pattern, ...]
    stopwords: tuple[bytes, ...]
    target: str
    needs_all: bool

    def covers(self, text: bytes, match: Match, secret: bytes) -> bool:
        if self.target == "match":
            judged = match[0]
        elif self.target == "line":
            start = text.rfind(b"\n", 0, match.start()) + 1
            end = text.find(b"\n", match.end())
            judged = text[start : end if end >= 0 else len(text)]
        else:
            judged = secret
        parts = []
        if self.patterns:
            parts.append(any(pattern.search(judged) is not None for pattern in self.patterns))
        if self.stopwords:
            parts.append(any(word in secret.lower() for word in self.stopwords))
        return bool(parts) and (all(parts) if self.needs_all else any(parts))


def load(text: bytes, where: str) -> Loaded:
    """Reads a configuration.

    Args:
        where: the file's name, for messages.

    Raises:
        Malformed: it is none, leans on another (`[extend]`), or holds a pattern that RE2 refuses; names the rule.
    """
    if len(text) > MAX_CONFIG:
        raise Malformed(f"{where}: over {MAX_CONFIG >> 20} MiB", hint="is it the right file?")
    try:
        config = msgspec.convert(tomllib.loads(text.decode("utf-8-sig")), _Config)
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise Malformed(f"{where}: {str(error)[:200]}", hint="a gitleaks configuration: [[rules]], id, regex") from None
    if config.extend:
        raise Malformed(
            f"{where}: [extend] names rules that are not in the file", hint="put them in; a rule set is what it says"
        )
    everywhere = [*config.allowlists, *([config.allowlist] if config.allowlist else [])]
    ids = [rule.id for rule in config.rules]
    if len(set(ids)) != len(ids):
        raise Malformed(f"{where}: two rules have one id")
    detectors, ignored = [], []
    for rule in config.rules:
        if rule.regex is None:
            if rule.path is None:
                raise Malformed(f"{where}: rule {rule.id[:60]} has no regex")
            ignored.append(f"{rule.id}: it looks at paths only")
            continue
        detectors.append(_detector(rule, everywhere))
    return Loaded(RuleSet(tuple(detectors), blake3(text).hexdigest()), tuple(ignored))


def _detector(rule: _Rule, everywhere: list[_Allowlist]) -> Detector:
    pattern = compiled(rule.regex or "", rule.id[:60])
    if not 0 <= rule.secret_group <= pattern.groups:
        raise Malformed(f"rule {rule.id[:60]}: its pattern has no group {rule.secret_group}")
    if pattern.fullmatch(b"") is not None:
        raise Malformed(f"rule {rule.id[:60]}: its pattern matches nothing at all", hint="it would match everywhere")
    lists = [*rule.allowlists, *([rule.allowlist] if rule.allowlist else [])]
    lists += [one for one in everywhere if not one.target_rules or rule.id in one.target_rules]
    allowed = [ready for one in lists if (ready := _allowed(one, rule.id)) is not None]
    # So that what others call `path` is no kind that comes back, or that a profile lets pass.
    kind = f"x-{_NO_KIND.sub('-', rule.id.lower())[:60].strip('-') or 'secret'}"
    words = tuple(dict.fromkeys(word.lower().encode() for word in rule.keywords if word))
    find = _finder(pattern, rule.secret_group, rule.entropy, allowed, kind)
    return Detector(rule.id, (kind,), words, _WINDOW, _WINDOW, find, tail=False)


def _allowed(one: _Allowlist, name: str) -> _Allowed | None:
    """An allowlist, as far as a text without path and commit can meet it."""
    needs_all = one.condition.upper() in ("AND", "&&")
    if needs_all and (one.paths or one.commits):
        return None
    patterns = tuple(compiled(regex, f"{name[:60]}, allowlist") for regex in one.regexes)
    words = tuple(word.lower().encode() for word in one.stopwords if word)
    return _Allowed(patterns, words, one.regex_target, needs_all)


def _finder(
    pattern: Pattern, group: int, least: float, allowed: list[_Allowed], kind: str
) -> Callable[[bytes], Iterator[Found]]:
    groups = (group,) if group else (*range(1, pattern.groups + 1), 0)

    def find(text: bytes) -> Iterator[Found]:
        for match in pattern.finditer(text):
            # Without secretGroup it is the first group that took part.
            start, end = next((span for span in map(match.span, groups) if span[1] > span[0]), (0, 0))
            secret = text[start:end]
            if not secret or (least and entropy(secret) <= least):
                continue
            if not any(one.covers(text, match, secret) for one in allowed):
                yield Found(start, end, kind)

    return find
