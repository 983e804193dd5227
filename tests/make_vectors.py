"""Writes tests/vectors/: cases for verifiers that are not ours. Run as `python -m tests.make_vectors`.

The cases are those of the tests beside this file; here they are put into a form that needs none of our code:
bytes in hex or base64, and a verdict. `expected` is "ok", with what is read in `result`, or "fail", with the
`step` of docs/FORMAT.md ("Verify") that refuses it. What a verdict is comes from docs/FORMAT.md, never from
running the code; that the code agrees is what tests/test_vectors.py checks.

All keys and secrets were made for these files. Everything is fixed: writing them again changes nothing.
"""

import base64
import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from ledger import batch, checkpoint, note
from ledger.checkpoint import Head
from ledger.merkle import EMPTY_ROOT, consistency_proof, inclusion_proof
from ledger.tiles import bundle
from schemas.entries import encode, kind_of
from store import lists, seal
from store.seal import Sealed
from tests import naive_tree as naive
from tests import test_entries, test_lists, test_merkle, test_notes, test_pack, test_seal, test_tiles

FOLDER = Path(__file__).with_name("vectors")
LONGEST = 3000
"""Bytes of a case; longer ones stay in the tests."""
MOST = 3
"""Cases that are much alike."""

Vector = dict[str, Any]


def ok(name: str, inputs: Vector, /, **result: Any) -> Vector:
    return {"name": name, **inputs, "expected": "ok", "result": result}


def fail(name: str, inputs: Vector, step: int) -> Vector:
    return {"name": name, **inputs, "expected": "fail", "step": step}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def short(cases: dict[str, bytes]) -> Iterable[tuple[str, bytes]]:
    return ((name, data) for name, data in cases.items() if len(data) <= LONGEST)


def notes() -> Iterable[Vector]:
    t = test_notes
    known = [t.LOG.verifier.vkey, t.AUTHOR.verifier.vkey]

    def case(raw: bytes, keys: list[str] = known) -> Vector:
        return {"note": b64(raw), "keys": keys}

    yield ok(
        "the vector of C2SP signed-note",
        case(t.C2SP_NOTE, [t.C2SP_VKEY]),
        text=t.C2SP_TEXT,
        signers=["example.com/foo"],
    )
    for text in ("a\n", "a\n\nb\n", "a\n\n\n", "— a b\n\n— c d\n"):
        yield ok(
            f"text {text!r}", case(note.sign(text, t.LOG, t.AUTHOR)), text=text, signers=[t.LOG.name, t.AUTHOR.name]
        )
    for name, grease in t.GREASE.items():
        if len(grease) <= LONGEST:
            raw = f"a\nb\n\n{grease}".encode() + t.signed_line(t.LOG, "a\nb\n").encode()
            yield ok(f"with unknown lines: {name}", case(raw), text="a\nb\n", signers=[t.LOG.name])
            yield fail(f"unknown lines alone: {name}", case(f"a\nb\n\n{grease}".encode()), 5)
    for name, raw in short(t.MALFORMED):
        yield fail(name, case(raw), 5)
    for code in (0, 7, 9, 11, 13, 27, 31, 127):
        yield fail(f"control character {code:02x}", case(note.sign(f"a{chr(code)}b\n", t.LOG)), 5)
    for name, signature in t.BAD_SIGNATURES.items():
        line = note.line_of(t.LOG.verifier, signature)
        yield fail(f"signature: {name}", case(f"a\nb\n\n{line}".encode()), 5)
        if name in ("zeros", "of another text"):
            good = t.signed_line(t.LOG, "a\nb\n")
            yield fail(f"a good signature, and one: {name}", case(f"a\nb\n\n{good}{line}".encode()), 5)
    for i, spelling in enumerate(t.respelled(t.C2SP_SIGNATURE)):
        raw = f"{t.C2SP_TEXT}\n— example.com/foo {spelling}\n".encode()
        yield fail(f"base64 spelled otherwise, {i}", case(raw, [t.C2SP_VKEY]), 5)
    for public in t.SMALL_ORDER:
        key = t.vkey(t.ORIGIN, b"\x01" + bytes.fromhex(public))
        key_id = bytes.fromhex(key.split("+")[1])
        line = f"— {t.ORIGIN} " + b64(key_id + bytes.fromhex(public) + bytes(32)) + "\n"
        yield fail(f"a key of small order, {public[:8]}", case(f"a\n\n{line}".encode(), [key]), 5)


