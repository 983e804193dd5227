"""The house of DESIGN.md, section 2: arrows point down, no circles, no clock or chance but at the edge."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From low to high; folders in one line do not know each other.
FLOORS = [
    ["schemas"],
    ["policies/redaction"],
    ["store", "policies"],
    ["ledger"],
    ["ledger/audit", "ledger/index"],
    ["ledger/gateway"],
    ["replay"],
    ["ledger/cli"],
]
RANK = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}
SOURCES = sorted(
    path for top in ("schemas", "store", "policies", "ledger", "replay") for path in (ROOT / top).rglob("*.py")
)


def folder_of(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> frozenset[Path]:
    """Files of ours that a file imports, wherever in it; what stands under TYPE_CHECKING does not run."""
    found: set[Path] = set()
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            target = ROOT / (name.replace(".", "/") + ".py")
            if target.exists():
                found.add(target)
    return frozenset(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_arrows_point_down(path: Path) -> None:
    here = folder_of(path)
    for target in imports(path):
        there = folder_of(target)
        assert there != "ledger/cli" or here == "ledger/cli", f"{path} imports the command line"
        assert here == there or RANK[there] < RANK[here], f"{here} imports {there}"


def test_no_circle_between_files() -> None:
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, f"a circle: {[p.name for p in (*trail, path)]}"
        if path not in done:
            for target in imports(path):
                visit(target, (*trail, path))
            done.add(path)

    for path in SOURCES:
        visit(path, ())


PURE = ["schemas", "policies", "store/seal.py", "store/pack.py", "store/lists.py", "ledger/merkle.py"]
PURE += ["ledger/note.py", "ledger/checkpoint.py", "ledger/batch.py", "ledger/trust.py", "ledger/state.py"]
IMPURE = re.compile(r"datetime\.now|time\.time|os\.(environ|urandom)\b.*|secrets\.token.*|random\..*|open")


@pytest.mark.parametrize("place", PURE)
def test_rules_have_no_clock_environment_or_chance(place: str) -> None:
    target = ROOT / place
    for path in target.rglob("*.py") if target.is_dir() else [target]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        used = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        used |= {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        found = set(filter(IMPURE.fullmatch, used))
        assert not found, f"{path.name} uses {found}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_checks_raise_instead_of_assert(path: Path) -> None:
    asserts = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert not asserts


def test_importing_ledger_is_cheap() -> None:
    heavy = ["duckdb", "pyarrow", "openai", "starlette", "asyncio", "click"]
    code = f"import ledger, sys; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd="/", text=True).strip() == "[]"


def test_a_strangers_package_in_our_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ledger"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert str(tmp_path / "store") in done.stderr


@pytest.mark.parametrize("name", ["init", "open", "verify"])
def test_no_module_bears_the_name_of_a_public_function(name: str) -> None:
    assert not (ROOT / "ledger" / f"{name}.py").exists()


def test_no_registry_is_named_anywhere() -> None:
    files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    hosts = re.compile("|".join(["py" + "pi\\.org", "python" + "hosted", "index" + "-url http", "np" + "mjs"]))
    for name in files:
        path = ROOT / name
        if path.is_file():
            found = hosts.search(path.read_text(errors="replace"))
            assert found is None, f"{name} names {found and found[0]}"
