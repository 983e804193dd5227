"""The independent verifier of examples/ and the vectors: each that it has a function for gets its verdict there too.

It holds no keys, so sealed blobs are not its business; proofs are none either, as it has the whole log.
"""

import base64
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3

from tests.make_vectors import FOLDER, Vector

PATH = Path(__file__).parent.parent / "examples" / "verify.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stranger", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


V: Any = load()
OWNER = ("vectors.example/log", bytes(4), bytes(32))


def unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def verifier(folder: Path, origin: str = OWNER[0]) -> Any:
    return V.Verifier(str(folder), (origin, *OWNER[1:]), None)


def judge_vkey(v: Vector, folder: Path) -> Vector:
    name, key_id, public = V.parse_vkey(v["vkey"])
    return {"name": name, "key_id": key_id.hex(), "public": public.hex()}


def judge_note(v: Vector, folder: Path) -> Vector:
    # Its keys are of logs and authors, whose names have a narrower form than those of C2SP's own vector.
    keys = [(key.split("+")[0], bytes.fromhex(key.split("+")[1]), unbase64(key.split("+", 2)[2])[1:])
            for key in v["keys"]]  # fmt: skip
    text, signers = V.parse_note(unbase64(v["note"]), keys)
    V.need(signers, "signed by nobody who is known")
    return {"text": text, "signers": [key[0] for key in keys if key in signers]}


def judge_checkpoint(v: Vector, folder: Path) -> Vector:
    log = V.parse_vkey(v["log"])
    found = verifier(folder, log[0])
    size, root = found.parse_head(unbase64(v["checkpoint"]))
    V.need(len(root) == 32, "a root that is no hash")
    found.ends[size] = root, log
    found.check_head(unbase64(v["checkpoint"]))
    return {"origin": log[0], "size": size, "root": root.hex()}


def judge_entry(v: Vector, folder: Path) -> Vector:
    raw = v["text"].encode() if "text" in v else unbase64(v["base64"])
    V.need(len(raw) <= 65535 and raw[:1] == b"{", "no entry")
    entry, cids = V.parse_entry(raw)
    # What is of a run, and what is not, is looked at where the runs are.
    found = verifier(folder)
    kind, run = entry["kind"], entry.get("run")
    found.runs = {run: run_of(entry)} if run and kind != "run.started" else {}
    found.runs |= {entry["of"]: V.Run()} if kind == "erasure" and entry["of"] != run else {}
    if kind in ("approval", "approval.breakglass", "approval.consumed"):
        # Who signed, and what for, needs a log: tests/test_approvals.py has it look at whole ones.
        V.need(run and entry.get("step"), "of no run")
    else:
        # Whether an erasure lists keys of its run is a rule of step 11.
        found.check_run(kind, run, entry | ({"keys": []} if kind == "erasure" else {}))
    return {"kind": kind, "references": sorted("artifact://" + cid.hex() for cid in cids)}


class Everything(set[int]):
    """Prompts and decisions of a run of which one entry alone is known."""

    def __contains__(self, index: object) -> bool:
        return True

    def remove(self, index: int) -> None:
        return None


def run_of(entry: dict[str, Any]) -> Any:
    """A run in which this entry may come next."""
    found = V.Run()
    found.step, found.prompts, found.allowed = (entry.get("step") or 1) - 1, Everything(), Everything()
    if "to" in entry:
        found.open = {entry["to"]: entry.get("reserved", 0)}
    return found


def judge_signature_leaf(v: Vector, folder: Path) -> Vector:
    found = verifier(folder, v["origin"])
    authors = [V.parse_vkey(key) for key in v["authors"]]
    found.authors = [(range(V.END), key) for key in authors]
    found.size, found.pending, found.frontier = v["size"], v["count"], [bytes.fromhex(v["root"])]
    found.signature(unbase64(v["leaf"]))
    [key] = found.signatures
    return {"author": key[0]}


