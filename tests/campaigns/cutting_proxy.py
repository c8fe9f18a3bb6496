"""A TCP proxy that cuts: requests in the middle, answers before their first byte or in the middle.

For campaigns: what goes through it is what a bad line does to it, at places a seed chooses. It runs in a thread of its
own and listens on 127.0.0.1, on a port the kernel chooses; where nothing listens behind it, it cuts at once.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from dataclasses import dataclass, field

CHUNK = 1 << 16


@dataclass
class CuttingProxy:
    """One port in front of another.

    Attributes:
        port_behind: where it leads.
        share: of the answers' pieces, how many are cut; a third as many of the requests'.
        seed: of its chance.
        cuts: how many of each kind it made.
    """

    port_behind: int
    share: float
    seed: str
    cuts: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._carry, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.port_behind)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.ensure_future(self._pump(reader, back, {"request": self.share / 3})),
            asyncio.ensure_future(self._pump(there, writer, {"answer": self.share, "half-answer": self.share / 2})),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for one in (writer, back):
                one.transport.abort()

    async def _pump(self, one: asyncio.StreamReader, other: asyncio.StreamWriter, shares: dict[str, float]) -> None:
        """Carry pieces until one side ends, or this piece is one to cut."""
        try:
            while piece := await one.read(CHUNK):
                for kind, share in shares.items():
                    if self._chance.random() < share:
                        self.cuts[kind] += 1
                        if kind != "answer":
                            other.write(piece[: len(piece) // 2])
                            await other.drain()
                        return
                other.write(piece)
                await other.drain()
        except OSError:
            return
