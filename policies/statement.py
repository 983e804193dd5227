"""What an approver signs: a few lines of JSON that a person can read, made of a request's clear members alone.

So that whoever has the ledger and no key can tell whether a signature is over this request: in this log and run, for
this action, with this nonce, expiry and quorum. All of it is ASCII: no label can hide what stands beside it.
"""

import json
from typing import Literal

import msgspec

from policies import sshsig
from schemas.entries import ApprovalRequested

FORMAT = "agent-ledger/approval@v1"

Verdict = Literal["approve", "deny", "break-glass"]


class Names(msgspec.Struct, frozen=True):
    """What a signed statement says of the request that it is about."""

    statement: Literal["agent-ledger/approval@v1"]
    verdict: Verdict
    log: str
    run: str
    nonce: str


def text(origin: str, request: ApprovalRequested, verdict: Verdict) -> bytes:
    """The statement, as `ssh-keygen -Y sign -n ledger-approval@v1` signs it.

    Args:
        origin: of the log.
        request: as it stands there.
        verdict: what is signed; of one request three statements can be.
    """
    said = {
        "statement": FORMAT,
        "verdict": verdict,
        "log": origin,
        "run": request.run,
        "stage": request.stage,
        "lane": request.lane,
        "task": request.task,
        "action": request.action,
        "model": request.model,
        "costs_at_most_usd": f"{request.reserved // 1_000_000}.{request.reserved % 1_000_000:06}",
        "digest": request.subject,
        "request": request.request,
        "question": request.content,
        "policies": request.policies,
        "quorum": request.quorum,
        "requester": request.requester,
        "nonce": request.nonce,
        "expires": f"{request.expires:%Y-%m-%dT%H:%M:%SZ}",
    }
    return json.dumps(said, indent=2).encode() + b"\n"


def names(document: bytes) -> Names | None:
    """What a signed document names, where it is a statement; None for any other document."""
    try:
        return _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def sha512(origin: str, request: ApprovalRequested, verdict: Verdict) -> str:
    """SHA-512 of the statement, in hex, as an `approval` bears it."""
    return sshsig.digest(text(origin, request, verdict)).hex()


_decoder = msgspec.json.Decoder(Names)
