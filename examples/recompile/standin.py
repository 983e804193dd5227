"""Stands in for a model where none is at hand: scripted, and open about it.

It never sees what it is checked against. Its answers are made from the standard library's own source, which
lies on every machine that has Python; the first answer for one function lacks a condition, on purpose.
"""

import ast
import inspect
import pkgutil
import textwrap
from typing import Any

WRONG_AT_FIRST = "calendar.isleap"


def respond(request: dict[str, Any]) -> dict[str, Any]:
    """Answers a request of the Responses API, as a model would."""
    task, stage = request["metadata"]["task"], request["metadata"]["stage"]
    source = textwrap.dedent(inspect.getsource(pkgutil.resolve_name(task)))
    if stage == "plan":
        text = _plan(source)
    elif task == WRONG_AT_FIRST and not _was_told(request):
        text = _forgetful(source)
    else:
        text = source
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    turns = sum(item["role"] == "user" for item in request["input"])
    return {
        "id": f"resp_standin_{task}_{turns}",
        "object": "response",
        "status": "completed",
        "model": "scripted-stand-in",
        "output": [message],
    }


def _was_told(request: dict[str, Any]) -> bool:
    return any("not equal" in item["content"] for item in request["input"] if item["role"] == "user")


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
