"""What the Responses API itself gives: names of members, ids and sealed content, each told by its form."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from schemas.ids import ADDRESS_PREFIX

_IDS = ("id", "call_id", "approval_request_id")
_ID = re.compile(
    r"(?:msg|rs|fc|fco|call|ctc|ctco|resp|cmp|lsh|lsho|sh|sho|apc|apco|cu|cuo|ci|ig|ws|fs|tsc|tso|mcp|mcpr|mcpl|toolu)"
    r"_[A-Za-z0-9]{1,64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
_SEALED_IN = ("reasoning", "compaction", "compaction_summary", "encrypted_content")
# Longer than tokens are; ours are Fernet's, other servers have forms of their own.
_SEALED = re.compile(r"[A-Za-z0-9+/_-]{160,}={0,2}|gAAAA[A-Za-z0-9_-]{59,}={0,2}")
_ADDRESS = re.compile(rf"{ADDRESS_PREFIX}[0-9a-f]{{64}}")

NAMES = frozenset((
    "type", "role", "status", "phase", "detail", "id", "call_id", "name", "arguments", "input", "output", "content",
    "summary", "text", "annotations", "logprobs", "refusal", "image_url", "file_data", "file_url", "filename",
    "file_id", "encrypted_content", "action", "command", "commands", "env", "timeout_ms", "max_output_length",
    "operation", "path", "diff", "queries", "results", "description", "parameters", "strict", "format", "schema",
    "tools", "caller", "namespace", "server_label", "error", "result", "code", "container_id", "url", "title",
    "properties", "required", "items", "enum", "additionalProperties", "default", "outcome", "exit_code", "stdout",
    "stderr", "reasoning", "effort", "metadata", "instructions",
))  # fmt: skip
"""Names of members that hold no text, so that they are told as they are."""


def step(name: str, index: int) -> str:
    """A member in the name of a place: what somebody else named is told by its number, as its name may be a secret."""
    return f".{name}" if name in NAMES else f"{{{index}}}"


def stays(item: Mapping[str, Any], name: str, text: str) -> bool:
    """Whether a member of an item, or of a part of one, is no text, by its name and its form."""
    if name in _IDS:
        return _ID.fullmatch(text) is not None
    if name == "encrypted_content":
        return item.get("type") in _SEALED_IN and _SEALED.fullmatch(text) is not None and _is_opaque(text)
    return is_address(text)


def _is_opaque(text: str) -> bool:
    """Whether base64 holds bytes that are no text: what is sealed looks drawn by chance."""
    try:
        base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)).decode()
    except UnicodeDecodeError:
        return True
    except binascii.Error:
        return False
    return False


def is_address(text: str) -> bool:
    """Whether a text is an address of ours, and nothing else."""
    return text.startswith(ADDRESS_PREFIX) and _ADDRESS.fullmatch(text) is not None
