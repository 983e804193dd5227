"""Lists: long contents, conversations that share what came before, and chains that were made to hurt."""

import json
from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import NotSound, TooLarge
from store import lists
from store.lists import MAX_ADDRESSES, MAX_DEPTH, Prefixes, build, cut, is_list, leaves, parse
from store.seal import MAX_PIECE, DataKey, Sealed, cid, seal, unseal

KEY = DataKey(bytes(16), bytes(32))


class Store(dict[bytes, bytes]):
    """Objects by cid."""

    def put(self, made: Sealed) -> bytes:
        assert made.cid == cid(made.data)
        self[made.cid] = made.data
        return made.cid

    def content(self, first: bytes) -> bytes:
        return b"".join(unseal(KEY, data) for _, data in leaves(first, self.__getitem__))


def blob(text: str) -> Sealed:
    return seal(KEY, text.encode())


def cids(count: int) -> list[bytes]:
    return [sha256(b"%d" % i).digest() for i in range(count)]


# Cutting.


def assert_cut(content: bytes, request: bool) -> None:
    found = cut(content, request=request)
    assert b"".join(found.pieces) == content
    assert all(len(piece) <= MAX_PIECE for piece in found.pieces)
    assert all(found.pieces) or found.pieces == [b""]
    assert 0 <= found.shared <= len(found.pieces)


LONG = "x" * 1100
NASTY = {
    "nothing": b"",
    "one byte": b"{",
    "no object": b"[" + b"1," * 600 + b"1]",
    "half an object": b'{"a":"' + b"x" * 2000,
    "input is no list": b'{"input":"' + b"x" * 2000 + b'"}',
    "input is a long object": b'{"input":{"a":"' + b"x" * 2000 + b'"}}',
    "input is empty": b'{"input":[],"b":"' + b"x" * 2000 + b'"}',
    "white space everywhere": b' \n{ "input" : [ 1 , 2 ] , "b" : "' + b"x" * 1100 + b'" }\n',
    "no white space at the beginning": b'{ "input" : [ 1 , {"a": [ ] } ] , "b" : "' + b"x" * 1100 + b'" }\n \n',
    "values that look like one another": b'{"a":1,"input":[1,1,1,11,1],"b":1,"c":"' + b"1" * 1100 + b'","d":1}',
    "a value that stands in a name": json.dumps({"[1]": 0, LONG: LONG, "input": [1]}, separators=(",", ":")).encode(),
    "a name twice": b'{"a":1,"b":"' + LONG.encode() + b'","a":2}',
    "a name twice, its second value long": b'{"a":1,"b":2,"a":"' + LONG.encode() + b'"}',
    "two inputs": b'{"input":[1],"b":"' + LONG.encode() + b'","input":[2]}',
    "two inputs, the second no list": b'{"input":[1],"b":"' + LONG.encode() + b'","input":2}',
    "a name three times": b'{"a":"'
    + LONG.encode()
    + b'","b":"'
    + LONG.encode()
    + b'","a":1,"a":"'
    + LONG.encode()
    + b'"}',
    "the name input, escaped": b'{"inp\\u0075t":[1,2],"b":"' + LONG.encode() + b'"}',
    "deep nesting": b'{"input":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
    "deep nesting elsewhere": b'{"input":[1],"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "no UTF-8": b'{"input":["\xff"],"b":"' + b"\xfe" * 1100 + b'"}',
    "a byte order mark": b'\xef\xbb\xbf{"input":[1],"b":"' + LONG.encode() + b'"}',
    "half a surrogate pair": b'{"input":["\\ud800"],"b":"\\udfff' + LONG.encode() + b'"}',
    "something behind": b'{"input":[1],"b":"' + LONG.encode() + b'"} more',
    "an item of two mebibytes": b'{"input":[1,"' + b"x" * (2 * MAX_PIECE) + b'",2],"b":1}',
}


@pytest.mark.parametrize("content", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("request_", [True, False])
def test_a_nasty_content_keeps_every_byte(content: bytes, request_: bool) -> None:
    assert_cut(content, request_)


@pytest.mark.parametrize("size", [0, 1, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, 2 * MAX_PIECE, 3 * MAX_PIECE + 7])
def test_a_long_content_is_cut_in_mebibytes(size: int) -> None:
    content = bytes(size)
    assert_cut(content, False)
    assert len(cut(content).pieces) == max(1, -(-size // MAX_PIECE))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.sampled_from(["", "1", "[1]", LONG, '"', "\\", "é", "input"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "input"]), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(["input", "model", "tools", "a", "b", "1", LONG])
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(names, values), max_size=6), separators, st.booleans())
@example([("a", 1), ("b", LONG), ("a", 2)], (",", ":"), True)
def test_any_request_keeps_every_byte(members: list[tuple[str, object]], how: tuple[str, str], pretty: bool) -> None:
    """Names may occur twice: the bytes of the wire are recorded whatever they are."""
    comma, colon = how
    body = comma.join(json.dumps(name) + colon + json.dumps(value, ensure_ascii=pretty) for name, value in members)
    assert_cut(("{" + body + "}").encode(), True)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 1200))
