"""Which secrets that somebody has a profile would find by itself, and which only where they are known by name."""

from collections.abc import Iterable, Iterator

from policies.redaction.scan import Scanner
from policies.redaction.spellings import SHORTEST, encoded


def uncovered(scanner: Scanner, values: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Secrets that would leave where a gateway is not told of them.

    Args:
        values: by the name of each, such as its URI.

    Yields:
        Name, and what is so; never a value.

    Raises:
        Malformed: one holds bytes that are no UTF-8; names it.
    """
    for name, value in values:
        data = encoded(value, name)
        masked = sum(span.end - span.start for span in scanner.find(data))
        if masked * 2 < len(data):
            hint = "a gateway masks it only where it is named by --secret"
            if len(value) < SHORTEST:
                hint = f"under {SHORTEST} characters it is not looked for by name either: make it longer"
            yield name, f"no rule knows {name} by its form: {hint}"