def vkeys() -> Iterable[Vector]:
    t = test_notes
    for key in (t.C2SP_VKEY, t.LOG.verifier.vkey, t.AUTHOR.verifier.vkey):
        name, key_id, material = key.split("+", 2)
        yield ok(name, {"vkey": key}, name=name, key_id=key_id, public=base64.b64decode(material)[1:].hex())
    for name, text in t.BAD_VKEYS.items():
        yield fail(name, {"vkey": text}, 1)


def checkpoints() -> Iterable[Vector]:
    t = test_notes

    def case(raw: bytes) -> Vector:
        return {"checkpoint": b64(raw), "log": t.LOG.verifier.vkey}

    for head in (Head(0, EMPTY_ROOT), Head(1, t.ROOT), t.HEAD, Head(2**53 - 1, t.ROOT)):
        raw = checkpoint.sign(t.ORIGIN, head, t.LOG)
        yield ok(f"size {head.size}", case(raw), origin=t.ORIGIN, size=head.size, root=head.root.hex())
    good = checkpoint.sign(t.ORIGIN, t.HEAD, t.LOG)
    for name, grease in t.GREASE.items():
        if len(grease) <= LONGEST:
            read = {"origin": t.ORIGIN, "size": 5, "root": t.ROOT.hex()}
            yield ok(f"with unknown lines: {name}", case(good + grease.encode()), **read)
    for size in t.SIZES:
        yield fail(f"size {size!r}", case(t.log_note(f"{t.ORIGIN}\n{size}\n{b64(t.ROOT)}\n")), 4)
    for name, root in t.ROOTS.items():
        yield fail(f"root: {name}", case(t.log_note(f"{t.ORIGIN}\n5\n{root}\n")), 4)
    for name, text in t.CHECKPOINTS.items():
        yield fail(name, case(t.log_note(text)), 4)
    for name, signature in list(t.BAD_SIGNATURES.items())[::MOST]:
        text = f"{t.ORIGIN}\n{t.HEAD.format()}"
        yield fail(f"signature: {name}", case(f"{text}\n{note.line_of(t.LOG.verifier, signature)}".encode()), 4)
    for name, by in (("a stranger", t.STRANGER), ("an author", t.AUTHOR), ("another key", t.signer(t.ORIGIN, "x"))):
        yield fail(f"signed by {name}", case(checkpoint.sign(t.ORIGIN, t.HEAD, by)), 4)


def signature_leaves() -> Iterable[Vector]:
    t = test_notes
    authors = [t.AUTHOR.verifier.vkey, t.signer(f"{t.ORIGIN}/dev").verifier.vkey]

    def case(raw: bytes, origin: str = t.ORIGIN, head: Head = t.HEAD, count: int = 3) -> Vector:
        place = {"origin": origin, "size": head.size, "root": head.root.hex(), "count": count}
        return {"leaf": b64(raw), **place, "authors": authors}

    yield ok("at its place", case(t.LEAF), author=t.AUTHOR.name)
    first = Head(1, naive.leaf_hash(b"{}"))
    yield ok("the first", case(batch.sign(t.ORIGIN, first, 1, t.AUTHOR), head=first, count=1), author=t.AUTHOR.name)
    for name, place in t.ELSEWHERE.items():
        yield fail(name, case(t.LEAF, *place), 5)
    for name, text in t.TEXTS.items():
        yield fail(name, case(note.sign(text, t.AUTHOR)), 5)
    for name, make in t.SIGNED_BY.items():
        yield fail(f"signed by {name}", case(make()), 5)
    for name, raw in short(t.MALLEATED):
        yield fail(name, case(raw), 5)
    for name, raw in list(short(t.MALFORMED))[::MOST]:
        yield fail(f"malformed: {name}", case(raw), 5)


