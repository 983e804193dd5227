"""Texts without a secret, many of which look as if they held one: what a scanner must let through.

Sources of this machine's interpreter, JavaScript in a minified form, records of a ledger of ours, and lists of what is
long and random but open to all: digests, lock files, images, dumps, listings, public keys.
"""

import base64
import dis
import io
import json
import re
import shutil
import sysconfig
import uuid
import zlib
from collections.abc import Callable, Iterator
from hashlib import md5, sha1, sha256, sha512
from pathlib import Path
from random import Random
from typing import NamedTuple

from blake3 import blake3

_ROOT = Path(__file__).parent.parent.parent
_PIECE = 200_000
_HEX = "0123456789abcdef"


class Clean(NamedTuple):
    """A text in which nothing may be found.

    Attributes:
        of: its class.
        ending: of the file's name that such a text would have.
    """

    of: str
    ending: str
    text: bytes


def clean(megabytes: float, folder: Path, seed: int = 0) -> Iterator[Clean]:
    """So much text, of every class its share.

    Args:
        folder: where a ledger is made for its records; not there yet.
    """
    chance = Random(seed)
    for of, (share, ending, make) in _CLASSES.items():
        left = int(megabytes * share / _SHARES * 1_000_000)
        for text in make(chance, folder):
            yield Clean(of, ending, text[:left])
            left -= len(text)
            if left <= 0:
                break
    yield Clean("placeholders", "txt", "\n".join(_PLACEHOLDERS).encode())


# --- Source ----------------------------------------------------------------------------------------------------


def _python_files(chance: Random) -> list[Path]:
    base = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "test", "tests", "idlelib", "__pycache__"}
    files = [p for p in sorted(base.rglob("*.py")) if not left_out & set(p.relative_to(base).parts)]
    chance.shuffle(files)
    return files


def _python(chance: Random, _: Path) -> Iterator[bytes]:
    for path in _python_files(chance):
        yield path.read_bytes()


def _javascript(chance: Random, _: Path) -> Iterator[bytes]:
    """Of node's own tools where they are, then made up."""
    node = shutil.which("node")
    base = Path(node).resolve().parent.parent / "lib" / "node_modules" if node else Path("/nowhere")
    files = sorted(p for p in base.rglob("*.js") if "test" not in p.parts)
    chance.shuffle(files)
    for path in files:
        yield minified(path.read_text(errors="replace")).encode()
    while True:
        yield minified("\n".join(_function(chance) for _ in range(200))).encode()


