"""A call that ends before its end, and what its client is told."""


class Stopped(Exception):
    """The call ends here.

    Attributes:
        http: status for a client that has seen nothing yet.
        code, param: as in an error's body.
    """

    def __init__(self, message: str, *, code: str, http: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http = http
        self.param = param
