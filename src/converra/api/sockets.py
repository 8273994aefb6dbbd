"""Sockets that a forked child inherits: they are the parent's, and the server must not notice the child."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def disconnect(streams: Iterable[Any]) -> None:
    """Replace the descriptors of network streams by that of a socket that is closed at the other end.

    Closing a descriptor leaves the connection to the parent. Its number stays in use: a green thread that came along,
    or the TLS layer, reads its end instead of finding another connection there, and nothing that either writes (such
    as TLS's close_notify) reaches the server.
    """
    descriptors = [sock.fileno() for sock in (stream.get_extra_info("socket") for stream in list(streams)) if sock]
    if not descriptors:
        return
    nothing, other_end = (end.detach() for end in socket.socketpair())
    os.close(other_end)
    for descriptor in descriptors:
        if descriptor >= 0:
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