def judge_list(v: Vector, folder: Path) -> Vector:
    found = verifier(folder)
    for name, data in v["lists"].items():
        raw = bytes.fromhex(data)
        V.need(blake3(raw, derive_key_context=V.CID).hexdigest() == name, "changed")
        found.blob(bytes.fromhex(name), raw, len(raw))
    found.sealed |= {bytes.fromhex(blob): bytes(16) for blob in v["blobs"]}
    first = bytes.fromhex(v["first"])
    for _ in range(v["links"]):
        raw = b"LL\x01\x00" + first
        first = blake3(raw, derive_key_context=V.CID).digest()
        found.blob(first, raw, len(raw))
    found.refs = {(None, False): {first}}
    found.check_blobs()
    cids, at = [], [first]
    while at:
        cid = at.pop(0)
        if cid in found.lists:
            at = V.members(found.lists[cid]) + at
        else:
            cids.append(cid.hex())
    return {"cids": cids}


class Parts(V.Verifier):  # type: ignore[misc]
    """Takes a pack apart, and leaves what it holds to others: vectors of packs hold no true leaves, blobs or tree."""

    def __init__(self, folder: Path, v: Vector) -> None:
        super().__init__(str(folder), OWNER, None)
        raw = unbase64(v["pack"])
        self.checkpoint, self.inside, self.out, self.leaves = b"", [], [], []
        self.stated, self.previous = int.from_bytes(raw[12:20], "little"), raw[20:52]
        self.trailer, self.size = self.previous, self.stated
        count = self.stated.bit_count()
        self.frontier = V.members(raw[84 : 84 + 32 * count])

    def check_head(self, checkpoint: bytes) -> None:
        self.checkpoint = checkpoint

    def blob_outside(self, cid: bytes, size: int) -> None:
        self.out.append([cid.hex(), size])

    def blob(self, cid: bytes, start: bytes, size: int) -> None:
        self.inside.append([cid.hex(), start.hex()])

    def leaf(self, leaf: bytes) -> None:
        self.leaves.append(base64.b64encode(leaf).decode())


def judge_pack(v: Vector, folder: Path) -> Vector:
    raw = unbase64(v["pack"])
    V.need(len(raw) <= 64 << 20, "too long")
    found = Parts(folder, v)
    frontier = [node.hex() for node in found.frontier]
    number = int.from_bytes(raw[4:12], "little")
    found.pack(number, raw)
    return {
        "number": number,
        "size": found.stated,
        "previous": found.previous.hex(),
        "frontier": frontier,
        "checkpoint": base64.b64encode(found.checkpoint).decode(),
        "blobs": found.inside,
        "outside": found.out,
        "leaves": found.leaves,
    }


def grown(folder: Path, size: int, published: int, there: dict[str, bytes]) -> None:
    """A log of `leaf <i>`, whose tiles it compares with those that are there."""
    for name, data in there.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    found = verifier(folder)
    found.published, found.signature = published, lambda leaf: None
    for i in range(size):
        found.leaf(b"leaf %d" % i)


def judge_tile(v: Vector, folder: Path) -> Vector:
    from tests.test_tiles import expected

    there = dict(expected(v["size"])) | {v["object"]: bytes.fromhex(v["data"])}
    grown(folder, v["size"], v["size"], there)
    return {}


JUDGES: dict[str, Callable[[Vector, Path], Vector]] = {
    "checkpoints": judge_checkpoint,
    "entries": judge_entry,
    "lists": judge_list,
    "notes": judge_note,
    "packs": judge_pack,
    "signature_leaves": judge_signature_leaf,
    "tiles": judge_tile,
    "vkeys": judge_vkey,
}
# Blobs in it are not those of their cids, which taking a pack apart alone does not show.
SEES_MORE = {"of every part some": 6}


def vectors(name: str) -> list[Vector]:
    found = json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
    return [v for v in found if name != "tiles" or v["kind"] == "object"]


@pytest.mark.parametrize("name", JUDGES)
def test_every_vector_has_its_verdict_by_a_stranger(name: str, tmp_path: Path) -> None:
    wrong = {}
    for number, vector in enumerate(vectors(name)):
        expected = {key: vector[key] for key in ("expected", "result") if key in vector}
        try:
            found: Vector = {"expected": "ok", "result": JUDGES[name](vector, tmp_path / str(number))}
        except (ValueError, RecursionError) as error:
            found = {"expected": "fail"}
            vector["why"] = str(error)
            if vector["name"] in SEES_MORE:
                assert V.at[0] == SEES_MORE[vector["name"]]
                continue
        if found != expected:
            wrong[vector["name"]] = found | {"why": vector.get("why")}
    assert wrong == {}
