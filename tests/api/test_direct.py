"""The flusher's connection: TLS, kept connections, and answers of every form, read in any pieces."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import http.client
import ipaddress
import re
import ssl
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from converra.api import http1, operations
from converra.api.direct import DirectConnection
from converra.api.results import StoredConversation
from converra.errors import APIConnectionError, UnreadableResponseError
from tests.api.callers import KEY, each_library
from tests.api.scripted import answer, hang_up, scripted
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.api.scripted import Handler, Scripted

GET = operations.get_conversation("c")
LARGE = operations.append_encoded("c", [b'"' + b"x" * 300_000 + b'"'], status=None, metadata=None)
STORED = StoredConversation(id="c")


SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "throw-away authority")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        made = self._begun(self._name, self._key).add_extension(constraints, critical=True)
        made = made.add_extension(SIGNS, critical=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )  # Python 3.13 and later ask for both
        )

    def server(self, address: str) -> ssl.SSLContext:
        """Make the context of a server at an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        made = self._begun(x509.Name([]), key).add_extension(names, critical=True).sign(self._key, hashes.SHA256())
        file = self._folder / f"{address}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@contextlib.contextmanager
def secure(context: ssl.SSLContext, *script: Callable[[Handler], None]) -> Iterator[tuple[Scripted, str]]:
    """Run a scripted server behind TLS; with its URL."""
    with scripted(*script) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server, server.base_url.replace("http:", "https:")


def noting(line: Callable[[Handler], None], ports: list[int]) -> Callable[[Handler], None]:
    """Note the client's port of a request."""

    def play(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        line(handler)

    return play


@each_library
@pytest.mark.usefixtures("library")
def test_certificates_are_checked_as_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown authority is refused, one of SSL_CERT_FILE is trusted for its own address; connections are kept."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    authority, ports = Authority(tmp_path), list[int]()
    stored = noting(answer({"id": "c"}), ports)
    with secure(authority.server("127.0.0.1"), *[stored] * 4) as (server, url):
        stranger = DirectConnection(KEY, url, LONG)
        with pytest.raises(
            APIConnectionError, match=r"certificate verify failed: unable to get local issuer"
        ) as caught:
            stranger.send(GET)
        assert caught.value.sent is False
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        friend = DirectConnection(KEY, url, LONG)
        assert [friend.send(GET), friend.send(GET)] == [STORED, STORED]
        friend.send(LARGE)
        friend.close()
        assert friend.send(GET) == STORED
        friend.close()
        assert ports[0] == ports[1] == ports[2] != ports[3]
        assert server.asked[2].body == LARGE.body
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    with secure(authority.server("127.0.0.2"), stored) as (server, url):
        friend = DirectConnection(KEY, url, LONG)
        with pytest.raises(APIConnectionError, match="IP address mismatch") as caught:
            friend.send(GET)
        assert (caught.value.sent, server.asked) == (False, [])


def test_certificates_that_cannot_be_read_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong SSL_CERT_FILE is an error that says so, before anything is sent."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with pytest.raises(APIConnectionError, match="certificates of the environment cannot be used") as caught:
        DirectConnection(KEY, "https://127.0.0.1:1/api/v1", LONG).send(GET)
    assert caught.value.sent is False


def test_a_connection_is_used_again_only_while_the_server_keeps_it() -> None:
    """An answer that announces the end of its connection, or a server that has closed it, costs no request."""
    ports: list[int] = []
    closing = noting(answer({"id": "c"}, Connection="close"), ports)
    ends = [noting(answer({"id": "c"}), ports), closing, noting(answer({"id": "c"}), ports)]
    with scripted(*ends, noting(hang_up, ports), noting(answer({"id": "c"}), ports)) as server:
        connection = DirectConnection(KEY, server.base_url, LONG)
        assert [connection.send(GET) for _ in ends] == [STORED] * 3
        with pytest.raises(APIConnectionError, match="server disconnected without sending a response") as caught:
            connection.send(GET)
        assert caught.value.sent is True
        assert connection.send(GET) == STORED
        connection.close()
    assert ports[0] == ports[1] != ports[2] == ports[3] != ports[4]


BODY = b'{"id": "c"}'
LENGTH = b"Content-Length: 11\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FORMS = {
    "plain": (b"HTTP/1.1 200 OK\r\nX-A: 1\r\n" + LENGTH + b"\r\n" + BODY, 200, True),
    "no reason": (b"HTTP/1.1 201\r\n" + LENGTH + b"\r\n" + BODY, 201, True),
    "odd values": (b"HTTP/1.1 200 \xe9\r\nx-A:\t\xe9 \r\nB:\r\ncontent-LENGTH:11 \r\n\r\n" + BODY, 200, True),
    "same twice": (b"HTTP/1.1 200 OK\r\nX: 1\r\nX: 2\r\n" + LENGTH + b"\r\n" + BODY, 200, True),
    "length twice": (b"HTTP/1.1 200 OK\r\n" + LENGTH * 2 + b"\r\n" + BODY, 200, True),
    "closed": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n" + LENGTH + b"\r\n" + BODY, 200, False),
    "HTTP 1.0": (b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY, 200, False),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, 200, False),
    "line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 11\n\n" + BODY, 200, True),
    "folded": (b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\n" + LENGTH + b"\r\n" + BODY, 200, True),
    "chunked": (CHUNKED + b"4\r\n" + BODY[:4] + b"\r\n7;x=y\r\n" + BODY[4:] + b"\r\n0\r\n\r\n", 200, True),
    "100 before": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + BODY, 200, True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
    "error cut short": (b"HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\n" + BODY, 503, False),
}


