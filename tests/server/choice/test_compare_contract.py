"""gridpost compare and gridpost watch beside a store: a contract's own readings, tariffs on file."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from customer_place import MIDNIGHT, CustomerPlace, tariff
from gridpost.server.commands import compare, watch

from gridpost.errors import BillRefused, ConfigInvalid, NotFound

DAY = 86_400


@pytest.fixture
def place(post_office, tmp_path):
    """A customer of A at 0.10 EUR from 1 December 2025: 1 kWh each quarter of an hour of two days."""
    (tmp_path / "gridpost.toml").write_text("[listen]\nhttp = '127.0.0.1:0'\n")
    made = CustomerPlace(post_office)
    made.offer(tariff("A", "0.10"), tariff("B", "0.08"), tariff("C", "0.50"), tariff("D", "0.01", currency="USD"))
    made.contract("A")
    made.push(MIDNIGHT - 2 * DAY + 900, *["1"] * 192)
    return made


def run(command, place, *given):
    found = CliRunner().invoke(command, [*given, "--config", str(place.post.path.parent / "gridpost.toml"), "--json"])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


# 192 kWh: 19.20, 15.36, 96.00; the offer in dollars is none.
def test_a_contract_is_compared_with_every_tariff_on_file(place):
    found = run(compare.command, place, "C-1", "--out", str(place.post.path.parent / "cost.svg"))
    assert [(one["name"], one["low"]) for one in found["costs"]] == [
        ("A, A's", "19.20"), ("B, B's", "15.36"), ("C, C's", "96.00"),
    ]  # fmt: skip
    assert (found["answer"], found["best"], found["saving"]) == ("switch", "B, B's", ["3.84", "3.84"])
    assert (found["from"], found["to"]) == ("2025-12-30T00:00:00Z", "2026-01-01T00:00:00Z")
    assert (found["data_version"], found["entries"]) == ("0:2", ["0:2"])  # D1: behind tariffs and contract, the push
    assert (place.post.path.parent / "cost.svg").read_bytes().startswith(b"<?xml")


def test_bids_may_be_named_and_the_period_asked_for(place):
    found = run(compare.command, place, "C-1", "--bid", "Dear=C/C-T", "--from", "2025-12-31")
    assert [(one["name"], one["low"]) for one in found["costs"]] == [("A, A's", "9.60"), ("Dear", "48.00")]
    assert found["answer"] == "stay"
    found = run(compare.command, place, "C-1", "--bid", "B/B-T", "--running")
    assert found["from"] == "2025-12-01T00:00:00Z"  # the cycle's beginning: 29 days are not known
    assert (found["answer"], len(found["uncertain"])) == ("switch", 29 * 96)


def test_an_energy_contract_is_compared_with_its_network_kept(place):
    place.offer(tariff("E1", "0.07", kind="energy"), tariff("E2", "0.05", kind="energy"),
                tariff("N", "0.02", kind="distribution"))  # fmt: skip
    place.contract("A", to_utc=MIDNIGHT - DAY)
    place.contract("E1", "energy", "C-E")
    place.contract("N", "distribution", "C-N")
    found = run(compare.command, place, "C-E")
    costs = {one["name"]: one["low"] for one in found["costs"]}
    assert list(costs) == ["E1, E1's + N, N's", "A, A's", "B, B's", "C, C's", "E2, E2's + N, N's"]
    assert costs["E2, E2's + N, N's"] == "13.44"  # 192 x (0.05 + 0.02)
    assert found["best"] == "E2, E2's + N, N's"


def test_what_was_used_before_the_contract_is_another_customers(place):
    place.contract("A", number="C-2", from_utc=MIDNIGHT - DAY // 2)
    for more in ((), ("--running",), ("--from", "2025-12-30")):
        found = run(compare.command, place, "C-2", "--bid", "B/B-T", *more)
        assert (found["from"], found["to"]) == ("2025-12-31T12:00:00Z", "2026-01-01T00:00:00Z")
    with pytest.raises(BillRefused, match="not in force in that period"):
        run(compare.command, place, "C-2", "--bid", "B/B-T", "--from", "2025-12-30", "--to", "2025-12-30")


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (("C-9",), NotFound, "no contract C-9"),
        (("C-1", "--bid", "X/X-T"), NotFound, "X/X-T"),
        (("C-1", "--from", "2026-02-01"), BillRefused, "no time"),
    ],
)
def test_what_cannot_be_compared_is_told(place, given, error, said):
    with pytest.raises(error, match=said):
        run(compare.command, place, *given)


def test_a_contract_without_readings_is_told(post_office, tmp_path):
    (tmp_path / "gridpost.toml").write_text("")
    made = CustomerPlace(post_office)
    made.offer(tariff("A", "0.10"), tariff("B", "0.08"))
    made.contract("A")
    with pytest.raises(BillRefused, match="no readings yet"):
        run(compare.command, made, "C-1")


# --- watch ---


def test_what_is_watched_is_shown_with_what_a_kwh_costs_now(place):
    folder = place.post.path.parent
    (folder / "policies.toml").write_text(
        '[[watch]]\ncontract = "C-1"\nmost_kw = "5"\n[[watch]]\ncontract = "C-9"\nleast_kw = "1"\n'
    )
    (folder / "gridpost.toml").write_text('[choice]\npolicies = "policies.toml"\n')
    first, second = run(watch.check, place)["watches"]
    assert first["most_kw"] == "5"
    assert first["tariffs"] == [{"supplier": "A", "id": "A-T", "price": "0.10 EUR"}]
    assert second["problem"].startswith("not-found")


def test_without_a_file_nothing_is_watched(place):
    with pytest.raises(ConfigInvalid, match=r"choice\.policies"):
        run(watch.check, place)
    assert CliRunner().invoke(watch.example).stdout.startswith("# What is watched")
