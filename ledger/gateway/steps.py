"""A call, in twelve steps (DESIGN.md, section 7). `Call.run` reads like the list.

Everything that a call does is recorded, and recorded before it has an effect: the request before a byte leaves, the
answer before a client may act on it.
"""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import msgspec
from blake3 import blake3

from ledger.commit import Appended, Draft
from ledger.gateway import artifacts, refusing, restoring, upstream, wire
from ledger.gateway.answer import Answered
from ledger.gateway.binding import Bound
from ledger.gateway.body import Body
from ledger.gateway.door import Door
from ledger.gateway.outlet import ALIVE_S, Outlet
from ledger.gateway.people import Asked, People
from ledger.gateway.records import Came, Place, Records, Told
from ledger.gateway.release import Release
from ledger.gateway.requestkey import VERSION, Key
from ledger.gateway.shape import fees, shape
from ledger.gateway.stopped import Stopped, spell
from ledger.gateway.upstream import Leak, Unanswered
from ledger.state import Recorded, State
from policies import budget, evaluate, prices, routing, validation
from policies.findings import Decision
from schemas.entries import ApprovalConsumed, ModelRequest, ModelResponse
from schemas.errors import LedgerError, RunClosed, StorageFailed, UsageError
from store.spool import PIECE

HANG_UP_S = 60.0
"""Seconds for which an answer is read on after its client went away."""

LARGE = 1 << 20
"""Bytes from which on what is read or judged is handed to a thread."""

_PAUSES = (0.1, 0.5, 2.0)
"""Seconds between tries to record the end of a call."""

_ACTION = "model.request"


