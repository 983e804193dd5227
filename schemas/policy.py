"""Automation policy records: what the specification and the pipeline around it write, and what we add to it.

People write them in TOML or JSON (`read_policy`); the ledger keeps the one spelling that `encode` gives.
"""

import re
from decimal import ROUND_FLOOR, Decimal
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import msgspec
from blake3 import blake3

from schemas.errors import Malformed
from schemas.ids import ROLE
from schemas.reading import convert, parse
from schemas.window import parse_window

# The specification's four, and the two below them that the Responses API has: clients send `none` unasked.
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Usd = Decimal
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]

MAX_USD = Decimal(1_000_000_000)
_PLACES = 12
_MICRO = Decimal("0.000001")
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What holds in one stage.

    Attributes:
        effort: reasoning effort where a request names none.
        requires_approval: whether its calls need one; None leaves it to the policy.
    """

    effort: Effort | None = None
    requires_approval: bool | None = None


class Lane(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What holds in one lane.

    Attributes:
        retries: further tries of each task; None leaves it to the policy.
        models: which model serves one that is asked for; `*` is any other.
    """

    retries: Count | None = None
    models: dict[Name, Name] = {}


class Approvals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who must say yes.

    Attributes:
        threshold: how many distinct people.
        roles: of which roles; none named: any approver.
        expiry_s: seconds for which a request stays open.
        over_usd: a single call that may cost more needs approval.
        wait_s: seconds for which a stream waits for them, kept alive; without a stream nobody waits.
    """

    threshold: Positive = 1
    roles: list[Name] = []
    expiry_s: Positive = 86_400
    over_usd: Usd | None = None
    wait_s: Seconds = 900

    def __post_init__(self) -> None:
        _settle_usd(self, "over_usd")
        for role in self.roles:
            if re.fullmatch(ROLE, role) is None:
                raise ValueError(f"roles: not a role: {role[:60]!r}; lowercase letters, digits, '.', '_' and '-'")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """One policy.

    Attributes:
        policy_id: its name.
        requires_approval: whether every model call needs an approval, where its stage does not say otherwise.
        allowed_models: what may be asked for or serve, after routing.
        max_cost_usd: what a run may cost.
        max_runtime_minutes: how long after its start a run may still ask.
        run_windows: when a run may ask (`schemas.window`); absent: always.
        zone: IANA name of the zone of the windows; absent: UTC.
        required_checks, protected_targets: by name, for gates and hooks.
        max_retries_per_task: further tries of each task, where its lane does not say otherwise.
        redaction_profile: its id.
        egress: whether the machine must make the gateway the only way out; absent: `enforced`.
        secret_files: globs of files that a recorded command may be given though they hold secrets.
        streaming: whether an answer passes as it comes, but for what clients act on, or after it was validated.
        hosted_tools: types of tools that may run at the provider; absent: none.
        hosted_tools_else: what becomes of other hosted tools; absent: `remove`.
        aliases: what serves a model's name today.
        max_output_tokens: of one call.
        settle_s: how long a full budget waits for open calls to settle.
        stages, lanes: by name.
    """

    policy_id: Name
    requires_approval: bool
    allowed_models: list[Name]
    schema_version: Literal["1"] | None = None
    execution_mode: Literal["local", "cloud", "hybrid"] | None = None
    max_cost_usd: Usd | None = None
    max_runtime_minutes: Count | None = None
    run_windows: list[str] | None = None
    zone: Name | None = None
    required_checks: list[Name] | None = None
    protected_targets: list[Name] | None = None
    max_retries_per_task: Count | None = None
    redaction_profile: Name | None = None
    egress: Literal["enforced", "advisory"] | None = None
    secret_files: list[Name] | None = None
    streaming: Literal["buffered", "relayed"] | None = None
    hosted_tools: list[Name] | None = None
    hosted_tools_else: Literal["remove", "deny"] | None = None
    aliases: dict[Name, Name] | None = None
    max_output_tokens: Positive | None = None
    settle_s: Seconds | None = None
    stages: dict[Name, Stage] | None = None
    lanes: dict[Name, Lane] | None = None
    approvals: Approvals | None = None

    def __post_init__(self) -> None:
        _settle_usd(self, "max_cost_usd")
        for window in self.run_windows or ():
            try:
                parse_window(window)
            except Malformed as error:
                raise ValueError(f"run_windows: {error.what}; {error.hint}") from None
        if self.zone is not None and not is_zone(self.zone):
            raise ValueError(f"zone: no such time zone: {self.zone[:60]!r}; for example Europe/Berlin or UTC")

    def encode(self) -> bytes:
        """The record in its one spelling: JSON, members in the order above, what is absent left out."""
        return _encoder.encode(self)

    @cached_property
    def version(self) -> str:
        """BLAKE3 of the record in its one spelling, hex."""
        return blake3(self.encode()).hexdigest()

    @classmethod
    def decode(cls, raw: bytes) -> "Policy":
        """Reads what `encode` wrote.

        Raises:
            Malformed: it is another spelling, or no policy.
        """
        try:
            found = _decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"not a recorded policy: {error}") from None
        if found.encode() != raw:
            raise Malformed("a recorded policy is not in its one spelling", hint="records are made by Policy.encode")
        return found


_encoder = msgspec.json.Encoder(order="deterministic", decimal_format="number")
_decoder = msgspec.json.Decoder(Policy)


def _settle_usd(record: Any, member: str) -> None:
    """Checks an amount, and gives it the one spelling that equal amounts share."""
    value: Decimal | None = getattr(record, member)
    if value is None:
        return
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_PLACES or not 0 <= value <= MAX_USD:
        raise ValueError(
            f"{member}: not an amount in USD: {str(value)[:40]}; 0 to {MAX_USD:,f}, {_PLACES} decimals at most"
        )
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    msgspec.structs.force_setattr(record, member, Decimal(plain or "0").copy_abs())


@lru_cache(maxsize=256)
def is_zone(name: str) -> bool:
    """Whether the IANA knows a zone by that name; names of this machine's own, such as `localtime`, are none."""
    from zoneinfo import ZoneInfo

    if _ZONE.fullmatch(name) is None or name == "Factory":
        return False
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return False
    return True


@lru_cache(maxsize=1024)
def micro(usd: Decimal) -> int:
    """Micro-USD; what is less than one is dropped, so that no cap grows."""
    return int(usd.quantize(_MICRO, ROUND_FLOOR).scaleb(6))


def cap_micro(policy: Policy) -> int | None:
    """What a run may cost under a policy, in micro-USD; None where it sets no cap."""
    return None if policy.max_cost_usd is None else micro(policy.max_cost_usd)


def read_policy(text: bytes, where: str) -> Policy:
    """Reads a policy that somebody wrote, in TOML or JSON.

    Args:
        where: the file's name, for the message.

    Raises:
        Malformed: it is none; names the member.
    """
    hint = "docs/schemas/policy.json lists every member; `ledger policy show local` is one"
    return convert(parse(text, where), Policy, where, hint)
