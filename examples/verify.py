"""Verify a ledger without keys: written from docs/FORMAT.md alone, it shares no code with the project.

usage: python examples/verify.py LEDGER_DIR OWNER_VKEY [--since "SIZE ROOT"]

Does steps 1 to 8 and 11 of "Verify", stops at the first problem, never writes. Exits 0 sound, 1 not sound, 2 usage.
"""

import json
import os
import re
import struct
import sys
from base64 import b64decode, b64encode
from datetime import datetime
from glob import glob
from hashlib import sha256
from hashlib import sha512 as sha512_of

from blake3 import blake3
from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

CID, END = "agent-ledger 2026-11 v1 blob cid", 1 << 53
BLIND = "agent-ledger 2026-11 v1 blind key id"
ORIGIN = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*"
NUMBER, B64, HEX = "(0|[1-9][0-9]{0,15})", "([A-Za-z0-9+/]+={0,2})", "[0-9a-f]{64}"
RUN = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}(\.(?!000000)[0-9]{6})?Z"
ADDRESS, ANY, SHORT, POSITIVE = f"artifact://{HEX}", "(?s).*", "(?s).{1,200}", range(1, END)
LABEL, RULE, NUMBERS = "(?s).{0,200}", "[a-z0-9][a-z0-9._-]{0,99}", range(END)
ROLE = "[a-z0-9][a-z0-9._-]{0,49}"
QUORUM = f"[1-9][0-9]{{0,15}}( of {ROLE}(,{ROLE})*)?"
COMMON = {"kind": ANY, "v": range(1, 2), "time": TIME, "run?": RUN, "step?": POSITIVE}
COMMON |= {"stage?": SHORT, "lane?": SHORT, "task?": SHORT, "imported?": True}
CONTENT = {"content": ADDRESS, "digest": HEX, "detail?": ADDRESS}
SIGNED = {"request": ADDRESS, "sha512": "[0-9a-f]{128}", "signature": "(?s).{1,8192}"}
KINDS = {
    "trust.changed": {"note": ANY},
    "keys.changed": {"note": ANY},
    "run.started": {"key": HEX, "detail?": ADDRESS},
    "run.finished": {"status": "succeeded|failed", "detail?": ADDRESS},
    "prompt": CONTENT | {"model?": SHORT},
    "response": CONTENT | {"to?": POSITIVE},
    "artifact": CONTENT,
    "approval": SIGNED | {"to?": POSITIVE, "denied?": True, "detail?": ADDRESS},
    "approval.requested": CONTENT
    | {"action": SHORT, "subject": HEX, "request": ADDRESS, "policies": [HEX], "quorum": [QUORUM], "requester": SHORT}
    | {"nonce": "[0-9a-f]{32}", "expires": r"[^.]*", "model?": SHORT, "reserved?": POSITIVE},
    "approval.consumed": {"to": NUMBERS, "decision": NUMBERS},
    "approval.breakglass": SIGNED | {"to": NUMBERS, "detail": ADDRESS},
    "erasure": {"of": RUN, "keys": ["[0-9a-f]{32}"], "detail?": ADDRESS},
    "disclosure": {"content": ADDRESS},
    "policy": CONTENT | {"policy": LABEL, "version": HEX},
    "schema": CONTENT | {"schema": LABEL},
    "decision": CONTENT
    | {
        "action": LABEL,
        "effect": "allow|deny|require_approval",
        "rules": [RULE],
        "policies": [HEX],
        "request?": ADDRESS,
    },
    "routing": {"asked": LABEL, "model": LABEL, "reason": "alias|lane"},
    "redaction": CONTENT | {"profile": LABEL, "version": HEX, "counts": {RULE: NUMBERS}},
    "model.request": CONTENT
    | {"decision": NUMBERS, "model": LABEL, "key": HEX, "attempt": NUMBERS, "envelope": ADDRESS}
    | dict.fromkeys(("continues?", "reserved?", "cap?"), POSITIVE),
    "model.response": CONTENT
    | {"to": NUMBERS, "status": "completed|incomplete|failed|refused|malformed|cut_off|timeout|unreachable"}
    | {"verdict": "valid|invalid|none"}
    | dict.fromkeys(("http?", "input?", "cached?", "output?", "reasoning?", "cost?", "reserved?", "latency?"), POSITIVE)
    | {"wire?": ADDRESS},
    "reservation.released": {"to": NUMBERS, "reserved?": POSITIVE, "detail?": ADDRESS},
    "violation": {"rule": RULE, "to?": POSITIVE, "detail?": ADDRESS},
    "run.paused": {"detail?": ADDRESS},
    "run.resumed": {"detail?": ADDRESS},
    "action.started": CONTENT | {"egress": "enforced|advisory", "inputs?": ADDRESS},
    "action.ended": CONTENT
    | {"to": NUMBERS, "exit": range(256)}
    | dict.fromkeys(("outputs?", "stdout?", "stderr?"), ADDRESS),
    "replay": CONTENT | {"of": RUN, "verdict": "reproduced|diverged|not_replayable"},
    "value": CONTENT,
}
OF_NO_RUN = ("trust.changed", "keys.changed", "erasure", "disclosure", "schema", "violation")
ROLES = f"(-|{ROLE}(,{ROLE})*)"
STATEMENTS = {  # after the line with the serial
    "trust": rf"log \S+\n(author {NUMBER} ({NUMBER}|-) \S+\n)*(approver {NUMBER} ({NUMBER}|-) \S+ {ROLES} \S+ \S+\n)*",
    "keys": rf"root {NUMBER} age1[0-9a-z]+\nproject {HEX}\n(reader (age1[0-9a-z]+|ssh-\S+ {B64})\n)*",
}
at = [1, "the owner's key"]  # the step that is being done, and where


