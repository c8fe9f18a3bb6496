"""HTTP to the bus: the only file that imports httpx. Bytes out, bytes in; meanings are for push.py and identity.py.

Proxies come from the usual variables. Redirects are never followed: a message goes where it was meant to go or nowhere.
An answer is read only up to a cap, so that no answer can fill a small device's memory.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple

from gridpost.errors import BusUnreachable, ConfigInvalid

# httpx imports its own command line, and with it rich and pygments: 4 MB a small device can do without. An empty module
# in its place is what httpx itself takes as "not installed".
sys.modules.setdefault("httpx._main", ModuleType("httpx._main"))
import httpx  # noqa: E402

ANSWER_CAP = 256 << 10
_TROUBLE = (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError)


class HttpAnswer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    content: bytes

    @property
    def retry_after_s(self) -> int:
        """The header Retry-After in seconds, 0 when there is none; a date is not used, clocks differ."""
        text = self.headers.get("retry-after", "")
        return min(int(text), 3600) if text.isascii() and text.isdecimal() and len(text) < 9 else 0

    @property
    def waiting(self) -> bool:
        """Whether the bus says that commands wait (header Gridpost-Waiting): an unsigned hint, good for a fetch."""
        return self.headers.get("gridpost-waiting", "0").strip("0 ") != ""


class Transport:
    """A kept-alive connection to one bus."""

    def __init__(self, url: str, timeout_s: int = 30, tls_ca: Path | None = None) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigInvalid: `tls_ca` is no file of certificates.
        """
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            verify=_context(url, tls_ca),
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=True,
            # A push, a fetch that is held open, and a certificate's renewal may be under way at once.
            limits=httpx.Limits(max_connections=3, max_keepalive_connections=2, keepalive_expiry=120),
        )

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> HttpAnswer:
        """Fetch `path` below the bus's address; raises as `post`."""
        return await self._ask("GET", path, b"", {}, self._timeout_s)

    async def post(self, path: str, content: bytes, headers: Mapping[str, str], held_s: int = 0) -> HttpAnswer:
        """Send bytes and return the answer, whatever its status.

        Args:
            path: below the bus's address.
            content: the body.
            headers: beside the usual ones.
            held_s: how much longer than usual the bus may take to answer, as it was asked to.

        Raises:
            BusUnreachable: no connection, a broken one, a time-out, or an answer beyond the cap.
        """
        return await self._ask("POST", path, content, headers, self._timeout_s + held_s)

    async def _ask(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str], patience_s: int
    ) -> HttpAnswer:
        timeout = httpx.Timeout(self._timeout_s, read=patience_s)
        url = self.url + path
        try:
            async with self._client.stream(method, url, content=content, headers=headers, timeout=timeout) as response:
                body = await self._capped(response)
        except _TROUBLE as error:
            reason = str(error) or type(error).__name__
            raise BusUnreachable(f"{self.url} does not answer: {reason}") from error
        names = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status_code, names, body)

    async def _capped(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > ANSWER_CAP:
                raise BusUnreachable(f"the answer of {self.url} is larger than {ANSWER_CAP} bytes")
        return bytes(body)


def _context(url: str, tls_ca: Path | None) -> ssl.SSLContext:
    """Plain HTTP gets a context that trusts nobody: loading the machine's certificates would cost a device 10 MB."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if tls_ca:
            context.load_verify_locations(tls_ca)
        elif url.startswith("https:"):
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(f"{tls_ca} is no file of certificates: {error}") from None
    return context
