"""gridpost log prove and export: files that verify without the store, the bus or a network.

In: the store, entries by name. Out: proof files (gridpost/proof.py), written whole or not at all, line by line, so that
a log of any length fits. Each holds a signed tree head that covers its entries; where the newest on file does not, one
is signed now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.progress import Progress

from gridpost import merkle, proof
from gridpost.errors import FileInvalid, NotFound, PeerFault, StoreUnavailable
from gridpost.exchange import Trust
from gridpost.model import Position
from gridpost.proof import Span

from .. import config as configuration
from ..heads import Author, sign_head
from ..identity import load_ca, load_signer, pem_of, trust_of
from ..log_check import Anchor, read_anchor
from ..log_walk import read_exhibit
from ..store import SqlStore
from ..store.archive import CHUNK, KeptHead
from .files import make_folder, write_parts
from .output import config_option, console, done, json_option, now_utc_ms, opened

A_FILE = 10_000  # entries in one file of a folder
SUFFIX = "proof.jsonl"
Watch = Callable[[], None]
_ENTRY = re.compile(r"([0-9]{1,9}):([0-9]{1,18})\Z", re.ASCII)


class Source(NamedTuple):
    """Where proofs come from."""

    config: configuration.Config
    store: SqlStore
    trust: Trust
    authority: str

    @classmethod
    def of(cls, config: configuration.Config, store: SqlStore) -> Source:
        """Read the CA that vouches for the bus and its devices."""
        ca = load_ca(config)
        return cls(config, store, trust_of(ca), pem_of(ca))


class Wanted(NamedTuple):
    """What a file is to hold: entries, the head of each partition concerned, anchors."""

    spans: Sequence[Span]
    heads: dict[int, KeptHead]
    anchors: Sequence[tuple[Anchor, bytes]] = ()


@click.command("prove")
@click.argument("entries", nargs=-1, required=True)
@click.option(
    "--since", "anchors", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also prove that the log still begins as this older tree head or receipt says.",
)  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@config_option
@json_option
def prove(entries: tuple[str, ...], anchors: tuple[Path, ...], out: Path, config_file: Path, as_json: bool) -> None:
    """Write a proof file of ENTRIES, each PARTITION:SEQ or the file of its receipt.

    `gridpost verify --trust ca.pem FILE` checks it anywhere.
    """
    config = configuration.load(config_file)
    with opened(config) as store:
        source = Source.of(config, store)
        spans = [Span(one.partition, one.seq, one.seq) for one in (_position(name, source.trust) for name in entries)]
        held = [(read_file(file, source.trust), file.read_bytes()) for file in anchors]
        wanted = Wanted(spans, heads_for(source, spans, [anchor for anchor, _ in held]), held)
        _write(source, (out, wanted), lambda: None)
    done(as_json, {"file": str(out), "entries": len(spans)}, f"{out}: {len(spans)} entries")


@click.command("export")
@click.option("--partition", type=int, help="Partition of the log; otherwise all.")
@click.option("--from", "first", type=click.IntRange(min=0), default=0, show_default=True, help="First seq.")
@click.option("--to", "last", type=click.IntRange(min=0), help="Last seq, included; otherwise all there are.")
@click.option(
    "--out", type=click.Path(), required=True,
    help=f"File to write, or a folder (one that exists, or ends in /): then a file each {A_FILE} entries.",
)  # fmt: skip
@config_option
@json_option
def export(partition: int | None, first: int, last: int | None, out: str, config_file: Path, as_json: bool) -> None:
    """Write the log's entries as proof files.

    `gridpost verify --trust ca.pem FILE` checks them anywhere.
    """
    config = configuration.load(config_file)
    with opened(config) as store, Progress(console=console(), transient=True) as bars:
        source = Source.of(config, store)
        spans = _spans(store, partition, (first, last))
        total = sum(span.last - span.first + 1 for span in spans)
        task = bars.add_task("exporting", total=total)
        wanted = Wanted(spans, heads_for(source, spans, ()))
        written = [_write(source, part, lambda: bars.advance(task)) for part in _parts(wanted, out)]
    done(as_json, {"files": written, "entries": total}, "\n".join(written))


def write_entry(config: configuration.Config, name: str, out: Path) -> None:
    """Write the proof file of one entry, named PARTITION:SEQ.

    Raises:
        NotFound: no such entry.
        StoreUnavailable: the log is damaged there.
    """
    with opened(config) as store:
        source = Source.of(config, store)
        partition, seq = _position(name, source.trust)
        spans = [Span(partition, seq, seq)]
        _write(source, (out, Wanted(spans, heads_for(source, spans, ()))), lambda: None)


def _parts(wanted: Wanted, out: str) -> Iterator[tuple[Path, Wanted]]:
    """Yield what becomes one file each."""
    if not (Path(out).is_dir() or out.endswith("/")):
        yield Path(out), wanted
        return
    make_folder(Path(out))
    for span in wanted.spans:
        for first in range(span.first, span.last + 1, A_FILE):
            part = Span(span.partition, first, min(first + A_FILE - 1, span.last))
            name = f"log-{span.partition}-{first:012d}.{SUFFIX}"
            yield Path(out) / name, Wanted([part], {span.partition: wanted.heads[span.partition]})


def _write(source: Source, part: tuple[Path, Wanted], watch: Watch) -> str:
    file, wanted = part
    write_parts(file, lines(source, wanted, watch))
    return str(file)


def _spans(store: SqlStore, partition: int | None, asked: tuple[int, int | None]) -> list[Span]:
    newest = {number: seq for number, seq in store.version().items() if partition in (None, number)}
    last = asked[1]
    spans = [Span(number, asked[0], seq if last is None else min(seq, last)) for number, seq in newest.items()]
    found = [span for span in spans if span.first <= span.last]
    if not found:
        raise NotFound("the log has no such entries")
    return found


# --- the lines of a file ---------------------------------------------------------------------------------------------


def lines(source: Source, wanted: Wanted, watch: Watch) -> Iterator[bytes]:
    """Yield a proof file line by line.

    Raises:
        NotFound: no such entry.
        StoreUnavailable: an entry is damaged; `log check` says how.
    """
    yield proof.render_start(wanted.spans)
    yield proof.render_authority(source.authority)
    concerned = {span.partition for span in wanted.spans} | {anchor.partition for anchor, _ in wanted.anchors}
    subtrees = {number: source.store.cached_subtrees(number) for number in concerned}
    for number in sorted(concerned):
        yield proof.render_head(wanted.heads[number].signed)
    for anchor, raw in wanted.anchors:
        size, head = anchor.claim.size, wanted.heads[anchor.partition]
        path = merkle.consistency_proof(size, head.size, subtrees[anchor.partition]) if size else ()
        yield proof.render_anchor(raw, path)
    for span in wanted.spans:
        yield from _entries(source, span, (wanted.heads[span.partition].size, subtrees[span.partition]), watch)


def _entries(source: Source, span: Span, tree: tuple[int, merkle.Subtree], watch: Watch) -> Iterator[bytes]:
    due = span.first
    while due <= span.last:
        batch = source.store.entries_on_file(span.partition, due, min(CHUNK, span.last + 1 - due))
        if not batch:
            raise _damaged(span.partition, due)
        for one in batch:
            kept, items = read_exhibit(one)
            if one.seq != due or kept is None or items:
                raise _damaged(span.partition, due)
            yield proof.render_entry(kept, merkle.inclusion_proof(due, *tree))
            due += 1
            watch()


def _damaged(partition: int, seq: int) -> StoreUnavailable:
    return StoreUnavailable(f"the log is damaged at entry {partition}:{seq}; `gridpost log check` says how")


def heads_for(source: Source, spans: Sequence[Span], anchors: Sequence[Anchor]) -> dict[int, KeptHead]:
    """Return a head of each partition concerned that covers all that is asked for; sign one where there is none.

    Raises:
        NotFound: the log is not that long.
    """
    needed: dict[int, int] = {}
    newest = source.store.version()
    asked = [(span.partition, span.last + 1) for span in spans]
    for number, size in asked + [(anchor.partition, anchor.claim.size) for anchor in anchors]:
        if size > newest.get(number, -1) + 1:
            raise NotFound(f"the log has no entry {number}:{size - 1}")
        needed[number] = max(size, needed.get(number, 1))
    return {number: _head(source, number, size) for number, size in needed.items()}


def _head(source: Source, number: int, size: int) -> KeptHead:
    head = source.store.newest_head(number)
    if head is not None and head.size >= size:
        return head
    author = Author(source.config.bus.id, load_signer(source.config))
    return sign_head(source.store, author, number, now_utc_ms())


# --- names -----------------------------------------------------------------------------------------------------------


def _position(name: str, trust: Trust) -> Position:
    found = _ENTRY.match(name)
    if found:
        return Position(int(found[1]), int(found[2]))
    if not Path(name).is_file():
        raise click.BadParameter(f"{name!r} is neither PARTITION:SEQ nor a file", param_hint="ENTRIES")
    receipt = read_file(Path(name), trust).claim.receipt
    if receipt is None:
        raise FileInvalid(f"{name} is a tree head, not the receipt of an entry")
    return receipt.position


def read_file(file: Path, trust: Trust) -> Anchor:
    """Read a signed tree head or a receipt from a file.

    Raises:
        FileInvalid: it is neither, or not of this bus.
    """
    try:
        return read_anchor(str(file), file.read_bytes(), trust)
    except PeerFault as error:
        why = error.detail or error.reason
        raise FileInvalid(f"{file} is neither a tree head nor a receipt of this bus: {why}") from None
