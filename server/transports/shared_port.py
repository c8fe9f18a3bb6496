"""One port, several processes: each listens on a socket of its own and the kernel shares the connections out (Linux).

In: an address, and TLS or none. Out: a Twisted endpoint. A port that any process could join is only for processes of
the same user (SO_REUSEPORT, socket(7)).
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.protocols.tls import TLSMemoryBIOFactory

BACKLOG = 1024  # connections that wait to be accepted, a process


def bind_shared(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address, not listening yet: so long it takes no connection and keeps the port.

    Raises:
        OSError: the address is not this machine's, or another user's process or a port not shared has it.
    """
    shared = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        shared.setblocking(False)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))
    except OSError:
        shared.close()
        raise
    return shared


class SharedPort:
    """A Twisted endpoint for `bind_shared`; `tls` is a context factory or None."""

    def __init__(self, reactor: Any, address: tuple[str, int], tls: Any = None) -> None:
        """Nothing is bound before `listen`."""
        self._reactor, self._address, self._tls = reactor, address, tls

    async def listen(self, factory: Any) -> Any:
        """Return the listening port.

        Raises:
            CannotListenError: as every endpoint of Twisted's.
        """
        try:
            shared = bind_shared(*self._address)
        except OSError as error:
            raise CannotListenError(*self._address, error) from error
        with shared:
            shared.listen(BACKLOG)
            spoken = factory if self._tls is None else TLSMemoryBIOFactory(self._tls, False, factory)
            return self._reactor.adoptStreamPort(shared.fileno(), shared.family, spoken)
