"""What the gateway costs: beside no gateway, beside a bare pass-through with the same two commits, step by step.

All of one figure is measured in turn, call by call or round by round, before the same fake upstream. As a program
it is the bare pass-through: `python -m bench.gateway LEDGER UPSTREAM`.
"""

import asyncio
import inspect
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

KEY = "sk-upstream"
EVENTS = 43
CLIENTS = 50
# What is under test are the gateway's own costs: nothing here says no.
POLICY = """policy_id = "bench"
requires_approval = false
allowed_models = ["gpt-5.3-codex"]
max_cost_usd = 1000000
max_runtime_minutes = 600
streaming = "relayed"
hosted_tools = ["web_search"]
"""

Report = Callable[..., None]


# --- The request -----------------------------------------------------------------------------------------------


def _words(count: int, seed: int) -> str:
    chance = random.Random(seed)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgkqjxz", k=chance.randint(2, 9))) for _ in range(4000)]
    return " ".join(chance.choices(words, k=count // 6 + 20))[:count]


def body(nonce: str, template: list[bytes] = []) -> bytes:  # noqa: B006 - made once
    """A request like the Codex CLI's: 40 kB, of which tools 18 kB; no two are equal, their beginnings are."""
    if not template:
        schema = {
            "type": "object",
            "properties": {name: {"type": "string", "description": _words(120, i)} for i, name in enumerate("abcdef")},
            "required": ["a"],
            "additionalProperties": False,
        }
        tools = [
            {
                "type": "function",
                "name": f"tool_{i}",
                "description": _words(280, i),
                "parameters": schema,
                "strict": False,
            }
            for i in range(13)
        ]
        said = [
            {"type": "message", "role": role, "content": [{"type": "input_text", "text": _words(size, 90 + i)}]}
            for i, (role, size) in enumerate((("developer", 3000), ("user", 1500), ("user", 2000), ("user", 600)))
        ]
        said[-1]["content"][0]["text"] += " NONCE"  # type: ignore[index]
        request = {
            "model": "gpt-5.3-codex",
            "instructions": _words(14_500, 77),
            "input": said,
            "tools": tools,
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "store": False,
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "018f3c1e-7b2a-7c3d-8e4f-0123456789ab",
        }
        template += msgspec.json.encode(request).split(b"NONCE")
    return nonce.encode().join(template)


# --- Processes -------------------------------------------------------------------------------------------------


class Served(NamedTuple):
    """Something that listens, and what a client must show to it."""

    url: str
    key: str
    pid: int

    def request(self, content: bytes) -> bytes:
        """The bytes of a request to it."""
        parts = urlsplit(self.url)
        lines = [
            f"POST {parts.path}/responses HTTP/1.1",
            f"Host: {parts.netloc}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            "",
            "",
        ]
        return "\r\n".join(lines).encode() + content

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    def cpu(self) -> float:
        """Seconds of processor that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> float:
        """Megabytes of memory that it holds."""
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(self.pid)], text=True)) / 1024


@contextmanager
def _process(command: list[str], key: str, **environment: str) -> Iterator[Served]:
    """A process that prints its URL when it listens."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"{' '.join(command[1:5])}: did not start")
        yield Served(url, key, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _upstream() -> Any:
    text = _words(35 * 40, 5)
    command = [sys.executable, "-m", "tests.support.upstream", "--key", KEY, "--events", "35", "--text", text]
    return _process(command, KEY)


def _run(path: Path) -> tuple[str, str]:
    """A new ledger's run that stays open, and a token for it."""
    import ledger
    from ledger.gateway.client import token

    ledger.init(path)
    with ledger.open(path) as log:
        run = log.run("bench", stage="lift")
        return run.id, token(log, run.id, "lift")


def _gateway(base: Path, name: str, upstream: Served) -> Any:
    path, policy = base / name, base / "bench.toml"
    policy.write_text(POLICY)
    _, key = _run(path)
    command = [sys.executable, "-c", "from ledger.cli.main import main; main()", "gateway"]
    command += ["--listen", "127.0.0.1:0", "--upstream", upstream.url, "--policy", str(policy), "--ledger", str(path)]
    command += ["--key", "env:BENCH_UPSTREAM_KEY"]
    return _process(command, key, BENCH_UPSTREAM_KEY=KEY)


def _bare(base: Path, name: str, upstream: Served) -> Any:
    path = base / name
    run, _ = _run(path)
    return _process([sys.executable, "-m", "bench.gateway", str(path), run, upstream.url], KEY)


@contextmanager
def _litellm(base: Path, upstream: Served) -> Iterator[Served]:
    """LiteLLM's proxy, one worker, from an environment of its own."""
    config = base / "litellm.yaml"
    model = {"model": "openai/gpt-5.3-codex", "api_base": upstream.url, "api_key": KEY}
    given = {"model_list": [{"model_name": "gpt-5.3-codex", "litellm_params": model}]}
    given["general_settings"] = {"master_key": "sk-litellm"}  # type: ignore[assignment]
    config.write_bytes(msgspec.json.encode(given))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(os.environ["LITELLM_VENV"]) / "bin" / "litellm"
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    plain["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=plain)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield Served(f"http://127.0.0.1:{port}/v1", "sk-litellm", process.pid)
    finally:
        process.terminate()
        process.wait(20)


# --- Clients ---------------------------------------------------------------------------------------------------


class Client:
    """Raw HTTP on one connection that is kept: a client that costs next to nothing."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.socket = socket.create_connection(served.place)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, content: bytes) -> float:
        """Milliseconds of a call, from its first byte to the last of its answer."""
        request = self.served.request(content)
        began = time.perf_counter()
        self.socket.sendall(request)
        answer = bytearray()
        while not answer.endswith(b"0\r\n\r\n"):
            part = self.socket.recv(1 << 20)
            if not part:
                break
            answer += part
        passed = (time.perf_counter() - began) * 1000
        check(answer)
        return passed

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()


def check(answer: bytes | bytearray) -> None:
    """Stops the benchmark where an answer is none: a fast refusal is no figure."""
    if not answer.startswith(b"HTTP/1.1 200") or b"response.completed" not in answer:
        raise SystemExit(f"no whole answer: {bytes(answer[:300])!r}")


def crowd(served: Served, clients: int, calls: int, first: int) -> float:
    """Calls a second of so many clients at once."""

    class One(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.answer = bytearray()
            self.ask()

        def ask(self) -> None:
            nonlocal asked
            if asked >= calls:
                self.transport.close()
                return
            asked += 1
            self.transport.write(served.request(body(f"{first + asked}")))

        def data_received(self, data: bytes) -> None:
            nonlocal done
            self.answer += data
            if self.answer.endswith(b"0\r\n\r\n"):
                try:
                    check(self.answer)
                except SystemExit as error:
                    over.set_exception(RuntimeError(str(error)))
                    raise
                self.answer.clear()
                done += 1
                if done >= calls and not over.done():
                    over.set_result(None)
                self.ask()

        def connection_lost(self, error: Exception | None) -> None:
            if asked < calls and not over.done():
                over.set_exception(RuntimeError(f"a connection was closed: {bytes(self.answer[:300])!r}"))

    async def go() -> float:
        nonlocal over
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        began = time.perf_counter()
        for _ in range(clients):
            await loop.create_connection(One, *served.place)
        await over
        return calls / (time.perf_counter() - began)

    asked = done = 0
    over: asyncio.Future[None] = None  # type: ignore[assignment]
    return asyncio.run(go())


def quantile(values: list[float], share: float) -> float:
    """The value that a share of them does not pass."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# --- The parts -------------------------------------------------------------------------------------------------


def bench(report: Report, base: Path, rounds: int, *, quick: bool) -> None:
    """All of it."""
    with _upstream() as upstream:
        _added(report, base, upstream, 150 if quick else 1000)
        _steps(report, base, upstream, 100 if quick else 500)
        _throughput(report, base, upstream, rounds, 300 if quick else 1500)
        _memory(report, base, upstream, 400 if quick else 2000)
    _decision(report)


def _in_turn(served: dict[str, Served], count: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds of sequential calls, one to each in turn; and of processor a call."""
    clients = {name: Client(one) for name, one in served.items()}
    times: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(30):
        for client in clients.values():
            client.call(body(f"warm {number}"))
    before = {name: one.cpu() for name, one in served.items()}
    for number in range(count):
        for name, client in clients.items():
            times[name].append(client.call(body(f"{number}")))
    spent = {name: (one.cpu() - before[name]) / count * 1000 for name, one in served.items()}
    for client in clients.values():
        client.close()
    return times, spent


def _over(times: dict[str, list[float]], name: str) -> tuple[float, float]:
    """What one adds to a direct connection: of the middle, and of the slowest hundredth."""
    p50, p99 = (quantile(times[name], share) - quantile(times["direct"], share) for share in (0.5, 0.99))
    return p50, p99


def _added(report: Report, base: Path, upstream: Served, count: int) -> None:
    with _gateway(base, "added", upstream) as gateway, _bare(base, "added-bare", upstream) as bare:
        times, cpu = _in_turn({"direct": upstream, "gateway": gateway, "bare": bare}, count)
    (p50, p99), other = _over(times, "gateway"), _over(times, "bare")
    what = f"gateway, {len(body('0')) / 1000:.0f} kB, {EVENTS} events: added p50"
    report(what, f"{p50:.1f} ms", "<= 6 ms", p50 <= 6, times)
    report("  added p99", f"{p99:.1f} ms", "<= 20 ms", p99 <= 20, None)
    report("  processor time of its process, a call", f"{cpu['gateway']:.1f} ms", "", None, cpu)
    report("bare pass-through, same commits: added p50, p99", f"{other[0]:.1f}, {other[1]:.1f} ms", "", None, None)
    report("  processor time of its process, a call", f"{cpu['bare']:.1f} ms", "", None, None)
    report("direct to the fake upstream: p50", f"{quantile(times['direct'], 0.5):.1f} ms", "", None, None)
    if not os.environ.get("LITELLM_VENV"):
        report("LiteLLM's proxy: skipped, LITELLM_VENV names none", "", "", None, None)
        return
    # Apart: it is busy also between calls.
    with _litellm(base, upstream) as litellm:
        times, _ = _in_turn({"direct": upstream, "litellm": litellm}, count // 3)
    p50, p99 = _over(times, "litellm")
    report("LiteLLM's proxy, one worker: added p50, p99", f"{p50:.1f}, {p99:.1f} ms", "", None, times)


class Spans:
    """Measures methods from outside, for as long as its context is open."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._undo: list[tuple[Any, str, Any]] = []

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Counts what a function takes, its waiting included, under a label."""
        inner = getattr(owner, name)
        self._undo.append((owner, name, inner))

        def add(began: float) -> None:
            self.spent[label] = self.spent.get(label, 0.0) + time.perf_counter() - began

        @wraps(inner)
        def plain(*args: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*args, **more)
            finally:
                add(began)

        @wraps(inner)
        async def waiting(*args: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return await inner(*args, **more)
            finally:
                add(began)

        setattr(owner, name, waiting if inspect.iscoroutinefunction(inner) else plain)

    def __enter__(self) -> "Spans":
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, inner in self._undo:
            setattr(owner, name, inner)


def _steps(report: Report, base: Path, upstream: Served, count: int) -> None:
    """Where the time of a call goes: a gateway within this process, its methods wrapped."""
    import ledger
    from ledger.gateway import app, server, steps
    from ledger.gateway.answer import Answered
    from ledger.gateway.body import Body
    from ledger.gateway.client import Inside, token
    from ledger.gateway.door import Door
    from ledger.gateway.records import Records
    from ledger.gateway.upstream import Upstream
    from ledger.index.tasks import Committing

    os.environ["BENCH_UPSTREAM_KEY"] = KEY
    policy = base / "bench.toml"
    policy.write_text(POLICY)
    path = base / "steps"
    ledger.init(path)
    seen: list[dict[str, float]] = []
    with Spans() as spans, ledger.open(path) as log:
        for owner, name, label in (
            (app, "_body", "read"),
            (Door, "authenticate", "token"),
            (Body, "__init__", "parse"),
            (app, "bind", "bind"),
            (steps.Call, "run", "run"),
            (steps.Call, "redact", "redact"),
            (steps.Call, "route", "route"),
            (steps, "shape", "shape"),
            (steps.Call, "permit", "permit"),
            (steps.Call, "_commit_request", "request"),
            (steps.Call, "_decide_again", "again"),
            (Records, "request", "seal request"),
            (Records, "decision", "seal decision"),
            (Records, "response", "seal response"),
            (Committing, "commit", "commit"),
            (Upstream, "send", "upstream"),
            (steps.Call, "send", "send"),
            (Answered, "take", "events"),
            (steps.Call, "_relay", "relay"),
            (steps.Call, "judge", "judge"),
            (steps.Call, "record", "response"),
            (steps.Call, "let_go", "release"),
        ):
            spans.wrap(owner, name, label)
        run = log.run("bench", stage="lift")
        settings = server.Settings(upstream=upstream.url, key="env:BENCH_UPSTREAM_KEY", policies=(str(policy),))
        inside = Inside.start(log, settings)
        client = Client(Served(inside.url, token(log, run.id, "lift"), os.getpid()))
        for number in range(count + 20):
            spans.spent.clear()
            whole = client.call(body(f"{number}"))
            time.sleep(0.001)
            seen.append({name: took * 1000 for name, took in spans.spent.items()} | {"whole": whole})
        client.close()
        inside.close()
    del seen[:20]

    def step(*names: str, less: tuple[str, ...] = ()) -> float:
        return statistics.median(sum(s.get(n, 0) for n in names) - sum(s.get(n, 0) for n in less) for s in seen)

    rows = {
        "token, and reading the body": step("token", "read"),
        "parse: one object, unique names": step("parse", "bind"),
        "redact, and the request's key": step("redact"),
        "route and shape": step("route", "shape"),
        "policy, before the commit": step("permit", less=("request",)),
        "request: sealed": step("seal request", "seal decision"),
        "request: committed": step("request", less=("seal request", "seal decision")),
        "upstream: until its answer begins": step("upstream"),
        "upstream: its pieces": step("send", less=("upstream", "events", "relay", "judge", "response", "release")),
        "events: read and let through": step("events", "relay"),
        "judge": step("judge"),
        "response: sealed": step("seal response"),
        "response: committed": step("response", less=("seal response",)),
        "release": step("release"),
        "outside of the steps: HTTP and hand-overs": step("whole", less=("run", "token", "read", "parse", "bind")),
    }
    report("gateway within this process, a call, as its client sees it", f"{step('whole'):.2f} ms", "", None, seen)
    for name, took in rows.items():
        report(f"  {name}", f"{took:.2f} ms", "", None, took)


def _throughput(report: Report, base: Path, upstream: Served, rounds: int, count: int) -> None:
    with _gateway(base, "crowd", upstream) as gateway, _bare(base, "crowd-bare", upstream) as bare:
        speeds: dict[str, list[float]] = {"gateway": [], "bare": []}
        for served in (gateway, bare):
            crowd(served, CLIENTS, 200, 10**8)
        for number in range(rounds):
            for name, served in (("gateway", gateway), ("bare", bare)):
                speeds[name].append(crowd(served, CLIENTS, count, number * count))
    ratio = statistics.median(g / b for g, b in zip(speeds["gateway"], speeds["bare"], strict=True))
    speed, other = (statistics.median(speeds[name]) for name in ("gateway", "bare"))
    report(f"gateway, {CLIENTS} clients", f"{speed:,.0f} requests/s", "", None, speeds)
    report("  of the bare pass-through", f"{ratio:.2f} of {other:,.0f}/s", ">= 0.5", ratio >= 0.5, None)
    if os.environ.get("LITELLM_VENV"):
        with _litellm(base, upstream) as served:
            crowd(served, CLIENTS, 50, 10**8)
            report(
                f"LiteLLM's proxy, one worker, {CLIENTS} clients",
                f"{crowd(served, CLIENTS, count // 5, 0):,.0f} requests/s",
                "",
                None,
                None,
            )


def _memory(report: Report, base: Path, upstream: Served, part: int) -> None:
    """Resident memory after a part of the calls, and after ten times as many."""
    with _gateway(base, "memory", upstream) as gateway:
        held = []
        for number in range(10):
            crowd(gateway, 16, part, number * part)
            held.append(gateway.rss())
    ratio = held[-1] / held[0]
    what = f"gateway, memory after {part:,} and {10 * part:,} calls"
    report(what, f"{held[0]:.0f}, {held[-1]:.0f} MB", "<= 1.25 x", ratio <= 1.25, held)


def _decision(report: Report) -> None:
    from bench.decisions import decision_us

    took = decision_us()
    report("policy, one decision", f"{took:.1f} µs", "<= 20 µs", took <= 20, took)


# --- The bare pass-through -------------------------------------------------------------------------------------


def serve(path: str, run: str, upstream: str) -> None:
    """Starlette and httpx2, and a durable commit before the request leaves and before the answer ends: no more."""
    import httpx2
    import uvicorn
    import uvloop
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    import ledger.aio

    async def main() -> None:
        async with ledger.aio.open(path) as log:
            writing = await log.resume(run, stage="lift")
            limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=200)
            client = httpx2.AsyncClient(limits=limits, timeout=60, trust_env=False)

            async def responses(request: Request) -> StreamingResponse:
                content = await request.body()
                asked = await writing.prompt(content)
                sent = client.build_request(
                    "POST",
                    f"{upstream}/responses",
                    content=content,
                    headers={
                        "authorization": f"Bearer {KEY}",
                        "content-type": "application/json",
                        "accept-encoding": "identity",
                    },
                )
                answer = await client.send(sent, stream=True)

                async def pieces() -> Any:
                    held = []
                    async for piece in answer.aiter_raw():
                        held.append(piece)
                        yield piece
                    await writing.response(b"".join(held), to=asked)

                kind = answer.headers["content-type"]
                return StreamingResponse(pieces(), answer.status_code, media_type=kind)

            app = Starlette(routes=[Route("/v1/responses", responses, methods=["POST"])])
            listener = socket.create_server(("127.0.0.1", 0), backlog=512)
            config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75)
            print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
            await uvicorn.Server(config).serve(sockets=[listener])
            await client.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


if __name__ == "__main__":
    serve(*sys.argv[1:4])
