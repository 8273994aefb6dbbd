"""No answer takes more memory than the largest that the API has, whatever it claims or decompresses to."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from converra.api.answers import MAX_BYTES, MAX_VALUES, Body
from converra.errors import APIStatusError, UnreadableResponseError, ValidationError
from tests.api.callers import Caller, both, each_connection, each_library
from tests.api.scripted import answer, scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.scripted import Handler

ROOM = 12_000_000
"""What one answer may cost at its worst moment: its bytes, the objects that they become, and the library's buffers."""

SPACES = 200
"""Millions of them in a compressed answer."""
LONG = b'{"id": "' + b"x" * 20_000_000 + b'"}'


def _deflated() -> bytes:
    """Compress one million spaces, and repeat that: to compress all of them takes a second."""
    packer = zlib.compressobj(9, wbits=-15)
    million = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    return million * SPACES + zlib.compressobj(wbits=-15).flush()


def _checked(check: Callable[[bytes, int], int], start: int) -> int:
    """Compute a checksum of all the spaces."""
    million = b" " * 1_000_000
    for _ in range(SPACES):
        start = check(million, start)
    return start


DEFLATED = _deflated()
ZLIB = b"\x78\x9c" + DEFLATED + struct.pack(">I", _checked(zlib.adler32, 1))
BOMB = gzip.compress(b"")[:10] + DEFLATED + struct.pack("<II", _checked(zlib.crc32, 0), SPACES * 1_000_000)


def get(client: Any) -> Any:
    return client.conversations.get("c")


def append(client: Any) -> Any:
    return client.conversations.append_messages("c", messages=[{"role": "user", "content": "hi"}])


def rows(client: Any) -> Any:
    return client.conversations.list()


