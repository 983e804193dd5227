"""What a model may answer, and how the Responses API says it: as one JSON object or as a stream of events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

Json = dict[str, Any]

# Stand-ins of the same length as what replaces them, so that bytes prepared once serve many answers.
ID = "1d" * 24
TIME = 4_102_444_799


@dataclass(frozen=True, kw_only=True)
class Call:
    """One tool call of an answer. Without a `call_id` the server makes one, unlike any other."""

    name: str
    arguments: str = "{}"
    call_id: str = ""
    namespace: str | None = None
    custom: bool = False


@dataclass(frozen=True)
class Answer:
    """One answer of the fake upstream, and what goes wrong with it.

    What it says:
        text: the message; "" for none. `refusal` stands in its place.
        tool_calls: `(name, arguments as JSON, call_id)`, a fourth is the namespace; or `Call`s.
        custom_calls: `(name, input)`, a third is the call_id, a fourth the namespace.
        reasoning: a summary; the item then has encrypted content too.
        items: output items to send as they are instead of all of the above.
        usage: tokens of input, of it cached, of output, of it reasoning.
        status: `incomplete` cuts the last item off, `failed` ends with `error` (code, message).
        error_event: a stream ends with an `error` event.
        http: not 200: an error body with `error`, or the usual one of that status.
        raw: the body, sent as it is.

    How it is sent:
        events: deltas that a text or arguments are cut into.
        delay, gap: seconds before the first byte and between events.
        drip: bytes per write instead of an event per write.
        line_end: of SSE. `noise` adds comments and unknown fields, `unknown` an event of an unknown type.
        pad: bytes of comment, or of space in JSON, before the last event.

    How it breaks, after that many events; a body of JSON breaks in its middle if this is not 0:
        cut_after: the socket is closed. -1: before the status line.
        stall_after: nothing more comes, the socket stays open.
        garbage_after: bytes that are no UTF-8 and an event that is no JSON, then the rest.
        lying_length: the content-length that is claimed; the socket is closed after the body.
    """

    text: str = "hello"
    tool_calls: Sequence[Call | tuple[str, ...]] = ()
    custom_calls: Sequence[Call | tuple[str, ...]] = ()
    reasoning: str = ""
    refusal: str = ""
    items: Sequence[Json] | None = None
    usage: tuple[int, int, int, int] = (12, 0, 5, 0)
    model: str | None = None
    status: Literal["completed", "incomplete", "failed"] = "completed"
    error: tuple[str, str] = ("server_error", "The model failed to generate a response.")
    error_event: bool = False
    http: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    events: int = 3
    delay: float = 0.0
    gap: float = 0.0
    drip: int | None = None
    line_end: Literal["\n", "\r\n"] = "\n"
    noise: bool = False
    unknown: bool = False
    pad: int = 0
    cut_after: int | None = None
    stall_after: int | None = None
    garbage_after: int | None = None
    lying_length: int | None = None

    @property
    def plain(self) -> bool:
        """It goes out whole, in one write."""
        odd = (self.cut_after, self.stall_after, self.garbage_after, self.lying_length, self.drip)
        return not (self.delay or self.gap or self.pad) and all(value is None for value in odd)

    @property
    def calls(self) -> list[Call]:
        """The tool calls in order, functions first."""
        named = ("name", "arguments", "call_id", "namespace")
        found = [c if isinstance(c, Call) else Call(**dict(zip(named, c, strict=False))) for c in self.tool_calls]  # type: ignore[arg-type]
        for c in self.custom_calls:
            found.append(replace(c if isinstance(c, Call) else Call(**dict(zip(named, c, strict=False))), custom=True))  # type: ignore[arg-type]
        return found


def calling(name: str, arguments: str | Json = "{}", **rest: Any) -> Answer:
    """An answer that is one call of a function and no text."""
    given = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return Answer("", tool_calls=[Call(name=name, arguments=given)], **rest)


# --- The response object ---------------------------------------------------------------------------------------

ECHOED: Json = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def _response(asked: Json, answer: Answer, status: str) -> Json:
    echo = {name: asked[name] if asked.get(name) is not None else value for name, value in ECHOED.items()}
    if echo["service_tier"] == "auto":
        echo["service_tier"] = "default"
    text = asked.get("text") or {}
    tools = [{"strict": True, **tool} if tool.get("type") == "function" else tool for tool in asked.get("tools") or []]
    return {
        "id": f"resp_{ID}",
        "object": "response",
        "created_at": TIME,
        "status": status,
        "completed_at": TIME if status == "completed" else None,
        "error": None,
        "incomplete_details": None,
        "model": answer.model or asked.get("model"),
        "output": [],
        "reasoning": {"effort": None, "summary": None, **(asked.get("reasoning") or {})},
        "text": {"verbosity": "medium", **text, "format": text.get("format") or {"type": "text"}},
        "tools": tools,
        "usage": None,
        **echo,
    }


def _usage(answer: Answer) -> Json:
    came, cached, went, thought = answer.usage
    return {
        "input_tokens": came,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": cached},
        "output_tokens": went,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": came + went,
    }


def output(answer: Answer) -> list[Json]:
    """The output items of an answer, finished."""
    if answer.items is not None:
        return list(answer.items)
    items: list[Json] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append(
            {"id": f"rs_{ID}", "type": "reasoning", "summary": summary, "encrypted_content": f"gAAAAAB{ID * 4}"}
        )
    if answer.refusal or answer.text:
        part: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
        if answer.refusal:
            part = {"type": "refusal", "refusal": answer.refusal}
        items.append(
            {"id": f"msg_{ID}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        )
    for n, call in enumerate(answer.calls):
        item: Json = {"id": f"{'ctc' if call.custom else 'fc'}_{ID}{n:02x}"}
        item |= {"type": "custom_tool_call" if call.custom else "function_call", "status": "completed"}
        item |= {"input" if call.custom else "arguments": call.arguments}
        item |= {"call_id": call.call_id or f"call_{ID}{n:02x}", "name": call.name}
        if call.namespace is not None:
            item["namespace"] = call.namespace
        items.append(item)
    if items and answer.status == "incomplete" and "status" in items[-1]:
        items[-1]["status"] = "incomplete"
    return items


def final(asked: Json, answer: Answer) -> Json:
    """The response object at its end."""
    response = _response(asked, answer, answer.status)
    if answer.status == "failed":
        response["error"] = {"code": answer.error[0], "message": answer.error[1]}
        return response
    if answer.status == "incomplete":
        response["incomplete_details"] = {"reason": "max_output_tokens"}
    return response | {"output": output(answer), "usage": _usage(answer)}


# --- The stream ------------------------------------------------------------------------------------------------


def _pieces(text: str, count: int) -> list[str]:
    size = max(1, -(-len(text) // max(1, count)))
    return [text[at : at + size] for at in range(0, len(text), size)]


def _item_events(item: Json, at: int, answer: Answer) -> Iterator[Json]:
    place = {"item_id": item.get("id"), "output_index": at}
    kind = item.get("type")

    def text(name: str, text: str, **more: Any) -> Iterator[Json]:
        for piece in _pieces(text, answer.events):
            hidden = "x" * (-len(piece) % 16)
            yield {"type": f"response.{name}.delta", **place, **more, "delta": piece, "obfuscation": hidden}

    begun = dict(item)
    if "status" in item:
        begun["status"] = "in_progress"
    if kind == "reasoning":
        begun["summary"] = []
    elif kind == "message":
        begun["content"] = []
    elif kind in ("function_call", "custom_tool_call"):
        begun["arguments" if kind == "function_call" else "input"] = ""
    yield {"type": "response.output_item.added", "output_index": at, "item": begun}
    if kind == "reasoning":
        for n, part in enumerate(item["summary"]):
            index = {"summary_index": n}
            name = "response.reasoning_summary_part"
            yield {"type": f"{name}.added", **place, **index, "part": {"type": "summary_text", "text": ""}}
            yield from text("reasoning_summary_text", part["text"], **index)
            yield {"type": "response.reasoning_summary_text.done", **place, **index, "text": part["text"]}
            yield {"type": f"{name}.done", **place, **index, "part": part}
    elif kind == "message":
        for n, part in enumerate(item["content"]):
            where: Json = {"content_index": n}
            field, name = ("refusal", "refusal") if part["type"] == "refusal" else ("text", "output_text")
            more: Json = {"logprobs": []} if field == "text" else {}
            yield {"type": "response.content_part.added", **place, **where, "part": {**part, field: ""}}
            yield from text(name, part[field], **where, **more)
            if item.get("status") != "incomplete":
                yield {"type": f"response.{name}.done", **place, **where, **more, field: part[field]}
                yield {"type": "response.content_part.done", **place, **where, "part": part}
    elif kind in ("function_call", "custom_tool_call"):
        field, name = ("arguments", "function_call_arguments")
        if kind == "custom_tool_call":
            field, name = ("input", "custom_tool_call_input")
        yield from text(name, item[field])
        if item.get("status") != "incomplete":
            yield {"type": f"response.{name}.done", **place, field: item[field]}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _told(asked: Json, answer: Answer) -> Iterator[Json]:
    begun = _response(asked, answer, "in_progress")
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    if answer.unknown:
        yield {"type": "response.weather.forecast", "sky": {"clouds": 3}}
    broken = answer.error_event or answer.status == "failed"
    for at, item in enumerate(output(answer)):
        for event in _item_events(item, at, answer):
            # What fails does so before an item is finished.
            if not broken or not event["type"].endswith("done"):
                yield event
        if broken:
            break
    if answer.error_event:
        yield {"type": "error", "code": answer.error[0], "message": answer.error[1], "param": None}
    else:
        yield {"type": f"response.{answer.status}", "response": final(asked, answer)}


def events(asked: Json, answer: Answer) -> list[bytes]:
    """The stream of an answer to a request, an event each."""
    end = answer.line_end.encode()
    found = []
    for number, event in enumerate(_told(asked, answer)):
        name = event["type"].encode()
        more = {"sequence_number": number, **({"from_the_future": [{}]} if answer.noise else {})}
        body = msgspec.json.encode({"type": event["type"], **more, **event})
        lines = [b": a comment", b"retry: 5000", b"new-field: 1"] if answer.noise else []
        found.append(end.join([*lines, b"event: " + name, b"data: " + body, b"", b""]))
    return found


def body(asked: Json, answer: Answer) -> bytes:
    """The answer to a request that wants no stream; indented as the API does."""
    found = final(asked, answer)
    if answer.noise:
        found["from_the_future"] = [{}]
    return msgspec.json.format(msgspec.json.encode(found), indent=2)


# --- Errors ----------------------------------------------------------------------------------------------------

USUAL: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", "invalid_value", "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "model_not_found", "Project `proj_1` does not have access to this model."),
    404: ("invalid_request_error", "model_not_found", "The requested model does not exist."),
    429: ("tokens", "rate_limit_exceeded", "Rate limit reached for this model. Please try again in 1s."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", "server_is_overloaded", "Our servers are currently overloaded."),
}


def error_body(status: int, message: str = "", *, code: str | None = None, param: str | None = None) -> bytes:
    """The body of an error as the API writes it."""
    kind, usual_code, usual = USUAL.get(
        status, ("server_error" if status >= 500 else "invalid_request_error", None, "")
    )
    error = {"message": message or usual, "type": kind, "param": param, "code": code if message else usual_code}
    return msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)


# --- Structured output -----------------------------------------------------------------------------------------


def example(schema: Any, root: Any = None) -> Any:
    """Something that a plain schema allows: what the default script answers when a format is asked for."""
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return None
    if ref := schema.get("$ref"):
        target = root
        for name in filter(None, ref.removeprefix("#").split("/")):
            target = target[name]
        return example(target, root)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return example(schema[name][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example(inner, root) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {}), root)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"string": "hello".ljust(schema.get("minLength", 0), "."), "boolean": True}.get(kind)
