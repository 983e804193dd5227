"""Entries: one record of each kind, and the only encoder for what is hashed.

An entry is one JSON object on one line. The bytes of a known kind are exactly what `encode` writes for
what `decode` reads (docs/FORMAT.md, "Entries"), so no two spellings of one record exist.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from schemas.errors import Malformed, NotSound, TooLarge
from schemas.ids import ADDRESS_PREFIX, ROLE, cid_of, is_run_id

MAX_ENTRY = 65_535
"""Bytes of an entry, as many as a C2SP entry bundle can hold."""

MAX_DEPTH = 64
"""Nesting of an entry of an unknown kind."""

Label = Annotated[str, msgspec.Meta(max_length=200)]
# What they hold is checked by `__post_init__`: msgspec's patterns would cost more than all the rest of decoding.
Hex16 = Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
Hex32 = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
Hex64 = Annotated[str, msgspec.Meta(min_length=128, max_length=128)]
Address = Annotated[str, msgspec.Meta(max_length=75)]
Index = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_RULE = re.compile("[a-z0-9][a-z0-9._-]{0,99}")
_QUORUM = re.compile(f"[1-9][0-9]{{0,15}}(?: of {ROLE}(?:,{ROLE})*)?")


def _check_hex(*texts: str) -> None:
    for text in texts:
        # `fromhex` alone would let spaces and capitals pass.
        if bytes.fromhex(text).hex() != text:
            raise ValueError("not in lower case hex")


def _check_address(text: str) -> None:
    if text and (text[:11] != ADDRESS_PREFIX or len(text) != 75):
        raise ValueError("not an address")
    _check_hex(text[11:])


def _check_required(text: str) -> None:
    if not text:
        raise ValueError("an address is missing")
    _check_address(text)


def _check_rules(*names: str) -> None:
    for name in names:
        if _RULE.fullmatch(name) is None:
            raise ValueError("not the name of a rule")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="kind", gc=False):
    """What every entry carries, in this order, after its `kind`.

    Attributes:
        v: version of the entry format.
        time: UTC, as the writer gave it; the order of entries is their index, never this.
        run: UUIDv7 of the run; empty where the entry belongs to the ledger as a whole.
        step: place within the run, from 1.
        stage, lane, task: where in the pipeline.
        imported: the record was made elsewhere and brought in afterwards.
    """

    v: Literal[1]
    time: datetime
    run: str = ""
    step: Index = 0
    stage: Label = ""
    lane: Label = ""
    task: Label = ""
    imported: bool = False


class TrustChanged(Entry, tag="trust.changed", frozen=True, kw_only=True):
    """The owner names log key, authors and approvers (`schemas.trust.TrustNote`, a signed note)."""

    note: str


class KeysChanged(Entry, tag="keys.changed", frozen=True, kw_only=True):
    """The owner names the newest root's recipient and who may read (`schemas.trust.KeysNote`)."""

    note: str


class RunStarted(Entry, tag="run.started", frozen=True, kw_only=True):
    """A run begins.

    Attributes:
        key: commitment to the run's data key, so that nobody can slip in another.
        detail: sealed JSON: the run's name.
    """

    key: Hex32
    detail: Address = ""

    def __post_init__(self) -> None:
        _check_hex(self.key)
        _check_address(self.detail)


class RunFinished(Entry, tag="run.finished", frozen=True, kw_only=True):
    """A run ends. Nothing is appended to it afterwards.

    Attributes:
        detail: sealed JSON: why it failed.
    """

    status: Literal["succeeded", "failed"]
    detail: Address = ""

    def __post_init__(self) -> None:
        _check_address(self.detail)


class Content(Entry, frozen=True, kw_only=True):
    """What entries with sealed content share.

    Attributes:
        content: address of the sealed content.
        digest: BLAKE3 of the content, keyed from the data key it is sealed under.
        detail: sealed JSON: name, media type.
    """

    content: Address
    digest: Hex32
    detail: Address = ""

    def __post_init__(self) -> None:
        # As `_check_required` and `_check_hex` would, at once: most entries pass here.
        digits = self.content[11:] + self.digest
        if self.content[:11] != ADDRESS_PREFIX or len(digits) != 128 or bytes.fromhex(digits).hex() != digits:
            raise ValueError("content is not an address, or digest not in lower case hex")
        if self.detail:
            _check_address(self.detail)


