"""`ledger keys add|list|check|remove`: where secrets lie is kept, what they are is not; and redaction looks for all."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ledger
from ledger import homes, registry
from ledger.gateway import server
from ledger.gateway.environment import handed_on
from ledger.registry import FILE, Named
from schemas.errors import KeyUnusable, LedgerError, NotFound, UsageError
from store.signers import Signer
from tests.support import shell, template
from tests.support.shell import LEDGER
from tests.support.template import ORIGIN, Template
from tests.support.upstream import Upstream

VALUE = "correct-horse-battery-staple"
KEY = "upstream-key-of-the-registry"
ASK = """
import os, sys, openai
print(openai.OpenAI(max_retries=0).responses.create(model="gpt-5.4-mini", input=sys.argv[1]).output_text)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template.make(tmp_path_factory.mktemp("made"), lambda path: None)


@pytest.fixture
def path(made: Template, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = made.copy(home, tmp_path / "l")
    monkeypatch.setenv("LEDGER", str(found))
    return found


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(key=KEY) as found:
        yield found


def secret(folder: Path, name: str, value: str = VALUE) -> str:
    """A secret in a file."""
    file = folder / name
    file.write_text(value + "\n")
    file.chmod(0o600)
    return f"file:{file}"


def stored() -> Path:
    return homes.keys(ORIGIN) / FILE


# What is kept


def test_what_is_added_is_listed_by_uri_and_kept_without_its_value(path: Path, tmp_path: Path) -> None:
    uri = secret(tmp_path, "db")
    assert shell.call("keys", "add", "db", uri).status == 0
    assert shell.call("keys", "add", "openai", "env:SOME_KEY", "--use", "upstream").status == 0
    listed = shell.call("keys", "list")
    assert uri in listed.out
    assert "env:SOME_KEY" in listed.out
    assert shell.call("keys", "list", "--json").json[0] == [
        {"name": "db", "use": "redact", "uri": uri},
        {"name": "openai", "use": "upstream", "uri": "env:SOME_KEY"},
    ]
    assert VALUE not in listed.out + stored().read_text()
    assert stat.S_IMODE(stored().stat().st_mode) == 0o600
    assert shell.call("keys", "remove", "db").status == 0
    assert [one.name for one in registry.read(ORIGIN)] == ["openai"]


def test_check_says_ok_or_what_is_wrong_and_never_a_value(path: Path, tmp_path: Path) -> None:
    registry.add(ORIGIN, Named("good", secret(tmp_path, "good")))
    assert shell.call("keys", "check").status == 0
    registry.add(ORIGIN, Named("short", secret(tmp_path, "short", "hunter2")))
    registry.add(ORIGIN, Named("absent", "env:NOT_SET"))
    open_ = secret(tmp_path, "open", VALUE + "2")
    os.chmod(open_[5:], 0o644)
    registry.add(ORIGIN, Named("open", open_))
    said = shell.call("keys", "check", "--json")
    assert said.status == 1
    rows = {row["name"]: row for row in said.json[0]}
    assert rows["good"]["ok"]
    assert "under 8 characters" in rows["short"]["wrong"]
    assert "not set" in rows["absent"]["wrong"]
    assert "others may read" in rows["open"]["wrong"]
    assert "chmod 600" in rows["open"]["hint"]
    shown = said.out + said.err + shell.call("keys", "check").out
    assert VALUE not in shown
    assert "hunter2" not in shown


def test_check_looks_at_a_key_as_its_use_would(path: Path, tmp_path: Path) -> None:
    stranger = secret(tmp_path, "stranger", Signer.format(f"{ORIGIN}/ci", os.urandom(32)))
    other_owner = secret(tmp_path, "owner", Signer.format(ORIGIN, os.urandom(32)))
    for use in ("author", "owner", "log", "identity"):
        registry.add(ORIGIN, Named(use, stranger if use == "author" else other_owner, use))  # type: ignore[arg-type]
    env = {"LEDGER_SIGNER": f"file:{homes.keys(ORIGIN) / 'author.key'}"}
    rows = {row["use"]: row for row in shell.call("keys", "check", "--json", env=env).json[0]}
    assert "may not write with this key" in rows["author"]["wrong"]
    assert "not the owner's key" in rows["owner"]["wrong"]
    assert "not the log's key" in rows["log"]["wrong"]
    assert "not an identity" in rows["identity"]["wrong"]


@pytest.mark.parametrize(
    ("name", "uri", "use"),
    [
        ("db", "env:B", "redact"),
        ("other", "env:B", "upstream"),
        ("../x", "env:B", "redact"),
        ("", "env:B", "redact"),
        ("x", "nonsense", "redact"),
        ("x", "env:", "redact"),
        ("x", "pkcs11:object=a", "redact"),
        ("x", "pkcs11:object=a", "upstream"),
        ("x", "pkcs11:object=a?module-path=/m&pin-value=1", "author"),
        ("x", "pkcs11:object=a?module-path=m", "author"),
    ],
)
def test_what_can_not_be_registered_is_refused_and_changes_nothing(
    path: Path, name: str, uri: str, use: registry.Use
) -> None:
    registry.add(ORIGIN, Named("db", "env:A"))
    registry.add(ORIGIN, Named("key", "env:A", "upstream"))
    before = stored().read_bytes()
    with pytest.raises(LedgerError):
        registry.add(ORIGIN, Named(name, uri, use))
    assert stored().read_bytes() == before


def test_what_is_not_there_can_not_be_removed(path: Path) -> None:
    with pytest.raises(NotFound):
        registry.remove(ORIGIN, "nobody")


def test_many_processes_add_at_once_and_none_is_lost(path: Path) -> None:
    def add(number: int) -> int:
        return shell.call("keys", "add", f"n{number}", f"env:N{number}").status

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(add, range(12))) == {0}
    assert {one.name for one in registry.read(ORIGIN)} == {f"n{number}" for number in range(12)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"secrets":[{"name":"a"}]}',
        '{"secrets":[],"more":1}',
        '{"secrets":[{"name":"a","uri":"env:A","use":"all"}]}',
    ],
)
def test_a_damaged_registry_denies(path: Path, upstream: Upstream, text: str) -> None:
    stored().write_text(text)
    stored().chmod(0o600)
    for args in (["start"], ["keys", "list"], ["record", "--no-sandbox", "--upstream", upstream.url, "--", "true"]):
        said = shell.call(*args)
        assert said.status in (1, 125), said
        assert FILE in said.err
    assert upstream.requests == []


