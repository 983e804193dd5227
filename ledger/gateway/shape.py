"""What the gateway itself sets in a request, each as a named rewrite; and what it learns of it on the way."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ledger.gateway.body import Body
from ledger.gateway.stopped import Stopped
from policies import budget, validation
from schemas.envelope import default_effort
from schemas.errors import Malformed
from schemas.policy import Policy

_REASONS = re.compile(r"(?:.*/)?(?:gpt-[5-9]|o[0-9]|codex)")
_LOCAL = frozenset(
    ("function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use_preview")
)
"""Types of tools that the client executes."""

_MOST_CALLS = 10
"""Calls of hosted tools that a request may make which does not say."""

# Micro-USD a call, rounded up from published prices: searches 0.01 to 0.025 USD, a container 0.03, an image 0.25.
_FEE = 30_000
_FEES = {"image_generation": 250_000}


class Shape(NamedTuple):
    """A request as it will leave.

    Attributes:
        effort: of reasoning; `none` where the model does not reason and none was asked for.
        tier: service tier, which prices depend on.
        hosted: types of hosted tools that are left.
        fees: micro-USD that these may cost.
        output: tokens of the answer at most.
        tools: judges calls.
        schema: judges the text; None where it is free.
    """

    effort: str
    tier: str
    hosted: tuple[str, ...]
    fees: int
    output: int
    tools: validation.Tools
    schema: validation.Compiled | None


def shape(body: Body, policies: Sequence[Policy], stage: str, schema: bytes | None) -> Shape:
    """Sets what is to be set.

    Args:
        schema: that the text must hold to; else that of `text.format`.

    Raises:
        Stopped: a member can't be reckoned with.
    """
    # Absent it means what the account is set to, which nobody here knows the price of.
    body.set("service_tier", body.value.get("service_tier") or "default", "service_tier")
    # Kept upstream is kept from us.
    body.set("store", False, "store")
    brought = _brought(body)
    hosted = _hosted_tools(body, policies)
    effort = _effort(body, policies, stage)
    calls = _positive(body, "max_tool_calls")
    if hosted and calls is None:
        calls = _MOST_CALLS
        body.set("max_tool_calls", calls, "max_tool_calls")
    output = budget.clamp_output(policies, _positive(body, "max_output_tokens"))
    body.set("max_output_tokens", output, "max_output_tokens")
    fees = (calls or 0) * max((_FEES.get(kind, _FEE) for kind in hosted), default=0)
    try:
        tools, compiled = validation.Tools(body.tools, brought), _schema(body, schema)
        if body.value.get("tool_choice") == "none":
            tools = validation.Tools([])
    except Malformed as error:
        raise Stopped(error.what, code="invalid_schema", param="tools") from None
    return Shape(effort, str(body.value["service_tier"]), hosted, fees, output, tools, compiled)


def _hosted_tools(body: Body, policies: Sequence[Policy]) -> tuple[str, ...]:
    """Removes hosted tools that no policy lists; where one denies them, they stay, to be denied."""
    lists = [set(policy.hosted_tools or ()) for policy in policies]
    listed = set.intersection(*lists) if lists else set[str]()
    kept = [tool for tool in body.tools if not _is_hosted(tool) or tool["type"] in listed]
    found = {tool["type"] for tool in kept if _is_hosted(tool)}
    denied = {tool["type"] for tool in body.tools if tool not in kept}
    if any(policy.hosted_tools_else == "deny" for policy in policies):
        return tuple(sorted(found | denied))
    if denied:
        body.set("tools", kept, "tools")
        choice = body.value.get("tool_choice")
        if isinstance(choice, dict) and choice.get("type") in denied:
            body.remove("tool_choice", "tools")
    return tuple(sorted(found))


def _brought(body: Body) -> list[Any]:
    """Tools that the client brings in items of the input, which the model may call too.

    In those items alone that say so: any other is one that the model may have written, and the client sends back.
    """
    found: list[Any] = []
    for item in body.items:
        if item.get("type") in validation.BRINGING:
            _check_brought(item.get("tools"))
            found += item["tools"]
        elif item.get("tools") and item.get("type") != "mcp_list_tools":
            raise Stopped("an item of the input has tools, and is none that may", code="invalid_request", param="input")
    return found


def _check_brought(tools: Any) -> None:
    """Functions alone, by themselves or in namespaces."""
    if not isinstance(tools, list):
        raise Stopped("the tools of an item are no list", code="invalid_request", param="input")
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom", "namespace"):
            raise Stopped(
                "an item of the input brings a tool that is no function", code="invalid_request", param="input"
            )
        if kind == "namespace":
            _check_brought(tool.get("tools"))


def fees(items: Sequence[dict[str, Any]]) -> int:
    """Micro-USD that the hosted calls of an output cost, rounded up."""
    return sum(_FEES.get(item["type"].removesuffix("_call"), _FEE) for item in items)


def _is_hosted(tool: Any) -> bool:
    """Whether the other side executes a tool: a second way out. What is not known is taken for that."""
    if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
        raise Stopped("a tool has no type", code="invalid_request", param="tools")
    if tool["type"] == "shell":
        environment = tool.get("environment")
        return not (isinstance(environment, dict) and environment.get("type") == "local")
    if tool["type"] == "tool_search":
        return tool.get("execution") != "client"
    return tool["type"] not in _LOCAL


def _effort(body: Body, policies: Sequence[Policy], stage: str) -> str:
    """The effort that is asked for; else, of a model that reasons, the stage's, set in the request."""
    reasoning = body.value.get("reasoning") or {}
    effort = str(reasoning.get("effort") or "")
    if not _REASONS.match(body.model):
        return effort or "none"
    if not effort:
        stages = [policy.stages[stage] for policy in policies if policy.stages and stage in policy.stages]
        effort = next((found.effort for found in stages if found.effort), None) or default_effort(stage)
        body.set("reasoning", {**reasoning, "effort": effort}, "effort")
    include = body.value.get("include") or []
    if "reasoning.encrypted_content" not in include:
        body.set("include", [*include, "reasoning.encrypted_content"], "include")
    return effort


def _positive(body: Body, field: str) -> int | None:
    """A limit that the client sets: what costs are reckoned from must be a number."""
    found = body.value.get(field)
    if found is None:
        return None
    if type(found) is not int or not 0 < found < 2**31:
        raise Stopped(f"{field} is no positive number", code="invalid_request", param=field)
    return found


def _schema(body: Body, given: bytes | None) -> validation.Compiled | None:
    form = (body.value.get("text") or {}).get("format")
    if form is not None and not isinstance(form, dict):
        raise Stopped("text.format is no object", code="invalid_schema", param="text")
    if given is not None:
        return validation.compile_schema(given)
    if form is None or form.get("type") != "json_schema":
        return None
    if not isinstance(form.get("schema"), dict):
        raise Stopped("text.format has no schema", code="invalid_schema", param="text")
    return validation.compile_schema(form["schema"])