def proofs() -> Iterable[Vector]:
    t = test_merkle

    def inclusion(index: int, size: int, proof: list[bytes], *, leaf: bytes = b"", root: bytes = b"") -> Vector:
        place = {"leaf_hash": b64(leaf or t.LEAVES[index]), "index": index, "size": size}
        return {
            "kind": "inclusion",
            **place,
            "root": b64(root or t.root_at(size)),
            "proof": [b64(h) for h in proof],
        }

    def consistency(old: int, size: int, proof: list[bytes], *, root: bytes = b"") -> Vector:
        heads = {"old": old, "old_root": b64(t.root_at(old)), "size": size, "root": b64(root or t.root_at(size))}
        return {"kind": "consistency", **heads, "proof": [b64(h) for h in proof]}

    for (index, size), text in t.CT_INCLUSION.items():
        leaf, root = naive.leaf_hash(t.CT_LEAVES[index]), bytes.fromhex(t.CT_ROOTS[size])
        yield ok(f"as published, {index} in {size}", inclusion(index, size, t.hashes_of(text), leaf=leaf, root=root))
    for (old, size), text in t.CT_CONSISTENCY.items():
        roots = {"old_root": b64(bytes.fromhex(t.CT_ROOTS[old])), "root": b64(bytes.fromhex(t.CT_ROOTS[size]))}
        yield ok(f"as published, {old} to {size}", consistency(old, size, t.hashes_of(text)) | roots)
    for index, size in ((0, 1), (0, 2), (4, 5), (36, 70), (255, 257), (999, 1000)):
        yield ok(f"{index} in {size}", inclusion(index, size, inclusion_proof(t.read, index, size)))
    for old, size in ((3, 7), (4, 8), (7, 7), (36, 70), (256, 257), (999, 1000)):
        yield ok(f"{old} to {size}", consistency(old, size, consistency_proof(t.read, old, size)))
    for index, size in ((2, 3), (4, 7)):
        proof = inclusion_proof(t.read, index, size)
        for i, bad in enumerate(list(t.spoiled(proof))[::2]):
            yield fail(f"{index} in {size}, spoiled, {i}", inclusion(index, size, bad), 4)
        for other in range(-1, size + 2):
            if other != index:
                made = inclusion(index, size, proof) | {"index": other}
                yield fail(f"{index} in {size}, said to be {other}", made, 4)
        for other in (size - 1, size + 1):
            yield fail(f"{index} in {size}, under the head of {other}", inclusion(index, other, proof), 4)
        yield fail(f"{index} in {size}, another leaf", inclusion(index, size, proof, leaf=t.LEAVES[99]), 4)
    for old, size in ((2, 3), (3, 7)):
        proof = consistency_proof(t.read, old, size)
        for i, bad in enumerate(list(t.spoiled(proof))[::2]):
            yield fail(f"{old} to {size}, spoiled, {i}", consistency(old, size, bad), 8)
        for a, b in ((old - 1, size), (old + 1, size), (old, size + 1), (size, old), (0, size)):
            yield fail(f"{old} to {size}, between {a} and {b}", consistency(a, b, proof), 8)
        forged = [*t.LEAVES[: old - 1], naive.leaf_hash(b"rewritten"), *t.LEAVES[old:size]]
        for name, made in (("of the forged", naive.proof(old, forged)), ("of the true", proof)):
            yield fail(
                f"{old} to {size}, rewritten, the proof {name} tree",
                consistency(old, size, made, root=naive.root(forged)),
                8,
            )


def tiles() -> Iterable[Vector]:
    t = test_tiles
    for index, path in t.NUMBERS:
        yield ok(
            f"number {index}", {"kind": "name", "index": index}, tile=f"tile/0/{path}", bundle=f"tile/entries/{path}"
        )
    for size in (0, 1, 3, 255, 256, 257, 600, 65_537, 70_000):
        lines = [f"{name} {sha256(data).hexdigest()}\n" for name, data in sorted(t.expected(size).items())]
        all_of_them = sha256("".join(lines).encode()).hexdigest()
        yield ok(f"objects of {size}", {"kind": "objects", "size": size}, count=len(lines), sha256=all_of_them)
    good = dict(t.expected(3))
    for name, data in good.items():
        yield ok(f"{name} of 3", {"kind": "object", "size": 3, "object": name, "data": data.hex()})
    for name, data in good.items():
        for how, torn in t.torn(data).items():
            if torn != data:
                inputs = {"kind": "object", "size": 3, "object": name, "data": torn.hex()}
                yield fail(f"{name} of 3, {how}", inputs, 7)
    swapped = {"kind": "object", "size": 3, "object": "tile/0/000.p/3"}
    yield fail("hashes in another order", swapped | {"data": b"".join(t.level_hashes(0)[2::-1]).hex()}, 7)
    yield fail("a bundle for a tile", swapped | {"data": good["tile/entries/000.p/3"].hex()}, 7)
    swapped = {"kind": "object", "size": 3, "object": "tile/entries/000.p/3"}
    yield fail("leaves in another order", swapped | {"data": bundle(t.LEAVES[2::-1]).hex()}, 7)
    yield fail("a leaf more", swapped | {"data": bundle(t.LEAVES[:4]).hex()}, 7)
    yield fail("a leaf less", swapped | {"data": bundle(t.LEAVES[:2]).hex()}, 7)


