"""Whether a value looks like a secret: made by chance, or chosen by a person, and not part of a program."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

# Pairs of letters that make up two thirds of English and of the names in programs.
_PAIRS = (
    "th he in er re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne "
    "ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo "
    "wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld "
    "ry mp fe bl ab gh ty op wo sa ay ex ke ui fr oo ag ap ck up da ue sc ob bu bo br cl cr cu do dd du ef ei ff fa "
    "fl fu gr ga go gi gl hr ht if ip ki ks lt ls lu mb mm od og oi ok ov ph pt pu qu ru rd rm rn sp sw ub uc ug um "
    "va ws xt ye ys ze ey"
)
_COMMON = frozenset(_PAIRS.split())
_STANDS_FOR_NOTHING = re.compile(
    rb"(?i)example|sample|dummy|placeholder|changeme|redacted|your[_-]|[_-]here\b|insert|todo|\.\.\.|xxxx|\*{3}|0123456789|"
    rb"abcdefghij|1234567890abcdef|deadbeef|<[a-z _-]+>"
)
_UUID = re.compile(rb"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PATH = re.compile(rb"[./]*[A-Za-z_-]{3,}/")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_HEX = re.compile(rb"(?:0[xX])?[0-9a-f-]+|(?:0[xX])?[0-9A-F-]+")
# Names, with what programs write behind them; and words with hyphens, such as `utf-8` and `case-sensitive`.
_IDENTIFIER = re.compile(
    rb"[A-Za-z_$]+(?:(?:[.\[(:]|->|=>)[\w$.\[\]()>:*-]*)?|[A-Za-z]?[a-z]*[0-9]{0,3}(?:-(?:[a-z]+|[0-9]{1,3}))+"
)
# Digits between letters, or letters of both cases with digits: no number of a version or section.
_MIXED = re.compile(
    rb"[A-Za-z][0-9]+[A-Za-z]|[0-9][A-Za-z]+[0-9]|[a-z].*[A-Z].*[0-9]|[A-Z].*[a-z].*[0-9]|[a-z]{4,}[0-9]{2,}"
)
_TECHNICAL = re.compile(
    rb"(?i)^(?:sha|md|utf|aes|rsa|base|pbkdf|argon|bcrypt|scrypt|ed|rc|des|x|oauth|http|ipv|win|int|uint|float|utf|iso|rfc|"
    rb"cp|latin|python|py|v|es|ecma|web|arm|amd|i|tls|ssl|ntlm|crc|hmac|k)[-_]?(?:hmac)?[-_v]?[0-9]"
    rb"|[_.:/\\][a-z0-9_]*$|^[0-9]+(?:st|nd|rd|th|px|ms|s|kb|mb|gb|x)$|[a-z]\(|^--?[a-z]|://"
)
_NUMBER = re.compile(rb"0x[0-9a-fA-F]{1,8}|v?[0-9]+(?:\.[0-9]+)+")
_FILLERS = (
    b"null none nil undefined true false yes no string str int bytes password passwd secret token optional required "
    b"text unknown empty default self this test value user admin root any object number boolean void changeit pass"
)
_NOTHING = frozenset(_FILLERS.split())


def entropy(value: bytes) -> float:
    """Shannon's entropy of a value's bytes, in bits a byte."""
    length = len(value)
    return -sum(n / length * math.log2(n / length) for n in Counter(value).values()) if length else 0.0


def token(value: bytes) -> bool:
    """Whether a value of a vendor's own form is more than a pattern drawn with it: `ghp_xxxxxxxx…`."""
    counts = Counter(value[-24:] if len(value) > 24 else value)
    return len(counts) >= 5 and max(counts.values()) * 2 <= min(len(value), 24)


