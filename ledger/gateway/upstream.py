"""The way up: the openai SDK over a transport of ours, which sees the exact bytes of both directions."""

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from schemas.errors import UsageError

if TYPE_CHECKING:
    import httpx2

_ERROR = 1 << 20
"""Bytes of an error's body; a longer one is cut off."""

CONNECT_S, READ_S = 10.0, 300.0
"""Seconds for a connection, and between two pieces of an answer."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Leak(Exception):
    """The final scan found what must not leave."""


class Unanswered(Exception):
    """No answer came, or it did not come whole.

    Attributes:
        status: as in `model.response`.
        sent: whether the request may have reached the other side.
    """

    def __init__(self, status: str, what: str, *, sent: bool) -> None:
        super().__init__(what)
        self.status = status
        self.sent = sent


class Answer(NamedTuple):
    """The beginning of an answer.

    Attributes:
        http: status.
        headers: those that clients need: content type, request id, retry hints.
        chunks: its bytes as they come. Raises `Unanswered`.
    """

    http: int
    headers: dict[str, str]
    chunks: AsyncIterator[bytes]


_DOWN = ("content-type", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms")


def check_url(url: str) -> str:
    """The URL again, if requests may go there: https, or http on loopback.

    Raises:
        UsageError: they may not.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname:
        raise UsageError(f"upstream {url}: not https", hint="plain http is for addresses of this machine alone")
    return url


class Upstream:
    """Where model requests go.

    Args:
        url: base URL, `https://…/v1`.
        key: gives the real API key, asked for at each request: it is never kept here.
        scan: looks at the bytes that are about to leave; raises `Leak`.
    """

    def __init__(self, url: str, key: Callable[[], str], scan: Callable[[bytes], None]) -> None:
        import httpx2
        import openai

        self.url = check_url(url)
        self._key = key
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=200, keepalive_expiry=60)
        self._http = httpx2.AsyncClient(
            transport=_transport(scan, limits),
            timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,
        )
        self._client = openai.AsyncOpenAI(
            base_url=url, api_key="asked for at each request", max_retries=0, http_client=self._http
        )

    async def send(self, body: bytes) -> Answer:
        """Sends a request once, and returns when an answer begins.

        Args:
            body: exactly what leaves.

        Raises:
            Unanswered: none began.
            Leak: the final scan refused it.
        """
        import httpx2
        import openai

        # None of the client's: what leaves is what is recorded. Identity: the bytes that are kept mean something.
        up = {
            "Authorization": f"Bearer {self._key()}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }
        try:
            stream = await self._client.post(
                "/responses",
                cast_to=object,
                content=body,
                options={"headers": up},
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
            response: httpx2.Response = stream.response
        except openai.APIStatusError as error:
            response = error.response
            return Answer(response.status_code, _headers(response), _whole(response.content))
        except openai.APITimeoutError as error:
            connecting = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise Unanswered(
                "unreachable" if connecting else "timeout", "no answer in time", sent=not connecting
            ) from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, Leak):
                raise error.__cause__ from None
            connecting = isinstance(error.__cause__, httpx2.ConnectError)
            what = "can't connect" if connecting else "the connection broke before an answer"
            raise Unanswered("unreachable" if connecting else "cut_off", what, sent=not connecting) from None
        except httpx2.HTTPError:
            raise Unanswered("cut_off", "the connection broke within an error", sent=True) from None
        return Answer(response.status_code, _headers(response), self._chunks(response))

    async def _chunks(self, response: "httpx2.Response") -> AsyncIterator[bytes]:
        import httpx2

        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx2.TimeoutException:
            raise Unanswered("timeout", f"nothing came for {READ_S:.0f} s", sent=True) from None
        except (httpx2.HTTPError, httpx2.StreamError):
            raise Unanswered("cut_off", "the answer broke off", sent=True) from None
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Gives connections back."""
        await self._client.close()


class Nowhere:
    """In the place of an upstream, where nothing may leave."""

    async def send(self, body: bytes) -> Answer:
        """Refuses."""
        raise Unanswered("unreachable", "nothing leaves here", sent=False)

    async def close(self) -> None:
        """Nothing is open."""


def _transport(scan: Callable[[bytes], None], limits: "httpx2.Limits") -> "httpx2.AsyncHTTPTransport":
    import httpx2

    class Scanned(httpx2.AsyncHTTPTransport):
        """The last place before the wire: nothing passes that the scan refuses."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # Header by header, and what authorizes us is no leak.
            for name, value in request.headers.raw:
                if name.lower() != b"authorization":
                    scan(value)
            scan(request.content)
            response = await super().handle_async_request(request)
            if response.status_code >= 400:
                # The SDK reads errors whole.
                response.stream = Short(response.stream)
            return response

    class Short(httpx2.AsyncByteStream):
        """An error's body, which has an end."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            length = 0
            async for chunk in self.inner:
                length += len(chunk)
                if length > _ERROR:
                    raise httpx2.ReadError(f"an error of over {_ERROR >> 10} KiB")
                yield chunk

        async def aclose(self) -> None:
            await self.inner.aclose()

    return Scanned(limits=limits, retries=0)


def _headers(response: "httpx2.Response") -> dict[str, str]:
    found = {name: response.headers.get(name, "") for name in _DOWN}
    return {name: value for name, value in found.items() if value and value.isascii() and value.isprintable()}


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


def clock() -> float:
    """Seconds that only grow, for how long something takes."""
    return time.monotonic()