def sealed_blobs() -> Iterable[Vector]:
    t = test_seal
    key = {"id": t.KEY.id.hex(), "secret": t.SECRET.hex()}

    def case(sealed: Sealed | bytes, message: bytes | None = None) -> Vector:
        data = sealed if isinstance(sealed, bytes) else sealed.data
        made = {**key, "sealed": b64(data)}
        if message is None:
            return made
        return made | {"message": b64(message.rstrip(b"\x00")), "message_length": len(message)}

    def opens(name: str, message: bytes, content: bytes) -> Vector:
        sealed = seal._seal_message(t.KEY, message)
        length = {"length": len(content), "blake3": blake3(content).hexdigest()}
        shown = {"content": content.hex()} if len(content) <= 400 else {}
        return ok(name, case(sealed, message), cid=sealed.cid.hex(), digest=t.KEY.digest(content), **length, **shown)

    for size in (0, 1, 9, 247, 248, 300):
        content = t.contents(size)["random"]
        yield opens(f"raw, {size} bytes", t.message(0, size, content), content)
    for name, (length, body, content) in t.GOOD_FRAMES.items():
        yield opens(f"frame: {name}", t.message(1, length, body), content)
    for name, (length, body) in t.BAD_FRAMES.items():
        if len(body) <= LONGEST // 4:
            made = t.message(1, length, body)
            yield fail(f"frame: {name}", case(seal._seal_message(t.KEY, made), made), 10)
    for name, made in t.BAD_MESSAGES.items():
        if len(made) <= LONGEST // 4:
            yield fail(f"message: {name}", case(seal._seal_message(t.KEY, made), made), 10)
    good = seal.seal(t.KEY, b"short").data
    for at in (0, 2, 20, 52, 84, 340, 355):
        yield fail(f"a bit flipped in byte {at}", case(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]), 10)
    for length in (0, 4, 20, 99, 355):
        yield fail(f"cut to {length} bytes", case(good[:length]), 10)
    yield fail("a byte more", case(good + b"\x00"), 10)
    yield fail("another secret", case(seal.seal(t.OTHER, b"short").data), 10)

    disclosed = {"blob_key": t.blob_key(good).hex()}
    yield ok("by its own key", {"sealed": b64(good), **disclosed}, content=b"short".hex())
    yield fail("another blob's own key", {"sealed": b64(seal.seal(t.KEY, b"other").data), **disclosed}, 10)

    # One ciphertext, two keys: both open the bare AEAD; the commitment is to one of them.
    header, siv, ciphertext, _ = t.two_key_blob()
    blob_keys = [key.blob_key(header, siv) for key in (t.KEY, t.OTHER)]
    commitments = [seal._expand(key)[1] for key in blob_keys]
    opened = seal.unseal_disclosed(blob_keys[0], header + siv + commitments[0] + ciphertext)
    for mine, commitment in enumerate(commitments):
        blob = b64(header + siv + commitment + ciphertext)
        for yours, blob_key in enumerate(blob_keys):
            inputs = {"sealed": blob, "blob_key": blob_key.hex()}
            name = f"two keys: committed to {mine}, opened by {yours}"
            # Under the second key the text is noise: it does not begin like a message.
            yield ok(name, inputs, content=opened.hex()) if mine == yours == 0 else fail(name, inputs, 10)
        yield fail(f"two keys: committed to {mine}, siv", {**key, "sealed": blob}, 10)


