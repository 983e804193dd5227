"""XChaCha20-Poly1305, libsodium's, called without a detour.

PyNaCl's own binding formats five error messages a call, whether or not they are needed: twice the time of the
cipher itself for a blob of 2 KiB. What it checks is checked here; `tests/test_seal.py` compares the two.
"""

from nacl._sodium import ffi, lib
from nacl.exceptions import CryptoError

_TAG = 16
_NEVER_USED_TWICE = bytes(24)
_new = ffi.new_allocator(should_clear_after_alloc=False)


def encrypt(message: bytes, header: bytes, key: bytes) -> bytes:
    """Ciphertext and tag, under nonce 0: a key must never be used again.

    Args:
        header: authenticated with it.
        key: 32 bytes.

    Raises:
        CryptoError: the key has another length.
    """
    if len(key) != 32:
        raise CryptoError
    size = len(message) + _TAG
    out = _new("unsigned char[]", size)
    nonce, null = _NEVER_USED_TWICE, ffi.NULL
    if lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
        out, null, message, len(message), header, len(header), null, nonce, key
    ):
        raise CryptoError
    sealed: bytes = ffi.buffer(out, size)[:]
    return sealed


def decrypt(ciphertext: bytes, header: bytes, key: bytes) -> bytes:
    """The message of a ciphertext.

    Raises:
        CryptoError: it was not made under this key with this header, or is too short.
    """
    size = len(ciphertext) - _TAG
    if size < 0 or len(key) != 32:
        raise CryptoError
    out = _new("unsigned char[]", size)
    nonce, null = _NEVER_USED_TWICE, ffi.NULL
    if lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
        out, null, null, ciphertext, len(ciphertext), header, len(header), nonce, key
    ):
        raise CryptoError
    message: bytes = ffi.buffer(out, size)[:]
    return message