_JS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\s+|[\w$]+|.""",
    re.DOTALL,
)
_DECLARED = re.compile(r"\b(?:const|let|var|function)\s+([a-z_]\w{3,})")


def minified(source: str) -> str:
    """JavaScript without comments and what space it can spare, its longer names shortened; good enough to look at."""
    names = {name: _short(number) for number, name in enumerate(dict.fromkeys(_DECLARED.findall(source)))}
    out: list[str] = []
    for token in _JS.findall(source):
        if token.isspace() or token.startswith(("//", "/*")):
            if out and re.match(r"[\w$]", out[-1][-1]):
                out.append(" ")
        else:
            if out and out[-1] == " " and not re.match(r"[\w$]", token):
                out.pop()
            out.append(names.get(token, token))
    return "".join(out)


def _short(number: int) -> str:
    number, first = divmod(number, 26)
    return chr(97 + first) + (str(number) if number else "")


def _name(chance: Random) -> str:
    parts = chance.choices(
        [
            "get",
            "set",
            "key",
            "token",
            "user",
            "pass",
            "auth",
            "api",
            "secret",
            "cache",
            "hash",
            "state",
            "node",
            "ref",
        ],
        k=chance.randint(2, 4),
    )
    return parts[0] + "".join(part.title() for part in parts[1:])


def _function(chance: Random) -> str:
    one, two, three = (_name(chance) for _ in range(3))
    text = json.dumps(" ".join(_name(chance) for _ in range(chance.randint(1, 6))))
    return (
        f"export function {one}({two}, options) {{\n  const {three} = options.{two} || {text};\n"
        f"  if (!{two}.password) throw new Error('{three} is required: ' + {text});\n"
        f"  return this.{one}.then((r) => r.{three}({two}, {{ token: {three}, key: {chance.randrange(999)} }}));\n}}\n"
    )


# --- Records ---------------------------------------------------------------------------------------------------


def _records(chance: Random, folder: Path) -> Iterator[bytes]:
    """Clear entries of a ledger, as they are stored and as `ledger show --json` and `ledger log` tell them."""
    import ledger
    from ledger.cli.show import summary

    if not folder.exists():
        ledger.init(folder)
    with ledger.open(folder) as log:
        while True:
            with log.run(f"lift {chance.randrange(10**6)}", stage="lift", lane="general", task="src/a.c") as run:
                for number in range(40):
                    asked = run.prompt({"model": "gpt-5.3-codex", "input": _name(chance)}, model="gpt-5.3-codex")
                    run.response({"output": [], "id": f"resp_{chance.randrange(16**32):032x}"}, to=asked)
                    run.artifact(chance.randbytes(200), name=f"out/{_name(chance)}.o")
                    run.append_many([ledger.Item(kind="artifact", content=b"%d" % (number + n)) for n in range(20)])
            log.catch_up()
            entries = list(log.entries(run))
            yield b"\n".join(recorded.raw for recorded in entries)
            yield "\n".join(json.dumps(summary(log, recorded), default=str) for recorded in entries[:300]).encode()


def _requests(chance: Random, _: Path) -> Iterator[bytes]:
    """Requests to the Responses API whose tools' outputs are sources: JSON within JSON."""
    for path in _python_files(chance):
        text = path.read_text(errors="replace")
        call = f"call_{chance.randrange(16**24):024x}"
        sealed = base64.b64encode(b"\x80" + chance.randbytes(chance.randint(300, 900))).decode()
        asked = {"command": ["bash", "-lc", f"sed -n '1,400p' {path.name}"], "workdir": "/srv/app"}
        said = [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text[:300]}]},
            {"type": "reasoning", "id": f"rs_{chance.randrange(16**48):048x}", "encrypted_content": sealed},
            {"type": "function_call", "name": "shell", "arguments": json.dumps(asked), "call_id": call},
            {"type": "function_call_output", "call_id": call, "output": json.dumps({"output": text[:20_000]})},
        ]
        key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        yield json.dumps({"model": "gpt-5.3-codex", "input": said, "prompt_cache_key": key}).encode()


# --- Long, random and open to all ------------------------------------------------------------------------------


def _locks(chance: Random, _: Path) -> Iterator[bytes]:
    yield (_ROOT / "requirements.lock").read_bytes()
    while True:
        yield _lines(chance, _npm, _yarn, _cargo, _go_sum, _pip)


def _hashes(chance: Random, _: Path) -> Iterator[bytes]:
    makes = (_sums, _uuids, _commit, _digests, _traces, _public)
    while True:
        yield _lines(chance, chance.choice(makes), chance.choice(makes))


def _images(chance: Random, _: Path) -> Iterator[bytes]:
    while True:
        text = base64.b64encode(_png(chance)).decode()
        folded = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
        yield chance.choice(
            (
                json.dumps({"type": "input_image", "image_url": f"data:image/png;base64,{text}"}),
                f'<img alt="key" src="data:image/png;base64,{text}">\n',
                f".token {{ background: url(data:image/png;base64,{text}) }}\n",
                f"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n{folded}\n",
            )
        ).encode()


def _dumps(chance: Random, _: Path) -> Iterator[bytes]:
    for path in _python_files(chance):
        data = zlib.compress(path.read_bytes())[:12_000]
        yield "\n".join(chance.choice((_xxd, _hexdump, _array))(data)).encode()


def _listings(chance: Random, _: Path) -> Iterator[bytes]:
    for path in _python_files(chance):
        out = io.StringIO()
        dis.dis(compile(path.read_bytes(), path.name, "exec", dont_inherit=True), file=out, depth=2)
        yield out.getvalue().encode()[:_PIECE]
        yield "\n".join(_instruction(chance, 0x401000 + 7 * n) for n in range(1500)).encode()


def _lines(chance: Random, *makes: Callable[[Random], str]) -> bytes:
    return "\n".join(chance.choice(makes)(chance) for _ in range(300)).encode()


def _drawn(chance: Random, alphabet: str, count: int) -> str:
    return "".join(chance.choices(alphabet, k=count))


def _coded(chance: Random, count: int) -> str:
    return base64.b64encode(chance.randbytes(count)).decode()