def content_lists() -> Iterable[Vector]:
    t = test_lists
    blobs = [seal.seal(t.KEY, text) for text in (b"a", b"b", b"c")]
    a, b, c = (blob.cid for blob in blobs)

    def case(first: bytes, *made: Sealed | tuple[bytes, bytes], links: int = 0) -> Vector:
        objects = {cid.hex(): data.hex() for cid, data in made}
        return {"first": first.hex(), "blobs": [x.hex() for x in (a, b, c)], "lists": objects, "links": links}

    def reads(name: str, cids: list[bytes], first: bytes, *made: Sealed, links: int = 0) -> Vector:
        return ok(name, case(first, *made, links=links), cids=[x.hex() for x in cids])

    one, two, three = lists.build([a]), lists.build([a, b]), lists.build([a, b, c])
    outer, twice = lists.build([two.cid, c]), lists.build([a, a, a])
    yield reads("a blob", [a], a)
    yield reads("one member", [a], one.cid, one)
    yield reads("three members", [a, b, c], three.cid, three)
    yield reads("a list first", [a, b, c], outer.cid, outer, two)
    yield reads("the same blob again", [a, a, a], twice.cid, twice)
    yield reads("4,096 lists", [a], a, links=4096)
    yield fail("4,097 lists", case(a, links=4097), 6)
    for i, members in enumerate(([a, two.cid], [a, two.cid, b], [two.cid, two.cid], [two.cid, c, two.cid])):
        bad = lists.build(members)
        yield fail(f"a list elsewhere than first, {i}", case(bad.cid, bad, two), 6)
    within = lists.build([a, two.cid])
    deep = lists.build([within.cid, c])
    yield fail("a list elsewhere than first, one level down", case(deep.cid, deep, within, two), 6)
    for name, data in short(t.MALFORMED):
        if data[:4] == t.HEAD:
            bad = Sealed(seal.cid(data), data)
            yield fail(name, case(bad.cid, bad), 6)
            around, behind = lists.build([bad.cid]), lists.build([a, bad.cid])
            if name == "a byte short":
                yield fail(f"{name}, as first member", case(around.cid, bad, around), 6)
                yield fail(f"{name}, as another member", case(behind.cid, bad, behind), 6)
    for i, members in enumerate(([bytes(32)], [bytes(32), a], [a, bytes(32)])):
        lost = lists.build(members)
        yield fail(f"a member that is not there, {i}", case(lost.cid, lost), 6)
    yield fail("nothing there", case(two.cid), 6)


def packs() -> Iterable[Vector]:
    t = test_pack
    smallest = {"number": 0, "size": 0, "previous": bytes(32).hex(), "frontier": [], "blobs": [], "outside": []}
    yield ok("two leaves", {"pack": b64(t.SMALLEST)}, **smallest, checkpoint="", leaves=[b64(x) for x in (b"a", b"b")])
    yield ok(
        "of every part some",
        {"pack": b64(t.DATA)},
        number=5,
        size=7,
        previous=t.TRAILER.hex(),
        frontier=[h.hex() for h in t.FRONTIER],
        checkpoint=b64(b"a checkpoint"),
        blobs=[[cid.hex(), data.hex()] for cid, data in t.BLOBS],
        outside=[[cid.hex(), size] for cid, size in t.LARGE],
        leaves=[b64(x) for x in t.LEAVES],
    )
    for name, data in short(t.HOSTILE):
        yield fail(name, {"pack": b64(data)}, 2)
    for length in (0, 83, 84, 200, len(t.DATA) - 33):
        yield fail(f"cut to {length} bytes", {"pack": b64(t.DATA[:length])}, 2)
        if length:
            yield fail(f"cut to {length} bytes, with a new trailer", {"pack": b64(t.sealed(t.DATA[:length]))}, 2)
    for at in (0, 52, 180, 352, 400, len(t.DATA) - 1):
        changed = t.DATA[:at] + bytes([t.DATA[at] ^ 1]) + t.DATA[at + 1 :]
        yield fail(f"a bit flipped in byte {at}", {"pack": b64(changed)}, 2)
    for tail in (b"\x00", bytes(32)):
        yield fail(f"{len(tail)} bytes more", {"pack": b64(t.DATA + tail)}, 2)
        yield fail(f"{len(tail)} bytes more, with a new trailer", {"pack": b64(t.sealed(t.DATA[:-32] + tail))}, 2)


