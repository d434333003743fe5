"""An HTTP client that has a server's entire answer, within bounds of time and size, or says why not."""

import asyncio
import contextlib
import json
import sys
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from labelbridge.lightning_app.core.documents import without_duplicates

from .answers import MalformedAnswerError

MOST_BYTES = 16 * 2**20  # of an answer: far more than a model writes
_ENCODINGS = ("identity", "gzip", "x-gzip", "deflate")


def http_client(seconds: float, before: Callable[[], Awaitable[None]]) -> Any:
    """An HTTP client that has an entire answer, or gives up: its own limit is one of the pause between two bytes.

    Args:
        seconds: For a request and its answer.
        before: Awaited before every request that goes out, also those that the openai client sends again.
    """
    from openai import DefaultAsyncHttpxClient

    base: Any = DefaultAsyncHttpxClient
    library = next(one.__module__ for one in base.__mro__ if one.__name__ == "AsyncClient").partition(".")[0]
    timeout_error: Any = sys.modules[library].ReadTimeout  # of httpx, or of httpx2

    class Client(base):  # type: ignore[misc] # its type depends on the version of openai
        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            await before()
            try:
                async with asyncio.timeout(seconds):
                    response = await super().send(request, stream=True, **options)
                    return response if stream else await _with_content(response)
            except TimeoutError:
                raise timeout_error("its answer was not complete in time", request=request) from None

    # Some servers compress nevertheless, and proxies before them.
    return Client(headers={"Accept-Encoding": "identity"})


async def _with_content(response: Any) -> Any:
    """A response with all of its content, unpacked.

    Of an error whose words cannot be read, the content says why: what kind of error it is stays known.

    Raises:
        MalformedAnswerError: If the content is too long to be an answer, cannot be unpacked, or has a key twice; what
            came is not kept.
    """
    content = bytearray()
    try:
        async with contextlib.aclosing(response):
            unpack = Unpack(response.headers.get("Content-Encoding", ""))
            async for part in response.aiter_raw():
                content += unpack(part, MOST_BYTES + 1 - len(content))
                if len(content) > MOST_BYTES:
                    raise MalformedAnswerError(f"its answer is longer than {MOST_BYTES // 2**20} MB")
            unpack.check_end()
        if not response.is_error:
            _check_keys(content)
    except MalformedAnswerError as error:
        if not response.is_error:
            raise
        content = bytearray(str(error).encode())
    packing = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in packing]
    return type(response)(
        response.status_code, headers=headers, content=bytes(content), request=response.request,
        extensions=response.extensions,
    )  # fmt: skip


def _check_keys(content: bytes | bytearray) -> None:
    """Refuse JSON with a key twice, of which the client would take the last; what is no JSON, it says itself.

    Raises:
        MalformedAnswerError: Names the key.
    """
    try:
        json.loads(content, object_pairs_hook=without_duplicates)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return
    except ValueError as error:
        raise MalformedAnswerError(f"its answer is not JSON ({error})") from None


class Unpack:
    """Unpacks a content part by part, and no more of it than there is room for: a few bytes may stand for gigabytes.

    Args:
        encoding: What the server's `Content-Encoding` says.

    Raises:
        MalformedAnswerError: If it is a kind that only further packages unpack; none was asked for.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower() or "identity"
        if self._encoding not in _ENCODINGS:
            raise MalformedAnswerError(f"its answer is packed with {encoding[:40]!r}, though not asked for")
        self._inflater: Any = None

    def __call__(self, part: bytes, room: int) -> bytes:
        """What a part holds, `room` bytes at most.

        Raises:
            MalformedAnswerError: If it is not what the server says that it is.
        """
        if self._encoding == "identity":
            return part
        unpacked = b""
        while part and len(unpacked) < room:
            if self._inflater is None or self._inflater.eof:  # one gzip file after the other is one, too
                self._inflater = zlib.decompressobj(self._format(part))
            try:
                unpacked += self._inflater.decompress(part, room - len(unpacked))
            except zlib.error:
                raise MalformedAnswerError(f"its answer is not {self._encoding}, as its header says") from None
            part = self._inflater.unused_data
        return unpacked

    def check_end(self) -> None:
        """Refuse a packed content that was cut.

        Raises:
            MalformedAnswerError: If more should have come.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise MalformedAnswerError(f"its answer, packed with {self._encoding}, is cut off")

    def _format(self, part: bytes) -> int:
        """What zlib is to expect: gzip's head, its own, or, as some servers send for deflate, none."""
        if self._encoding != "deflate":
            return zlib.MAX_WBITS | 16
        return zlib.MAX_WBITS if part[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