def need(ok, what):
    if not ok:
        raise ValueError(what)


def unbase64(text):
    raw = b64decode(text, validate=True)
    need(b64encode(raw).decode() == text, "base64 in another spelling")
    return raw


def parse_vkey(text):
    name, key_id, raw = text.split("+", 2)
    raw = unbase64(raw)
    need(re.fullmatch(ORIGIN, name) and len(raw) == 33 and raw[0] == 1, "not a vkey")
    need(sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id, "a vkey with another key id")
    return name, bytes.fromhex(key_id), raw[1:]


def signed(public, signature, message):
    try:  # libsodium refuses keys of small order, and other spellings of a signature
        return len(public) == 32 and len(signature) == 64 and crypto_sign_open(signature + message, public) == message
    except CryptoError:
        return False


def parse_note(data, keys):
    """Its text, and those of the keys that signed it."""
    body, gap, lines = data.decode().rpartition("\n\n")
    *lines, end = lines.split("\n")
    need(len(data) <= 1 << 20 and gap and 1 <= len(lines) <= 100 and not end, "not a note, or too long")
    need(not re.search("[\0-\x09\x0b-\x1f\x7f]", data.decode()), "a note with control characters")
    signers = set()
    for line in lines:
        parts = re.fullmatch(rf"— ([^\s+]+) {B64}", line)
        signature = unbase64(parts[2]) if parts else b""
        need(len(signature) > 4, "a malformed signature line")
        for key in keys:
            if key[:2] == (parts[1], signature[:4]):
                need(signed(key[2], signature[4:], (body + "\n").encode()), f"a signature by {key[0]} that fails")
                signers.add(key)
    return body + "\n", signers


def once(pairs):
    need(len(dict(pairs)) == len(pairs), "a name that occurs twice")
    return dict(pairs)


# Other kinds may hold any number; none of ours has more than 16 digits. `int` refuses NaN and the like.
DIGITS = {"parse_int": lambda digits: int(digits[:17]), "parse_float": lambda _: 0.5, "parse_constant": int}


def fits(value, form):
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(v, form[0]) for v in value)
    if isinstance(form, dict):
        [(name, number)] = form.items()
        whole = isinstance(value, dict) and list(value) == sorted(value)
        return whole and all(fits(n, name) and fits(v, number) for n, v in value.items())
    if isinstance(form, str):
        return isinstance(value, str) and re.fullmatch(form, value)
    return value is True if form is True else type(value) is int and value in form


