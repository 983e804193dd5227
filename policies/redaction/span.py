"""What a detector finds: where, of which kind, by which rule."""

from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of a text that must not leave as it is.

    Attributes:
        start, end: byte offsets into the text's UTF-8.
        kind: what it is: one word in lower case with hyphens, such as `aws-secret-key`.
        rule: id of the rule that found it.
    """

    start: int
    end: int
    kind: str
    rule: str
