"""An author's key is replaced while both sign: across processes, with nothing refused in between and nothing after."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ledger
from ledger import govern
from schemas.errors import Ambiguous, KeyUnusable, NotFound, UsageError
from tests.support import shell
from tests.support.machine import ORIGIN, Place, new_ledger
from tests.support.verdicts import sound


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return new_ledger(tmp_path / "place")


def say(place: Place, *args: str, **env: str) -> shell.Said:
    return shell.call(*args, "--ledger", place.path, env={**place.machine.environment, **env})


def added(place: Place) -> tuple[str, str]:
    """A new key of the author ci: the URI of its private half, and its key id."""
    [made] = say(place, "keys", "author", "ci", "add", "--json").json
    return f"file:{made['key']}", made["vkey"].split("+")[1]


def test_both_keys_sign_in_the_overlap_and_the_old_one_not_after_its_end(place: Place) -> None:
    old, old_id = added(place)
    new, new_id = added(place)
    assert old != new
    stop = threading.Event()

    def write(key: str) -> list[shell.Said]:
        said = []
        while not stop.is_set():
            said.append(say(place, "start", "x", LEDGER_SIGNER=key))
        return said

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, key) for key in (old, new)]
        stop.wait(3)
        stop.set()
        for said in [one for writer in writers for one in writer.result(60)]:
            assert said.status == 0, said
    assert say(place, "keys", "author", "ci", "end", old_id).status == 0
    say(place, "start", "late", LEDGER_SIGNER=old).fails(1, "was ended at index")
    assert say(place, "start", "on", LEDGER_SIGNER=new).status == 0
    remarks = sound(place.path, place.trust.owner).remarks
    assert not any("disowned" in remark for remark in remarks), remarks
    [authors] = say(place, "keys", "--json").json
    until = {a["vkey"].split("+")[1]: a["until"] for a in authors["authors"]}
    assert until[old_id] is not None
    assert until[new_id] is None


def test_a_process_that_has_the_ledger_open_is_refused_with_the_old_key_after_its_end(place: Place) -> None:
    old, old_id = added(place)
    added(place)
    with place.machine.here(), ledger.open(place.path, signer=old) as log:
        run = log.run("long")
        run.artifact("in the overlap")
        assert say(place, "keys", "author", "ci", "end", old_id).status == 0
        for write in (lambda: run.artifact("too late"), run.finish, lambda: log.run("another")):
            with pytest.raises(KeyUnusable, match="may not write here"):
                write()
    sound(place.path, place.trust.owner)


def test_which_of_several_keys_ends_is_said_and_never_guessed(place: Place) -> None:
    _, old_id = added(place)
    _, new_id = added(place)
    said = say(place, "keys", "author", "ci", "end")
    said.fails(2, "ci has 2 keys", old_id, new_id, f"ledger keys author ci end {old_id}")
    say(place, "keys", "author", "ci", "end", "00000000").fails(2, "no author")
    say(place, "keys", "author", "main", "end", old_id).fails(2, "no author")
    assert say(place, "keys", "author", "ci", "end", new_id).status == 0
    assert say(place, "keys", "author", "ci", "end").status == 0
    say(place, "keys", "author", "ci", "end").fails(2, "no author")


def test_a_stolen_key_is_disowned_and_what_the_other_signed_stays(place: Place) -> None:
    stolen, stolen_id = added(place)
    good, _ = added(place)
    with place.machine.here(), ledger.open(place.path) as log:
        since = log.chain.state.size
    for key in (stolen, good):
        assert say(place, "start", "x", LEDGER_SIGNER=key).status == 0
    assert say(place, "keys", "author", "ci", "end", stolen_id, "--at", str(since)).status == 0
    assert say(place, "start", "x", LEDGER_SIGNER=good).status == 0
    remarks = sound(place.path, place.trust.owner).remarks
    [disowned] = [remark for remark in remarks if "disowned" in remark]
    # One batch, and not all that came from the author's other key since.
    assert disowned.startswith(f"batches {since:,} to {since + 1:,} of {ORIGIN}/ci")


def test_the_same_key_is_not_added_twice(place: Place) -> None:
    old, _ = added(place)
    [authors] = say(place, "keys", "--json").json
    vkey = next(a["vkey"] for a in authors["authors"] if a["name"] == "ci")
    for again in (vkey, old):
        say(place, "keys", "author", "ci", "add", again).fails(2, "already")


def test_the_private_key_that_is_added_must_bear_the_authors_name(place: Place) -> None:
    old, _ = added(place)
    say(place, "keys", "author", "other", "add", old).fails(1, "this key is named")


def test_who_rotates_his_own_key_goes_on_with_the_new_one(place: Place) -> None:
    with place.machine.here():
        with ledger.open(place.path) as log:
            mine = log.author().key_id.hex()
            _, path = govern.add_author(log, "main")
            with pytest.raises(Ambiguous):
                govern.end_author(log, "main")
            with pytest.raises(UsageError, match="disown himself"):
                govern.end_author(log, "main", 3, mine)
            govern.end_author(log, "main", key=mine)
            with pytest.raises(NotFound):
                govern.end_author(log, "main", key=mine)
        with ledger.open(place.path, signer=f"file:{path}") as log:
            with pytest.raises(UsageError, match="last author"):
                govern.end_author(log, "main")
            log.run("on")
    sound(place.path, place.trust.owner)
