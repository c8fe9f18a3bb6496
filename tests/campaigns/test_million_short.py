"""bench/million.py in short: a store made by bulk SQL is one the bus serves, and what its figures are made of."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import million
import million_store
import open_loop
import pushes
import servers

SHORT = ("--ieds", "30", "--known", "21", "--rate", "20", "--minutes", "0.05", "--no-highest", "--json")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("million")


@pytest.fixture(scope="module")
def result(work):
    """One short run's JSON object; its exit code must be 1, for it is not the whole thing."""
    printed = []
    million.print = printed.append
    try:
        assert million.main(["--work", str(work), *SHORT]) == 1
    finally:
        del million.print
    return json.loads(printed[0])


def test_every_push_is_taken_on_a_connection_of_its_own(result):
    steady = result["steady"]
    assert (steady["sent"], steady["taken"], steady["failed"], steady["reasons"]) == (60, 60, 0, {})
    assert steady["wrong_receipts"] == []
    assert not result["ok"]
    missed = {one["aim"] for one in result["aims"] if not one["holds"]}
    assert {"IEDs enrolled", "ids known", "pushes a second", "minutes"} <= missed
    assert not missed & {"failed", "taken", "wrong receipts"}


def test_the_store_holds_what_was_asked_for_and_grew_by_what_was_pushed(result, work):
    folder = million_store.prepared(work, 30, 21)  # the same again, not a second one
    assert [place.name for place in work.iterdir()] == [folder.name]
    with closing(sqlite3.connect(folder / "gridpost.db")) as sql:
        counts = "SELECT count(*), count(DISTINCT seq), max(seq) FROM entry"
        assert sql.execute(counts).fetchone() == (131, 131, 130)  # known, warming up, pushed
    (signer,) = million_store.signers(folder, [29]).values()
    issued, ca = (x509.load_der_x509_certificate(signer.certificate),
                  x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()))  # fmt: skip
    issued.verify_directly_issued_by(ca)
    assert issued.subject.rfc4514_string() == "CN=IED-0000029"
    assert isinstance(issued.public_key(), ec.EllipticCurvePublicKey)


def test_an_unfinished_store_is_not_taken_for_a_whole_one(tmp_path):
    (tmp_path / "5-ieds-5-ids").mkdir()
    with pytest.raises(SystemExit, match="unfinished"):
        million_store.prepared(tmp_path, 5, 5)


def test_latencies_count_from_the_moment_and_what_failed_is_no_latency():
    message = SimpleNamespace(message_id="id-1")
    fine = [pushes.Outcome(message, 200, b"... id-1 ...", late_s, 0.001) for late_s in [0.010] * 98 + [0.5] * 2]
    bad = [
        pushes.Outcome(message, 503, b"id-1", 9.0, 9.0),
        pushes.Outcome(message, 200, b"another", 9.0, 9.0),
        pushes.Outcome(message, 0, b"", 9.0, 9.0, "ConnectionResetError: gone"),
    ]
    found = open_loop.figures(open_loop.Load(10.0, fine + bad, 0, 0.0, 1.0, {}), 278.0)
    assert (found["sent"], found["taken"], found["failed"]) == (103, 100, 3)
    assert (found["p50_ms"], found["p99_ms"], found["longest_ms"]) == (10.0, 500.0, 500.0)
    assert found["reasons"]["ConnectionResetError: gone"] == 1


def test_memory_is_compared_from_minute_two():
    memory = {second: 100 + (50 if second >= 60 else 0) for second in range(601)} | {600: 165}
    assert million.growth(memory, 10.0) == 165 / 150


def test_a_familys_time_and_memory_are_counted():
    pid = servers.os.getpid()
    assert pid in servers.family(servers.os.getppid())
    assert servers.cpu_s(pid) > 0