def parse_entry(leaf):
    """The entry, and the cids that it refers to."""
    entry = json.loads(leaf.decode(), object_pairs_hook=once, **DIGITS)
    spelling = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
    need(next(iter(entry), "") == "kind" and fits(entry["kind"], r"[a-z]+(\.[a-z]+)*"), "kind is not first, or wrong")
    need(b"\n" not in leaf and b"\r" not in leaf, "more than one line")
    need(leaf.startswith(b'{"kind":"' + entry["kind"].encode() + b'"'), "does not begin with its kind")
    if entry["kind"] in KINDS:
        forms = COMMON | KINDS[entry["kind"]]
        forms = {n.rstrip("?"): form for n, form in forms.items() if n[-1] != "?" or n[:-1] in entry}
        need(list(entry) == list(forms), "other members than there should be, or in another order")
        for name, form in forms.items():
            need(fits(entry[name], form), f"{name} is malformed")
        for name in {"time", "expires"} & entry.keys():
            need(fits(entry[name], TIME) and datetime.fromisoformat(entry[name][:-1]), f"{name} is no time")
        need("to" in entry or "denied" not in entry, "a denial of nothing")
        if entry["kind"] == "approval.requested":
            need(entry["policies"] and entry["quorum"] == sorted(set(entry["quorum"])) != [], "no policies, or quorums")
        need(spelling == leaf, "not in its only spelling")
    elif [entry.get("run", ""), type(entry.get("step", 0)), entry.get("step", 0)] != ["", int, 0]:
        need(fits(entry.get("run"), RUN) and fits(entry.get("step"), POSITIVE), "a malformed run or step")
    values, cids = [(entry, 1)], set()
    for value, depth in values:  # which grows meanwhile
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        need(depth <= 64 or not isinstance(value, dict | list), "nested too deep")
        values += [(v, depth + 1) for v in inner]
        if isinstance(value, str) and value.startswith("artifact://"):
            need(re.fullmatch(ADDRESS, value), "an artifact:// that is no address")
            cids.add(bytes.fromhex(value[11:]))
    return entry, cids


def ssh(*strings):
    return b"".join(len(s).to_bytes(4, "big") + s for s in strings)


def approves(key, blob, sha512):
    """By PROTOCOL.sshsig and, for sk keys, PROTOCOL.u2f: is the blob what this key's owner makes of that hash?"""
    what, kind = ssh(b"ledger-approval@v1", b"", b"sha512"), key[4 : 4 + key[3]]
    public, application = key[8 + len(kind) :][:32], key[44 + len(kind) :]
    message, signature, extra = b"SSHSIG" + what + ssh(sha512), blob[-64:], b""
    if kind == b"sk-ssh-ed25519@openssh.com":
        signature, extra = blob[-69:-5], blob[-5:]  # flags, of which 1 is user presence, and a counter
        message = sha256(application).digest() + extra + sha256(message).digest()
        known = key == ssh(kind, public, application) and extra and extra[0] & 1
    else:
        known = key == ssh(b"ssh-ed25519", public)
    whole = b"SSHSIG\0\0\0\1" + ssh(key) + what + ssh(ssh(kind, signature) + extra)
    return known and blob == whole and signed(public, signature, message)


def statement(origin, request, verdict):
    """What an approver signs: JSON, indented by two, all in ASCII."""
    cost = request.get("reserved", 0)
    said = {"statement": "agent-ledger/approval@v1", "verdict": verdict, "log": origin, "run": request["run"]}
    said |= {name: request.get(name, "") for name in ("stage", "lane", "task", "action", "model")}
    said |= {"costs_at_most_usd": f"{cost // 10**6}.{cost % 10**6:06}", "digest": request["subject"]}
    said |= {"request": request["request"], "question": request["content"]}
    said |= {name: request[name] for name in ("policies", "quorum", "requester", "nonce", "expires")}
    return json.dumps(said, indent=2).encode() + b"\n"


def when(text):
    return datetime.fromisoformat(text[:-1])


def serves(roles, wanted):
    return wanted is None or bool(wanted & roles)


ALIKE = ("stage", "lane", "task", "model", "reserved")


class Request:
    """A request for approval. Approvers are ranges of indexes, key, name and roles."""

    def __init__(self, entry):
        self.entry, self.answers, self.over = entry, [], ""  # answers: index, key, verdict
        parts = [text.partition(" of ") for text in entry["quorum"]]
        self.quorums = [(int(count), set(roles.split(",")) if roles else None) for count, _, roles in parts]

    def people(self, approvers, index, verdict):
        """Name and roles of those whose answer counts for an effect at an index: their keys hold from it till there."""
        answers = [answer for answer in self.answers if answer[2] == verdict]
        holding = [
            [who for who in approvers if who[1] == key and i in who[0] and index in who[0]] for i, key, _ in answers
        ]
        return [found[0][2:] for found in holding if found]

    def need_open(self, entry):
        need(not self.over, f"the request was {self.over} before")
        need(when(entry["time"]) < when(self.entry["expires"]), "the request has expired")

    def answer(self, index, entry, verdict, signer, approvers):
        key, name, roles = signer
        self.need_open(entry)
        if verdict == "deny":
            self.over = "denied"
        elif verdict == "break-glass":
            need("break-glass" in roles, "by somebody who may not break the glass")
        else:
            before = [old for who, old in self.people(approvers, index, "approve") if who == name]
            wanted = [wanted for _, wanted in self.quorums if serves(roles, wanted)]
            need(name != self.entry["requester"], "by who asked for it")
            need(any(not any(serves(old, w) for old in before) for w in wanted), "in no role that counts, or again")
        self.answers.append((index, key, verdict))

    def consume(self, index, entry, approvers):
        self.need_open(entry)
        self.over, alone = "used", self.people(approvers, index, "break-glass")
        people = self.people(approvers, index, "approve")
        for count, wanted in self.quorums if not any("break-glass" in roles for _, roles in alone) else ():
            need(len({name for name, roles in people if serves(roles, wanted)}) >= count, "a quorum is not met")


