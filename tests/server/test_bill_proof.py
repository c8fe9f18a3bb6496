"""Proofs of bills: what `verify` takes offline, what it works out by itself; and nonsense is a finding, no crash."""

from __future__ import annotations

import json
import random
import re
import socket
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

import proof_forger
import proof_world
import pytest
from click.testing import CliRunner
from gridpost.server import zones
from gridpost.server.commands import verify
from gridpost.server.commands.verify import BillAuthority, IndependentAuthority
from proof_forger import Forger
from proof_world import Made

from gridpost import bill_document, leaf, merkle, testing
from gridpost.canonical_json import write
from gridpost.errors import SignatureInvalid


@pytest.fixture(scope="module")
def world():
    return proof_world.build(proof_world.SHORT)


@pytest.fixture(scope="module")
def forger(world):
    return Forger(world)


@pytest.fixture(scope="module")
def genuine(forger):
    return forger.file(forger.genuine)


@pytest.fixture
def examined(tmp_path, world):
    def examine(content: bytes, trusted=None):
        file = tmp_path / "proof"
        file.write_bytes(content)
        return verify.verify(file, [world.ca.pem.decode()] if trusted is None else trusted, lambda _: None)

    return examine


def codes(verdict):
    return {item.code for item in verdict.items}


# --- what holds ------------------------------------------------------------------------------------------------------


def test_it_verifies_without_store_network_or_zone_files(examined, genuine, monkeypatch):
    def nothing(*_):
        raise AssertionError("it asked")

    monkeypatch.setattr(socket, "socket", nothing)
    monkeypatch.setattr(zones, "ZoneInfo", nothing)  # its home; the core may not even import zoneinfo
    verdict = examined(genuine)
    assert (verdict.items, verdict.kind) == ((), "proof of a bill")
    # 27 March to 1 April, 23 hours on the 29th: 119 hours, times two channels; six hours of each estimated.
    assert verdict.states["intervals"] == "238 of 238, 12 estimated"
    # Two tariffs, the contract, two pushes, correction, estimate, bill.
    assert verdict.states["entries"] == 8


def test_the_total_is_what_a_clerk_would_work_out(world, examined, genuine):
    """From the pattern of the readings and the zone files, by hand; nothing of the product's arithmetic."""
    period, change = world.month.period, world.month.change_utc
    hours = range(period.from_utc + 3600, period.to_utc + 1, 3600)
    taken = [Decimal(index * 7919 % 2500).scaleb(-3) for index in range(len(hours))]
    sent = [Decimal(index * 104_729 % 700).scaleb(-3) for index in range(len(hours))]
    taken[50:55] = map(Decimal, ["9.125", "0.250", "0.5", "1.000", "2.750"])
    taken[30:36] = sent[30:36] = [Decimal("0.5")] * 6
    amounts = []
    for (first, beyond), (day, night) in (
        ((period.from_utc, change), ("0.28", "0.16")),
        ((change, period.to_utc), ("0.30", "0.18")),
    ):
        inside = [place for place, end in enumerate(hours) if first < end <= beyond]
        local = {place: datetime.fromtimestamp(hours[place] - 3600, proof_world.PARIS).hour for place in inside}
        days = [place for place in inside if 7 <= local[place] < 22]
        nights = [place for place in inside if place not in days]
        part = [
            *(sum(taken[i] for i in group) * Decimal(price) for group, price in ((days, day), (nights, night))),
            *(-sum(sent[i] for i in group) * Decimal(price) for group, price in ((days, "0.05"), (nights, "0.04"))),
            max(taken[i] for i in inside) * Decimal("4.10"),
            Decimal("0.5") * Decimal("9.90"),
        ]
        part = [one.quantize(Decimal("0.01"), ROUND_HALF_UP) for one in part]
        amounts += [*part, (sum(part) * Decimal("0.20")).quantize(Decimal("0.01"), ROUND_HALF_UP)]
    assert examined(genuine).states["total"] == f"{sum(amounts)} EUR"


def test_the_command_tells_it_and_ends_with_its_status(world, genuine, forger, tmp_path):
    (tmp_path / "ca.pem").write_bytes(world.ca.pem)
    (tmp_path / "bill.proof").write_bytes(genuine)
    arguments = ["--trust", str(tmp_path / "ca.pem"), str(tmp_path / "bill.proof")]
    told = CliRunner().invoke(verify.command, arguments)
    assert told.exit_code == 0, told.output
    assert "proof of a bill, holds" in told.output
    # The first amount, in the message and in the row made of it, is 12.93; the total is left as it was.
    dearer = re.sub(rb'(amount\\+":\\+")12.93', rb"\g<1>12.94", genuine)
    (tmp_path / "bill.proof").write_bytes(dearer)
    told = CliRunner().invoke(verify.command, [*arguments, "--json"])
    assert told.exit_code == 1
    (file,) = json.loads(told.output)["files"]
    # 12 lines; the last is the entry of the bill, which has 14 lines.
    paths = [one["path"] for one in file["findings"]]
    assert "line 12 entry 0:8 evidence" in paths
    assert {"entry 0:8 total", "bill lines/0/amount"} <= set(paths)


def test_without_a_trusted_ca_nothing_is_found_right(examined, genuine):
    assert codes(examined(genuine, trusted=[])) == {"authority-unknown"}
    other = testing.ThrowawayCA(proof_world.CA_NAME)
    assert {"authority-unknown", "signature-invalid"} <= codes(examined(genuine, trusted=[other.pem.decode()]))


# --- what does not ---------------------------------------------------------------------------------------------------