def entries() -> Iterable[Vector]:
    t = test_entries

    def case(raw: bytes) -> Vector:
        try:
            return {"text": raw.decode()}
        except UnicodeDecodeError:
            return {"base64": b64(raw)}

    def reads(name: str, raw: bytes, kind: str, references: list[str]) -> Vector:
        return ok(name, case(raw), kind=kind, references=sorted(references))

    both = [t.PLACE, t.ELSEWHERE]
    for entry in t.EVERY_KIND:
        named = [value for value in msgspec.to_builtins(entry).values() if value in (*both, t.THIRD, t.FOURTH)]
        yield reads(kind_of(entry), encode(entry), kind_of(entry), named)
    for text in t.NEARLY[::MOST]:
        yield reads(f"no address: {text!r}", t.changed(t.FULL, stage=text), "artifact", both)
    for text in t.NEARLY:
        raw = t.unknown(f',"a":[{t.quoted(text)},{t.quoted(t.PLACE)}]')
        yield reads(f"unknown, no address: {text!r}", raw, "other.kind", [t.PLACE])
    for i, body in enumerate(t.UNKNOWN_GOOD):
        yield reads(f"unknown, {i}", t.unknown(body), "other.kind", [])
    for name, raw in t.SPELLINGS.items():
        if not name.startswith("two members exchanged") or name.endswith(("3", "7")):
            yield fail(name, case(raw), 3)
    for number in t.NUMBERS[::2]:
        if len(number) <= 40:
            yield fail(f"step {number!r}", case(t.RAW.replace(b'"step":4', f'"step":{number}'.encode())), 3)
    for time in t.TIMES[::2]:
        yield fail(f"time {time!r}", case(t.spelled("2026-11-22T10:00:00.123456Z", time)), 3)
    for what, (entry, member, values) in t.CHARACTERS.items():
        for i, value in enumerate([value for value in values if value is not None][:MOST]):
            raw = t.changed(entry, **{member: value})
            if len(raw) <= LONGEST // 4 or (what == "stage" and len(raw) <= LONGEST):
                yield fail(f"{what}, {i}", case(raw), 3)
    for i, raw in enumerate(t.HEADS):
        yield fail(f"beginning, {i}", case(raw), 3)
    for name, body in t.UNKNOWN_BAD.items():
        yield fail(f"unknown: {name}", case(t.unknown(body)), 3)
    for text in t.FALSE[:MOST]:
        yield fail(f"malformed address {text[10:]!r}", case(t.changed(t.FULL, stage=text)), 3)
    for text in t.FALSE:
        yield fail(f"unknown, malformed address {text[10:]!r}", case(t.unknown(f',"a":{t.quoted(text)}')), 3)
    for name, (entry, members) in t.RUNLESS.items():
        if name.startswith(("a ", "artifact", "approval")):
            yield fail(name, case(t.arranged(entry, members)), 3)


FILES: dict[str, tuple[str, Callable[[], Iterable[Vector]]]] = {
    "checkpoints": ("a checkpoint, in base64, and the log's key", checkpoints),
    "entries": ("an entry, as text or in base64; references are sorted", entries),
    "lists": (
        "a content's first object, the cids of blobs that are there, lists by cid, all in hex; `links`: the first is"
        " that many lists of one member each, the innermost of which has `first` as its member",
        content_lists,
    ),
    "notes": ("a note, in base64, and the keys that the reader knows; one of them must have signed", notes),
    "packs": ("a pack, in base64", packs),
    "proofs": ("leaf i is `leaf <i>`, but in those that were published; hashes in base64", proofs),
    "sealed_blobs": (
        "a blob, in base64, with the data key (id, secret; in hex) or with its own key; `message` is m without the"
        " zeros at its end, `message_length` its length, for who wants to seal it",
        sealed_blobs,
    ),
    "signature_leaves": (
        "a leaf in base64, its place, and the keys of authors who are trusted there",
        signature_leaves,
    ),
    "tiles": (
        "leaf i is `leaf <i>`; an object is right or wrong for a size; of all objects of a size, the SHA-256 of the"
        " sorted lines `<name> <SHA-256>` LF",
        tiles,
    ),
    "vkeys": ("a key as text", vkeys),
}


def text(name: str) -> str:
    """The bytes of a file: one vector on each line."""
    about, make = FILES[name]
    lines = [json.dumps(vector, ensure_ascii=True, separators=(",", ":")) for vector in make()]
    return '{\n"about": ' + json.dumps(about) + ',\n"vectors": [\n' + ",\n".join(lines) + "\n]\n}\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        (FOLDER / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    main()
