"""Damage put into the product from outside, each of a kind that the judges must find."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from gridpost.ied_soap_client import push
from gridpost.server import readers, reception
from gridpost.server.store import SqlStore, group, on_file

from gridpost import exchange, merkle, units, wssecurity
from gridpost.envelope import canonical
from gridpost.errors import AnswerUntrusted, SignatureInvalid
from gridpost.exchange import Authentic
from gridpost.recogniser import Plain

Damage = Callable[[ExitStack], None]


def _put(stack: ExitStack, owner: Any, name: str, value: Any) -> Any:
    kept = getattr(owner, name)
    stack.enter_context(mock.patch.object(owner, name, value))
    return kept


def _unverified(envelope: Any) -> tuple[int, bytes]:
    """What a message says of itself: when it was sealed, and its payload in canonical form."""
    if isinstance(envelope, Plain):
        return envelope.created_utc_ms, envelope.payload
    try:
        created_utc_ms = units.parse_utc_ms(next(child.text for child in envelope.timestamp))
    except ValueError:
        raise SignatureInvalid from None
    return created_utc_ms, canonical(envelope.payload)


def verify_off(stack: ExitStack) -> None:
    """No signature is checked, no digest compared."""

    def verify(envelope: Any, enrolment: Any) -> Authentic:
        try:
            found: Authentic = kept(envelope, enrolment)
        except SignatureInvalid:
            created_utc_ms, payload = _unverified(envelope)
            found = Authentic(wssecurity.Verified((), bytes(32), created_utc_ms), exchange.content_digest(payload))
        return found

    kept = _put(stack, exchange, "verify", verify)


def window_off(stack: ExitStack) -> None:
    """Any age is taken."""
    _put(stack, reception, "check_moment", lambda *_: None)


def no_repeat_lookup(stack: ExitStack) -> None:
    """What is on file already is not looked for, and the index that would refuse it is away."""
    _put(stack, on_file, "known_receipts", lambda *_: {})
    _put(stack, SqlStore, "find", lambda *_: None)
    insert = group._insert

    def without_index(target: Any, planned: Any) -> None:
        target.connection.exec_driver_sql("DROP INDEX IF EXISTS entry_message_id")
        insert(target, planned)

    _put(stack, group, "_insert", without_index)


def answer_before_commit(stack: ExitStack) -> None:
    """The receipt leaves as soon as it is made."""

    def record(self: Any, entry: Any, rows: Any, make_receipt: Any) -> Any:
        early: list[bytes] = []

        def make(*stated: Any) -> bytes:
            early.append(make_receipt(*stated))
            return early[-1]

        future = kept(self, entry, rows, make)
        original = future.result
        future.result = lambda timeout=None: early[0] if early else original(timeout)
        return future

    kept = _put(stack, SqlStore, "record", record)


def receipt_made_anew(stack: ExitStack) -> None:
    """A repeat's receipt is another one, though of the same entry."""
    known = on_file.known_receipts

    def other(connection: Any, entries: Any) -> Any:
        found = known(connection, entries)
        return {key: one._replace(receipt=one.receipt + b"\n") for key, one in found.items()}

    def find(self: Any, *about: Any) -> Any:
        one = found_first(self, *about)
        return one and one._replace(receipt=one.receipt + b"\n")

    _put(stack, on_file, "known_receipts", other)
    found_first = _put(stack, SqlStore, "find", find)


def cursor_before_outbox(stack: ExitStack) -> None:
    """A reader's place moves in one transaction, its files come in another."""

    def advance(self: Any, reader: str, version: Any, state: Any, items: Any) -> Any:
        kept(self, reader, version, state, ()).result()
        return kept(self, reader, version, state, items)

    kept = _put(stack, SqlStore, "advance", advance)


def noted_before_delivery(stack: ExitStack) -> None:
    """A file is noted as delivered before it is."""

    def deliver(self: Any, item: Any, now_utc_ms: int) -> Any:
        self._store.delivered(self.name, item.name, "somewhere", now_utc_ms).result()
        return kept(self, item, now_utc_ms)

    kept = _put(stack, readers.Deliveries, "_deliver", deliver)


def root_off(stack: ExitStack) -> None:
    """The tree leaves its last peak out."""
    kept = merkle.root

    def root(frontier: Any) -> bytes:
        return hashlib.sha256(kept(frontier)).digest() if frontier.size > 5 else kept(frontier)

    _put(stack, merkle, "root", root)


def answers_believed(stack: ExitStack) -> None:
    """A device believes whoever answers."""

    def open_answer(raw: bytes, trust: Any) -> Any:
        try:
            return kept(raw, trust)
        except AnswerUntrusted:
            with mock.patch.object(exchange, "check_bus"):
                return kept(raw, trust)

    kept = _put(stack, push.exchange, "open_answer", open_answer)


def refusals_believed(stack: ExitStack) -> None:
    """A device takes a refusal of anybody's attempt to send its content for one of its own."""

    class Whichever:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    _put(stack, push, "signature_digest", lambda _: Whichever())


SABOTAGES: dict[str, Damage] = {
    "verify-off": verify_off,
    "window-off": window_off,
    "no-repeat-lookup": no_repeat_lookup,
    "answer-before-commit": answer_before_commit,
    "receipt-made-anew": receipt_made_anew,
    "cursor-before-outbox": cursor_before_outbox,
    "noted-before-delivery": noted_before_delivery,
    "root-off": root_off,
    "answers-believed": answers_believed,
    "refusals-believed": refusals_believed,
}


@contextmanager
def sabotaged(name: str) -> Iterator[None]:
    with ExitStack() as stack:
        if name:
            SABOTAGES[name](stack)
        yield