class _Decided(LedgerError):
    """At the commit policy says something else than before it.

    Attributes:
        decision: what it says.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__("policy decides anew")
        self.decision = decision


class Call:
    """One request on its way. It goes on when its client goes away.

    Args:
        door: the gateway.
        bound: place, scope and policies.
        body: parsed.
        headers: the client's.
        native: whether its answer is asked for as an object, once it has ended.
        schema: JSON Schema that the text of the answer must hold to; from `text.format` where it is None.
        addresses: of artifacts whose contents are added to the input.
        profile: of redaction, beside those that policies name.
    """

    def __init__(
        self,
        door: Door,
        bound: Bound,
        body: Body,
        headers: dict[str, str],
        *,
        native: bool = False,
        schema: bytes | None = None,
        addresses: tuple[str, ...] = (),
        profile: str = "",
    ) -> None:
        self.door = door
        self.place, self.scope, self.policies = bound
        self.body = body
        self.addresses = addresses
        self.native = native
        self.schema = schema
        self.profile = profile
        # What it is bound to counts as well: an equal body of another task, or under another policy, is another call.
        terms = [self.place, self.scope, [policy.version for policy in self.policies], addresses, schema, profile]
        self.came = blake3(msgspec.json.encode(terms) + body.came).digest()
        self.outlet = Outlet(body.stream, door.spool())
        self.index = 0
        self.left = False
        self.retry = headers.get("x-stainless-retry-count", "0") not in ("0", "")
        self.streamed = body.stream
        self.answer = Answered(body.stream, door.spool())
        self.restored: list[dict[str, Any]] = []
        self._http = 0
        self._down: dict[str, str] = {}
        self._reserved = 0
        self._recorded = False
        self._given_up = False
        self._people: People | None = None
        self._task: asyncio.Task[None] | None = None
        self.forgetting: asyncio.TimerHandle | None = None
        self.giving_up: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sets off; the outlet shows how far it is."""
        self._task = self.door.spawn(self.run())

    def hung_up(self) -> None:
        """Nobody listens any more."""
        self.left = True
        if self.giving_up is not None:
            self.giving_up.cancel()
        self.giving_up = asyncio.get_running_loop().call_later(HANG_UP_S, self._give_up)

    def _give_up(self) -> None:
        if not self.outlet.ended and not self.outlet.listeners and self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Steps 3 to 12; steps 1 and 2 are `binding.bind` and `Body`."""
        try:
            await self.door.look_for(self.place.run)
            await self.resolve()  # 3
            await self.redact()  # 4
            self.route()  # 5
            self.set_forth()
            if self.retry and await self.from_record():  # 1, after a restart
                return
            await self.permit()  # 6, 7
            await self.send()  # 8, 9
        except Stopped as stopped:
            if not self.index and not self._recorded:
                await refusing.record(self.door, self.place, self.policies, stopped.param or "", stopped.message)
            await self.refuse(stopped)
        except asyncio.CancelledError:
            # Given up between two steps that wait by themselves.
            if self.index and not self._recorded:
                self.answer.status = "cut_off"
                await self.record("none", "it was given up", True, 0)
            await self.refuse(Stopped("the call was given up", code="given_up", http=503, again=not self.index))
        except LedgerError as error:
            # What the caller got wrong, such as a run that is over, no other try mends.
            http = 400 if isinstance(error, UsageError) else 503
            # Once it was sent another try is paid again, and recorded no better.
            again = http == 503 and not self.index
            await self.refuse(Stopped(spell(error), code="ledger_error", http=http, again=again))
        except Exception as error:  # noqa: BLE001
            # Fails closed: the client learns nothing but that it failed.
            self.door.bug(error)
            if self.index and not self._recorded:
                # A request without a response would hold its reservation for ever.
                self.answer.status = "malformed"
                await self.record("none", "the gateway failed", True, 0)
            await self.refuse(Stopped("the gateway failed; nothing was let through", code="gateway_error", http=500))
        finally:
            self._let_go_of_memory()
            self.outlet.end()
            self.door.done(self)

    async def from_record(self) -> bool:
        """A client that lost a whole answer gets it again: no new attempt, no new cost."""
        log, run = self.door.log, self.place.run
        digest = log.writer.key(run).digest(self.body.encode())

        def find() -> tuple[ModelResponse, Came] | None:
            asked = 0
            answered: dict[int, ModelResponse] = {}
            for recorded in log.entries(run):
                entry = recorded.entry
                if isinstance(entry, ModelRequest) and entry.digest == digest and _place(entry) == self.place:
                    asked = recorded.index
                elif isinstance(entry, ModelResponse):
                    answered[entry.to] = entry
            found = answered.get(asked)
            if found is None or found.status != "completed" or found.verdict != "valid":
                return None
            return found, Came.read(log.read, found)

        found = await asyncio.to_thread(find)
        if found is None:
            return False
        if self.door.exact.found(found[1].content):
            raise Stopped("the recorded answer holds a secret that was named since", code="invalid_response")
        await self.tell(*found)
        return True

    async def tell(self, response: ModelResponse, came: Came) -> None:
        """Answers as a recorded call did: with what came then."""
        answer = self.answer
        self._recorded = True
        self.index, self._http, self._down = response.to, response.http, came.wire.headers
        whole = response.http == 200
        answer.streamed = whole and self._down.get("content-type", "").startswith("text/event-stream")
        events = answer.take(came.content, 0)
        await self._relay(events)
        if whole:
            answer.end()
        answer.status = response.status
        self.restored = await self._restored(answer.items)
        await self.let_go(response.verdict, came.why)

    async def resolve(self) -> None:
        """3: contents of the run stand where their addresses stood."""
        if self.addresses or b"artifact://" in self.body.came:
            read = partial(artifacts.of_run, self.door.log, self.place.run)
            await asyncio.to_thread(artifacts.resolve, self.body, self.addresses, read)

    async def redact(self) -> None:
        """4: what must not leave is masked wherever it stands."""
        key = self.door.log.writer.key(self.place.run)
        self.key = Key(key.requests, self.body.value)
        redacting, body = self.door.redacting, self.body
        known = redacting.profile(self.policies, self.profile)
        self.redaction = await redacting.redact(known, key, body.value, len(body.encode()))
        if self.redaction.redacted.found:
            for field, value in self.redaction.redacted.value.items():
                if value is not body.value[field]:
                    body.set(field, value, "redaction")

    def route(self) -> None:
        """5: aliases, and the models of lanes."""
        self.asked = self.body.model
        self.routed = routing.route(self.policies, self.asked, self.place.lane)
        self.body.set("model", self.routed.model, "model")

    def set_forth(self) -> None:
        """What the gateway itself sets, and what it judges the answer by."""
        self.shape = shape(self.body, self.policies, self.place.stage, self.schema)
        relayed = self.body.stream and all(policy.streaming == "relayed" for policy in self.policies)
        self.release = Release(relayed, self.shape.schema is not None)

    def _question(self, state: State, *, approved: bool = False) -> evaluate.Question:
        run = state.history.find(self.place.run)
        if run is None:
            raise RunClosed(f"run {self.place.run} is not open", hint="start a new one: ledger start")
        calls = run.calls
        return evaluate.Question(
            action=_ACTION,
            run=self.place.run,
            stage=self.place.stage,
            lane=self.place.lane,
            task=self.place.task,
            asked=self.asked,
            model=self.body.model,
            effort=self.shape.effort,
            scope=self.scope,
            hosted_tools=self.shape.hosted,
            attempt=self._attempt(calls.tries(self.place.lane, self.place.task)),
            reserved=self._worst,
            spent=calls.spent,
            held=calls.held,
            now=self.door.now(),
            started=self.door.started(self.place.run),
            paused=bool(calls.paused),
            approved=approved,
        )

    def _attempt(self, before: int) -> int:
        return before if self._continues and before and not self._again else before + 1

    async def permit(self) -> None:
        """6 and 7: policy decides, and decides again at the commit, against exactly what it is committed to."""
        door, place = self.door, self.place
        self._out = self.body.encode()
        self._worst = budget.reserve(
            self.policies,
            self.body.model,
            len(self._out),
            self.shape.output,
            self.shape.fees,
            door.now(),
            self.shape.tier,
        )
        self._continues, self._again = door.conversations.find(place, self.key)
        limit = max((policy.settle_s or 0.0) for policy in self.policies) if self.policies else 0.0
        waited, looked = 0.0, False
        self._people = None
        while True:
            if self._given_up:
                # Nobody is there any more: no approval is used up for nothing.
                raise asyncio.CancelledError
            state = door.log.chain.state
            question = self._question(state, approved=self._approved(state))
            decision = evaluate.evaluate(self.policies, question)
            if decision.effect == "require_approval" and await self._ask(decision, question):
                continue
            if decision.effect != "allow":
                if decision.effect == "deny" and set(decision.rules) == {"budget"} and question.held and waited < limit:
                    # Others are under way, and may cost less than they reserved.
                    waited += await door.settlement(min(1.0, limit - waited))
                    continue
                if not looked:
                    # Another process may have changed what denies: no refusal goes by what is known here alone.
                    await asyncio.to_thread(door.log.catch_up)
                    looked = True
                    continue
                await self._deny(decision, question)
            try:
                await self._commit_request(decision, question)
            except _Decided:
                looked = False
                continue
            return

    async def _commit_request(self, decision: Decision, question: evaluate.Question) -> None:
        door = self.door
        records = Records(door.log.writer, self.place, door.now())
        unknown = door.unrecorded(self.place.run, self.policies)
        records.policies(unknown)
        records.decision(_ACTION, decision, self.policies, question)
        records.routing(self.routed.steps)
        records.redaction(self.redaction)
        self._reserved = self._worst or 0
        used = records.consumed() if question.approved else None
        entry = records.request(
            self._out,
            model=self.body.model,
            key=self.key.whole,
            continues=self._continues,
            reserved=self._reserved,
            cap=budget.cap(self.policies) or 0,
            envelope=self._envelope(),
        )
        done = await self._commit(records.draft(self._decide_again(entry, used)))
        door.recorded(self.place.run, unknown)
        self.index = done[-1].index
        door.conversations.asked(self.place, self.key, self.index)

    async def _commit(self, draft: Draft) -> list[Appended]:
        """Commits; who gives up meanwhile does so afterwards, since what was handed in lands all the same."""
        landing = asyncio.ensure_future(self.door.committing.commit(draft))
        while not landing.done():
            try:
                await asyncio.shield(landing)
            except asyncio.CancelledError:
                self._given_up = True
        return landing.result()

    async def _commit_surely(self, records: Records) -> None:
        """Commits the end of a call: where the storage fails for a moment, again."""
        for pause in _PAUSES:
            try:
                await self._commit(records.draft())
                return
            except StorageFailed:
                await asyncio.sleep(pause)
        await self._commit(records.draft())

    def _decide_again(self, entry: ModelRequest, used: ApprovalConsumed | None) -> Any:
        def validate(state: State, since: list[Recorded]) -> None:
            question = self._question(state, approved=self._approved(state))
            decision = evaluate.evaluate(self.policies, question)
            if decision.effect != "allow":
                raise _Decided(decision)
            if question.approved is not (used is not None):
                raise _Decided(decision)
            msgspec.structs.force_setattr(entry, "attempt", question.attempt)
            if used is not None and self._people is not None:
                msgspec.structs.force_setattr(used, "to", self._people.asked(state))

        return validate

    def _envelope(self) -> dict[str, Any]:
        return {
            "run_id": self.place.run,
            "stage": self.place.stage,
            "model": self.asked,
            "reasoning_effort": self.shape.effort,
            "input_artifacts": list(self.addresses),
            "redaction_profile": self.redaction.known.profile.profile_id,
            "redaction": self.redaction.version,
            "task_scope": self.scope,
            "rewrites": self.body.rewrites,
            "normaliser": VERSION,
            "prices": prices.snapshot(),
        }

    def _approved(self, state: State) -> bool:
        return self._people is not None and self._people.stand(state) == "approved"

    async def _ask(self, decision: Decision, question: evaluate.Question) -> bool:
        """6, where people decide: asks them, and waits where a stream can be kept alive; False where it is a no."""
        door = self.door
        if self._people is None:
            self._people = People(door, self.place, self.policies, self._out, self.body.model, self._worst, decision)
            # Somebody may have asked, and been answered, in another process.
            await asyncio.to_thread(door.log.catch_up)
            return True
        stands = self._people.stand(door.log.chain.state)
        if stands is None:
            draft = self._people.request(decision, question)
            if draft is None:
                return False
            unknown = door.unrecorded(self.place.run, self.policies)
            if unknown:
                # What people sign names policies by their digests: those can be read.
                records = Records(door.log.writer, self.place, door.now())
                records.policies(unknown)
                await self._commit(records.draft())
                door.recorded(self.place.run, unknown)
            with suppress(Asked):
                await self._commit(draft)
            return True
        return stands == "pending" and self.streamed and await self._people.wait()

    async def _deny(self, decision: Decision, question: evaluate.Question) -> None:
        finding = next(f for f in decision.findings if f.effect == decision.effect)
        code = "policy_denied" if decision.effect == "deny" else "approval_required"
        said = f"denied by policy {finding.policy}: {finding.rule}: expected {finding.expected}, got {finding.actual}"
        if decision.effect == "require_approval" and self._people is not None:
            state = self.door.log.chain.state
            said = self._people.say(state)
            if self._people.stand(state) == "denied":
                code = "approval_denied"
        told = Told(self.key.whole, VERSION, code, finding.field, said)
        records = Records(self.door.log.writer, self.place, self.door.now())
        unknown = self.door.unrecorded(self.place.run, self.policies)
        records.policies(unknown)
        records.decision(_ACTION, decision, self.policies, question, self._out, told)
        done = await self._commit(records.draft())
        self._recorded = True
        self.door.recorded(self.place.run, unknown)
        raise self.denied(told, done[-1].index)

    def denied(self, told: Told, index: int) -> Stopped:
        """What a client learns of a request that policy refuses.

        Args:
            index: of the decision.
        """
        place = f"(entry {index}; ledger policy explain {self.place.run[-8:]})"
        return Stopped(f"{told.message} {place}", code=told.code, param=told.param or None)

    async def send(self) -> None:
        """8 and 9: the final scan is in the transport; every byte that comes is kept."""
        answer = self.answer
        began = upstream.clock()

        def passed() -> int:
            return int((upstream.clock() - began) * 1000)

        sent, why = True, ""
        try:
            if self._given_up:
                sent = False
                raise asyncio.CancelledError
            beginning = await self.door.upstream.send(self._out)
            self._http = beginning.http
            self._down = {
                name: value for name, value in beginning.headers.items() if not self.door.exact.found(value.encode())
            }
            whole = beginning.http == 200
            answer.streamed = whole and beginning.headers.get("content-type", "").startswith("text/event-stream")
            mixed = whole and answer.streamed is not self.streamed
            async for chunk in beginning.chunks:
                events = answer.take(chunk, passed())
                if answer.fault:
                    break
                await self._relay(events)
            if mixed:
                answer.status, why = "malformed", "a stream was asked for and none came, or the other way round"
            elif whole and len(answer.kept) < LARGE:
                answer.end()
            elif whole:
                await asyncio.to_thread(answer.end)
            elif beginning.http >= 400:
                answer.status = "refused"
            else:
                # A client could take it for an answer.
                answer.status, why = "malformed", f"upstream answered {beginning.http}"
        except Leak:
            answer.status, sent, why = "refused", False, "the final scan found a secret in what was to leave"
        except Unanswered as unanswered:
            answer.status, sent, why = unanswered.status, unanswered.sent, str(unanswered)
        except asyncio.CancelledError:
            answer.status, why = "cut_off", "the gateway was stopped"
            if self.left:
                why = f"the client went away, and the answer was not read to its end in {HANG_UP_S:.0f} s"
        verdict, fault = await self.judge()  # 10
        why = why or answer.fault or fault
        await self.record(verdict, why, sent, passed())  # 11
        await self.let_go(verdict, why)  # 12

    async def _relay(self, events: list[wire.Event]) -> None:
        if self.streamed and (passing := b"".join(map(self.release.take, events))):
            self.outlet.begin(200, self._down)
            await self.outlet.put(passing)

    async def judge(self) -> tuple[Literal["valid", "invalid", "none"], str]:
        """10: calls, as a client gets them, against their declarations; text against the schema."""
        answer = self.answer
        if answer.status not in ("completed", "incomplete"):
            return "none", ""
        try:
            self.restored = await self._restored(answer.items)
        except Stopped as stopped:
            return "invalid", stopped.message
        fault = self._fault() if len(answer.kept) < LARGE else await asyncio.to_thread(self._fault)
        return ("invalid", fault) if fault else ("valid", "")

    def _fault(self) -> str:
        answer = self.answer
        # As its client gets it: what a schema says of a path it says of the path, not of its pseudonym.
        for item in self.restored:
            if (fault := self.shape.tools.check(item)) is not None:
                return fault
        if (fault := answer.unspoken()) is not None:
            return fault
        if self.door.exact.found(answer.kept.read()):
            return "a secret stands in it"
        if self.shape.schema is not None and (answer.text or not answer.calls):
            fault = validation.check_output(self.shape.schema, answer.text)
            if fault is not None:
                return f"the output does not hold to its schema: {fault}"
        return ""

    def _cost(self, sent: bool) -> int:
        tokens = self.answer.tokens()
        if tokens is not None:
            said, usage, now = self.answer.response, prices.Usage(*tokens), self.door.now()
            tier = str(said.get("service_tier") or self.shape.tier)
            # The model that was asked for, or the one that is said to have answered: who answers sets no price.
            models = (str(said.get("model") or ""), self.body.model)
            found = [cost for model in models if (cost := prices.cost(model, usage, now, tier)) is not None]
            return max(found) + fees(self.answer.hosted) if found else self._reserved
        # Nobody says what it cost: what was refused or never arrived costs nothing, anything else all of it.
        return self._reserved if sent and self.answer.status != "refused" else 0

    async def record(self, verdict: str, why: str, sent: bool, latency: int) -> None:
        """11: durable before the client may act on it."""
        door, answer = self.door, self.answer
        cost = self._cost(sent)
        records = Records(door.log.writer, self.place, door.now(), late=True)
        records.response(
            answer,
            to=self.index,
            http=self._http,
            headers=self._down,
            left=self.left and not self.outlet.listeners,
            verdict=verdict,
            why=why,
            cost=cost,
            reserved=self._reserved,
            latency=latency,
        )
        if self._reserved and cost > self._reserved:
            records.violation("cost", f"it cost {cost:,} micro-USD, and {self._reserved:,} were reserved")
        if answer.status == "refused" and not sent:
            records.violation("leak", why)
        await self._commit_surely(records)
        self._recorded = True
        door.settled()
        good = verdict == "valid" and answer.status == "completed"
        door.conversations.answered(self.place, self.index, good=good)

    async def let_go(self, verdict: str, why: str) -> None:
        """12: what was held goes to the client, or the reason why it does not."""
        outlet, answer, headers = self.outlet, self.answer, self._down
        if answer.status == "refused" and self._http:
            outlet.begin(self._http, headers | {"content-type": "application/json"})
            told = wire.told(answer.kept.read())
            if self.door.exact.found(told):
                told = wire.told(b"")
            await outlet.put(told)
        elif verdict == "valid":
            outlet.begin(200, {**headers, "x-ledger-entry": str(self.index)})
            await self._give(*(self.release.rest() if self.streamed else (0, len(answer.kept))))
        elif answer.status == "failed" and not answer.fault:
            # Nothing was judged, so nothing that was held passes: the client learns that, and why, it failed.
            outlet.begin(200, {**headers, "x-ledger-entry": str(self.index)})
            await outlet.put(self._failure())
        elif verdict == "invalid":
            raise Stopped(f"the answer was not let through: {why} (entry {self.index})", code="invalid_response")
        else:
            code = {"timeout": "upstream_timeout", "unreachable": "upstream_unreachable"}.get(
                answer.status, "upstream_failed"
            )
            status = {"timeout": 504, "unreachable": 502}.get(answer.status, 502)
            raise Stopped(f"upstream: {why or answer.status} (entry {self.index})", code=code, http=status)

    async def _give(self, start: int, end: int) -> None:
        answer = self.answer
        if self.restored != answer.items:
            restore = restoring.restore_stream if self.streamed else restoring.restore_object
            content = answer.kept.read(start, end)
            await self.outlet.put(await asyncio.to_thread(restore, content, answer.items, self.restored))
            return
        for position in range(start, end, PIECE):
            await self.outlet.put(answer.kept.read(position, min(position + PIECE, end)))

    async def _restored(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Items of an output as the client gets them: calls with the values that stand behind their pseudonyms."""
        mapping = self.redaction.redacted.mapping
        if not mapping:
            return items
        key, redacting = self.door.log.writer.key(self.place.run, late=True), self.door.redacting
        return await redacting.restore(self.redaction.known, key, items, mapping)

    def _failure(self) -> bytes:
        response = wire.unsuccessful(self.answer.response)
        if not self.streamed:
            return msgspec.json.encode(response)
        number = self.answer.sequence + 1
        said = {"type": "response.failed", "sequence_number": number, "response": response}
        return wire.encode("response.failed", said)

    def _let_go_of_memory(self) -> None:
        """An ended call waits for its client with its answer, and with nothing else."""
        self.answer.kept.close()
        self._out = b""
        self.body.forget()
        if not self.native:
            self.answer.response, self.answer.items, self.restored = {}, [], []

    async def refuse(self, stopped: Stopped) -> None:
        """The client learns why, in the one form that its stream still allows."""
        if self.outlet.http:
            await self.outlet.put(wire.failed(stopped.message, self.answer.sequence + 1, self.answer.response))
            return
        headers = {"content-type": "application/json", "x-should-retry": "true" if stopped.again else "false"}
        if self.index:
            headers["x-ledger-entry"] = str(self.index)
        self.outlet.begin(stopped.http, headers)
        await self.outlet.put(wire.error(stopped.message, code=stopped.code, param=stopped.param))

    async def head(self) -> None:
        """Returns when status and headers are known; a stream that waits is opened after a while."""
        if not await self.outlet.begun(ALIVE_S if self.streamed else None):
            self.outlet.begin(200, {"content-type": "text/event-stream; charset=utf-8"})


def _place(entry: ModelRequest) -> Place:
    return Place(entry.run, entry.stage, entry.lane, entry.task)
