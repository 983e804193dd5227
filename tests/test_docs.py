"""Documents that can't drift: what they tell people to type works, what they point at is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.cli import main

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(path: Path, *kinds: str) -> list[str]:
    """The contents of fenced blocks of these kinds."""
    return [text for kind, text in _BLOCK.findall(path.read_text()) if kind in kinds]


def commands(block: str) -> list[str]:
    """The commands of a block: what follows `$ ` where there is such a line, else every line."""
    lines = block.replace("\\\n", " ").splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")]
    typed = typed or [line for line in lines if not line.startswith("$")]
    return [line for line in typed if line.strip() and not line.lstrip().startswith("#")]


def script(typed: list[str]) -> str:
    """All of them in one shell, which stops at the first whose status is not the documented one."""
    lines = []
    for line in typed:
        wanted = re.search(r"\s#.*?\bexit (\d+)", line)
        lines.append(f"echo '+' {_quoted(line)} >&2")
        if wanted:
            lines.append(f"status=0; {line}\n".replace("; ", "; { ", 1).replace("\n", "\n} || status=$?"))
            lines.append(f'[ "$status" = {wanted[1]} ] || {{ echo "status $status" >&2; exit 99; }}')
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def run(typed: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs commands as somebody would who has just unpacked the project there."""
    (folder / "Makefile").write_text("install:\n")  # The tests run in what it makes.
    shutil.copy(ROOT / "README.md", folder)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-e", "-c", script(typed)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_command_of_the_readme_works_in_order(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    typed = [line for block in blocks(ROOT / "README.md", "console", "sh") for line in commands(block)]
    assert any("ledger init" in line for line in typed)
    done = run(typed, tmp_path / "project")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        (["true"], 0),
        (["true # exit 1"], 99),
        (["false"], 1),
        (["false   # exit 1"], 0),
        (["false | cat # not an exit"], 0),
        (["(exit 3)  # exit 3", "true"], 0),
        (["(exit 3)  # exit 1"], 99),
    ],
)
def test_commands_that_fail_are_noticed(tmp_path: Path, typed: list[str], status: int) -> None:
    assert run(typed, tmp_path).returncode == status


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    found = blocks(ROOT / "README.md", "python")
    assert found
    subprocess.run([Path(sys.executable).parent / "ledger", "init"], cwd=tmp_path, check=True, capture_output=True)
    for text in found:
        done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_into_the_repository_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = path if not name else (path.parent / name)
        assert found.exists(), f"{path.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in _anchors(found), f"{path.name}: {target}"


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_file_and_test_that_is_named_exists(path: Path) -> None:
    text = path.read_text()
    for name in re.findall(r"`((?:tests|docs|examples|ledger|store|schemas|policies|bench)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), f"{path.name}: {name}"
    for file, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", text):
        assert (ROOT / file).is_file(), f"{path.name}: {file}"
        assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.M), f"{path.name}: {file}::{test}"


def test_each_guarantee_of_the_threat_model_names_a_test_that_holds_it() -> None:
    """That each named test exists is looked at above."""
    text = (ROOT / "docs" / "THREAT-MODEL.md").read_text()
    guaranteed = text.partition("## Guaranteed\n")[2].partition("\n## ")[0]
    items = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", guaranteed, re.M | re.S)
    assert [int(number) for number, _ in items] == list(range(1, 28))
    assert [number for number, what in items if not re.search(r"`tests/[\w/]+\.py::test_\w+`", what)] == []


def _examples() -> list[tuple[str, str]]:
    """The verb, and each line of its help that shows a command."""
    import click

    found = []
    context = click.Context(main.commands)
    for verb in main.VERBS:
        command = main.commands.get_command(context, verb)
        assert command is not None
        for line in (command.help or "").splitlines():
            if re.match(r"\s+(ledger |\S+ \| ledger |export .*ledger )", line):
                found.append((verb, line.strip()))
    return found


@pytest.mark.parametrize(("verb", "line"), _examples(), ids=lambda text: text[:60])
def test_examples_of_the_help_name_options_that_exist(verb: str, line: str) -> None:
    """Without running them: they name files and addresses of somebody else."""
    import click

    command = main.commands.get_command(click.Context(main.commands), verb)
    assert command is not None
    subs = list(command.commands.values()) if isinstance(command, click.Group) else []
    known = {o for c in (command, *subs) for p in c.params for o in p.opts} | {"--help"}
    part = line.partition(f"ledger {verb}")[2].partition(";")[0]
    for option in re.findall(r"(?<![\w'\"])--?[a-z][a-z-]*", re.sub(r"'[^']*'|\"[^\"]*\"", "", part)):
        assert option in known, line
