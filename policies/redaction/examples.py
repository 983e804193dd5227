"""Examples of rules, put together when they are read: no text in this repository has the form of a credential.

`⟨w36⟩` in an example is 36 characters of the alphabet `w`, always the same for the same example; `·` is dropped.
"""

import re

from blake3 import blake3

_DIGITS, _LOWER = "0123456789", "abcdefghijklmnopqrstuvwxyz"
ALPHABETS = {
    "d": _DIGITS,
    "x": _DIGITS + "abcdef",
    "X": _DIGITS + "ABCDEF",
    "l": _LOWER,
    "L": _LOWER.upper(),
    "a": _DIGITS + _LOWER,
    "A": _DIGITS + _LOWER.upper(),
    "w": _DIGITS + _LOWER + _LOWER.upper(),
    "b": _DIGITS + _LOWER + _LOWER.upper() + "+/",
    "u": _DIGITS + _LOWER + _LOWER.upper() + "-_",
    "t": _LOWER.upper() + "234567",
    "p": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
    "c": "qpzry9x8gf2tvdw0s3jn54khce6mua7l".upper(),
}
"""By one letter: digits, hex, lower, upper, with digits, words, base64, base64url, base32, base58, bech32."""

_DRAWN = re.compile(r"⟨([a-zA-Z])(\d+)⟩")


def spelled(example: str) -> bytes:
    """An example as it would stand in a text, UTF-8."""
    drawn = 0

    def draw(match: re.Match[str]) -> str:
        nonlocal drawn
        drawn += 1
        alphabet, length = ALPHABETS[match[1]], int(match[2])
        chance = blake3(f"{drawn} {example}".encode()).digest(length=length)
        return "".join(alphabet[byte % len(alphabet)] for byte in chance)

    return _DRAWN.sub(draw, example.replace("·", "")).encode()
