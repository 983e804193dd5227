"""Our own records: what in them has the form of a key and is none.

An entry's `key` is a commitment or a keyed digest (`schemas.entries`), told by the shape of all that stands before it
in its line, escaped at any depth; the word alone opens nothing.
"""

from policies.redaction.patterns import compiled

_REACH = 1500
_Q = r"\\*\""
_VALUE = rf"(?:{_Q}[^\"\\]{{0,200}}{_Q}|[0-9]{{1,20}}|true|false)"
_KEY = compiled(
    rf"\{{(?:{_Q}index{_Q}: ?[0-9]{{1,20}}, ?)?{_Q}kind{_Q}: ?{_Q}(?:run\.started|model\.request){_Q}, ?{_Q}v{_Q}: ?1"
    rf", ?{_Q}time{_Q}: ?{_Q}[0-9T:.-]{{19,26}}Z{_Q}"
    rf", ?{_Q}run{_Q}: ?{_Q}[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}{_Q}"
    rf", ?{_Q}step{_Q}: ?[0-9]{{1,20}}"
    rf"(?:, ?{_Q}(?:stage|lane|task|imported|decision|model|content|digest){_Q}: ?{_VALUE})*, ?{_Q}key{_Q}: ?{_Q}$",
    "record",
)
_DIGEST = compiled("[0-9a-f]{64}", "digest")


def commitment(text: bytes, start: int, end: int) -> bool:
    """Whether a stretch is the `key` of an entry of ours."""
    if _DIGEST.fullmatch(text[start:end]) is None:
        return False
    return _KEY.search(text[max(start - _REACH, 0) : start]) is not None
