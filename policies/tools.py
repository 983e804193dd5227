"""The tools of a request, and whether a call that a model makes is one of theirs."""

from collections.abc import Sequence
from typing import Any

import msgspec

from policies.jsonschema import MAX_VALUE, Compiled, check_output, check_value, compile_schema
from schemas.errors import Malformed, TooLarge

MAX_TOOLS = 2_000

SAYINGS = frozenset(("message", "reasoning", "compaction"))
"""Items of an output that call nothing."""

HOSTED = {
    "web_search_call": ("web_search",),
    "file_search_call": ("file_search",),
    "code_interpreter_call": ("code_interpreter",),
    "image_generation_call": ("image_generation",),
    "mcp_call": ("mcp",),
    "mcp_list_tools": ("mcp",),
    "mcp_approval_request": ("mcp",),
    "mcp_approval_response": ("mcp",),
    "program": ("programmatic_tool_calling",),
    "program_output": ("programmatic_tool_calling",),
    "tool_search_call": ("tool_search",),
    "tool_search_output": ("tool_search",),
    "additional_tools": ("tool_search",),
    "computer_call": ("computer", "computer_use_preview"),
    "computer_call_output": ("computer", "computer_use_preview"),
    "local_shell_call": ("local_shell",),
    "local_shell_call_output": ("local_shell",),
    "shell_call": ("shell",),
    "shell_call_output": ("shell",),
    "apply_patch_call": ("apply_patch",),
    "apply_patch_call_output": ("apply_patch",),
}
"""Items of an output, by type, that need a tool of one of these types, dated or not, in the request."""

BRINGING = ("tool_search_output", "additional_tools")
"""Items of an input that bring tools; of an output, where the other side has searched, and found what is declared."""

_Place = tuple[str, str]
"""Namespace, empty outside of one, and name."""


