"""What the commands of a run changed, all together."""

from pathlib import Path

import msgspec

from ledger.index.reader import Log
from replay import story
from replay.apply import Change, changes
from replay.execute import Command
from schemas.errors import NotFound
from schemas.tree import Tree


def of(log: Log, run: str) -> tuple[Path, list[Change]]:
    """The folder that a run worked in, and what it changed there.

    Raises:
        NotFound: it has no command that was recorded in a sandbox and has ended.
    """
    found = [one for one in story.read(log, run).commands if one.ended is not None and one.started.inputs]
    if not found or found[-1].ended is None:
        raise NotFound(
            f"run {run[-8:]} has no command that left files", hint="ledger record -- COMMAND makes such a run"
        )
    what = msgspec.json.decode(log.read(found[-1].started.content), type=Command)
    before = Tree.decode(log.read(found[0].started.inputs))
    after = Tree.decode(log.read(found[-1].ended.outputs))
    return Path(what.folder), changes(before, after)
