"""Recompile functions of the standard library from their bytecode, and record every step.

    lift      the function's bytecode becomes a listing                 artifact
    plan      the model says how it will go about it                    request, response
    write     the model writes source                                   request, response
    rebuild   that source, kept before anything is done with it         artifact
    check     it is compiled and its bytecode compared                  artifact
              not equal: write again, told the difference
    package   one module of all sources, tried beside the originals     artifacts

The model is asked through a gateway of this process (`Run.openai`), which records requests and responses by itself
and holds them to policy.
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


def recompile(run: Run, task: str, gateway: Mapping[str, Any]) -> Iterator[Check]:
    """Recompiles one function; the last check is the one that is equal.

    Args:
        task: its qualified name, such as `textwrap.indent`.
        gateway: what `Run.openai` is told: `upstream`, `key`, `policies`.

    Raises:
        NotEqual: it was not equal after the last attempt.
    """
    original = bytecode.of(pkgutil.resolve_name(task))
    listing = bytecode.listing(original)
    run.stage("lift", task=task).artifact(listing, name=f"{original.name}.dis", media_type="text/plain")

    talk: list[Any] = []
    ask(run.stage("plan", task=task), gateway, talk, PLAN.format(task=task, listing=listing))
    prompt = WRITE
    for attempt in range(1, ATTEMPTS + 1):
        source = ask(run.stage("write", task=task), gateway, talk, prompt)
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
        prompt = AGAIN.format(difference="\n".join(difference))
    raise NotEqual(task)


def ask(at: Run, gateway: Mapping[str, Any], talk: list[Any], prompt: str) -> str:
    """Goes on with a conversation. Question and answer are durable before the answer is here."""
    talk.append({"role": "user", "content": prompt})
    with at.openai(**gateway) as client:
        response = client.responses.create(model=MODEL, instructions=INSTRUCTIONS, input=talk)
    talk += response.output
    return response.output_text


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