class Tools:
    """The tools that a request declares.

    Args:
        tools: its `tools`, as parsed; None where it has none.
        brought: those that items of its input bring, of which a later one holds; none differs from one of `tools`.

    Attributes:
        opaque: names of custom tools whose input nothing can check, sorted.
        hosted: types of the other tools.

    Raises:
        Malformed: one of them is no tool, is declared twice, or has a schema that can't be judged.
    """

    def __init__(self, tools: Any, brought: Sequence[Any] = ()) -> None:
        self.hosted: set[str] = set()
        self._terms: dict[_Place, bytes] = {}
        self._functions: dict[_Place, Compiled | None] = {}
        self._custom: dict[_Place, Compiled | None] = {}
        if tools is not None and not isinstance(tools, list):
            raise Malformed("tools: not a list")
        if len(tools or ()) > MAX_TOOLS:
            raise Malformed(f"tools: more than {MAX_TOOLS:,}")
        for position, tool in enumerate(tools or ()):
            self._declare(tool, "", f"tools[{position}]")
        self._declared = frozenset(self._terms)
        for position, tool in enumerate(brought):
            self._declare(tool, "", f"tools of the input [{position}]", again=True)
            if len(self._terms) > MAX_TOOLS:
                raise Malformed(f"tools of the input: more than {MAX_TOOLS:,}")
        self.opaque = sorted(_spell(place) for place, grammar in self._custom.items() if grammar is None)

    def _declare(self, tool: Any, namespace: str, where: str, *, again: bool = False) -> None:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise Malformed(f"{where}: not a tool", hint='a tool is an object with a "type"')
        if kind == "namespace" and not namespace:
            inner = tool.get("tools")
            if not isinstance(inner, list) or len(inner) > MAX_TOOLS:
                raise Malformed(f"{where}.tools: not a list")
            for position, one in enumerate(inner):
                self._declare(one, _named(tool, where), f"{where}.tools[{position}]", again=again)
        elif kind in ("function", "custom"):
            place = (namespace, _named(tool, where))
            terms = _terms(tool)
            if place in self._terms:
                if again and self._terms[place] == terms:
                    return
                if not again or place in self._declared:
                    # Which of them a client goes by, nobody could say.
                    raise Malformed(f"{where}.name: {_spell(place)[:100]!r} is declared twice")
                self._functions.pop(place, None)
                self._custom.pop(place, None)
            self._terms[place] = terms
            if kind == "function":
                self._functions[place] = _parameters(tool, where)
            else:
                self._custom[place] = _grammar(tool.get("format"))
        elif namespace:
            raise Malformed(f"{where}.type: {kind[:60]!r} can't be in a namespace")
        else:
            self.hosted.add(kind)

    def check(self, item: Any) -> str | None:
        """Why an item of an output is not allowed, or None where it is.

        Args:
            item: complete, as in `response.output_item.done`.
        """
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str):
            return "an item without a type"
        if item.get("tools") and kind != "mcp_list_tools" and not self._are_declared(kind, item["tools"]):
            return f"a {kind[:60]} that brings tools"
        if kind in SAYINGS:
            return None
        if kind == "function_call":
            return self._check_call(item, self._functions, "arguments")
        if kind == "custom_tool_call":
            return self._check_call(item, self._custom, "input")
        needed = HOSTED.get(kind)
        if needed is None:
            return f"an item of the unknown type {kind[:60]!r}"
        if not any(_is_one_of(tool, needed) for tool in self.hosted):
            return f"a {kind} without such a tool in the request"
        # Some of these, shells and patches, are executed by clients too.
        return "an unfinished call" if item.get("status") in ("incomplete", "in_progress") else None

    def _are_declared(self, kind: str, tools: Any, namespace: str = "") -> bool:
        """Whether tools that an item of an output brings are those of the request: a search finds nothing else."""
        if kind != BRINGING[0] or not isinstance(tools, list):
            return False
        for tool in tools:
            if not isinstance(tool, dict) or not isinstance(name := tool.get("name"), str):
                return False
            if tool.get("type") == "namespace" and not namespace:
                if not self._are_declared(kind, tool.get("tools"), name):
                    return False
            elif (namespace, name) not in self._declared or self._terms[namespace, name] != _terms(tool):
                return False
        return True

    def _check_call(self, item: dict[str, Any], declared: dict[_Place, Compiled | None], member: str) -> str | None:
        name, namespace, text = item.get("name"), item.get("namespace"), item.get(member)
        if not isinstance(name, str) or not isinstance(namespace, str | None) or not isinstance(text, str):
            return "a malformed call of a tool"
        if not isinstance(call := item.get("call_id"), str) or not call:
            return "a call of a tool without call_id"
        if item.get("status", "completed") not in ("completed", None):
            return "an unfinished call of a tool"
        place = (namespace or "", name)
        if place not in declared:
            return "a call of a tool that the request does not declare"
        compiled = declared[place]
        if member == "arguments":
            problem = check_output(compiled, text) if compiled else None
        elif len(text) > MAX_VALUE:
            problem = "too large"
        else:
            problem = "does not match its grammar" if compiled and check_value(compiled, text) else None
        return f"{member} of {_spell(place)[:100]}: {problem}" if problem else None


def _is_one_of(tool: str, needed: tuple[str, ...]) -> bool:
    """Whether `web_search_preview_2025_03_11` is a `web_search`."""
    return any(tool == one or tool.startswith((f"{one}_preview", f"{one}_20")) for one in needed)


def _terms(tool: dict[str, Any]) -> bytes:
    """What tells two tools of one name apart; as bytes, since Python takes 1 for true."""
    return _encode([tool.get(name) for name in ("type", "parameters", "format")])


_encode = msgspec.json.Encoder(order="sorted").encode


def _spell(place: _Place) -> str:
    return ".".join(part for part in place if part)


def _named(tool: dict[str, Any], where: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise Malformed(f"{where}.name: missing, or no name")
    return name


def _parameters(tool: dict[str, Any], where: str) -> Compiled:
    schema = tool.get("parameters")
    try:
        # Without parameters, arguments are an object all the same.
        return compile_schema({"type": "object"} if schema is None else schema)
    except Malformed as error:
        raise Malformed(f"{where}.parameters: {error.what}", hint=error.hint) from None


def _grammar(form: Any) -> Compiled | None:
    """What a custom tool's input must match, where that is a regular expression of linear time; else None."""
    if not isinstance(form, dict) or form.get("type") != "grammar" or form.get("syntax") != "regex":
        return None
    definition = form.get("definition")
    if not isinstance(definition, str):
        return None
    try:
        # By itself first: what is no expression could become one within the parentheses.
        compile_schema({"pattern": definition})
        return compile_schema({"type": "string", "pattern": f"^(?:{definition})$"})
    except (Malformed, TooLarge):
        return None