class Prompt(Content, tag="prompt", frozen=True, kw_only=True):
    """What was asked of a model, appended by hand."""

    model: Label = ""


class Response(Content, tag="response", frozen=True, kw_only=True):
    """What a model answered, appended by hand.

    Attributes:
        to: index of the prompt that it answers; 0 where that isn't known.
    """

    to: Index = 0


class Artifact(Content, tag="artifact", frozen=True, kw_only=True):
    """A file or other piece of data that a run read or made."""


class ApprovalRequested(Content, tag="approval.requested", frozen=True, kw_only=True):
    """People are asked whether one exact action may happen; its content is the question and every finding, as JSON.

    What an approver signs follows from these members and the log's origin (`policies.statement`).

    Attributes:
        action: the kind of entry that is to be allowed.
        subject: digest that this entry will bear: of the exact action.
        request: address of the same bytes, for who is to read them.
        policies: versions of the policies that ask.
        quorum: what each of them needs: `2`, or `2 of lead,security`; in order.
        requester: who wants it, and so can't approve it.
        nonce: 16 random bytes: no two statements are equal, and none can be guessed.
        expires: from then on it lets nothing go.
        model: of a model request, as it would leave.
        reserved: micro-USD that the action may cost at worst.
    """

    action: Label
    subject: Hex32
    request: Address
    policies: list[Hex32]
    quorum: list[Label]
    requester: Label
    nonce: Hex16
    expires: datetime
    model: Label = ""
    reserved: Index = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_required(self.request)
        _check_hex(self.subject, self.nonce, *self.policies)
        if not self.policies or not self.quorum or not self.requester or not self.action:
            raise ValueError("it does not say what, by whose rule, by whom, or for whom")
        if any(_QUORUM.fullmatch(text) is None for text in self.quorum) or self.quorum != sorted(set(self.quorum)):
            raise ValueError("not a quorum, or quorums are not in order")
        if self.expires.tzinfo is not UTC or self.expires.microsecond:
            raise ValueError("it expires at no whole second in UTC")


class Approval(Entry, tag="approval", frozen=True, kw_only=True):
    """A person's signature over a request.

    Attributes:
        request: address of the exact bytes that were signed, sealed.
        sha512: SHA-512 of those bytes; with it the signature is checked without a key to the content.
        signature: SSHSIG blob, base64, namespace `ledger-approval@v1`.
        to: index of the `approval.requested` that it answers; 0 for a document that somebody made by hand.
        denied: the answer is no.
        detail: sealed JSON: the reason.
    """

    request: Address
    sha512: Hex64
    signature: Annotated[str, msgspec.Meta(max_length=8192)]
    to: Index = 0
    denied: bool = False
    detail: Address = ""

    def __post_init__(self) -> None:
        _check_required(self.request)
        _check_hex(self.sha512)
        _check_address(self.detail)
        if self.denied and not self.to:
            raise ValueError("a denial of nothing")


class ApprovalBreakGlass(Entry, tag="approval.breakglass", frozen=True, kw_only=True):
    """One person who may lets go, at once and alone, what a quorum was asked for. Every audit says so.

    Attributes:
        request, sha512, signature: as of an `approval`.
        to: index of the `approval.requested`.
        detail: sealed JSON: the reason.
    """

    request: Address
    sha512: Hex64
    signature: Annotated[str, msgspec.Meta(max_length=8192)]
    to: Index
    detail: Address

    def __post_init__(self) -> None:
        _check_required(self.request)
        _check_hex(self.sha512)
        _check_required(self.detail)


class ApprovalConsumed(Entry, tag="approval.consumed", frozen=True, kw_only=True):
    """An approved request is used up, by the one decision that it lets go. Durable before the effect.

    Attributes:
        to: index of the `approval.requested`.
        decision: index of the decision.
    """

    to: Index
    decision: Index


class Erasure(Entry, tag="erasure", frozen=True, kw_only=True):
    """A run's contents become unreadable.

    Attributes:
        of: the run.
        keys: ids of the data keys that are destroyed, 32 hex digits each.
        detail: sealed JSON: the reason.
    """

    of: str
    keys: list[Hex16]
    detail: Address = ""

    def __post_init__(self) -> None:
        if not is_run_id(self.of):
            raise ValueError("not a run id")
        _check_hex(*self.keys)
        _check_address(self.detail)


class Disclosure(Entry, tag="disclosure", frozen=True, kw_only=True):
    """One content was handed to somebody outside.

    Attributes:
        content: its address.
    """

    content: Address

    def __post_init__(self) -> None:
        _check_required(self.content)


