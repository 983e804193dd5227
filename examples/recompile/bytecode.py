"""What makes two functions the same to the interpreter, and how they differ, in words.

Left out, as they only tell where the source stood: file name, line numbers, addresses in memory.
"""

import ast
import difflib
import dis
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NamedTuple


class Function(NamedTuple):
    """A function as far as it is compared.

    Attributes:
        signature: how it is called, with its defaults.
    """

    signature: str
    code: CodeType

    @property
    def name(self) -> str:
        """Its own name, without those around it."""
        return self.code.co_name


def of(function: Callable[..., Any]) -> Function:
    """A function of the running interpreter."""
    (definition,) = ast.parse(f"def {function.__name__}{inspect.signature(function)}: ...").body
    assert isinstance(definition, ast.FunctionDef)
    return Function(_signature(definition), function.__code__)


def build(source: str) -> Function:
    """Compiles source that defines one function. Nothing of it is run.

    Raises:
        SyntaxError: it is no Python.
        ValueError: it is something else than one plain function.
    """
    match ast.parse(source).body:
        case [ast.FunctionDef(decorator_list=[], returns=None, args=arguments) as definition]:
            codes = [c for c in compile(source, "<answer>", "exec").co_consts if isinstance(c, CodeType)]
        case _:
            raise ValueError("the answer is not one function without decorators")
    for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
        ast.literal_eval(default)
    return Function(_signature(definition), codes[0])


def _signature(definition: ast.FunctionDef) -> str:
    return f"{definition.name}({ast.unparse(definition.args)})"


def facts(code: CodeType) -> dict[str, Any]:
    """All that is compared: instructions, constants, names; of the functions inside as well."""
    return {
        "name": code.co_qualname,
        "arguments": [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
        "flags": code.co_flags,
        "stack": code.co_stacksize,
        "code": code.co_code.hex(),
        "consts": [_constant(constant) for constant in code.co_consts],
        "names": code.co_names,
        "varnames": code.co_varnames,
        "freevars": code.co_freevars,
        "cellvars": code.co_cellvars,
        "exceptions": code.co_exceptiontable.hex(),
    }


def _constant(value: Any) -> Any:
    """With its type, as 1 == 1.0 == True, and 0.0 == -0.0."""
    if isinstance(value, CodeType):
        return facts(value)
    if isinstance(value, tuple):
        return ["tuple", *map(_constant, value)]
    if isinstance(value, frozenset):
        return ["frozenset", *sorted(map(repr, value))]
    return [type(value).__name__, repr(value)]


def listing(function: Function) -> str:
    """What a model is shown: signature, constants, and instructions with labels in place of offsets."""
    version = ".".join(map(str, sys.version_info[:3]))
    return "\n".join([f"CPython {version}", f"def {function.signature}", *_lines(function.code)]) + "\n"


def _lines(code: CodeType) -> Iterator[str]:
    yield f"{code.co_qualname}:"
    # The docstring, of which no instruction speaks, is among the constants.
    yield from (f"      constant {value!r}" for value in code.co_consts if not isinstance(value, CodeType))
    labels = {offset: f"L{n}" for n, offset in enumerate(sorted(dis.findlabels(code.co_code)), 1)}
    for step in dis.get_instructions(code):
        jump = step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
        argument = labels[step.argval] if jump else step.argrepr or str(step.arg or "")
        if isinstance(step.argval, CodeType):
            argument = f"<code {step.argval.co_qualname}>"
        yield f"{labels.get(step.offset, ''):>4}  {step.opname} {argument}".rstrip()
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _lines(inner)


def difference(original: Function, rebuilt: Function) -> list[str]:
    """How the second differs from the first, as a model can be told; empty where they are equal."""
    ours, theirs = facts(original.code), facts(rebuilt.code)
    if original.signature == rebuilt.signature and ours == theirs:
        return []
    lines = [listing(function).splitlines() for function in (original, rebuilt)]
    changed = [line for line in difflib.unified_diff(*lines, n=1, lineterm="") if line[:3] not in ("---", "+++")]
    return changed or [f"{name}: {ours[name]!r} became {theirs[name]!r}" for name in ours if ours[name] != theirs[name]]


def size(code: CodeType) -> int:
    """How many instructions, those of the functions inside included."""
    return sum(1 for _ in dis.get_instructions(code)) + sum(
        size(inner) for inner in code.co_consts if isinstance(inner, CodeType)
    )
