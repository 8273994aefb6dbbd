"""The common part of all connections: the API's address, the key, and what a failure of a request means."""

from __future__ import annotations

import codecs
import http.client
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from converra._version import __version__
from converra.api._httpx import errors, library
from converra.api.answers import ACCEPT_ENCODING
from converra.errors import APIConnectionError, APIRequest, APITimeoutError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.api.deadline import Attempt
    from converra.api.operations import Operation

_NOT_SENT = ("ConnectError", "ConnectTimeout", "InvalidURL", "PoolTimeout", "ProxyError", "UnsupportedProtocol")


class BaseConnection:
    """Address, key and timeout of the API. A subclass sends.

    Args:
        api_key: The key.
        base_url: The URL of the API.
        timeout: Seconds that one request may take, unless its operation says otherwise.

    Raises:
        InvalidArgumentError: The key cannot be sent in a header, or the URL is none.

    """

    def __init__(self, api_key: str, base_url: str, timeout: float) -> None:
        self._authorization = f"Bearer {_header_safe(api_key)}"
        self.base_url: str = _url(base_url)
        self._timeout = timeout
        self._headers: dict[str, str] = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": f"converra-python/{__version__}",
        }
        codecs.lookup("idna")  # looking up a host loads it, and a child that is forked meanwhile would wait for ever

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    def _failure(
        self, error: Exception, operation: Operation[Any], attempt: Attempt, handled: BaseException | None
    ) -> APIConnectionError:
        """Describe the failure of an attempt. `handled`: the exception that was being handled when it began."""
        request = APIRequest(operation.method, f"{self.base_url}{operation.path}")
        host = urlsplit(self.base_url).netloc
        sent = attempt.begun is not False and not isinstance(error, errors(*_NOT_SENT, also=(UnicodeError,)))
        if isinstance(error, errors("TimeoutException", also=(TimeoutError,))):
            return APITimeoutError(f"no answer from {host} within {attempt.seconds:g} s", sent=sent, request=request)
        reason = in_words(_system_error(error, handled) or error)
        return APIConnectionError(f"no answer from {host}: {reason}", sent=sent, request=request)


def _system_error(error: BaseException, handled: BaseException | None) -> OSError | None:
    """Return the system's error behind one of httpx, which may say no more than "All connection attempts failed".

    httpcore drops causes (`from None`), so contexts count. The last of them may be an exception that the app was
    handling when it made the request: `handled` ends the search.
    """
    found: BaseException | None = error
    while found is not None and found is not handled:
        if isinstance(found, OSError) and found.errno is not None:
            return found
        found = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else found.__cause__ or found.__context__
    return None


def in_words(error: BaseException) -> str:
    """Return an error's text, without the number that an error of the system has."""
    if isinstance(error, ConnectionRefusedError):  # asyncio words it "Connect call failed", with the address
        return "connection refused"
    if isinstance(error, http.client.RemoteDisconnected):
        return "server disconnected without sending a response"
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
        return "no such host"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


def disconnect(sockets: Iterable[socket.socket]) -> None:
    """Replace the descriptors of sockets by that of a socket that is closed at the other end.

    Closing a descriptor leaves the connection to the parent. Its number stays in use: a green thread that came along,
    or the TLS layer, reads its end instead of finding another connection there, and nothing that either writes (such
    as TLS's close_notify) reaches the server.
    """
    descriptors = [descriptor for sock in sockets if (descriptor := sock.fileno()) >= 0]
    if not descriptors:
        return
    nothing, other_end = (end.detach() for end in socket.socketpair())
    os.close(other_end)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _url(base_url: str) -> str:
    try:
        url = library().URL(base_url.rstrip("/"))
    except errors("InvalidURL") as error:
        raise InvalidArgumentError(f"base_url is no URL: {error}") from error
    if url.userinfo or url.query or url.fragment:
        raise InvalidArgumentError("base_url holds a user, a query or a fragment; expected scheme, host and path")
    return str(url).rstrip("/")


def _header_safe(api_key: str) -> str:
    """A key that a header can hold. The message never shows it."""
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise InvalidArgumentError("api_key holds characters that no API key has, such as a space or a line break")
    return api_key