class Pieces:
    """A connection that hands out what it received in pieces of one size, and then its end."""

    def __init__(self, received: bytes, size: int) -> None:
        self._received = memoryview(received)
        self._size = size

    def recv(self, most: int) -> bytes:
        size = min(most, self._size)
        piece, self._received = self._received[:size], self._received[size:]
        return bytes(piece)


def test_an_answer_is_the_same_in_whichever_pieces_it_comes() -> None:
    """Answers of every form of HTTP/1.1 are read, also a byte at a time; only whole ones leave a usable connection."""
    for form, (received, status, keep) in FORMS.items():
        for size in (1, 2, 7, len(received) - 1, len(received)):
            got = http1.receive(Pieces(received, size).recv, "POST")
            read = (got.status, bytes(got.body.end()), got.keep)
            assert read == (status, BODY if status != 204 else b"", keep), (form, size)


def test_a_plain_answer_is_read_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual answer takes the short way, with the headers that the library would show."""
    by_library = {name: http1._received_by_library(Pieces(FORMS[name][0], 99).recv, b"", "GET") for name in FORMS}

    def unexpected(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(http1, "_received_by_library", unexpected)
    for name in ("plain", "no reason", "odd values", "same twice", "closed"):
        got = http1.receive(Pieces(FORMS[name][0], 99).recv, "GET")
        shown = {name: value.strip() for name, value in by_library[name].headers.items()}
        assert (got.headers, got.keep) == (shown, by_library[name].keep)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"", "RemoteDisconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{", "IncompleteRead"),
        (b"<html>\n", "BadStatusLine"),
        (b"SSH-2.0-OpenSSH_9\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "LineTooLong"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 50_000 + b"\r\n", "HTTPException"),
    ],
    ids=["nothing", "half a head", "half a body", "HTML", "SSH", "a long line", "many lines"],
)
def test_an_answer_that_is_none_is_an_error(received: bytes, expected: str) -> None:
    """Whatever is not a whole answer raises, and soon: not when the server at last closes the connection."""
    with pytest.raises((OSError, http.client.HTTPException)) as caught:
        http1.receive(Pieces(received, 4096).recv, "POST")
    assert type(caught.value).__name__ == expected


def test_bytes_after_an_answer_end_the_connection() -> None:
    """What nobody asked for is not taken for the next answer."""
    received = FORMS["plain"][0]
    assert http1.receive(Pieces(received + b"HTTP/1.1 200 OK\r\n", 9999).recv, "POST").keep is False


CONVERSATION = b'{"id": "c", "content": "' + b"words " * 200_000 + b'"}\n'


def test_a_long_answer_to_an_append_is_neither_kept_nor_decoded() -> None:
    """Each append is answered with the whole conversation, of which delivery needs nothing."""
    zipped = answer(gzip.compress(CONVERSATION, 1), Content_Encoding="gzip")
    with scripted(answer(CONVERSATION), zipped, answer({"id": "c"}), answer(CONVERSATION)) as server:
        connection = DirectConnection(KEY, server.base_url, LONG)
        assert [connection.send(LARGE).id for _ in range(3)] == [None, None, "c"]
        assert connection.send(GET).content == "words " * 200_000
        tracemalloc.start()
        http1.receive(Pieces(LENGTHY, 65_536).recv, "POST", skimmed=True)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        connection.close()
    assert taken < 300_000 < len(LENGTHY)


LENGTHY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONVERSATION) + CONVERSATION


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>" + b"x" * 100_000 + b"</html>", "it is an HTML page; is base_url right?"),
        (CONVERSATION[:-9], "it is no JSON object"),
        (b"[" + CONVERSATION + b"]", "it is no JSON object"),
        (CONVERSATION * 4, "it is larger than 4,000,000 bytes"),
        (b'{"id": "c"', "Input data was truncated"),
    ],
    ids=["HTML", "cut", "a list", "huge", "short"],
)
def test_a_long_answer_that_is_no_conversation_is_unreadable(body: bytes, reason: str) -> None:
    """A page, half a body or an endless one does not count as the word that an append is stored."""
    with (
        scripted(answer(body)) as server,
        contextlib.closing(DirectConnection(KEY, server.base_url, LONG)) as connection,
        pytest.raises(UnreadableResponseError, match=re.escape(reason)),
    ):
        connection.send(LARGE)
