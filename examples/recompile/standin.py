"""Stands in for a model where none is at hand: scripted, open about it, and served as a model is, over HTTP.

It never sees what it is checked against, nor the ledger: it reads the task from the prompt. Its answers are made from
the standard library's own source, which lies on every machine that has Python; the first answer for one function
lacks a condition, on purpose.
"""

import ast
import hmac
import inspect
import json
import pkgutil
import re
import secrets
import textwrap
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

WRONG_AT_FIRST = "calendar.isleap"


def answer(prompts: list[str]) -> str:
    """Answers a conversation, of which it gets what the user said."""
    asked = re.search(r"bytecode of ([\w.]+)\. ", prompts[0])
    if asked is None:
        return "I only know how to write functions of Python's standard library.\n"
    source = textwrap.dedent(inspect.getsource(pkgutil.resolve_name(asked[1])))
    if len(prompts) == 1:
        return _plan(source)
    if asked[1] == WRONG_AT_FIRST and not any("not equal" in prompt for prompt in prompts):
        return _forgetful(source)
    return source


class StandIn(ThreadingHTTPServer):
    """The Responses API on 127.0.0.1, without streams and tools, while its context is open.

    Args:
        key: the only API key that it takes.
        answer: what answers.
    """

    daemon_threads = True

    def __init__(self, key: str, answer: Callable[[list[str]], str] = answer) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.key = key
        self.answer = answer

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), name="stand-in", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()


class _Request(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        came = self.rfile.read(int(self.headers["Content-Length"]))
        if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {self.server.key}"):
            self._error(401, "invalid_api_key", "Incorrect API key provided.")
        elif self.path != "/v1/responses":
            self._error(404, "not_found", f"{self.path} is not served here.")
        else:
            request = json.loads(came)
            if request.get("stream") or request.get("tools"):
                self._error(400, "unsupported_parameter", "The stand-in knows neither streams nor tools.")
            else:
                self._send(200, _response(request, self.server.answer(_prompts(request["input"])), len(came)))

    def _error(self, status: int, code: str, message: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self._send(status, {"error": error})

    def _send(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the ledger has it all."""


def _prompts(given: str | list[dict[str, Any]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    return [str(item["content"]) for item in given if item.get("role") == "user"]


def _response(request: dict[str, Any], text: str, size: int) -> dict[str, Any]:
    """A response object. Its counts of tokens are guesses: four bytes are about one."""
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {"id": f"msg_{secrets.token_hex(24)}", "type": "message", "status": "completed", "role": "assistant"}
    asked, said = size // 4, len(text) // 4
    return {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": request.get("metadata") or {},
        "model": "scripted-stand-in",
        "output": [{**message, "content": [content]}],
        "parallel_tool_calls": True,
        "reasoning": request.get("reasoning"),
        "store": request.get("store", True),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + said,
        },
    }


def _plan(source: str) -> str:
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    kinds = [type(statement).__name__ for statement in function.body[1:]]
    return f"1. def {function.name}({ast.unparse(function.args)}) and its docstring\n2. then: {', '.join(kinds)}\n"


def _forgetful(source: str) -> str:
    """The source without the last alternative of an `or`: a leap year's rule of 400 years is easily forgotten."""

    class Forget(ast.NodeTransformer):
        def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
            self.generic_visit(node)
            return node.values[0] if isinstance(node.op, ast.Or) else node

    return ast.unparse(Forget().visit(ast.parse(source))) + "\n"
