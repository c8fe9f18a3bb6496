"""The network of a history: between each device and the bus, at its worst, and with somebody in it.

Requests and answers get lost, come twice, late, cut off, in another order. The attacker sees every byte, may change,
forge, replay and swallow, has keys of another CA, and an enrolled device of its own.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from gridpost.ied_soap_client.transport import HttpAnswer
from sim_loop import digest
from sim_setting import INSIDER

from gridpost import answers, exchange
from gridpost.errors import BusUnreachable
from gridpost.model import Counts, Position, Receipt, Reference

if TYPE_CHECKING:
    from sim_device import Device
    from sim_world import World

TIMEOUT_S = 30
BODY = re.compile(rb"<soap:Body [^>]*>(.*)</soap:Body>\Z", re.DOTALL)
MOST_SEEN = 400


class Genuine:
    """A message as its device first sent it, and every sealing of it."""

    def __init__(self, sender: str, body: bytes) -> None:
        self.sender, self.body = sender, body
        self.sealings: list[bytes] = []


class Transport:
    """In the place of `transport.Transport`."""

    def __init__(self, network: Network, device: Device) -> None:
        self._network, self._device = network, device

    async def post(self, _path: str, content: bytes, _headers: Mapping[str, str]) -> HttpAnswer:
        self._network.seen(self._device.serial, content)
        return await self._network.carry(self._device.serial, content)


class Network:
    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.trouble = 0.0  # how likely something befalls a request
        self.cut_off: set[str] = set()  # devices without a connection now
        self.genuine: dict[str, Genuine] = {}  # message id -> it
        self.requests: list[tuple[str, bytes]] = []
        self.answers: list[bytes] = []
        self._fates: tuple[Callable[[str, bytes], Awaitable[HttpAnswer]], ...] = (
            self._lose_request, self._lose_answer, self._lose_answer, self._twice, self._late, self._cut_request,
            self._cut_answer, self._proxy_answer, self._changed_request, self._changed_answer, self._forged_answer,
            self._foreign_answer,
        )  # fmt: skip

    def transport(self, device: Device) -> Transport:
        return Transport(self, device)

    def seen(self, sender: str, raw: bytes) -> None:
        """Note what a device really sent."""
        body = body_of(raw)
        known = self.genuine.setdefault(message_id_of(body), Genuine(sender, body))
        if known.body != body or known.sender != sender:
            self.world.trace.problem("device", f"one message id with two contents: {message_id_of(body)}")
        known.sealings.append(raw)
        if len(self.requests) < MOST_SEEN:
            self.requests.append((sender, raw))

    async def carry(self, sender: str, raw: bytes) -> HttpAnswer:
        if sender in self.cut_off:
            self.world.trace.note("net", "cut-off", sender)
            await asyncio.sleep(self.chance.choice((0.1, TIMEOUT_S)))
            raise BusUnreachable("no route")
        fate = self.chance.choice(self._fates) if self.chance.random() < self.trouble else self._carry
        self.world.trace.note("net", fate.__name__.strip("_"), sender, len(raw), digest(raw))
        return await fate(sender, raw)

    async def to_bus(self, raw: bytes, peer: str) -> HttpAnswer | None:
        await asyncio.sleep(self.chance.choice((0.01, 0.05, 0.2)))
        reply = await self.world.bus.receive(raw, peer)
        if reply is None:
            return None
        headers = {"retry-after": "30"} if reply.status == 503 else {}
        self.world.trace.note("net", f"answer-{reply.status}", len(reply.body), digest(reply.body))
        if len(self.answers) < MOST_SEEN:
            self.answers.append(reply.body)
        return HttpAnswer(reply.status, headers, reply.body)

    async def _carry(self, sender: str, raw: bytes) -> HttpAnswer:
        answer = await self.to_bus(raw, sender)
        if answer is None:
            raise BusUnreachable("connection refused or reset")
        await asyncio.sleep(0.05)
        return answer

    def _aside(self, wait_s: float, raw: bytes, peer: str) -> None:
        """Bring bytes to the bus later, whoever may have waited for the answer."""

        async def bring() -> None:
            await asyncio.sleep(wait_s)
            await self.to_bus(raw, peer)

        self.world.begin(bring())

    # --- what the network does ---

    async def _lose_request(self, _sender: str, _raw: bytes) -> HttpAnswer:
        await asyncio.sleep(TIMEOUT_S)
        raise BusUnreachable("timed out")

    async def _lose_answer(self, sender: str, raw: bytes) -> HttpAnswer:
        self._aside(0, raw, sender)
        await asyncio.sleep(TIMEOUT_S)
        raise BusUnreachable("timed out")

    async def _twice(self, sender: str, raw: bytes) -> HttpAnswer:
        """Again at once, so that both are in one group; or minutes or days later."""
        for wait_s in self.chance.sample((0, 0, 0.03, 5, 1200, 90_000), 2):
            self._aside(wait_s, raw, sender)
        return await self._carry(sender, raw)

    async def _late(self, sender: str, raw: bytes) -> HttpAnswer:
        """After the device has given up and sends anew: what was sent first comes last."""
        self._aside(self.chance.choice((31, 45, 300, 890, 1000, 7200, 50_000)), raw, sender)
        await asyncio.sleep(TIMEOUT_S)
        raise BusUnreachable("timed out")

    async def _cut_request(self, sender: str, raw: bytes) -> HttpAnswer:
        return await self._carry(sender, raw[: self.chance.randrange(len(raw))])

    async def _cut_answer(self, sender: str, raw: bytes) -> HttpAnswer:
        answer = await self._carry(sender, raw)
        return answer._replace(content=answer.content[: self.chance.randrange(len(answer.content) + 1)])

    async def _proxy_answer(self, _sender: str, _raw: bytes) -> HttpAnswer:
        await asyncio.sleep(0.1)
        status = self.chance.choice((200, 302, 403, 407, 502, 504))
        return HttpAnswer(status, {}, self.chance.choice((b"", b"<html><body>proxy</body></html>", b"\0" * 40)))

    # --- what somebody in it does ---

    async def _changed_request(self, sender: str, raw: bytes) -> HttpAnswer:
        return await self._carry(sender, self.changed(raw))

    async def _changed_answer(self, sender: str, raw: bytes) -> HttpAnswer:
        answer = await self._carry(sender, raw)
        return answer._replace(content=self.changed(answer.content))

    async def _forged_answer(self, sender: str, raw: bytes) -> HttpAnswer:
        """Swallow the request and answer with a receipt, signed by a bus of another CA or by a device of ours."""
        parties = self.world.setting.parties
        body = body_of(raw)
        content_digest = exchange.content_digest(body)
        now = self.world.utc_ms()
        receipt = Receipt(
            message_id_of(body), sender, content_digest, _REFERENCES, now, Position(0, 7), bytes(32), Counts(1, 0, 0)
        )
        signer = self.chance.choice((parties.false_bus, parties.devices[INSIDER]))
        forged = exchange.seal(answers.encode_receipt(receipt, "MeterReadings", "bus"), signer, now)
        if self.chance.random() < 0.2:
            forged = answers.encode_receipt(receipt, "MeterReadings", "bus")
        return HttpAnswer(200, {}, forged)

    async def _foreign_answer(self, sender: str, raw: bytes) -> HttpAnswer:
        """Swallow the request, or bring it under the attacker's own seal, and give another genuine answer."""
        if self.chance.random() < 0.5:
            mine = self.world.setting.parties.devices[INSIDER]
            return await self._carry(sender, exchange.seal(body_of(raw), mine, self.world.utc_ms()))
        return HttpAnswer(200, {}, self.chance.choice(self.answers) if self.answers else b"")

    async def attack(self) -> None:
        """Something of the attacker's own, to the bus."""
        if not self.requests:
            return
        sender, raw = self.chance.choice(self.requests)
        name, forged = self.chance.choice(self._attacks())(sender, raw)
        self.world.trace.note("attacker", name, digest(forged))
        await self.to_bus(forged, "203.0.113.66")

    def _attacks(self) -> tuple[Callable[[str, bytes], tuple[str, bytes]], ...]:
        parties, now = self.world.setting.parties, self.world.utc_ms()
        insider = parties.devices[INSIDER]
        return (
            lambda sender, raw: ("replayed", raw),
            lambda sender, raw: ("changed", self.changed(raw)),
            lambda sender, raw: ("changed", self.changed(raw)),
            lambda sender, raw: (
                "sealed-by-stranger",
                exchange.seal(self.altered(body_of(raw)), parties.stranger, now),
            ),
            lambda sender, raw: ("sealed-by-insider", exchange.seal(self.altered(body_of(raw)), insider, now)),
            lambda sender, raw: (
                "claimed-by-insider",
                exchange.seal(
                    body_of(raw).replace(f">{sender}</Source>".encode(), f">{INSIDER}</Source>".encode()), insider, now
                ),
            ),
            lambda sender, raw: ("grafted", self._grafted(raw)),
        )

    def _grafted(self, raw: bytes) -> bytes:
        """The seal of one message on the content of another."""
        return raw.replace(body_of(raw), self.altered(body_of(self.chance.choice(self.requests)[1])))

    def changed(self, raw: bytes) -> bytes:
        """A few bytes changed, mostly where it would pay."""
        if not raw:
            return raw
        if self.chance.random() < 0.6:
            return self.altered(raw)
        at = self.chance.randrange(len(raw))
        return self.chance.choice(
            (
                raw[:at] + bytes([self.chance.randrange(32, 127)]) + raw[at + 1 :],
                raw[:at] + raw[at + self.chance.randrange(1, 40) :],
                raw[:at] + raw[max(0, at - 30) :],
            )
        )

    def altered(self, raw: bytes) -> bytes:
        """Another digit in a value, a time, a name or the message id."""
        places = [*PLACES.finditer(raw)]
        if not places:
            return raw
        place = self.chance.choice(places)
        digits = [index for index in range(*place.span(1)) if raw[index : index + 1].isdigit()]
        if not digits:
            return raw
        at = self.chance.choice(digits)
        other = (int(raw[at : at + 1]) + self.chance.randrange(1, 10)) % 10
        return raw[:at] + str(other).encode() + raw[at + 1 :]


PLACES = re.compile(
    rb"<(?:value|timeStamp|MessageID[^>]*|Source[^>]*|Value|wsu:Created|mRID|seq|recordedAt|messageId|"
    rb"logRootBefore|DigestValue|ds:DigestValue)>([^<]+)<"
)
# What a receipt must name to be one at all; a device cannot know which form its request arrived in.
_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
_REFERENCES = (Reference("#body", _C14N, "", "http://www.w3.org/2001/04/xmlenc#sha256", "A" * 43 + "="),)
_MESSAGE_ID = re.compile(rb"<MessageID[^>]*>([^<]+)</MessageID>")


def body_of(raw: bytes) -> bytes:
    """The Body's child of a message that one of our devices sealed."""
    start = raw.index(b">", raw.index(b"<soap:Body")) + 1
    return raw[start : raw.rindex(b"</soap:Body>")]


def message_id_of(body: bytes) -> str:
    found = _MESSAGE_ID.search(body)
    assert found is not None, body[:300]
    return found[1].decode()
