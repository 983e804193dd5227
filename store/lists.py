"""Lists: contents longer than one blob, and conversations that share what came before.

A list is not sealed; it holds addresses only (docs/FORMAT.md, "List"). Only its first address may be a list,
so that a list is a chain, never a tree or a circle that could be made to explode.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from schemas.errors import NotSound, TooLarge
from store.seal import MAX_PIECE, Sealed, cid

MAGIC = b"LL\x01\x00"
MAX_ADDRESSES = 4096
MAX_DEPTH = 4096
MAX_CONTENT = MAX_ADDRESSES * MAX_PIECE
"""Bytes of one content, 4 GiB."""

_CUT = 1024

T = TypeVar("T")


def is_list(data: bytes) -> bool:
    """Whether the bytes of an object are a list, by their beginning."""
    return data[:4] == MAGIC


def build(addresses: list[bytes]) -> Sealed:
    """A list of these cids."""
    if not 1 <= len(addresses) <= MAX_ADDRESSES:
        raise TooLarge(f"a list of {len(addresses):,} addresses; the limit is {MAX_ADDRESSES:,}")
    data = MAGIC + b"".join(addresses)
    return Sealed(cid(data), data)


def parse(data: bytes) -> list[bytes]:
    """The cids of a list.

    Raises:
        NotSound: it is none (step 6).
    """
    if not is_list(data) or len(data) % 32 != 4 or not 36 <= len(data) <= 4 + 32 * MAX_ADDRESSES:
        raise NotSound("a list is malformed", step=6)
    return [data[i : i + 32] for i in range(4, len(data), 32)]


def leaves(first: bytes, read: Callable[[bytes], bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The cid and bytes of each sealed blob of a content, in order.

    Args:
        first: cid of the content: a sealed blob or a list.
        read: gives an object's bytes, its cid checked.

    Raises:
        NotSound: a list names itself, is too deep, or holds a list elsewhere than first (step 6).
    """
    data = read(first)
    at, chain = first, dict[bytes, None]()
    while is_list(data):
        if at in chain or len(chain) >= MAX_DEPTH:
            raise NotSound("a list is too deep, or names itself", step=6)
        chain[at] = None
        at = parse(data)[0]
        data = read(at)
    yield at, data
    # Read again on the way back: a chain may hold half a gigabyte of addresses.
    for at in reversed(chain):
        for child in parse(read(at))[1:]:
            data = read(child)
            if is_list(data):
                raise NotSound("a list holds a list elsewhere than first", step=6)
            yield child, data


def opened(first: bytes, read: Callable[[bytes], bytes], unseal: Callable[[bytes, bytes], T]) -> Iterator[T]:
    """What each sealed blob of a content opens to, in order.

    Args:
        unseal: opens a blob, from its cid and bytes. A blob that stands many times in a row is opened once.

    Raises:
        NotSound: as `leaves` says.
    """
    last, found = b"", None
    for blob, data in leaves(first, read):
        if found is None or blob != last:
            last, found = blob, unseal(blob, data)
        yield found


class Pieces(NamedTuple):
    """A content in pieces whose concatenation it is.

    Attributes:
        pieces: at most 1 MiB each.
        shared: how many at the beginning a later turn of the same conversation will repeat.
    """

    pieces: list[bytes]
    shared: int


def cut(content: bytes, *, request: bool = False) -> Pieces:
    """Parts a content into pieces.

    Args:
        request: part a JSON object (a model request) after each item of its `input` and around every
            top-level value of 1 KiB or more, so that the next turn of a conversation shares what it repeats.
    """
    edges, last_item = _request_edges(content) if request else ([], 0)
    pieces: list[bytes] = []
    shared = 0
    for start, end in zip([0, *edges], [*edges, len(content)], strict=True):
        pieces += [content[at : min(at + MAX_PIECE, end)] for at in range(start, end, MAX_PIECE)]
        if end == last_item:
            shared = len(pieces)
    return Pieces(pieces or [b""], shared)


def _request_edges(content: bytes) -> tuple[list[int], int]:
    """Where to cut a request, and where the last item of its input ends; nothing where it is none."""
    if content[:1] != b"{" or len(content) < _CUT:
        return [], 0
    try:
        members = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(members["input"], type=list[msgspec.Raw]) if _has_items(members) else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [], 0
    edges: set[int] = set()
    at = last_item = 0
    for name, raw in members.items():
        # Values come in order, so that the first match from here on is not behind the value itself.
        value = bytes(raw)
        at = content.find(value, at)
        if at < 0:
            # Two values bear one name, so that the order is not known: not a request worth cutting.
            return [], 0
        if name == "input" and items:
            last_item = at
            for item in items:
                last_item = content.find(bytes(item), last_item, at + len(value)) + len(item)
                if last_item < len(item):
                    return [], 0
                edges.add(last_item)
        if len(value) >= _CUT:
            edges.update((at, at + len(value)))
        at += len(value)
    return sorted(edges - {0, len(content)}), last_item


def _has_items(members: dict[str, msgspec.Raw]) -> bool:
    return "input" in members and bytes(members["input"])[:1] == b"["


class _List(NamedTuple):
    cid: bytes
    depth: int


class Chained(NamedTuple):
    """Lists that stand for a content.

    Attributes:
        cid: of the list that stands for all of it.
        made: lists that were not known yet.
        learned: for `Prefixes.learn`, once they are committed.
    """

    cid: bytes
    made: list[Sealed]
    learned: dict[bytes, _List]


class Prefixes:
    """Remembers the lists of earlier contents, so that a later one begins with them.

    What it remembers are cids of committed lists, by a digest over the addresses that they stand for;
    bounded, and only a saving: forgetting costs a longer list.
    """

    def __init__(self, limit: int = 8192) -> None:
        self._known: OrderedDict[bytes, _List] = OrderedDict()
        self._learning = threading.Lock()
        self._limit = limit

    def build(self, addresses: list[bytes], shared: int) -> Chained:
        """Lists for a content.

        Args:
            addresses: cids of its pieces.
            shared: how many pieces at its beginning a later content may repeat.
        """
        digests = list(accumulate(addresses, lambda d, a: blake3(d + a).digest(), initial=bytes(32)))[1:]
        start, prefix = 0, _List(b"", 0)
        deepest = MAX_DEPTH - 3 - len(addresses) // (MAX_ADDRESSES - 1)
        for count in range(len(addresses), 0, -1):
            if (found := self._known.get(digests[count - 1])) is not None and found.depth <= deepest:
                start, prefix = count, found
                break
        made: list[Sealed] = []
        learned: dict[bytes, _List] = {}
        for end in sorted({shared, len(addresses)}):
            while start < end:
                head = [prefix.cid] if prefix.cid else []
                until = min(end, start + MAX_ADDRESSES - 1)
                made.append(build([*head, *addresses[start:until]]))
                start = until
                prefix = learned[digests[start - 1]] = _List(made[-1].cid, prefix.depth + 1)
        return Chained(prefix.cid, made, learned)

    def learn(self, learned: dict[bytes, _List]) -> None:
        """Takes in lists that a commit has made durable."""
        with self._learning:
            self._known.update(learned)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
