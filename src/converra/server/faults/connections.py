"""The open TCP connections of the server, so that a fault can break one as a network does."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

_LINGER_ZERO = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing sends a reset."""


class Connections:
    """Transports by the client's address, which is what a request knows of its connection."""

    def __init__(self) -> None:
        self._transports: dict[Any, asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """Uvicorn's HTTP protocol, registering here."""
        transports = self._transports

        class RegisteredProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
                super().connection_made(transport)
                transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self.client, None)
                super().connection_lost(exc)

        return RegisteredProtocol

    def reset(self, scope: Scope) -> None:
        """Break the connection with a TCP reset: what was not yet sent is gone."""
        transport = self._transport(scope)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()

    def close(self, scope: Scope) -> None:
        """Close the connection in order: what was written is still sent."""
        self._transport(scope).close()

    def _transport(self, scope: Scope) -> asyncio.Transport:
        client = scope.get("client")
        try:
            return self._transports[tuple(client) if client else None]
        except KeyError:
            raise ConnectionResetError("a fault broke this connection, whose socket is not registered") from None


async def disconnected(receive: Receive) -> None:
    """Wait until the connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def gone_within(seconds: float, receive: Receive) -> bool:
    """Wait so long, or until the connection is gone."""
    try:
        await asyncio.wait_for(disconnected(receive), seconds)
    except TimeoutError:
        return False
    return True
