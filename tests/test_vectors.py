"""The vectors of tests/vectors/: they are what `make_vectors` writes, and our code gives each its verdict."""

import base64
import json
from hashlib import sha256
from typing import Any

import pytest
from blake3 import blake3

from ledger import batch
from ledger.checkpoint import Checkpoint, Head
from ledger.merkle import check_consistency, leaf_hash, root_from_inclusion
from ledger.note import Note
from ledger.tiles import Builder, bundle_name, tile_name
from schemas.entries import decode, kind_of, references
from schemas.errors import LedgerError, Malformed, NotSound
from schemas.ids import address
from store import lists, pack, seal
from store.seal import DataKey
from store.signers import Verifier
from tests.make_vectors import FILES, FOLDER, Vector, text

LOADED: dict[str, list[Vector]] = {
    path.stem: json.loads(path.read_text())["vectors"] for path in sorted(FOLDER.glob("*.json"))
}


def unbase64(encoded: str) -> bytes:
    return base64.b64decode(encoded, validate=True)


def judge_checkpoint(v: Vector) -> Vector:
    read = Checkpoint.parse(unbase64(v["checkpoint"]), Verifier.parse(v["log"]))
    return {"origin": read.origin, "size": read.head.size, "root": read.head.root.hex()}


def judge_entry(v: Vector) -> Vector:
    raw = v["text"].encode() if "text" in v else unbase64(v["base64"])
    entry = decode(raw)
    return {"kind": kind_of(entry), "references": sorted(map(address, references(entry, raw)))}


def judge_list(v: Vector) -> Vector:
    objects = {bytes.fromhex(cid): bytes.fromhex(data) for cid, data in v["lists"].items()}
    assert all(seal.cid(data) == cid for cid, data in objects.items())
    objects |= {bytes.fromhex(cid): b"a sealed blob" for cid in v["blobs"]}
    first = bytes.fromhex(v["first"])
    for _ in range(v["links"]):
        link = lists.build([first])
        objects[link.cid] = link.data
        first = link.cid

    def read(cid: bytes) -> bytes:
        if cid not in objects:
            raise NotSound("it is missing", step=6)
        return objects[cid]

    return {"cids": [cid.hex() for cid, _ in lists.leaves(first, read)]}


def judge_note(v: Vector) -> Vector:
    read = Note.parse(unbase64(v["note"]))
    signers = read.signed_by(map(Verifier.parse, v["keys"]))
    if not signers:
        raise Malformed("signed by nobody who is known")
    return {"text": read.text, "signers": [signer.name for signer in signers]}


def judge_pack(v: Vector) -> Vector:
    found = pack.parse(unbase64(v["pack"]))
    return {
        "number": found.number,
        "size": found.size,
        "previous": found.previous.hex(),
        "frontier": [node.hex() for node in found.frontier],
        "checkpoint": base64.b64encode(found.checkpoint).decode(),
        "blobs": [[cid.hex(), data.hex()] for cid, data in zip(found.cids, found.blobs, strict=True)],
        "outside": [[cid.hex(), size] for cid, size in zip(found.large, found.large_sizes, strict=True)],
        "leaves": [base64.b64encode(leaf).decode() for leaf in found.leaves],
    }


def judge_proof(v: Vector) -> Vector:
    proof, root = [unbase64(node) for node in v["proof"]], unbase64(v["root"])
    if v["kind"] == "consistency":
        check_consistency(v["old"], unbase64(v["old_root"]), v["size"], root, proof)
    elif root_from_inclusion(unbase64(v["leaf_hash"]), v["index"], v["size"], proof) != root:
        raise NotSound("it leads to another root", step=4)
    return {}


def judge_blob(v: Vector) -> Vector:
    data = unbase64(v["sealed"])
    if "blob_key" in v:
        return {"content": seal.unseal_disclosed(bytes.fromhex(v["blob_key"]), data).hex()}
    key = DataKey(bytes.fromhex(v["id"]), bytes.fromhex(v["secret"]))
    content = seal.unseal(key, data)
    assert seal._seal_message(key, unbase64(v["message"]).ljust(v["message_length"], b"\x00")).data == data
    found: Vector = {"cid": seal.cid(data).hex(), "digest": key.digest(content), "length": len(content)}
    found["blake3"] = blake3(content).hexdigest()
    return found | ({"content": content.hex()} if "content" in v.get("result", ()) else {})


def judge_signature_leaf(v: Vector) -> Vector:
    head, authors = Head(v["size"], bytes.fromhex(v["root"])), [Verifier.parse(key) for key in v["authors"]]
    return {"author": batch.check(unbase64(v["leaf"]), v["origin"], head, v["count"], authors).name}


def objects_of(size: int) -> dict[str, bytes]:
    builder = Builder()
    for i in range(size):
        builder.append(b"leaf %d" % i, leaf_hash(b"leaf %d" % i))
    return builder.flush()


def judge_tile(v: Vector) -> Vector:
    if v["kind"] == "name":
        return {"tile": tile_name(0, v["index"]), "bundle": bundle_name(v["index"])}
    objects = objects_of(v["size"])
    if v["kind"] == "objects":
        lines = [f"{name} {sha256(data).hexdigest()}\n" for name, data in sorted(objects.items())]
        return {"count": len(lines), "sha256": sha256("".join(lines).encode()).hexdigest()}
    if objects[v["object"]] != bytes.fromhex(v["data"]):
        raise NotSound("it is not what the leaves make", step=7)
    return {}


def judge_vkey(v: Vector) -> Vector:
    read = Verifier.parse(v["vkey"])
    return {"name": read.name, "key_id": read.key_id.hex(), "public": read.public.hex()}


# Where our code raises `Malformed`, the step is that in which such a text is read.
JUDGES: dict[str, tuple[Any, int]] = {
    "checkpoints": (judge_checkpoint, 4),
    "entries": (judge_entry, 3),
    "lists": (judge_list, 6),
    "notes": (judge_note, 5),
    "packs": (judge_pack, 2),
    "proofs": (judge_proof, 4),
    "sealed_blobs": (judge_blob, 10),
    "signature_leaves": (judge_signature_leaf, 5),
    "tiles": (judge_tile, 7),
    "vkeys": (judge_vkey, 1),
}


def verdict(name: str, vector: Vector) -> Vector:
    judge, step = JUDGES[name]
    try:
        return {"expected": "ok", "result": judge(vector)}
    except Malformed:
        return {"expected": "fail", "step": step}
    except NotSound as error:
        return {"expected": "fail", "step": error.step}
    except LedgerError:
        return {"expected": "fail", "step": step}


@pytest.mark.parametrize("name", FILES)
def test_vectors_are_those_that_make_vectors_writes(name: str) -> None:
    """If this fails after a change of format: `make vectors`, and look at the difference."""
    assert (FOLDER / f"{name}.json").read_text() == text(name)


@pytest.mark.parametrize("name", FILES)
def test_every_vector_has_its_verdict(name: str) -> None:
    wrong = {}
    for vector in LOADED[name]:
        expected = {key: vector[key] for key in ("expected", "result", "step") if key in vector}
        found = verdict(name, vector)
        if found != expected:
            wrong[vector["name"]] = found
    assert wrong == {}


def test_vectors_are_many_and_most_must_fail() -> None:
    assert set(LOADED) == set(FILES) == set(JUDGES)
    for name, vectors in LOADED.items():
        assert len({vector["name"] for vector in vectors}) == len(vectors), name
    verdicts = [vector["expected"] for vectors in LOADED.values() for vector in vectors]
    assert verdicts.count("fail") > 3 * verdicts.count("ok")
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 600_000
