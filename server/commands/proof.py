"""gridpost proof BILL: one file by which anybody can check a bill without the store, the bus or a network.

In: the store, a bill by its id. Out: the proof (gridpost/bill_proof.py), written whole or not at all. It holds the
entry of the bill and every entry the bill rests on, with a signed tree head that covers them. Before it is handed out
it is checked by the house's own verifier; `gridpost verify` checks it with another library, anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.progress import Progress

from gridpost import bill_document, bill_proof
from gridpost.bill_proof import BillVerifier
from gridpost.documents import BILL, OURS
from gridpost.errors import NotFound, StoreUnavailable

from .. import config as configuration
from ..log_check import StoreAuthority, senders
from .files import write_parts
from .log_proofs import Source, Wanted, heads_for, lines
from .output import SHOWN, config_option, console, done, json_option, opened


class Proof(NamedTuple):
    """A proof that holds: its lines, and of how many entries it is."""

    lines: Sequence[bytes]
    entries: int


@click.command("proof")
@click.argument("bill")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@config_option
@json_option
def command(bill: str, out: Path, config_file: Path, as_json: bool) -> None:
    """Write the proof of a BILL: its readings, tariffs and contract with their signatures, receipts and hashes.

    `gridpost verify --trust ca.pem FILE` checks it anywhere, down to the digits of each line.
    """
    config = configuration.load(config_file)
    with opened(config) as store:
        proof = prove(Source.of(config, store), bill)
    write_parts(out, proof.lines)
    told = f"{out}: {bill} with {proof.entries} entries, {sum(map(len, proof.lines))} bytes"
    done(as_json, {"file": str(out), "bill": bill, "entries": proof.entries}, told)


def prove(source: Source, bill: str) -> Proof:
    """Return the proof of a bill, checked.

    Raises:
        NotFound: no such bill.
        StoreUnavailable: what is on file does not prove it; each finding is listed.
    """
    found = source.store.documents(BILL, owner=OURS, id=bill)
    if not found:
        raise NotFound(f"there is no bill {bill!r}; `gridpost bill list` names them")
    at = found[-1].position
    spans = bill_proof.spans(bill_document.decode(found[-1].document.content), at)
    wanted = Wanted(spans, heads_for(source, spans, ()))
    with Progress(console=console(), transient=True) as bars:
        task = bars.add_task("proving", total=sum(span.last + 1 - span.first for span in spans))
        rest = lines(source, wanted, lambda: bars.advance(task))
        whole = [bill_proof.render_start(bill, at), *rest]
    verifier = BillVerifier([source.authority], lambda _: StoreAuthority(source.trust, senders(source.store)))
    verifier.run(whole)
    if verifier.items:
        raise StoreUnavailable("what is on file does not prove this bill", items=verifier.items[:SHOWN])
    return Proof(whole, verifier.entries)