def fold(frontier):
    """The root over complete subtrees, largest first."""
    root, *rest = reversed(frontier or [sha256().digest()])
    for left in rest:
        root = sha256(b"\1" + left + root).digest()
    return root


def members(cids):
    return [cids[i : i + 32] for i in range(0, len(cids), 32)]


class Run:
    def __init__(self):
        self.step, self.finished, self.paused, self.prompts, self.allowed = 1, False, False, set(), set()
        self.open, self.attempts, self.spent = {}, {}, 0  # what open requests reserve, tries by lane and task
        self.asked, self.lets, self.policies = {}, {}, {}  # requests for approval; decisions let go, and their policies

    def add(self, index, kind, entry):
        if kind == "prompt":
            self.prompts.add(index)
        elif kind == "response" and "to" in entry:
            need(entry["to"] in self.prompts, "answers no earlier prompt of its run")
        elif kind == "run.finished":
            self.finished = True
        elif kind in ("run.paused", "run.resumed"):
            self.paused = kind == "run.paused"
        elif kind == "decision" and (entry["action"], entry["effect"]) == ("model.request", "allow"):
            self.allowed.add(index)
            self.policies[index] = sorted(entry["policies"])
        elif kind == "model.request":
            need(not self.paused and entry["decision"] in self.allowed, "a request that is not allowed")
            self.allowed.remove(entry["decision"])
            self.check_approved(kind, entry)
            task = entry.get("lane"), entry.get("task")
            since = entry["attempt"] - self.attempts.get(task, 0)
            need(since == 1 or (since == 0 and entry["attempt"] and "continues" in entry), "a wrong number of attempt")
            self.attempts[task], self.open[index] = entry["attempt"], entry.get("reserved", 0)
            held = self.spent + sum(self.open.values())
            need(held <= entry.get("cap", held), "a request over the budget of its run")
        elif kind in ("model.response", "reservation.released"):
            need(
                self.open.pop(entry["to"], None) == entry.get("reserved", 0), "ends no open request, or for another sum"
            )
            self.spent += entry.get("cost", 0)
        elif kind == "approval.requested":
            need(
                entry["nonce"] not in [old.entry["nonce"] for old in self.asked.values()], "a nonce for the second time"
            )
            self.asked[index] = Request(entry)
            self.asked[index].need_open(entry)

    def check_approved(self, kind, entry):
        """What is sent is what was approved, and what needs an approval like an earlier request has one of its own."""
        policies = self.policies.pop(entry["decision"], [])
        same = [
            (request.entry["action"], request.entry["subject"]) == (kind, entry["digest"])
            and all(
                request.entry.get(name) == entry.get(name) for name in ("stage", "lane", "task", "model", "reserved")
            )
            and sorted(request.entry["policies"]) == policies
            for request in self.asked.values()
        ]
        used = self.lets.pop(entry["decision"], None)
        need(used is not None or not any(same), "a request that needs an approval, and uses none")
        need(used is None or same[list(self.asked).index(used)], "another request than was approved")


