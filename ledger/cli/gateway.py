"""`ledger gateway`: the only door for model requests."""

import signal

import click

from ledger.cli import voice

_SWITCH_S = 0.001
"""Seconds after which a thread that computes gives way; a fifth of what is usual."""


@click.command("gateway")
@click.option(
    "--listen", default="127.0.0.1:8377", show_default=True, metavar="HOST:PORT", help="Or unix:PATH; port 0 is any."
)
@click.option("--upstream", metavar="URL", help="Where requests go [default: https://api.openai.com/v1].")
@click.option(
    "--policy", "policies", multiple=True, metavar="P", help="A policy's file, or a shipped one [default: local]."
)
@voice.key_option
@voice.secrets_option
@click.option("--redaction", "profiles", multiple=True, metavar="FILE", help="A redaction profile that policies name.")
@click.option("--certificate", default="", metavar="FILE", help="For TLS; needed when not on loopback.")
@click.option("--private", default="", metavar="FILE", help="Its private key.")
@voice.ledger_option
def command(
    listen: str,
    upstream: str | None,
    policies: tuple[str, ...],
    key: str,
    values: tuple[str, ...],
    profiles: tuple[str, ...],
    certificate: str,
    private: str,
    where: str | None,
) -> None:
    """Serve the OpenAI Responses API: every request is recorded, held to policy, and answered by what UPSTREAM says.

    Clients use the printed base URL, and a token of `ledger token` as their API key.

    \b
    examples:
      ledger gateway
      ledger gateway --policy nightly.toml --listen 127.0.0.1:9000
    """
    import gc
    import sys

    from ledger.gateway import server
    from ledger.index.reader import Log

    settings = server.Settings(
        upstream or server.UPSTREAM, key, policies or ("local",), values, certificate, private, profiles
    )
    server.check_transport(listen, settings)
    with Log.open(where) as log:
        settings = server.registered(settings, log.origin)
        server.check(settings, log.origin)
        listener = server.listen(listen)
        made = server.Server(log, settings, listener)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: made.stop())
        voice.say(f"upstream  {settings.upstream}   policy {', '.join(settings.policies)}   key {settings.key}")

        def ready() -> None:
            # What is loaded stays: no collection need look at it. And the committer, which waits for the disk again
            # and again, gets the interpreter back soon.
            gc.collect()
            gc.freeze()
            sys.setswitchinterval(_SWITCH_S)
            voice.out(made.url)

        server.run(made, ready)