class PolicyInForce(Content, tag="policy", frozen=True, kw_only=True):
    """A policy that decides in this run from here on; its content is the record, as JSON.

    Attributes:
        policy: its `policy_id`.
        version: BLAKE3 of the record in its one spelling.
    """

    policy: Label
    version: Hex32

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_hex(self.version)


class SchemaAdded(Content, tag="schema", frozen=True, kw_only=True):
    """A JSON Schema, registered by its id; the newest of an id is in force.

    Attributes:
        schema: the id.
    """

    schema: Label


class Decided(Content, tag="decision", frozen=True, kw_only=True):
    """What policy says of an action; its content is the question and every finding, as JSON.

    Attributes:
        action: the kind of entry that this allows, or would have.
        effect: the strictest finding's.
        rules: names of the rules that have this effect; none where all allow.
        policies: versions of the policies that were asked.
        request: of a refused model request: its bytes, as they would have left.
    """

    action: Label
    effect: Literal["allow", "deny", "require_approval"]
    rules: list[Label]
    policies: list[Hex32]
    request: Address = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rules(*self.rules)
        _check_hex(*self.policies)
        _check_address(self.request)


class Routing(Entry, tag="routing", frozen=True, kw_only=True):
    """A model request goes to another model than was asked for.

    Attributes:
        asked, model: before and after.
        reason: `alias`: what bears that name today; `lane`: the lane's model.
    """

    asked: Label
    model: Label
    reason: Literal["alias", "lane"]


class Redaction(Content, tag="redaction", frozen=True, kw_only=True):
    """What was masked in a model request; its content is the profile, each place, and what comes back, as JSON.

    Attributes:
        profile: id of the redaction profile; of several, joined by `+`.
        version: BLAKE3 of profile and rules.
        counts: how often each rule masked something; rules in order of their names.
    """

    profile: Label
    version: Hex32
    counts: dict[Label, Index]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_hex(self.version)
        _check_rules(*self.counts)
        if list(self.counts) != sorted(self.counts):
            raise ValueError("rules are not in order")


class ModelRequest(Content, tag="model.request", frozen=True, kw_only=True):
    """A request that the gateway lets go; its content is the bytes that leave. Durable before they do.

    Attributes:
        decision: index of the decision that allows it.
        model: as it leaves.
        key: keyed digest by which a replay knows the request again; the version of its normaliser is sealed.
        continues: index of the call whose conversation it goes on with; 0 where it begins one.
        attempt: number of this attempt at the task, from 1.
        reserved: micro-USD that it may cost at worst.
        cap: micro-USD that the run may cost; 0 where nothing caps it.
        envelope: sealed JSON: effort, task scope, redaction profile, schema, artifacts, rewrites.
    """

    decision: Index
    model: Label
    key: Hex32
    attempt: Index
    envelope: Address
    continues: Index = 0
    reserved: Index = 0
    cap: Index = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_hex(self.key)
        _check_required(self.envelope)


class ModelResponse(Content, tag="model.response", frozen=True, kw_only=True):
    """How a call ended; its content is the bytes that came, whatever they are. Durable before the client may act.

    Attributes:
        to: index of the request.
        status: how the call ended; only `completed` and `incomplete` are whole answers.
        verdict: whether schemas and tools allow what it says; `none` where there is nothing to judge.
        http: status of the answer; 0 where there was none.
        input, cached, output, reasoning: tokens as billed; cached are part of input, reasoning of output.
        cost: micro-USD.
        reserved: what the request had reserved, and is free again.
        latency: milliseconds from the first byte sent to the last received.
        wire: sealed JSON: headers that a client needs, milliseconds and length of each piece, and whether the client
            had gone away before it could have the answer.
    """

    to: Index
    status: Literal["completed", "incomplete", "failed", "refused", "malformed", "cut_off", "timeout", "unreachable"]
    verdict: Literal["valid", "invalid", "none"]
    http: Index = 0
    input: Index = 0
    cached: Index = 0
    output: Index = 0
    reasoning: Index = 0
    cost: Index = 0
    reserved: Index = 0
    latency: Index = 0
    wire: Address = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_address(self.wire)