def test_a_registry_that_others_may_change_denies(path: Path) -> None:
    registry.add(ORIGIN, Named("author", f"file:{homes.keys(ORIGIN) / 'author.key'}", "author"))
    stored().chmod(0o666)
    shell.call("start").fails(1, "others may read", FILE)


def test_no_ledger_is_named_after_the_registry(path: Path, tmp_path: Path) -> None:
    shell.call("init", tmp_path / "other", "--origin", f"{ORIGIN}/{FILE}").fails(2, "can't be a part of an origin")


# What it is for


def record(upstream: Upstream, *command: str, env: dict[str, str] | None = None) -> shell.Said:
    return shell.call(
        "record", "--no-sandbox", "--upstream", upstream.url, "--", sys.executable, "-c", *command, env=env
    )


def test_m09_a_registered_secret_is_masked_in_what_leaves_and_the_registered_key_is_used(
    path: Path, upstream: Upstream, tmp_path: Path
) -> None:
    registry.add(ORIGIN, Named("db", secret(tmp_path, "db")))
    registry.add(ORIGIN, Named("up", secret(tmp_path, "up", KEY), "upstream"))
    said = record(upstream, ASK, f"the password is {VALUE} and the key {KEY}")
    assert said.status == 0, said
    [seen] = upstream.requests
    assert VALUE.encode() not in seen.body
    assert KEY.encode() not in seen.body
    assert VALUE not in said.out + said.err
    assert ledger.verify(path).sound