def random(value: bytes) -> bool:
    """Whether a value seems drawn by chance: no words, no identifier, no placeholder."""
    length = len(value)
    if length < 12 or _STANDS_FOR_NOTHING.search(value) or not token(value):
        return False
    digits = sum(48 <= byte <= 57 for byte in value)
    if digits == length or entropy(value) < (2.6 if length < 20 else 2.9):
        return False
    if _HEX.fullmatch(value):
        return True
    # The fewer digits, the fewer letters may stand together as they do in words.
    return _wordiness(value) < (1.5 if digits * 10 >= length else -1.0 if digits else -3.0)


def drawn(value: bytes) -> bool:
    """As `random`, for a value that begins with words of its vendor's."""
    return random(value[-32:])


def strong(value: bytes) -> bool:
    """As `random`, for a value in a place that names it a key: at least 16 characters, a digit among them."""
    return len(value) >= 16 and any(48 <= byte <= 57 for byte in value) and random(value)


def password(value: bytes) -> bool:
    """Whether a value could be a password that a person chose: any but what programs put in its place."""
    if len(value) < 4 or value.lower() in _NOTHING or _STANDS_FOR_NOTHING.search(value) or len(set(value)) < 2:
        return False
    if value[:1] in b"$%{<[(&*@#" and value[-1:] in b"}>])%":
        return False
    return not (value[:1] == b"$" or value.startswith((b"{{", b"${", b"%(", b"%s", b"process.env", b"os.env")))


def odd(value: bytes) -> bool:
    """As `password`, and no word or name: it has a digit or a sign beside letters, or is of mixed case inside."""
    if not password(value) or _NUMBER.fullmatch(value):
        return False
    if _IDENTIFIER.fullmatch(value) and not random(value):
        return False
    digits = any(48 <= byte <= 57 for byte in value)
    signs = sum(not (48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122 or byte >= 128) for byte in value)
    letters = any(65 <= byte <= 90 or 97 <= byte <= 122 or byte >= 128 for byte in value)
    return (digits and (letters or len(value) >= 6)) or (signs > 0 and letters and _signs_inside(value))


def chosen(value: bytes) -> bool:
    """As `odd`, for a word of a sentence: it holds digits among letters, or a sign that no word has; it is no name."""
    return (
        odd(value)
        and _TECHNICAL.search(value) is None
        and (any(byte in b"!#$^&*%@?~+" for byte in value) or _MIXED.search(value) is not None)
    )


def _signs_inside(value: bytes) -> bool:
    """Whether there is a sign that no word, name, path or call has."""
    return any(byte in b"!#$^&*%@?~+=" for byte in value) or value.count(b"-") + value.count(b"_") >= 3


def hexadecimal(value: bytes) -> bool:
    """Whether hex digits are those of a key: as many as keys have, and no pattern."""
    digits = value[2:] if value[:2].lower() == b"0x" else value
    return len(digits) >= 32 and token(digits) and entropy(digits) > 2.6 and not _STANDS_FOR_NOTHING.search(digits)


def no_uuid(value: bytes) -> bool:
    """As `strong`; and no UUID or path, which name more often than they open."""
    return strong(value) and _UUID.fullmatch(value) is None and _PATH.match(value) is None


def anything(value: bytes) -> bool:
    """Whether there is a value at all."""
    return bool(value)


def _wordiness(value: bytes) -> float:
    """How much more likely a value is words than chance, as a logarithm.

    Of the pairs of letters in words 72 % are common ones, by chance 25 %; a capital right behind a small letter is
    rarer in words than by chance, and so is a digit.
    """
    found = -0.6 * sum(48 <= byte <= 57 for byte in value)
    for run in _LETTERS.findall(value.decode("latin-1")):
        for pair in map(str.__add__, run, run[1:]):
            joint = pair[0].islower() and pair[1].isupper()
            found += 1.06 if not joint and pair.lower() in _COMMON else -0.98
    return found


CHECKS: Mapping[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        "anything": anything,
        "token": token,
        "random": random,
        "strong": strong,
        "drawn": drawn,
        "password": password,
        "odd": odd,
        "chosen": chosen,
        "hexadecimal": hexadecimal,
        "no-uuid": no_uuid,
    }
)
"""By the names that rules use."""