class ReservationReleased(Entry, tag="reservation.released", frozen=True, kw_only=True):
    """A call was interrupted: what it had reserved is free again, by somebody's word.

    Attributes:
        to: index of the request that has no response.
        reserved: micro-USD.
        detail: sealed JSON: the reason.
    """

    to: Index
    reserved: Index = 0
    detail: Address = ""

    def __post_init__(self) -> None:
        _check_address(self.detail)


class Violation(Entry, tag="violation", frozen=True, kw_only=True):
    """Something happened that policy forbids.

    Attributes:
        rule: its name.
        to: index of the entry that shows it; 0 where none does.
        detail: sealed JSON: what was expected, and what came.
    """

    rule: Label
    to: Index = 0
    detail: Address = ""

    def __post_init__(self) -> None:
        _check_rules(self.rule)
        _check_address(self.detail)


class RunPaused(Entry, tag="run.paused", frozen=True, kw_only=True):
    """From here on the run may make no model request.

    Attributes:
        detail: sealed JSON: the reason.
    """

    detail: Address = ""

    def __post_init__(self) -> None:
        _check_address(self.detail)


class RunResumed(Entry, tag="run.resumed", frozen=True, kw_only=True):
    """A paused run may go on."""

    detail: Address = ""

    def __post_init__(self) -> None:
        _check_address(self.detail)


class ActionStarted(Content, tag="action.started", frozen=True, kw_only=True):
    """A command begins; its content is the command with its folder, environment, clock and toolchain, as JSON.

    Attributes:
        egress: `enforced`: it reaches nothing but the gateway; `advisory`: nothing keeps it from another way out.
        inputs: address of the tree of files that it is given; empty where it works on the real ones.
    """

    egress: Literal["enforced", "advisory"]
    inputs: Address = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_address(self.inputs)


class ActionEnded(Content, tag="action.ended", frozen=True, kw_only=True):
    """A command has ended; its content is what it used, and why it was ended, as JSON.

    Attributes:
        to: index of its `action.started`.
        exit: its status; 128 and its number where a signal ended it.
        outputs: address of the tree of files that it left.
        stdout, stderr: addresses of what it printed; empty where that is nothing, or went to a terminal.
    """

    to: Index
    exit: Annotated[int, msgspec.Meta(ge=0, le=255)]
    outputs: Address = ""
    stdout: Address = ""
    stderr: Address = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for address in (self.outputs, self.stdout, self.stderr):
            _check_address(address)