def test_without_the_registry_the_same_value_would_leave(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    """What the test above shows is the registry's work, not that of some rule."""
    registry.add(ORIGIN, Named("up", secret(tmp_path, "up", KEY), "upstream"))
    assert record(upstream, ASK, f"the password is {VALUE}").status == 0
    assert VALUE.encode() in upstream.requests[0].body


@pytest.mark.parametrize("uri", ["env:NOT_SET", "file:/nowhere", "keyring:no/bus", "aws-sm:nobody"])
def test_nothing_leaves_while_a_registered_secret_can_not_be_looked_for(
    path: Path, upstream: Upstream, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    registry.add(ORIGIN, Named("up", secret(tmp_path, "up", KEY), "upstream"))
    registry.add(ORIGIN, Named("lost", uri))
    said = record(upstream, ASK, "x")
    assert said.status == 125, said
    assert "lost" in said.err
    assert uri in said.err
    shell.call("gateway", "--listen", "127.0.0.1:0", "--upstream", upstream.url).fails(1, "lost", uri)
    assert upstream.requests == []
    with ledger.open(path) as log:
        assert log.runs() == []
        with log.run("x") as run, pytest.raises(KeyUnusable, match="lost"):
            run.openai(upstream=upstream.url)


def test_a_value_too_short_to_look_for_denies(path: Path, upstream: Upstream, tmp_path: Path) -> None:
    registry.add(ORIGIN, Named("up", secret(tmp_path, "up", KEY), "upstream"))
    registry.add(ORIGIN, Named("pin", secret(tmp_path, "pin", "4711")))
    said = record(upstream, ASK, "x")
    assert said.status == 125
    assert "under 8 characters" in said.err
    assert "4711" not in said.err


def test_a_command_gets_no_variable_that_holds_a_secret_or_opens_a_store(
    path: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(ORIGIN, Named("up", secret(tmp_path, "up", KEY), "upstream"))
    registry.add(ORIGIN, Named("db", secret(tmp_path, "db")))
    env = {
        "DB_URL": f"postgres://ci:{VALUE}@db/x",
        "COPY": VALUE,
        "CI_KEY": (homes.keys(ORIGIN) / "author.key").read_text().strip(),
        "LEDGER_SIGNER": "env:CI_KEY",
        "HARMLESS": "handed-on",
    }
    said = record(upstream, "import json, os; print(json.dumps(dict(os.environ)))", env=env)
    assert said.status == 0, said
    got = json.loads(said.out)
    assert got["HARMLESS"] == "handed-on"
    assert not {"DB_URL", "COPY", "CI_KEY", "LEDGER_SIGNER"} & got.keys()
    assert VALUE not in said.out
    assert "PRIVATE+KEY" not in said.out
    assert "4 withheld: CI_KEY, COPY, DB_URL, LEDGER_SIGNER" in said.err
    assert VALUE not in said.err


def test_a_role_takes_the_place_of_the_key_that_init_made(path: Path, tmp_path: Path) -> None:
    keys = homes.keys(ORIGIN)
    moved = {"author": "author.key", "owner": "owner.key", "log": "log.key", "identity": "identity.txt"}
    for use, name in moved.items():
        registry.add(ORIGIN, Named(use, f"file:{(keys / name).rename(tmp_path / name)}", use))  # type: ignore[arg-type]
    run = shell.call("start", "moved").out.strip()
    assert shell.call("append", "prompt", "-", "--run", run, stdin="asked").status == 0
    assert shell.call("cat", f"{run}:2").out == "asked"
    assert shell.call("keys", "author", "ci", "add").status == 0
    assert [row["ok"] for row in shell.call("keys", "check", "--json").json[0]] == [True] * 4
    assert ledger.verify(path).sound


def test_a_generated_value_is_stored_and_told_nowhere(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "made" / "token"
    said = shell.call("keys", "add", "token", f"file:{file}", "--generate")
    assert said.status == 0, said
    value = file.read_text().strip()
    assert len(value) >= 40
    assert value not in said.out + said.err + stored().read_text()
    again = shell.call("keys", "add", "token2", f"file:{file}", "--generate")
    again.fails(1, "there already")
    assert [one.name for one in registry.read(ORIGIN)] == ["token"]
    for use in ("owner", "log", "identity", "upstream"):
        shell.call("keys", "add", "x", f"file:{tmp_path / use}", "--use", use, "--generate").fails(2)


def test_the_taken_name_is_noticed_before_anything_is_made(path: Path, tmp_path: Path) -> None:
    registry.add(ORIGIN, Named("token", "env:A"))
    with pytest.raises(UsageError, match="there already"), registry.adding(ORIGIN, Named("token", "env:B")):
        pytest.fail("made all the same")
    assert not (tmp_path / "made").exists()


def test_m09_no_secret_is_in_any_file_or_process(path: Path, upstream: Upstream, tmp_path: Path, home: Path) -> None:
    """A byte search: the ledger, the user's folders, what was said, and what /proc shows of the command and of us."""
    author = (homes.keys(ORIGIN) / "author.key").read_text().strip()
    identity = (homes.keys(ORIGIN) / "identity.txt").read_text().strip().splitlines()[-1]
    registry.add(ORIGIN, Named("db", secret(tmp_path, "db")))
    registry.add(ORIGIN, Named("up", "env:UPSTREAM_KEY", "upstream"))
    look = ASK + (
        "import glob\n"
        "for file in glob.glob('/proc/[0-9]*/cmdline') + [f'/proc/{os.getpid()}/environ']:\n"
        "    try: sys.stderr.write(open(file, 'rb').read().decode(errors='replace') + '\\n')\n"
        "    except OSError: pass\n"
    )
    env = {"UPSTREAM_KEY": KEY, "DB": VALUE, "LEDGER_DEBUG": "1"}
    said = record(upstream, look, "say hello", env=env)
    assert said.status == 0, said
    assert "record" in said.err  # Its own command line was seen, as was ours.
    wrong = shell.call("record", "--policy", "nobody", "--", "true", env=env)
    traced = subprocess.run(
        [*LEDGER, "start"], env={**os.environ, **env, "LEDGER_SIGNER": "env:DB"}, capture_output=True, text=True
    )
    assert traced.returncode == 1
    texts = (said.out + said.err + wrong.err + traced.stderr + traced.stdout).encode()
    files = [file for folder in (path, home) for file in folder.rglob("*") if file.is_file()]
    private = {homes.keys(ORIGIN) / name for name in ("author.key", "identity.txt")}
    assert len(files) > 10
    for value in (VALUE, KEY, author, author[-40:], identity):
        assert value.encode() not in texts, "said, or shown by /proc"
        holding = {file for file in files if value.encode() in file.read_bytes()}
        assert holding <= private, holding


def test_what_opens_a_store_anew_is_withheld_too(path: Path) -> None:
    registry.add(ORIGIN, Named("cloud", "aws-sm:prod/db"))
    given = {
        "LEDGER_OWNER": "pkcs11:object=a?module-path=/m.so&pin-source=env%3AHSM_PIN",
        "HSM_PIN": "4711",
        "PORT": "47110",
        "AWS_SECRET_ACCESS_KEY": "of-the-cloud",
        "AWS_REGION": "eu-central-1",
        "PATH": "/bin",
    }
    handed = handed_on(given, server.Settings(key="env:NOT_SET"), ORIGIN)
    assert handed.withheld == ("AWS_SECRET_ACCESS_KEY", "HSM_PIN", "LEDGER_OWNER")
    # A short value counts where it is all of a variable: it would be found everywhere.
    assert handed.variables.keys() == {"PORT", "AWS_REGION", "PATH"}
    assert handed.said() == "3 variables handed on, 3 withheld: AWS_SECRET_ACCESS_KEY, HSM_PIN, LEDGER_OWNER"