def _integrity(chance: Random) -> str:
    return "sha512-" + base64.b64encode(sha512(chance.randbytes(8)).digest()).decode()


def _npm(chance: Random) -> str:
    name = _name(chance).lower()
    return (
        f'    "node_modules/{name}": {{\n      "version": "{chance.randrange(9)}.1.{chance.randrange(40)}",\n'
        f'      "integrity": "{_integrity(chance)}",\n      "license": "MIT"\n    }},'
    )


def _yarn(chance: Random) -> str:
    name = _name(chance).lower()
    return f'{name}@^1.2.0:\n  version "1.2.{chance.randrange(90)}"\n  integrity {_integrity(chance)}\n'


def _cargo(chance: Random) -> str:
    check = sha256(chance.randbytes(8)).hexdigest()
    return f'[[package]]\nname = "{_name(chance).lower()}"\nversion = "0.4.1"\nchecksum = "{check}"\n'


def _go_sum(chance: Random) -> str:
    check = base64.b64encode(sha256(chance.randbytes(8)).digest()).decode()
    return f"example.org/{_name(chance).lower()}/token v1.{chance.randrange(30)}.0/go.mod h1:{check}"


def _pip(chance: Random) -> str:
    return f"{_name(chance).lower()}==1.0 \\\n    --hash=sha256:{sha256(chance.randbytes(8)).hexdigest()}"


def _sums(chance: Random) -> str:
    digest = chance.choice((md5, sha1, sha256, sha512, blake3))(chance.randbytes(8)).hexdigest()
    return f"{digest}  {_name(chance)}.tar.gz"


def _uuids(chance: Random) -> str:
    drawn = uuid.UUID(int=chance.getrandbits(128), version=4)
    return chance.choice((f"{drawn}", f'"id": "{drawn}",', f"request-id: {drawn}", f"{{{str(drawn).upper()}}}"))


def _commit(chance: Random) -> str:
    one, two = (sha1(chance.randbytes(8)).hexdigest() for _ in range(2))
    return chance.choice(
        (
            f"commit {one}\nAuthor: Ada <ada@acme.example>\nDate:   Mon Mar 2 10:11:12 2026\n\n    {_name(chance)}\n",
            f"index {one[:7]}..{two[:7]} 100644",
            f"{one[:12]} {_name(chance)} ({two})",
            f"tree {one}\nparent {two}",
        )
    )


def _digests(chance: Random) -> str:
    one = sha256(chance.randbytes(8)).hexdigest()
    return chance.choice(
        (
            f"image: registry.acme.example/app@sha256:{one}",
            f'ETag: "{one[:32]}"',
            f"artifact://{one}",
            f"/nix/store/{_drawn(chance, 'abcdfghijklmnpqrsvwxyz0123456789', 32)}-openssl-3.0.13",
            f'"content": "artifact://{one}", "digest": "{one[::-1]}"',
            f"blake3:{one}",
            f"cache_key: {one}",
        )
    )


def _traces(chance: Random) -> str:
    trace, span = _drawn(chance, _HEX, 32), _drawn(chance, _HEX, 16)
    return chance.choice(
        (
            f"traceparent: 00-{trace}-{span}-01",
            f"level=info trace_id={trace} span_id={span} msg=served path=/v1/items status=200",
            f"2026-03-04T10:00:00Z GET /static/app.{trace[:20]}.js 200 12ms",
            f"arn:aws:s3:::acme-logs/{trace[:4]}/{trace}",
        )
    )


def _public(chance: Random) -> str:
    key = base64.b64encode(bytes.fromhex("0000000b7373682d6564323535313900000020") + chance.randbytes(32)).decode()
    body = base64.b64encode(b"\x30\x82\x03\x01" + chance.randbytes(764)).decode()
    folded = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    print_ = _coded(chance, 32).rstrip("=")
    return chance.choice(
        (
            f"ssh-ed25519 {key} ada@laptop",
            f"|1|{_coded(chance, 20)}|{_coded(chance, 20)} ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ{_coded(chance, 240)}",
            f"256 SHA256:{print_} ada@laptop (ED25519)",
            f"-----BEGIN CERTIFICATE-----\n{folded}\n-----END CERTIFICATE-----",
            f"-----BEGIN PUBLIC KEY-----\n{folded[:324]}\n-----END PUBLIC KEY-----",
            f"recipient: age1{_drawn(chance, 'qpzry9x8gf2tvdw0s3jn54khce6mua7l', 58)}",
            f"verify with vkey acme.example+{_drawn(chance, _HEX, 8)}+{_coded(chance, 33)}",
        )
    )


