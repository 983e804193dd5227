"""Formats that a pattern alone can't tell: what is inside must be looked at.

Private keys in PEM and OpenPGP armour are taken whole, with a newline in any spelling, cut off or not.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType

from policies.redaction.detector import Detector, Found
from policies.redaction.likely import entropy, password, strong
from policies.redaction.patterns import compiled

LONGEST_KEY = 24_576
"""Bytes of the longest armoured key that is looked for, escapes included: RSA of 16,384 bits is 12,700 characters."""

_BEGIN = compiled("-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----", "begin")
_END = compiled("-----END (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----", "end")
_BETWEEN = r"(?:[\s\"'+>|,.&;-]|\\{1,8}[nrt]|\\+|%0[AaDd]|&#10;|u000[aAdD])"
_BODY = compiled(
    f"(?:{_BETWEEN}*(?:Proc-Type|DEK-Info|Version|Comment)[^\\n\\\\]*)*"
    f"(?:{_BETWEEN}*[0-9A-Za-z+/=]{{20,}})+(?:{_BETWEEN}*[0-9A-Za-z+/]+={{1,2}})?",
    "body",
)
_BASE64 = re.compile(rb"[0-9A-Za-z+/=]{24,}")
# Words of sentences that no list of BIP 39 has.
_SENTENCE = frozenset(
    b"the and for are was not but you with from have has its which into than them were where your our their been "
    b"such must should does may how who these those before his her him".split()
)
_WORDS = re.compile(rb"[a-z]+")
_NUMBERS = re.compile(rb"0x([0-9a-fA-F]{1,2})|\\x([0-9a-fA-F]{2})|([0-9]{1,3})")
_GENERIC = (
    b"user users username runner ubuntu root node app admin shared public default guest nobody vagrant docker jenkins "
    b"me you someone somebody name your-name yourname vscode circleci travis work data ec2-user debian pi git www test "
    b"foo bar linuxbrew codespace sandbox build builder agent dev"
)
_NOBODY = frozenset(_GENERIC.split())
_NO_MAIL = re.compile(
    rb"(?i)@(?:[a-z0-9-]+\.)*(?:example\.(?:com|org|net)|example|test|invalid|localhost|users\.noreply\.github\.com)$"
    rb"|^(?:git|no-?reply|postmaster|root|user|name|you|foo|someone|test)@"
    rb"|\.(?:png|jpe?g|gif|svg|webp|js|css|py|so|html?)$"
)


def armoured(text: bytes) -> Iterator[Found]:
    """Private keys between their markers; without the second, as far as their base64 goes."""
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        at = begin.end()
        following = _BEGIN.search(text, at)
        limit = following.start() if following else len(text)
        end = _END.search(text, at, limit)
        if end is not None and sum(map(len, _BASE64.findall(text, at, end.start()))) >= 40:
            at = end.end()
            yield Found(begin.start(), at, "private-key")
        elif (body := _BODY.match(text, at, limit)) is not None:
            at = body.end()
            yield Found(begin.start(), at, "private-key")


def basic(value: bytes) -> bool:
    """Whether a value is the base64 of a user's name and password (RFC 7617)."""
    try:
        plain = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False
    _, colon, secret = plain.partition(b":")
    return bool(colon) and len(secret) >= 3 and all(byte >= 32 and byte != 127 for byte in plain)


def auth(value: bytes) -> bool:
    """Whether a member named `auth` holds a user's name and password, or a token."""
    return strong(value) or (basic(value) and base64.b64decode(value + b"=" * (-len(value) % 4)).isascii())


def mnemonic(value: bytes) -> bool:
    """Whether words are those of a seed (BIP 39): twelve, hardly any twice, none that only sentences need."""
    words = _WORDS.findall(value)
    first = words[:12]
    return len(first) == 12 and len(set(first)) >= 11 and not _SENTENCE.intersection(first)


def byte_array(value: bytes) -> bool:
    """Whether numbers are the bytes of a key: as many, below 256, in no order."""
    numbers = [int(m[1] or m[2], 16) if m[1] or m[2] else int(m[3]) for m in _NUMBERS.finditer(value)]
    if len(numbers) < 8 or max(numbers) > 255 or len(set(numbers)) * 2 < len(numbers):
        return False
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    return len(steps) > len(numbers) // 3 and max(numbers) > 64 and entropy(bytes(numbers)) >= 2.5


def home(value: bytes) -> bool:
    """Whether a home directory is that of a person."""
    name = re.split(rb"[/\\]+", value)[-1]
    return name.lower() not in _NOBODY and not name.startswith((b"$", b"<", b".", b"{")) and password(name + b"0-9")


def user(value: bytes) -> bool:
    """Whether a user's name is that of a person."""
    return value not in _NOBODY


def email(value: bytes) -> bool:
    """Whether an address is that of somebody."""
    return _NO_MAIL.search(value) is None


def title(value: bytes) -> bool:
    """Whether hex digits are a title's: of full length, and not all zeros behind the prefix."""
    return len(value) == 16 and len(set(value[4:].lower())) >= 3


CHECKS: Mapping[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        "basic": basic,
        "auth": auth,
        "mnemonic": mnemonic,
        "bytes": byte_array,
        "home": home,
        "user": user,
        "email": email,
        "title": title,
    }
)
"""By the names that rules use."""

DETECTORS = (
    Detector(
        "armoured-private-key",
        ("private-key",),
        (b"private key-----", b"private key block-----"),
        96,
        LONGEST_KEY,
        armoured,
        weight=5,
        tail=False,
    ),
)
