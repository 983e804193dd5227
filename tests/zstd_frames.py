"""Zstandard frames made by hand (RFC 8878), so that they are the same with every library, and lie at will."""

MAGIC = bytes.fromhex("28b52ffd")


def raw(data: bytes, *, last: bool = True) -> bytes:
    """A block that holds its bytes as they are."""
    return (len(data) << 3 | last).to_bytes(3, "little") + data


def run(byte: bytes, length: int, *, last: bool = True) -> bytes:
    """A block that stands for one byte many times, at most 128 KiB."""
    return (length << 3 | 1 << 1 | last).to_bytes(3, "little") + byte


def runs(byte: bytes, length: int) -> bytes:
    """As many such blocks as a length takes."""
    whole, rest = divmod(length - 1, 1 << 17)
    return run(byte, 1 << 17, last=False) * whole + run(byte, rest + 1)


def frame(blocks: bytes, size: int, *, flags: int = 0) -> bytes:
    """A frame of one segment that declares a content size in four bytes.

    Args:
        flags: further bits of the descriptor: 04 checksum, 01 dictionary, 08 reserved.
    """
    return MAGIC + bytes([0xA0 | flags]) + size.to_bytes(4, "little") + blocks


def nameless(blocks: bytes) -> bytes:
    """A frame that declares no content size; its window is 1 MiB."""
    return MAGIC + b"\x00\x50" + blocks


def skippable(data: bytes) -> bytes:
    """A frame that decoders pass over."""
    return bytes.fromhex("502a4d18") + len(data).to_bytes(4, "little") + data