def test_any_bytes_are_kept(content: bytes, padding: int) -> None:
    for whole in (
        content,
        b"{" + content + b" " * padding + b"}",
        b'{"input":[' + content + b"]" + b" " * padding + b"}",
    ):
        assert_cut(whole, True)


# Conversations.


def request(turns: int) -> bytes:
    """What a client sends at a turn: its tools, and all of the conversation again."""
    items = [
        {"role": "user" if i % 2 else "assistant", "content": f"turn {i}: " + chr(65 + i % 26) * 3000}
        for i in range(turns)
    ]
    return json.dumps({"model": "gpt", "tools": ["t" * 4000], "input": items, "stream": True}).encode()


def record(store: Store, prefixes: Prefixes, content: bytes) -> tuple[bytes, int]:
    """Records a request as the ledger does; its address, and how many bytes that added."""
    pieces, shared = cut(content, request=True)
    before = sum(map(len, store.values()))
    chained = prefixes.build([store.put(seal(KEY, piece)) for piece in pieces], shared)
    for made in chained.made:
        store.put(made)
    prefixes.learn(chained.learned)
    return chained.cid, sum(map(len, store.values())) - before


def test_a_growing_conversation_is_stored_once() -> None:
    store, prefixes = Store(), Prefixes()
    added = []
    for turn in range(1, 51):
        first, more = record(store, prefixes, request(turn))
        assert store.content(first) == request(turn)
        added.append(more)
    # A turn costs what it adds, however long the conversation has become.
    assert max(added[1:]) < 2000
    assert sum(added) < len(request(50)) + 50 * 1000


def test_a_conversation_without_memory_costs_longer_lists_only() -> None:
    store = Store()
    for turn in range(1, 51):
        first, more = record(store, Prefixes(), request(turn))
        assert store.content(first) == request(turn)
    assert more < 2000 + 50 * 32


def test_an_equal_request_adds_nothing() -> None:
    store, prefixes = Store(), Prefixes()
    first, _ = record(store, prefixes, request(5))
    assert record(store, prefixes, request(5)) == (first, 0)


def test_a_conversation_that_forks_shares_what_is_before() -> None:
    store, prefixes = Store(), Prefixes()
    record(store, prefixes, request(20))
    fork = request(20).replace(b"turn 10:", b"other 10:")
    first, _ = record(store, prefixes, fork)
    assert store.content(first) == fork


def test_nothing_is_shared_before_it_is_committed() -> None:
    store, prefixes = Store(), Prefixes()
    pieces, shared = cut(request(3), request=True)
    addresses = [store.put(seal(KEY, piece)) for piece in pieces]
    lost = prefixes.build(addresses, shared)
    again = prefixes.build(addresses, shared)
    assert lost.made == again.made != []


def test_memory_is_bounded() -> None:
    store, prefixes = Store(), Prefixes(limit=10)
    for turn in range(1, 31):
        first, _ = record(store, prefixes, request(turn))
        assert store.content(first) == request(turn)
    assert len(prefixes._known) <= 10


# Lists.


@pytest.mark.parametrize("count", [1, 2, 4095, 4096])
def test_a_list_is_read_back(count: int) -> None:
    made = build(cids(count))
    assert made.data == b"LL\x01\x00" + b"".join(cids(count))
    assert is_list(made.data)
    assert parse(made.data) == cids(count)
    assert made.cid == cid(made.data)


@pytest.mark.parametrize("count", [0, 4097, 5000])
def test_a_list_of_another_length_is_never_made(count: int) -> None:
    with pytest.raises(TooLarge):
        build(cids(count))


