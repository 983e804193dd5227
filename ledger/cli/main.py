"""The command `ledger`: verbs loaded by name, errors in one voice, exit statuses."""

import importlib
import os
import sys
import warnings
from typing import NoReturn

import click

# verb: (group of the help, what it does)
VERBS = {
    "init": ("record", "make a ledger and its keys"),
    "record": ("record", "run a command in a sandbox, and record all it does"),
    "apply": ("record", "write what a recorded command changed"),
    "gateway": ("record", "serve the only door for model requests"),
    "token": ("record", "print a client's key for one run"),
    "start": ("record", "start a run and print its id"),
    "append": ("record", "append a prompt, response, artifact or approval"),
    "finish": ("record", "finish a run"),
    "import": ("record", "append many entries from an NDJSON file"),
    "log": ("look", "list runs, or the steps of one run"),
    "show": ("look", "show an entry, a step or an address"),
    "cat": ("look", "write a content to stdout"),
    "find": ("look", "find the steps that read or made a file"),
    "query": ("look", "ask the index by SQL"),
    "verify": ("prove", "check that nothing was changed, reordered or removed"),
    "replay": ("prove", "execute a recorded run again, without network or model"),
    "receipt": ("prove", "write an offline proof of one entry"),
    "disclose": ("prove", "hand out one content, with its proof"),
    "policy": ("govern", "check policies, and show those that come with it"),
    "redact": ("govern", "show what redaction would mask in a text"),
    "schema": ("govern", "register JSON Schemas that answers must meet"),
    "approve": ("govern", "list what waits for people; say yes to one"),
    "deny": ("govern", "say no to what waits"),
    "keys": ("govern", "show keys and readers; change them"),
    "budget": ("govern", "show what a run has spent; free what is stuck"),
    "pause": ("govern", "let no model request of a run pass"),
    "resume": ("govern", "let a paused run go on"),
    "erase": ("govern", "make the contents of a run unreadable"),
    "doctor": ("govern", "look after disks, permissions and what is derived"),
}
GROUPS = ("record", "look", "prove", "govern")
ENVIRONMENT = {
    "LEDGER": "the ledger, or a gateway's URL [default: .ledger here or above]",
    "LEDGER_TOKEN": "for a gateway's URL [default: OPENAI_API_KEY]",
    "LEDGER_RUN": "the run",
    "LEDGER_SIGNER": "author's key: file:PATH, env:NAME, … [default: yours]",
    "LEDGER_IDENTITY": "what opens contents, likewise",
    "LEDGER_TRUST": "the owner's line [default: what this machine trusts]",
    "NO_COLOR": "no colour",
}
_NEARBY = {"run": "record", "add": "append", "check": "verify", "list": "log", "status": "log"}


class Verbs(click.Group):
    """Verbs that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, imported."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(
            f"ledger.cli.{cmd_name}_" if cmd_name == "import" else f"ledger.cli.{cmd_name}"
        )
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb, or an error that names the one that was meant."""
        if args and args[0] not in VERBS:
            import difflib

            near = _NEARBY.get(args[0]) or next(iter(difflib.get_close_matches(args[0], VERBS, 1)), "")
            near = near if near in VERBS else ""
            error = click.UsageError(f"no command {args[0]!r}", ctx)
            error.hint = f"did you mean `ledger {near}`?" if near else "`ledger --help` lists commands"  # type: ignore[attr-defined]
            raise error
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The groups of verbs; what every program's options are needs no lines of its own."""
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs in their groups."""
        for group in GROUPS:
            with formatter.section(group):
                formatter.write_dl([(verb, text) for verb, (of, text) in VERBS.items() if of == group])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The environment, and the first steps."""
        with formatter.section("environment"):
            formatter.write_dl(list(ENVIRONMENT.items()))
        with formatter.section("first steps"):
            formatter.write_text("ledger init; ledger record -- COMMAND; ledger log; ledger verify")


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    options_metavar="[-h] [--version]",
)
@click.version_option(package_name="agent-ledger", prog_name="ledger", message="%(prog)s %(version)s (agent-ledger)")
def commands() -> None:
    """The flight recorder and gatekeeper for pipelines of language models."""


def main() -> NoReturn:
    """Runs the command line and ends the process with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Runs a command.

    Returns:
        Its exit status.
    """
    from ledger.cli import harden, voice
    from schemas.errors import LedgerError, NotSound, untold

    harden.files()
    warnings.showwarning = lambda message, *place: voice.warn(str(message))
    # `verify` says 1 of what is not sound, and of nothing else.
    failed = 3 if args[:1] == ["verify"] else 1
    if not voice.prepare():
        voice.fail("standard output is closed", "nothing was done; >/dev/null drops the output")
        return 2
    try:
        result = _invoke(args)
        sys.stdout.flush()
        return result
    except LedgerError as error:
        voice.fail(error.what, error.hint)
        return error.exit_status if isinstance(error, NotSound) or error.exit_status != 1 else failed
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return 2
    except click.ClickException as error:
        hint = getattr(error, "hint", "")
        if isinstance(error, click.UsageError) and error.ctx is not None and not hint:
            hint = f"`{error.ctx.command_path} --help` shows how"
        text = untold(" ".join(error.format_message().split()).rstrip("."))
        voice.fail(text[:1].lower() + text[1:], hint)
        return 2
    except (KeyboardInterrupt, click.Abort) as error:
        voice.say("")  # A terminal has shown ^C.
        voice.fail("interrupted", getattr(error, "__notes__", ["what was acknowledged is kept"])[0])
        return 130
    except BrokenPipeError:
        # The reader of our output went away; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        if error.filename is not None:
            voice.fail(f"{error.filename}: {why}", "check the path, and who may read it")
            return failed
        # What names no file is our own output.
        voice.fail(f"can't write the output: {why}", "nothing acknowledged is lost")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return failed
    except Exception as error:
        if os.environ.get("LEDGER_DEBUG"):
            raise
        # The message could hold what must not be shown; its type can't.
        voice.fail(f"our own bug: {type(error).__name__}", "please report it; LEDGER_DEBUG=1 shows where")
        return 70


def _invoke(args: list[str]) -> int:
    """As `click.Command.main` does, which would make status 1 of a reader that went away."""
    if instruction := os.environ.get("_LEDGER_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(commands, {}, "ledger", "_LEDGER_COMPLETE", instruction)
    from ledger.cli import harden

    try:
        with commands.make_context("ledger", list(args)) as context:
            harden.memory()
            result = commands.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
