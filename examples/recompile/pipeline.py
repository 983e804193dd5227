"""Recompile functions of the standard library from their bytecode, and record every step.

    lift      the function's bytecode becomes a listing                 artifact
    plan      the model says how it will go about it                    prompt, response
    write     the model writes source                                   prompt, response
    rebuild   that source, kept before anything is done with it         artifact
    check     it is compiled and its bytecode compared                  artifact
              not equal: write again, told the difference
    package   one module of all sources, tried beside the originals     artifacts

A model is any function from a request of the Responses API to its response.
"""

import dis
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import bytecode

from ledger import Appended, Run

MODEL = "gpt-5.2-codex"
INSTRUCTIONS = "You rebuild Python source from CPython bytecode. Write what compiles to exactly the same bytecode."
PLAN = "Here is the bytecode of {task}. Say in a few lines how you will write its source.\n\n{listing}"
WRITE = "Write it: one function definition, no Markdown, nothing else."
AGAIN = "The bytecode is not equal (- original, + yours). Write it again.\n\n{difference}"
ATTEMPTS = 3

Model = Callable[[dict[str, Any]], dict[str, Any]]


class NotEqual(Exception):
    """The model did not arrive at the same bytecode."""


class Check(NamedTuple):
    """One answer of the model, compared.

    Attributes:
        difference: lines of it; none when the bytecode is equal.
        recorded: the ledger's entry of this result.
    """

    task: str
    attempt: int
    source: str
    instructions: int
    difference: list[str]
    recorded: Appended


def recompile(run: Run, task: str, model: Model) -> Iterator[Check]:
    """Recompiles one function; the last check is the one that is equal.

    Args:
        task: its qualified name, such as `textwrap.indent`.

    Raises:
        NotEqual: it was not equal after the last attempt.
    """
    original = bytecode.of(pkgutil.resolve_name(task))
    listing = bytecode.listing(original)
    run.stage("lift", task=task).artifact(listing, name=f"{original.name}.dis", media_type="text/plain")

    talk = [{"role": "user", "content": PLAN.format(task=task, listing=listing)}]
    talk += ask(run, model, "plan", task, talk, effort="high")
    talk.append({"role": "user", "content": WRITE})
    for attempt in range(1, ATTEMPTS + 1):
        answer = ask(run, model, "write", task, talk)
        source = answer[0]["content"]
        run.stage("rebuild", task=task).artifact(source, name=f"{original.name}.py", media_type="text/x-python")
        try:
            difference = bytecode.difference(original, bytecode.build(source))
        except (SyntaxError, ValueError) as error:
            difference = [f"it does not compile: {error}"]
        result = {"task": task, "attempt": attempt, "equal": not difference, "difference": difference}
        recorded = record(run.stage("check", task=task), f"{original.name}.check.json", result)
        yield Check(task, attempt, source, bytecode.size(original.code), difference, recorded)
        if not difference:
            return
        talk += [*answer, {"role": "user", "content": AGAIN.format(difference="\n".join(difference))}]
    raise NotEqual(task)


def ask(
    run: Run, model: Model, stage: str, task: str, talk: list[dict[str, str]], effort: str = "medium"
) -> list[dict[str, str]]:
    """Puts the conversation to the model. Question and answer are durable before the answer is used."""
    request = {
        "model": MODEL,
        "instructions": INSTRUCTIONS,
        "reasoning": {"effort": effort},
        "metadata": {"stage": stage, "task": task},
        "input": talk,
    }
    at = run.stage(stage, task=task)
    asked = at.prompt(request, model=MODEL)
    response = model(request)
    at.response(response, to=asked)
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return [{"role": "assistant", "content": "".join(part["text"] for part in parts)}]


def package(run: Run, checks: Sequence[Check], inputs: Mapping[str, Sequence[tuple[Any, ...]]], path: Path) -> int:
    """Writes the module, tries its functions beside the originals, and records it.

    Args:
        checks: an equal one for each function.
        inputs: arguments to try, by task.

    Returns:
        How many calls went alike.

    Raises:
        NotEqual: one did not.
    """
    module = _module(checks)
    namespace: dict[str, Any] = {}
    exec(compile(module, path.name, "exec"), namespace)
    calls = []
    for task in sorted(inputs):
        original, rebuilt = pkgutil.resolve_name(task), namespace[task.rpartition(".")[2]]
        for arguments in inputs[task]:
            expected, got = _outcome(original, arguments), _outcome(rebuilt, arguments)
            calls.append({"task": task, "arguments": repr(arguments), "original": expected, "rebuilt": got})
    stage = run.stage("package")
    record(stage, "trial.json", calls)
    if any(call["original"] != call["rebuilt"] for call in calls):
        raise NotEqual(path.name)
    path.write_text(module)
    stage.artifact(path, media_type="text/x-python")
    return len(calls)


def record(run: Run, name: str, result: Any) -> Appended:
    """Records a result as JSON."""
    return run.artifact(json.dumps(result, indent=1) + "\n", name=name, media_type="application/json")


def _module(checks: Sequence[Check]) -> str:
    """The same bytes for the same sources: sorted, without a date."""
    version = ".".join(map(str, sys.version_info[:3]))
    imports, sources = [], []
    for check in sorted(checks, key=lambda check: check.task):
        home, _, name = check.task.rpartition(".")
        needs = _globals(pkgutil.resolve_name(check.task).__code__) & vars(pkgutil.resolve_name(home)).keys() - {name}
        imports += [f"from {home} import {needed}\n" for needed in sorted(needs)]
        sources.append(f"\n\n{check.source.strip()}\n")
    return f'"""Recompiled from the bytecode of CPython {version}."""\n\n' + "".join(imports + sources)


def _globals(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return own.union(*map(_globals, inner))


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    try:
        return repr(function(*arguments))
    except Exception as error:  # noqa: BLE001  what it raises is what is compared
        return f"raises {error!r}"