HEAD = b"LL\x01\x00"
MALFORMED = {
    "nothing": b"",
    "a head alone": HEAD,
    "half an address": HEAD + bytes(16),
    "a byte short": HEAD + bytes(31),
    "a byte more": HEAD + bytes(33),
    "an address and a half": HEAD + bytes(48),
    "4,097 addresses": HEAD + bytes(32 * 4097),
    "version 2": b"LL\x02\x00" + bytes(32),
    "version 1.1": b"LL\x01\x01" + bytes(32),
    "small letters": b"ll\x01\x00" + bytes(32),
    "a sealed blob": blob("a").data,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_list_rejected(data: bytes) -> None:
    with pytest.raises(NotSound) as error:
        parse(data)
    assert error.value.step == 6


def chain(store: Store, depth: int) -> bytes:
    """A chain of lists, each with one blob; the address of the outermost."""
    at = store.put(blob("innermost"))
    for i in range(depth):
        at = store.put(build([at, store.put(blob(f"{i % 7}"))]))
    return at


@pytest.mark.parametrize("depth", [0, 1, 2, 50, MAX_DEPTH])
def test_a_chain_is_read_in_order(depth: int) -> None:
    store = Store()
    expected = b"innermost" + b"".join(b"%d" % (i % 7) for i in range(depth))
    assert store.content(chain(store, depth)) == expected


def test_a_chain_over_4096_lists_rejected() -> None:
    store = Store()
    with pytest.raises(NotSound) as error:
        store.content(chain(store, MAX_DEPTH + 1))
    assert error.value.step == 6


def test_a_chain_of_bare_links_rejected() -> None:
    """Lists of one list each cost nothing; their number is bounded all the same."""
    store = Store()
    at = store.put(blob("a"))
    for _ in range(MAX_DEPTH + 1):
        at = store.put(build([at]))
    with pytest.raises(NotSound):
        store.content(at)


def test_a_list_elsewhere_than_first_rejected() -> None:
    store = Store()
    a, b = store.put(blob("a")), store.put(blob("b"))
    inner = store.put(build([a, b]))
    for members in ([a, inner], [inner, inner], [a, b, inner], [inner, a, inner, b]):
        with pytest.raises(NotSound) as error:
            store.content(store.put(build(members)))
        assert error.value.step == 6
    deep = store.put(build([store.put(build([a, inner])), b]))
    with pytest.raises(NotSound):
        store.content(deep)


def test_a_bomb_is_not_unfolded() -> None:
    """Thirty lists, each of the one before, twice: two to the thirtieth leaves, were it a tree."""
    store = Store()
    at = store.put(blob("a"))
    for _ in range(30):
        at = store.put(build([at, at]))
    with pytest.raises(NotSound):
        store.content(at)


@pytest.mark.parametrize("length", [1, 2, 3, 100])
def test_a_circle_rejected(length: int) -> None:
    """No hash has one; a store that lies about addresses could."""
    ring = cids(length)
    store = Store({a: build([b, ring[0]]).data for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)})
    with pytest.raises(NotSound) as error:
        list(leaves(ring[0], store.__getitem__))
    assert error.value.step == 6


def test_a_malformed_list_within_a_chain_rejected() -> None:
    store = Store()
    for data in (HEAD, HEAD + bytes(33), HEAD + bytes(32 * 4097)):
        bad = store.put(Sealed(cid(data), data))
        for first in (bad, store.put(build([bad])), store.put(build([store.put(blob("a")), bad]))):
            with pytest.raises(NotSound) as error:
                store.content(first)
            assert error.value.step == 6


def test_reading_goes_no_further_than_it_is_asked() -> None:
    store = Store()
    first = chain(store, 3)
    reads: list[bytes] = []

    def read(address: bytes) -> bytes:
        reads.append(address)
        return store[address]

    found: Iterator[tuple[bytes, bytes]] = leaves(first, read)
    next(found)
    assert len(reads) == 4


# Contents of more pieces than one list holds.


def members_of(first: bytes, made: dict[bytes, bytes]) -> list[bytes]:
    """All blobs that a list stands for, and that its chain keeps the rules."""
    found = leaves(first, lambda address: made.get(address, b"a blob"))
    return [address for address, _ in found]


@pytest.mark.parametrize("count", [2, 4095, 4096, 4097, 8190, 8191, 9000])
@pytest.mark.parametrize("shared", [0, 1, 4096, 5000])
def test_many_pieces_make_a_chain(count: int, shared: int) -> None:
    chained = Prefixes().build(cids(count), min(shared, count))
    made = {one.cid: one.data for one in chained.made}
    assert members_of(chained.cid, made) == cids(count)
    assert all(len(parse(data)) <= MAX_ADDRESSES for data in made.values())


@pytest.mark.parametrize("depth", [4090, 4091, 4092, 4093, 4094, 4095])
@pytest.mark.parametrize("more", [1, 2, 4095, 4096, 8191, 20_000])
def test_a_turn_after_a_long_conversation_stays_readable(depth: int, more: int) -> None:
    """The chain so far is as long as chains may become, and then come many pieces at once."""
    prefixes, all_cids = Prefixes(), cids(depth + more)
    made, at = {}, build(all_cids[:1])
    for address in all_cids[1:depth]:
        made[at.cid] = at.data
        at = build([at.cid, address])
    made[at.cid] = at.data
    # As if each of these turns had been learned.
    ((digest, short),) = prefixes.build(all_cids[:depth], 0).learned.items()
    prefixes.learn({digest: short._replace(cid=at.cid, depth=depth)})
    for shared in (0, depth, depth + more - 1, depth + more):
        chained = prefixes.build(all_cids, shared)
        assert members_of(chained.cid, made | {one.cid: one.data for one in chained.made}) == all_cids


def test_the_limits_are_those_of_the_format() -> None:
    assert (MAX_ADDRESSES, MAX_DEPTH, MAX_PIECE, lists.MAX_CONTENT) == (4096, 4096, 1 << 20, 1 << 32)