class Replayed(Content, tag="replay", frozen=True, kw_only=True):
    """A run was executed again; its content is the report, as JSON.

    Attributes:
        of: the run.
        verdict: whether everything that decides came out alike, byte for byte.
    """

    of: str
    verdict: Literal["reproduced", "diverged", "not_replayable"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_run_id(self.of):
            raise ValueError("not a run id")


class Value(Content, tag="value", frozen=True, kw_only=True):
    """Something that a program wants kept for its replay: a time, a random number."""


Known = (
    TrustChanged
    | KeysChanged
    | RunStarted
    | RunFinished
    | Prompt
    | Response
    | Artifact
    | Approval
    | ApprovalRequested
    | ApprovalConsumed
    | ApprovalBreakGlass
    | Erasure
    | Disclosure
    | PolicyInForce
    | SchemaAdded
    | Decided
    | Routing
    | Redaction
    | ModelRequest
    | ModelResponse
    | ReservationReleased
    | Violation
    | RunPaused
    | RunResumed
    | ActionStarted
    | ActionEnded
    | Replayed
    | Value
)
"""Every kind that this version interprets."""


class Uninterpreted(msgspec.Struct, frozen=True):
    """An entry of a kind that this version does not know: verified, listed, not interpreted.

    Attributes:
        run, step: as in its bytes: it counts among the steps of its run all the same.
    """

    kind: str
    value: dict[str, Any]
    run: str = ""
    step: int = 0


_decoder = msgspec.json.Decoder(Known)
_encoder = msgspec.json.Encoder()
_HEAD = re.compile(rb'\{"kind":"([a-z]+(?:\.[a-z]+)*)"')
# A quote before which there is no backslash begins a string, or ends one: then no address follows it.
_REFERENCE = re.compile(rb'(?<!\\)"artifact://(?:([0-9a-f]{64})"|)')
KINDS: dict[str, type[Entry]] = {str(k.__struct_config__.tag): k for k in Known.__args__}
_OF_A_RUN = frozenset(KINDS.values()) - {TrustChanged, KeysChanged, Erasure, Disclosure, SchemaAdded, Violation}


def kind_of(entry: "Known | Uninterpreted") -> str:
    """The kind of an entry, as it stands in its bytes."""
    return entry.kind if isinstance(entry, Uninterpreted) else str(type(entry).__struct_config__.tag)


def encode(entry: Known) -> bytes:
    """The bytes of an entry: what is hashed, signed and kept.

    Raises:
        TooLarge: over 65,535 bytes.
        Malformed: a text is no valid Unicode.
    """
    try:
        raw = _encoder.encode(entry)
    except UnicodeEncodeError:
        raise Malformed("a text holds what is no character", hint="give it in UTF-8") from None
    except (TypeError, msgspec.MsgspecError) as error:
        raise Malformed(f"a member of an entry has another type: {error}") from None
    if len(raw) > MAX_ENTRY:
        raise TooLarge(
            f"entry of {len(raw):,} bytes; the limit is {MAX_ENTRY:,}",
            hint="put what is long into content, which may have gigabytes",
        )
    return raw


def decode(raw: bytes) -> "Known | Uninterpreted":
    """Reads an entry.

    Raises:
        NotSound: the bytes are no entry, or another spelling of one (step 3).
    """
    why = "is not in its only spelling"
    try:
        entry: Known = _decoder.decode(raw)
        if _encoder.encode(entry) == raw and len(raw) <= MAX_ENTRY and entry.time.tzinfo is UTC and _has_place(entry):
            return entry
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = f"does not parse: {error}"
    head = _HEAD.match(raw)
    if head is None or len(raw) > MAX_ENTRY:
        raise NotSound("an entry is too long, or does not begin with its kind", step=3)
    kind = head[1].decode()
    if kind in KINDS:
        raise NotSound(f"an entry of kind {kind} {why}", step=3)
    return _decode_unknown(kind, raw)


def _has_place(entry: Known) -> bool:
    """Whether run and step are both there, or neither is and the kind allows that; and run ids are such."""
    if entry.run:
        return entry.step > 0 and is_run_id(entry.run)
    return not entry.step and type(entry) not in _OF_A_RUN


def _decode_unknown(kind: str, raw: bytes) -> Uninterpreted:
    """An entry of another version: valid JSON on one line, its names unique."""
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice")
        return found

    def number(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    def integer(digits: str) -> int:
        # How many digits Python reads is a setting, 640 at least; no number of ours has more than 16.
        return int(digits[:600])

    try:
        value = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=number, parse_int=integer)
        # A lone surrogate is no character.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotSound(f"an entry of kind {kind} does not parse: {error}", step=3) from None
    if b"\n" in raw or b"\r" in raw or not isinstance(value, dict) or _depth(value) > MAX_DEPTH:
        raise NotSound(f"an entry of kind {kind} is not one line, or is nested too deep", step=3)
    run, step = value.get("run", ""), value.get("step", 0)
    if run == "" and type(step) is int and step == 0:
        return Uninterpreted(kind, value)
    if not isinstance(run, str) or not is_run_id(run) or type(step) is not int or not 0 < step < 2**53:
        raise NotSound(f"an entry of kind {kind} has a malformed run or step", step=3)
    return Uninterpreted(kind, value, run, step)


def _depth(value: Any) -> int:
    """How deep lists and objects are nested."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def references(entry: "Known | Uninterpreted", raw: bytes) -> list[bytes]:
    """The cids of every blob that an entry names: each string that starts with `artifact://`.

    Raises:
        NotSound: such a string is no address (step 3).
    """
    try:
        if isinstance(entry, Prompt | Response | Artifact | Value):
            labels = entry.stage + entry.lane + entry.task
            if isinstance(entry, Prompt):
                labels += entry.model
            if ADDRESS_PREFIX not in labels:
                # The common case: one address or two, and nothing else that could begin like one.
                found = [bytes.fromhex(entry.content[11:])]
                return [*found, bytes.fromhex(entry.detail[11:])] if entry.detail else found
        if isinstance(entry, Uninterpreted):
            return [cid_of(text) for text in _strings(entry.value) if text.startswith(ADDRESS_PREFIX)]
        # In the only spelling of a known kind no "/" is escaped, so that the raw bytes tell.
        found = [bytes.fromhex(digits.decode()) for digits in _REFERENCE.findall(raw)]
        if b"" not in found:
            return found
    except (Malformed, ValueError):
        pass
    raise NotSound("an entry holds a malformed address", step=3)


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
