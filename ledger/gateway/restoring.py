"""What a client executes, as it is meant: values in the place of their pseudonyms, alike in every event of a stream.

Only complete tool calls are restored; texts and reasoning keep their pseudonyms. An answer is touched where one of its
calls changes, and nowhere else: the ledger keeps the bytes as they came.
"""

from collections import deque
from typing import Any

import msgspec

from ledger.gateway import wire
from ledger.gateway.answer import spoken
from schemas.reading import one_reading

Item = dict[str, Any]

_SPOKEN = {
    "response.function_call_arguments.delta": "delta",
    "response.function_call_arguments.done": "arguments",
    "response.custom_tool_call_input.delta": "delta",
    "response.custom_tool_call_input.done": "input",
    "response.apply_patch_call_operation_diff.delta": "delta",
    "response.apply_patch_call_operation_diff.done": "diff",
}


def restore_object(content: bytes, items: list[Item], restored: list[Item]) -> bytes:
    """A response object in which items of the output stand restored.

    Args:
        items: of its output, as they came.
        restored: the same, restored.
    """
    if items == restored:
        return content
    return msgspec.json.encode({**one_reading(content), "output": restored})


def restore_stream(content: bytes, items: list[Item], restored: list[Item]) -> bytes:
    """The end of a stream, or all of it, with the same. `Answered` has seen that the events of a call agree.

    Args:
        content: whole events, to the last.
        items: of all `response.output_item.done` events of the stream, in order.
    """
    if items == restored:
        return content
    events = list(wire.Events().feed(content))
    done = [event for event in events if event.type == "response.output_item.done"]
    # What passed before has been done with: the items of these events are the last.
    first = len(items) - len(done)
    stream = _Stream(done, items[first:], restored[first:], items, restored)
    return b"".join(map(stream.event, events))


class _Stream:
    def __init__(
        self, done: list[wire.Event], old: list[Item], new: list[Item], items: list[Item], restored: list[Item]
    ) -> None:
        self._next = iter(new)
        # By id, those that are not done yet: the first of them is the one that is spoken of.
        self._open: dict[Any, deque[tuple[Item, Item]]] = {}
        self._begins: dict[Any, tuple[Item, Item]] = {}
        for event, pair in zip(done, zip(old, new, strict=True), strict=True):
            self._open.setdefault(pair[0].get("id"), deque()).append(pair)
            if event.data is not None:
                self._begins[event.data.get("output_index")] = pair
        self._whole = {msgspec.json.encode(one): other for one, other in zip(items, restored, strict=True)}
        self._said: set[Any] = set()

    def event(self, event: wire.Event) -> bytes:
        data = event.data
        if data is None:
            return event.raw
        new = data
        if event.type in _SPOKEN:
            new = self._spoken(data, _SPOKEN[event.type])
        elif event.type == "response.output_item.added":
            new = self._begun(data)
        elif event.type == "response.output_item.done":
            new = self._done(data)
        elif isinstance(response := data.get("response"), dict) and response.get("output"):
            output = [self._whole.get(msgspec.json.encode(item), item) for item in response["output"]]
            new = {**data, "response": {**response, "output": output}}
        return event.raw if new == data else wire.encode(event.type, new)

    def _spoken(self, data: Item, member: str) -> Item:
        id = data.get("item_id")
        waiting = self._open.get(id)
        if not waiting or waiting[0][0] == waiting[0][1]:
            return data
        text = spoken(waiting[0][1])
        if member == "delta":
            # All of it at once: where a pseudonym was cut, no piece of it has a meaning of its own.
            text = "" if id in self._said else text
            self._said.add(id)
        return {**data, member: text}

    def _begun(self, data: Item) -> Item:
        item, pair = data.get("item"), self._begins.get(data.get("output_index"))
        if not isinstance(item, dict) or pair is None or pair[0] == pair[1]:
            return data
        old, new = pair
        # What a call says at its beginning is nothing, or all of it.
        said = {name: new[name] for name, inner in item.items() if inner and inner == old.get(name)}
        return {**data, "item": {**item, **said}}

    def _done(self, data: Item) -> Item:
        id = data["item"].get("id")
        self._open[id].popleft()
        self._said.discard(id)
        return {**data, "item": next(self._next)}