def test_a_message_that_is_gone_is_named(examined, genuine):
    lines = genuine.splitlines(keepends=True)
    fields = json.loads(lines[7])
    text = json.dumps(fields | {"evidence": None}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    verdict = examined(b"".join([*lines[:7], text, *lines[8:]]))
    assert [(item.code, item.path) for item in verdict.items] == [("evidence-missing", f"entry 0:{fields['seq']}")]


def signed_by_others(forger, world, signer) -> bytes:
    """The genuine bill, sealed by somebody else whom the CA knows, in a log whose keeper signs whatever there is."""
    entries = list(forger.genuine)
    seq = forger.at["bill"]
    kept = entries[seq].kept
    evidence = verify.exchange.seal(
        verify.messages.encode(proof_forger.said(kept)), signer, kept.rows.header.created_utc_ms
    )
    kept = kept._replace(evidence=evidence, parts=kept.parts._replace(evidence_sha256=verify.sha256(evidence).digest()))
    entries[seq] = Made(kept, merkle.leaf_hash(leaf.encode_leaf(kept.parts)))
    head = proof_world.tree_head(entries, world.bus, world.now[0])
    told = proof_world.Told(entries, head, world.ca.pem)
    return proof_world.write(told, world.at["bill"], proof_forger.spans(world.document, world.at["bill"]))


def test_a_bill_is_the_buss_own_and_no_devices(examined, forger, world):
    """Even a device that was enrolled by the name of the bus, and that a bus with its keys put into the log."""
    assert codes(examined(signed_by_others(forger, world, world.ca.issue_bus()))) == set()
    found = examined(signed_by_others(forger, world, world.ca.issue_device("bus"))).items
    assert [(item.code, item.path) for item in found] == [("bill-changed", f"entry 0:{forger.at['bill']}")]


def test_the_first_line_names_the_bill(examined, genuine, forger):
    for old, new, place in (
        (b'"bill":"C1-2026-03"', b'"bill":"C1-2026-04"', "line 1 bill"),
        (b'"entry":[0,8]', b'"entry":[0,3]', "line 1 entry"),
        (b'"entry":[0,8]', b'"entry":[0,99]', "line 1 entry"),
        (b'"version":1,"bill"', b'"version":2,"bill"', "line 1"),
        (b"gridpost-bill-proof", b"gridpost-bell-proof", "line 1"),
    ):
        assert genuine.count(old) == 1
        verdict = examined(genuine.replace(old, new))
        assert place in [item.path for item in verdict.items], verdict.items


NASTY = [0, -1, 1 << 62, -(1 << 62), 1 << 70, "", "0", "-1", "NaN", "1e9", "9" * 200, None, True, [], [[0, 0]], {}]


def nasty(value, chance, depth=0):
    """A document with one of its values replaced by something nobody expects there."""
    if isinstance(value, dict | list) and value and (depth < 2 or chance.random() < 0.8):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = chance.choice(keys)
        changed = value.copy()
        changed[key] = nasty(value[key], chance, depth + 1)
        return changed
    return chance.choice(NASTY)


@pytest.mark.parametrize("seed", range(30))
def test_no_nonsense_in_a_bill_is_more_than_a_finding(examined, forger, world, seed):
    chance = random.Random(seed)
    genuine = bill_document.encode(world.document)
    content = write(nasty(json.loads(genuine), chance))
    while content == genuine:
        content = write(nasty(json.loads(genuine), chance))
    seq = forger.at["bill"]
    entries = forger.forged({seq: proof_forger.with_content(forger.genuine[seq].kept, content)}, proof_forger.KEPT)
    assert "evidence-changed" in codes(examined(forger.file(entries)))


@pytest.mark.parametrize("name", ["contract", "tariff", "next tariff"])
@pytest.mark.parametrize("content", ["", "{}", "<a/>", '{"version":1}', "[" * 5000])
def test_no_nonsense_behind_a_bill_is_more_than_a_finding(examined, forger, name, content):
    seq = forger.at[name]
    entries = forger.forged({seq: proof_forger.with_content(forger.genuine[seq].kept, content)}, proof_forger.KEPT)
    assert {"evidence-changed", "bill-changed"} <= codes(examined(forger.file(entries)))


@pytest.mark.parametrize(
    "change",
    [
        {"from_utc": -1 << 61},
        {"to_utc": 1 << 61},
        {"lines": ()},
        {"zone": "Europe/Berlin"},
        {"marks": ()},
        {"estimated": ()},
        {"currency": "USD"},
    ],
)
def test_each_part_of_a_bill_is_worked_out_again(examined, forger, world, change):
    other = replace(world.document, bill=replace(world.document.bill, **change))
    seq = forger.at["bill"]
    kept = forger.genuine[seq].kept
    entries = forger.forged({seq: proof_forger.with_content(kept, bill_document.encode(other))}, proof_forger.KEPT)
    (name,) = change
    assert any(f"bill {name}" in item.path for item in examined(forger.file(entries)).items)


# --- suppliers -------------------------------------------------------------------------------------------------------


def test_a_supplier_whose_ca_nobody_knows_is_told(world):
    theirs = testing.ThrowawayCA("A supplier's CA")
    message = testing.readings_message("S1", "m", [testing.block(world.channels[0], 3600, ["1"])])
    raw = testing.sealed(message, theirs.issue_device("S1"))
    ours = world.ca.pem.decode()
    with pytest.raises(SignatureInvalid):
        IndependentAuthority(ours).partner(raw)
    authority = BillAuthority(ours)
    assert authority.partner(raw).signer == ""
    assert [one.partition(" ")[0] for one in authority.vouched] == ["CN=S1"]
    with pytest.raises(SignatureInvalid):
        authority.partner(raw.replace(b"<value>1<", b"<value>2<"))
    with pytest.raises(SignatureInvalid):
        authority.device(raw)
    known = BillAuthority(ours + theirs.pem.decode())
    assert known.partner(raw).signer == "S1"
    assert known.vouched == set()