def endless(status: int = 200) -> Callable[[Handler], None]:
    """A body without an end, in chunks."""

    def play(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        handler.close_connection = True
        with contextlib.suppress(OSError):
            while not handler.server.over.is_set():
                handler.wfile.write(chunk)

    return play


def lying(claimed: int) -> Callable[[Handler], None]:
    """A short body under a length that it does not have."""

    def play(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(claimed))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(80):  # in pieces, since the memory of this process is what is measured
                handler.wfile.write(b" " * 65536)
        handler.close_connection = True

    return play


HUGE = {
    "long": answer(LONG),
    "many values": answer(b'{"x": [' + b"{}," * 1_200_000 + b"{}]}"),
    "endless": endless(),
    "gzip": answer(BOMB, Content_Encoding="gzip"),
    "gzip in gzip": answer(gzip.compress(BOMB), Content_Encoding="gzip, gzip"),
    "small by way of huge": answer(gzip.compress(gzip.compress(LONG * 10)), Content_Encoding="gzip, gzip"),
    "deflate": answer(ZLIB, Content_Encoding="deflate"),
    "deflate without a header": answer(DEFLATED, Content_Encoding="deflate"),
    "br": answer(b"\x00" * 100_000, Content_Encoding="br"),
    "zstd": answer(b"\x00" * 100_000, Content_Encoding="zstd"),
    "a hundred encodings": answer(BOMB, Content_Encoding=", ".join(["gzip"] * 100)),
    "trailing": answer(gzip.compress(b"{}") + b"x" * 20_000_000, Content_Encoding="gzip"),
    "claims more": lying(10**12),
}


def _peak(call: Callable[[], Any]) -> int:
    """Most bytes that were allocated meanwhile."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@each_connection
@each_library
@pytest.mark.parametrize("play", HUGE.values(), ids=HUGE)
def test_a_huge_answer_is_one_that_cannot_be_read(
    play: Callable[[Handler], None], library: str, caller: Caller
) -> None:
    """It is a typed error that says why, and takes a few megabytes at most."""
    with scripted(play) as server:

        def call() -> None:
            with pytest.raises(UnreadableResponseError, match=r"POST /conversations/c/messages cannot be read: it"):
                caller(server.base_url, append, timeout=20)

        assert _peak(call) < ROOM
        assert [asked.headers["accept-encoding"] for asked in server.asked] == ["gzip, deflate"]


@each_connection
@pytest.mark.parametrize("call", [get, rows], ids=["get", "list"])
def test_a_huge_answer_to_a_read_is_tried_again_and_then_told(call: Callable[[Any], Any], caller: Caller) -> None:
    """As any answer that cannot be read."""
    with (
        scripted(*[answer(BOMB, Content_Encoding="gzip")] * 2) as server,
        pytest.raises(UnreadableResponseError, match="it is larger than 4,000,000 bytes"),
    ):
        caller(server.base_url, call, max_retries=1)
    assert len(server.asked) == 2


@each_connection
@pytest.mark.parametrize(
    "play",
    [
        endless(400),
        answer(BOMB, 400, Content_Encoding="gzip"),
        answer(LONG, 400),
        answer(b"x", 400, Content_Encoding="br"),
    ],
    ids=["endless", "gzip", "long", "br"],
)
def test_a_huge_error_counts_by_its_status(play: Callable[[Handler], None], caller: Caller) -> None:
    """The rest of its body is not needed."""
    with scripted(play) as server:

        def call() -> None:
            with pytest.raises(ValidationError) as caught:
                caller(server.base_url, append)
            assert len(str(caught.value)) < 400

        assert _peak(call) < ROOM


@each_connection
@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "x-gzip", "deflate", "raw deflate", "gzip, deflate"])
def test_the_largest_conversation_is_read(encoding: str, caller: Caller) -> None:
    """500 messages of 1 KB that are escaped, twice, as an append shows them: in each encoding that is asked for."""
    said = {"role": "user", "content": "ж" * 512, "metadata": {"messageId": "m", "traceId": "t"}}
    shown = {"id": "c", "content": "\n".join(["User: " + "ж" * 512] * 500), "messages": [said] * 500}
    body = json.dumps(shown).encode()
    assert 3_000_000 < len(body) < MAX_BYTES
    encoded = {
        "gzip": gzip.compress(body),
        "x-gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": zlib.compress(body)[2:-4],
        "gzip, deflate": zlib.compress(gzip.compress(body)),
    }.get(encoding, body)
    with scripted(answer(encoded, Content_Encoding=encoding.removeprefix("raw ") or "identity")) as server:
        found = caller(server.base_url, append)
    assert [len(found.messages), found.content] == [500, shown["content"]]


@both
def test_a_body_that_a_hook_has_read_is_not_decoded_twice(caller: Caller) -> None:
    """A user's HTTP client may read each answer before we do."""

    def given(kind: Any) -> Any:
        async def read_async(response: httpx.Response) -> None:
            await response.aread()

        hook = read_async if kind is httpx.AsyncClient else httpx.Response.read
        return kind(event_hooks={"response": [hook]})

    with scripted(answer(gzip.compress(b'{"id": "c"}'), Content_Encoding="gzip")) as server:
        assert caller(server.base_url, get, given=given).id == "c"


@each_connection
def test_many_commas_in_a_text_are_no_values(caller: Caller) -> None:
    """A long text of code is as welcome as any other."""
    with scripted(answer({"id": "c", "content": '{[,"' * MAX_VALUES})) as server:
        assert len(caller(server.base_url, get).content) == 4 * MAX_VALUES


def test_small_pieces_make_the_same_body() -> None:
    """However the network cuts it."""
    body = Body(200, {"content-encoding": "gzip, deflate"})
    for byte in zlib.compress(gzip.compress(b'{"id": "c"}' * 1000)):
        assert body.feed(bytes([byte]))
    body.end()
    assert (bytes(body.data), body.problem) == (b'{"id": "c"}' * 1000, None)


@each_connection
def test_a_compressed_error_keeps_its_words(caller: Caller) -> None:
    """It has its code and its message."""
    told = gzip.compress(b'{"error": {"code": "V", "message": "bad"}}')
    with scripted(answer(told, 400, Content_Encoding="gzip")) as server, pytest.raises(APIStatusError) as caught:
        caller(server.base_url, get)
    assert (caught.value.code, caught.value.message) == ("V", "bad")
