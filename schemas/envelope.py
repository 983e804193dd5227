"""The envelope of a model request: the specification's record of what a request is for."""

import re
from typing import Annotated, Any, Literal, get_args

import msgspec

from schemas.errors import Malformed
from schemas.policy import Effort, Name
from schemas.reading import convert

EFFORTS: tuple[str, ...] = get_args(Effort)
"""Reasoning efforts, from least to most."""

MAX_ARTIFACTS = 1_000
# Stages of the pipeline that are none of DESIGN's own go by their nearest; all others are `medium`.
_BY_STAGE: dict[str, Effort] = {
    "plan": "high",
    "analyse": "high",
    "analyze": "high",
    "analysis": "high",
    "lift": "medium",
    "cleanup": "low",
    "review": "xhigh",
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ADDRESS = r"^artifact://[0-9a-f]{64}$"

Address = Annotated[str, msgspec.Meta(pattern=_ADDRESS)]


class TaskScope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a task may change.

    Attributes:
        target: `path::Qualified.name`, a path, or a stage.
    """

    kind: Literal["function", "file", "stage"]
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]

    def within(self, other: "TaskScope") -> bool:
        """Whether it allows nothing that the other does not: a function is within its file, both within any stage."""
        if self == other or other == ANY:
            return True
        if other.kind == "stage":
            return self.kind != "stage"
        return other.kind == "file" and self.kind == "function" and self.target.startswith(f"{other.target}::")


ANY = TaskScope("stage", "any")
"""Whatever the run's stages may change."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model request is for.

    Attributes:
        run_id: a UUID; any name where `schema_version` is given, as the pipeline writes it.
        model: as asked for.
        input_artifacts: addresses of what the request reads.
        redaction_profile: id of the policy for redaction; empty: the policy's own.
        response_schema: id of the JSON Schema that the answer must meet; empty: none.
    """

    run_id: Name
    stage: Name
    model: Name
    reasoning_effort: Effort
    input_artifacts: Annotated[list[Address], msgspec.Meta(max_length=MAX_ARTIFACTS)] = []
    redaction_profile: Annotated[str, msgspec.Meta(max_length=200)] = ""
    response_schema: Annotated[str, msgspec.Meta(max_length=200)] = ""
    task_scope: TaskScope
    schema_version: Literal["1"] | None = None

    def __post_init__(self) -> None:
        if self.schema_version is None and _UUID.fullmatch(self.run_id) is None:
            raise ValueError("run_id: not a UUID; the id that `ledger start` printed")


def default_effort(stage: str) -> Effort:
    """The reasoning effort of a stage, where nobody names one."""
    return _BY_STAGE.get(stage, "medium")


def read_scope(text: str) -> TaskScope:
    """A task scope as people type it: `function:PATH::NAME`, `file:PATH` or `stage:NAME`.

    Raises:
        Malformed: it is none.
    """
    kind, _, target = text.partition(":")
    try:
        return msgspec.convert({"kind": kind, "target": target}, TaskScope)
    except msgspec.ValidationError:
        raise Malformed(
            f"not a task scope: {text[:80]!r}", hint="function:PATH::NAME, file:PATH or stage:NAME"
        ) from None


def read_envelope(obj: Any) -> Envelope:
    """An envelope from parsed JSON. An absent effort is the stage's.

    Raises:
        Malformed: it is none; names the member.
    """
    hint = "docs/schemas/envelope.json lists every member"
    if not isinstance(obj, dict):
        raise Malformed("envelope: not an object", hint=hint)
    if obj.get("reasoning_effort") is None and isinstance(stage := obj.get("stage"), str):
        obj = obj | {"reasoning_effort": default_effort(stage)}
    return convert(obj, Envelope, "envelope", hint)
