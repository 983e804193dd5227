"""A call that ends before its end, and what its client is told."""

from schemas.errors import LedgerError


class Stopped(Exception):
    """The call ends here.

    Attributes:
        http: status for a client that has seen nothing yet.
        code, param: as in an error's body.
        again: whether another try may help, and costs no more than one.
    """

    def __init__(
        self, message: str, *, code: str, http: int = 400, param: str | None = None, again: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http = http
        self.param = param
        self.again = http >= 502 if again is None else again


def spell(error: LedgerError) -> str:
    """What a client reads of an error of ours."""
    return f"{error.what}; {error.hint}" if error.hint else error.what