def _png(chance: Random) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    size = chance.randint(40, 90)
    rows = b"".join(b"\0" + chance.randbytes(size) for _ in range(size))
    head = size.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _xxd(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        yield f"{at:08x}: {part.hex(' ', 2):<40} {_shown(part)}"


def _hexdump(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        yield f"{at:08x}  {part.hex(' '):<48}  |{_shown(part)}|"


def _array(data: bytes) -> Iterator[str]:
    yield "static const unsigned char glyph_table[] = {"
    for at in range(0, len(data), 12):
        yield "    " + ", ".join(f"0x{byte:02x}" for byte in data[at : at + 12]) + ","
    yield "};"


def _shown(data: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


def _instruction(chance: Random, at: int) -> str:
    code = chance.randbytes(chance.randint(1, 7)).hex(" ")
    said = chance.choice(
        ("mov    %rax,%rbx", "lea    0x2e9f(%rip),%rdi", "call   401030 <puts@plt>", "ret", "push   %rbp")
    )
    return f"  {at:x}:\t{code:<21}\t{said}"


# What stands where a secret would: none of it is one.
_PLACEHOLDERS = (
    "password = os.environ['DB_PASSWORD']",
    "API_KEY=${API_KEY}",
    "api_key: {{ secrets.API_KEY }}",
    "token: ${{ secrets.GITHUB_TOKEN }}",
    'password: "********"',
    "export AWS_SECRET_ACCESS_KEY=<your secret key>",
    "const token = process.env.TOKEN;",
    "password = getpass.getpass('Password: ')",
    "DB_PASSWORD=",
    'SECRET_KEY = config("SECRET_KEY")',
    "def login(user: str, password: str | None = None) -> Token:",
    'curl -H "Authorization: Bearer $TOKEN" https://api.acme.example',
    'curl -u "$USER:$PASSWORD" https://acme.example',
    "postgres://$DB_USER:$DB_PASSWORD@db/prod",
    "postgresql://{user}:{password}@{host}/{name}",
    "https://<user>:<password>@git.acme.example/app.git",
    "Authorization: Bearer <token>",
    "Authorization: Basic {credentials}",
    "the password is required and must have 12 characters",
    "the key is missing from the configuration",
    "Enter the password for the server:",
    "password: string;",
    "private readonly apiKey: string,",
    "if (password !== confirmPassword) { return errors.passwordMismatch; }",
    "self.secret_key = secret_key",
    "PASSWORD_MIN_LENGTH = 12",
    "token = tokenizer.next_token()",
    "the token count is 48213 of 128000",
    "max_output_tokens = 4096",
    "primary_key = models.AutoField(primary_key=True)",
    "key = lambda pair: (pair.count, pair.name)",
    "sort_key = 'created_at'",
    "FOREIGN KEY (account_id) REFERENCES accounts (id)",
    "passwordResetTokenExpiresInSeconds: 3600",
    "secretRef:\n  name: app-credentials\n  key: database-url",
    "vault kv get -field=password secret/app",
    "password_hash = hash_password(password, rounds=ROUNDS)",
    "AKIA is how ids of access keys begin",
    "tokens that begin with ghp_ are personal access tokens",
    "-----BEGIN PRIVATE KEY----- is where a key in PEM begins",
    "passwd: files systemd",
    "root:x:0:0:root:/root:/bin/bash",
    "my seed is 42 and the shuffle uses it",
    "secret santa is on friday, the secret is that we all know",
    "⟦api-key:ABCDEFGHIJKLMNOP⟧ stands for what was here",
)

_Make = Callable[[Random, Path], Iterator[bytes]]
_CLASSES: dict[str, tuple[float, str, _Make]] = {
    "python": (6.5, "py", _python),
    "javascript, minified": (3.5, "js", _javascript),
    "records of ours": (2, "jsonl", _records),
    "requests": (2, "json", _requests),
    "lock files": (1.5, "lock", _locks),
    "digests, ids, public keys": (1.5, "txt", _hashes),
    "images in base64": (1, "html", _images),
    "hex dumps": (1, "txt", _dumps),
    "listings": (1, "txt", _listings),
}
_SHARES = sum(share for share, _, _ in _CLASSES.values())