class Verifier:
    def __init__(self, folder, owner, since):
        self.folder, self.owner, self.origin, self.since = folder, owner, owner[0], since
        self.size, self.frontier, self.rows, self.trailer = 0, [], {}, bytes(32)  # rows: tiles in the making, by level
        self.serials, self.root, self.log = {"trust": 0, "keys": 0}, 0, None
        self.authors, self.approvers = [], []
        self.ends, self.entries, self.others, self.pending, self.remarks = {}, 0, 0, 0, []  # ends: size: root, log key
        self.signatures, self.runs, self.erased_runs, self.erased_keys = {}, {}, set(), {}  # runs: None when over
        self.refs, self.sealed, self.lists, self.outside = (
            {},
            {},
            {},
            {},
        )  # run, disclosed: cids; cid: data key id, members, size

    def read(self, name, limit):
        path = os.path.join(self.folder, name)
        if not os.path.lexists(path):
            return None
        need(
            os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) <= limit,
            f"{name} is no file, or too long",
        )
        with open(path, "rb") as file:
            return file.read(limit)

    def verify(self):
        at[1], toml = "ledger.toml", f'format = 1\norigin = "{self.origin}"\n'.encode()
        need(len(self.origin) <= 128 and self.read("ledger.toml", 999) == toml, "not there, or not of this owner's log")
        at[:] = 4, "checkpoint"  # read before the packs, of which there may soon be more
        checkpoint = self.read("checkpoint", 1 << 20)
        self.published = 0 if checkpoint is None else self.parse_head(checkpoint)[0]
        at[:] = 2, "packs"
        number = r"packs/[0-9]{10}/([01][0-9]|2[0-4]|25(?=[0-5]))[0-9]\.pack"
        found = {name for name in glob("packs/*/*", root_dir=self.folder) if re.fullmatch(number, name)}
        names = [f"packs/{p >> 8:010}/{p & 255:03}.pack" for p in range(len(found))]
        need(found and found == set(names), "none is there, or one is missing")
        self.ends[0] = fold([]), None
        self.at_size()
        for p, name in enumerate(names):
            at[:] = 2, f"pack {p}"
            self.pack(p, self.read(name, 64 << 20) or b"")
        at[:] = 4, "checkpoint"
        need(self.published <= self.size, f"is of {self.published} leaves: the packs were cut off at {self.size}")
        if checkpoint is not None:
            self.check_head(checkpoint)
        if self.published < self.size:
            self.remarks.append(f"the checkpoint lags behind by {self.size - self.published} leaves")
        if self.others:
            self.remarks.append(f"{self.others} entries of other kinds are not interpreted")
        at[:] = 8, "the earlier head"
        need(not self.since or self.since[0] <= self.size, f"the log was cut off at {self.size}")
        self.check_blobs()
        self.check_data_keys()

    def parse_head(self, checkpoint):
        parts = re.fullmatch(rf"{re.escape(self.origin)}\n{NUMBER}\n{B64}\n", parse_note(checkpoint, [])[0])
        need(parts, "a checkpoint of another log, or malformed")
        return int(parts[1]), unbase64(parts[2])

    def check_head(self, checkpoint):
        size, root = self.parse_head(checkpoint)
        need(size in self.ends, f"a checkpoint of {size} leaves, where no pack ends")
        need(root == self.ends[size][0], f"a checkpoint with another root at {size}")
        need(parse_note(checkpoint, [self.ends[size][1]])[1], "a checkpoint that the log has not signed")

    def pack(self, p, data):
        need(len(data) >= 116 and blake3(data[:-32]).digest() == data[-32:], "gone, cut, or changed")
        magic, number, size, before, c, b, x, count = struct.unpack_from("<4sQQ32s16xIIII", data)
        need(magic == b"LP\1\0" and number == p and before == self.trailer, "not the pack that belongs here")
        need(size < END and c <= 65536 and 2 <= count <= 65536, "over the limits")
        place, tables = 84, []
        for length in 32 * size.bit_count(), c, 32 * b, 32 * x, 4 * b, 4 * x, 2 * count:
            tables, place = [*tables, data[place : place + length]], place + length
        need(place + 32 <= len(data), "shorter than its tables")
        frontier, checkpoint, inside, outside, inside_sizes, outside_sizes, leaf_sizes = tables
        sizes = [*struct.unpack(f"<{b}I", inside_sizes), *struct.unpack(f"<{count}H", leaf_sizes)]
        need(place + sum(sizes) + 32 == len(data), "not as long as its tables say")
        at[0], self.trailer = 4, data[-32:]
        need(size == self.size and frontier == b"".join(self.frontier), "not made for the leaves before it")
        at[:] = 6, f"pack {p}, blobs outside"
        for cid, (length,) in zip(members(outside), struct.iter_unpack("<I", outside_sizes), strict=True):
            self.blob_outside(cid, length)
        for cid, length in zip(members(inside) + [None] * count, sizes, strict=True):
            part, place = data[place : place + length], place + length
            if cid:
                at[:] = 6, f"pack {p}, blob {cid.hex()}"
                need(blake3(part, derive_key_context=CID).digest() == cid, "changed")
                self.blob(cid, part, length)
            else:
                self.leaf(part)
        at[:] = 3, f"pack {p}"
        need(not self.pending, "its last leaf is an entry")
        at[0] = 4
        if checkpoint:
            self.check_head(checkpoint)
        self.ends[self.size] = fold(self.frontier), self.log

    def blob_outside(self, cid, size):
        path, known = os.path.join(self.folder, "blobs", cid.hex()[:2], cid.hex()), cid in self.outside
        need(self.outside.setdefault(cid, size) == size, f"two sizes of {cid.hex()}")
        if os.path.lexists(path):
            need(os.path.isfile(path) and os.path.getsize(path) == size, f"{cid.hex()} has another size")
            found = cid if known else blake3(derive_key_context=CID).update_mmap(path).digest()
            need(found == cid, f"{cid.hex()} was changed")
            with open(path, "rb") as file:
                self.blob(cid, file.read(4 + 32 * 4096), size)

    def blob(self, cid, start, size):
        if start[:4] == b"LL\1\0":
            need(36 <= size <= 4 + 32 * 4096 and size % 32 == 4, "a list of no such length")
            self.lists[cid] = start[4:]
        else:
            m = size - 100  # without hdr, siv, com, and the tag of the cipher
            exponent = m.bit_length() - 1
            need(start[:4] == b"LB\1\0" and m >= 256, "neither a sealed blob nor a list")
            need(m % (1 << exponent - exponent.bit_length()) == 0, "not padded by Padmé")
            need(start[4:20] not in self.erased_keys, "under a data key that was erased before")
            self.sealed[cid] = start[4:20]

    def leaf(self, leaf):
        at[:] = 3, f"leaf {self.size}"
        if leaf[:1] == b"{":
            entry, cids = parse_entry(leaf)
            kind, run = entry["kind"], entry.get("run") if isinstance(entry.get("run"), str) else None
            need(self.size or kind == "trust.changed", "entry 0 is no trust.changed")
            self.refs.setdefault((run, kind == "disclosure"), set()).update(cids)
            self.entries, self.pending = self.entries + 1, self.pending + 1
            self.others += kind not in KINDS
            self.check_run(kind, run, entry)
            if kind in ("trust.changed", "keys.changed"):
                self.statement(kind[:-8], entry["note"].encode())
        else:
            self.signature(leaf)
        self.tile_part(-1, struct.pack(">H", len(leaf)) + leaf)
        node, height, rest = sha256(b"\0" + leaf).digest(), 0, self.size
        self.tile_part(0, node)
        while rest & 1:
            node, height, rest = sha256(b"\1" + self.frontier.pop() + node).digest(), height + 1, rest >> 1
            if height % 8 == 0:
                self.tile_part(height // 8, node)
        self.frontier.append(node)
        self.size += 1
        self.at_size()

    def signature(self, leaf):
        text, signers = parse_note(leaf, [key for _, key in self.authors])
        need(self.pending, "a signature leaf that follows no entry")
        need(leaf.rpartition(b"\n\n")[2].count(b"\n") == 1, "a signature leaf with more than one signature line")
        at[0], root = 5, b64encode(fold(self.frontier)).decode()
        need(text == f"agent-ledger/batch@v1\n{self.origin}\n{self.size} {root}\n{self.pending}\n", "signs another log")
        signers = {key for indexes, key in self.authors if self.size in indexes and key in signers}
        need(signers, "not signed by an author who is trusted here")
        for key in signers:
            self.signatures.setdefault(key, []).append(self.size)
        self.pending = 0

    def statement(self, what, note):
        at[0], (text, signers) = 5, parse_note(note, [self.owner])
        start = f"agent-ledger/{what}@v1\n{self.origin}\n{self.serials[what]}\n"
        need(signers, "not signed by the owner")
        need(text.startswith(start), "of another log or kind, or out of order")
        need(re.fullmatch(STATEMENTS[what], text[len(start) :]), "malformed")
        self.serials[what] += 1
        if what == "keys":
            root = int(text[len(start) :].split(" ")[1])
            need(root in ((self.root, self.root + 1) if self.serials["keys"] > 1 else (0,)), "leaves out a root")
            self.root = root
            return
        (_, log), *lines = [line.split(" ") for line in text[len(start) : -1].split("\n")]
        holds = [range(int(line[1]), END if line[2] == "-" else int(line[2])) for line in lines]
        need(self.log in (None, parse_vkey(log)), "names another log key than the first statement")
        self.log, both = parse_vkey(log), list(zip(lines, holds, strict=True))
        self.authors = [(indexes, parse_vkey(line[3])) for line, indexes in both if line[0] == "author"]
        approvers = [
            (indexes, unbase64(line[6]), line[3], [] if line[4] == "-" else line[4].split(","), ssh(line[5].encode()))
            for line, indexes in both
            if line[0] == "approver"
        ]
        need(all(key.startswith(kind) for _, key, *_, kind in approvers), "an SSH key that is malformed")
        need(all(roles == sorted(set(roles)) for *_, roles, _ in approvers), "roles that are not in order")
        self.approvers = [(indexes, key, name, set(roles)) for indexes, key, name, roles, _ in approvers]
        self.ends[0] = self.ends[0][0], self.ends[0][1] or self.log
        need(self.log[0] == self.origin, "a log key with another name")
        for indexes, key in self.authors:
            own = key[0].startswith(self.origin + "/") and key[2] != self.log[2]
            need(own, "an author's name is not of this log, or his key is the log's")
            late = sum(i >= indexes.stop for i in self.signatures.get(key, []))
            if late:
                self.remarks.append(f"{late} signatures by {key[0]}, disowned by entry {self.size}")

    def check_run(self, kind, run, entry):
        at[0], step = 11, entry.get("step")
        if kind == "run.started":
            need(run and run not in self.runs and step == 1, "begins a run again, or none, or not at step 1")
            self.runs[run] = Run()
        elif run:
            late = kind in ("model.response", "reservation.released")
            need(self.runs.get(run), "in a run that has not started, or is over")
            need(late or not self.runs[run].finished, "in a run that has finished")
            need(type(step) is int and step == self.runs[run].step + 1, "not the next step of its run")
            self.runs[run].step = step
            self.runs[run].add(self.size, kind, entry)
            if self.runs[run].finished and not self.runs[run].open:
                self.runs[run] = None
        else:
            need(kind not in KINDS or (step is None and kind in OF_NO_RUN), "of a run, and names none")
        if kind == "response" and "to" in entry:
            need(run, "answers no earlier prompt of its run")
        elif kind == "erasure":
            need(entry["of"] in self.runs, "erases a run that has not started")
            self.runs[entry["of"]] = None
            self.erased_runs.add(entry["of"])
            own, keys = bytes.fromhex(entry["of"].replace("-", "")), [bytes.fromhex(key) for key in entry["keys"]]
            blind = [k[:8] + blake3(own + k[:8], derive_key_context=BLIND).digest(8) for k in keys]
            need(all(k in (own, b) for k, b in zip(keys, blind, strict=True)), "erases another run's key")
            self.erased_keys = dict.fromkeys(keys, self.size) | self.erased_keys
        elif kind in ("approval", "approval.breakglass"):
            blob, sha512 = unbase64(entry["signature"]), bytes.fromhex(entry["sha512"])
            signers = [
                who for indexes, *who in self.approvers if self.size in indexes and approves(who[0], blob, sha512)
            ]
            need(signers, "not validly signed by an approver")
            if "to" in entry:
                self.check_answer(kind, run, entry, signers[0])
        elif kind == "approval.consumed":
            found = self.runs[run]
            need(entry["to"] in found.asked, "uses no earlier request of its run")
            found.asked[entry["to"]].consume(self.size, entry, self.approvers)
            need(entry["decision"] < self.size and entry["decision"] not in found.lets, "no decision, or let go before")
            found.lets[entry["decision"]] = entry["to"]

    def check_answer(self, kind, run, entry, signer):
        verdict = "break-glass" if kind[9:] else "deny" if "denied" in entry else "approve"
        request = self.runs[run].asked.get(entry["to"])
        need(request, "answers no earlier request of its run")
        text = statement(self.origin, request.entry, verdict)
        need(sha512_of(text).hexdigest() == entry["sha512"], "signs another statement than that of its request")
        request.answer(self.size, entry, verdict, signer, self.approvers)

    def at_size(self):
        if self.since and self.since[0] == self.size:
            at[:] = 8, f"the earlier head, of {self.size} leaves"
            need(fold(self.frontier) == self.since[1], "the log does not begin with it")
        if self.size == self.published:
            for level, row in self.rows.items():
                self.check_tile(level, row)

    def tile_part(self, level, part):
        if self.size < self.published:
            row = self.rows.setdefault(level, [])
            row.append(part)
            if len(row) == 256:
                self.check_tile(level, row)
                row.clear()

    def check_tile(self, level, row):
        index = str(self.size >> 8 * (max(level, 0) + 1))
        groups = re.findall("...", index.zfill(-(-len(index) // 3) * 3))
        name = "/".join(["tile", "entries" if level < 0 else str(level), *("x" + g for g in groups[:-1]), groups[-1]])
        at[:], content = (7, name + f".p/{len(row)}" * (len(row) < 256)), b"".join(row)
        found = self.read(at[1], len(content)) if row else b""
        if found is None:  # where the log has grown on, the full tile may have replaced a partial one
            found = (self.read(name, 1 << 25) or b"")[: len(content)]
        need(found == content, "not there, or not what the leaves make")

    def reach(self, keys):
        todo, seen = [cid for key in keys for cid in self.refs[key]], set()
        while todo:
            cid = todo.pop()
            if cid not in seen:
                seen.add(cid)
                todo += members(self.lists.get(cid, b""))
        return seen

    def check_blobs(self):
        at[:], there = (6, "references"), self.sealed.keys() | self.lists.keys()
        every = self.reach(self.refs)
        for cid in every.union(*map(members, self.lists.values())):
            need(cid in there or cid in self.outside, f"{cid.hex()} is missing, and no pack names it")
        erased = {key for key in self.refs if key[0] in self.erased_runs}
        shown = {key for key in self.refs.keys() - erased if key[1]}
        for cid in self.reach(self.refs.keys() - erased - shown) | (self.reach(shown) - self.reach(erased)):
            need(cid in there, f"{cid.hex()} is missing")
        if there - every:
            self.remarks.append(f"{len(there - every)} blobs that nothing refers to")
        depths = {}
        for cid, content in self.lists.items():
            at[1], chain = f"list {cid.hex()}", []
            need(self.lists.keys().isdisjoint(members(content)[1:]), "a list that is not the first member")
            while cid in self.lists and cid not in depths:
                chain.append(cid)
                cid = self.lists[cid][:32]
            for depth, link in enumerate(reversed(chain), depths.get(cid, 0) + 1):
                need(depth <= 4096, "a chain of more than 4096 lists")
                depths[link] = depth

    def check_data_keys(self):
        shared = {number.to_bytes(16, "big") for number in range(self.root + 1)}
        for number in range(self.root + 1):
            at[1] = f"keys/root/{number}.age"
            need((self.read(at[1], 1 << 20) or b"").startswith(b"age-encryption.org/v1\n"), "missing, or no age file")
        need(self.serials["keys"], "no statement of keys")
        used = set(self.sealed.values()) | shared
        for key in used | self.erased_keys.keys():
            name, erasure = f"keys/data/{key.hex()[:2]}/{key.hex()}", self.erased_keys.get(key)
            at[1], data = f"{name}.age", self.read(f"{name}.age", 1 << 20)
            tombstone = f"agent-ledger/erased@v1\n{self.origin}\n{erasure}\n".encode()
            if data is not None and data.startswith(b"age-encryption.org/v1\n"):
                erasing = os.path.lexists(os.path.join(self.folder, f"{name}.erasing"))
                need(erasure is None or erasing, f"living, though entry {erasure} erased it")
                if erasure is not None:
                    self.remarks.append(f"{at[1]} is still there, erased by entry {erasure}")
            elif data is not None or key in used:
                need(erasure is not None and data == tombstone, "neither a living key nor the tombstone of an erasure")


def main(args):
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        folder, owner, *rest = args
        since = re.fullmatch(rf"{NUMBER} {B64}", rest[1]) if rest[:1] == ["--since"] else None
        log = Verifier(folder, parse_vkey(owner), since and (int(since[1]), unbase64(since[2])))
        need(os.path.isdir(folder) and len(rest) == (2 if since else 0), "usage")
    except (ValueError, IndexError):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        log.verify()
    except (OSError, ValueError, RecursionError) as error:
        print(f"not sound   step {at[0]}: {at[1]}: {error!s:.200}")
        return 1
    print(f"sound   {log.entries} entries   head {log.size} {b64encode(fold(log.frontier)).decode()}")
    for remark in log.remarks:
        print(f"remark: {remark}")
    end = f"nothing was cut off after {since[1]} leaves" if since else "the end was not cut off (no earlier head)"
    print(f"not checked: contents, and what keys/ holds (no identity); that {end}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
