"""gridpost proof BILL: one file by which anybody can check a bill without the store, the bus or a network.

In: the store, a bill by its id. Out: the proof (gridpost/bill_proof.py), written whole or not at all. It holds the
entry of the bill and every entry the bill rests on, with a signed tree head that covers them. Before it is handed out
it is checked by the house's own verifier; `gridpost verify` checks it with another library, anywhere.
"""

from __future__ import annotations

from pathlib import Path

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
from .output import config_option, console, done, json_option, opened


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
        source = Source.of(config, store)
        made = _made(source, bill)
        write_parts(out, made)
    entries = len(made) - LINES_BEFORE
    told = f"{out}: {bill} with {entries} entries, {sum(map(len, made))} bytes"
    done(as_json, {"file": str(out), "bill": bill, "entries": entries}, told)


LINES_BEFORE = 4  # the bill's, the proof file's first, the CA, and a head (one partition)


def _made(source: Source, bill: str) -> list[bytes]:
    """Return the lines of a proof that holds.

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
        made = [bill_proof.render_start(bill, at), *rest]
    verifier = BillVerifier([source.authority], lambda _: StoreAuthority(source.trust, senders(source.store)))
    verifier.run(made)
    if verifier.items:
        raise StoreUnavailable("what is on file does not prove this bill", items=verifier.items[:20])
    return made
