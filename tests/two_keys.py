"""One XChaCha20-Poly1305 ciphertext that opens under two keys: the attack that a commitment ends.

Albertini et al., "How to Abuse and Fix Authenticated Encryption Without Key Commitment", 2022. Poly1305 is a
polynomial over the integers modulo 2^130 − 5, keyed by the AEAD's key; for two keys that an attacker knows,
one block of ciphertext can be solved for so that both polynomials give the same tag.
"""

import struct
from itertools import count

P = 2**130 - 5


def poly_key(key: bytes, nonce: bytes) -> tuple[int, int]:
    """r and s of Poly1305 for a key of 32 and a nonce of 24 bytes: ChaCha20's block 0 under HChaCha20's key."""
    inner = _rounds(_state(key, nonce[:16]))
    words = inner[:4] + inner[12:]
    start = _state(struct.pack("<8I", *words), bytes(8) + nonce[16:])
    block = struct.pack("<16I", *(a + b & 0xFFFF_FFFF for a, b in zip(start, _rounds(start), strict=True)))
    clamp = 0x0FFF_FFFC_0FFF_FFFC_0FFF_FFFC_0FFF_FFFF
    return int.from_bytes(block[:16], "little") & clamp, int.from_bytes(block[16:32], "little")


def _state(key: bytes, last: bytes) -> list[int]:
    return list(struct.unpack("<16I", b"expand 32-byte k" + key + last))


def _rounds(state: list[int]) -> list[int]:
    x = list(state)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for one, other, third, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[one] = x[one] + x[other] & 0xFFFF_FFFF
            mixed = x[third] ^ x[one]
            x[third] = (mixed << turn | mixed >> 32 - turn) & 0xFFFF_FFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return x


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 16], "little") + (1 << 128) for i in range(0, len(data), 16)]


def tag(key: bytes, nonce: bytes, ciphertext: bytes, ad: bytes) -> bytes:
    """What the AEAD appends."""
    r, s = poly_key(key, nonce)
    found = 0
    for number in _numbers(_pad(ad) + _pad(ciphertext) + struct.pack("<QQ", len(ad), len(ciphertext))):
        found = (found + number) * r % P
    return (found + s & (1 << 128) - 1).to_bytes(16, "little")


def collide(first: bytes, second: bytes, nonce: bytes, ciphertext: bytes, ad: bytes, block: int) -> bytes:
    """A ciphertext with a tag that holds under both keys.

    Args:
        ciphertext: what it shall be, but for two blocks of 16 bytes: `block`, solved for, and the one after
            it, a counter of attempts.
    """
    keys = [poly_key(key, nonce) for key in (first, second)]
    at = 16 * block
    place = len(_pad(ad)) // 16 + block
    for attempt in count():
        ciphertext = ciphertext[:at] + bytes(16) + attempt.to_bytes(16, "little") + ciphertext[at + 32 :]
        numbers = _numbers(_pad(ad) + _pad(ciphertext) + struct.pack("<QQ", len(ad), len(ciphertext)))
        weight = len(numbers) - place
        known = [sum(n * pow(r, len(numbers) - i, P) for i, n in enumerate(numbers)) + s for r, s in keys]
        slope = pow(keys[0][0], weight, P) - pow(keys[1][0], weight, P)
        solved = (known[1] - known[0]) * pow(slope, -1, P) % P
        if solved >> 128:
            continue
        forged = ciphertext[:at] + solved.to_bytes(16, "little") + ciphertext[at + 16 :]
        if tag(first, nonce, forged, ad) == tag(second, nonce, forged, ad):
            return forged + tag(first, nonce, forged, ad)
    raise AssertionError("unreachable")
