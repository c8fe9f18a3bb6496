"""The fuzz campaign in short: some mutated messages, every kept corpus through its target, and damage that is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent))

import fuzz_sabotage
import genuine_samples
import seeds
import targets

import fuzz

CORPUS = Path(fuzz.FUZZ) / "corpus"


@pytest.fixture
def broken(monkeypatch):
    """Return a function that applies a sabotage in this process; it is undone behind the test."""
    fuzz.expected()

    def apply(name: str) -> None:
        monkeypatch.setattr(fuzz_sabotage.wssecurity, "public_key", fuzz_sabotage.wssecurity.public_key)
        monkeypatch.setattr(fuzz_sabotage.hmac, "compare_digest", fuzz_sabotage.hmac.compare_digest)
        monkeypatch.setattr(fuzz_sabotage.exchange, "read", fuzz_sabotage.exchange.read)
        monkeypatch.setattr(fuzz_sabotage.Nem12Adapter, "parse", fuzz_sabotage.Nem12Adapter.parse)
        fuzz_sabotage.apply(name)

    return apply


def test_mutated_messages_are_refused_or_say_what_was_signed():
    counts = fuzz.share(7, 0, 1000)
    assert counts.findings == []
    assert counts.messages == 1000
    assert counts.accepted > 20  # some changes change nothing that was signed
    assert len(counts.codes) >= 5


@pytest.mark.parametrize(
    ("sabotage", "counter", "messages"),
    [
        ("verify-off", "accepted_at_other_values", 300),
        ("digest-off", "accepted_at_other_values", 300),
        ("lax-lane", "outcomes_differ", 2000),
    ],
)
def test_what_is_broken_is_found(broken, sabotage, counter, messages):
    broken(sabotage)
    counts = fuzz.share(7, 0, messages)
    assert getattr(counts, counter) > 0
    assert all("seed 7" in finding.where and finding.raw for finding in counts.findings)


def test_both_ways_of_reading_are_met(broken):
    """verify-off must show in messages of our own devices' layout too, which are read without a tree."""
    broken("verify-off")
    found = {finding.where.split(": ")[1].split(",")[0] for finding in fuzz.share(7, 0, 800).findings}
    ours = {one.name for one in genuine_samples.samples()[: fuzz.OURS]}
    assert found & ours
    assert found - ours


def test_a_seed_is_one_history():
    assert [fuzz.mutant(3, number) for number in range(50)] == [fuzz.mutant(3, number) for number in range(50)]
    assert fuzz.mutant(3, 1) != fuzz.mutant(4, 1)


def test_our_own_samples_stand_first():
    names = [one.name for one in genuine_samples.samples()]
    assert all(name.startswith(("device ", "p384 ", "rsa ")) for name in names[: fuzz.OURS])
    assert names[fuzz.OURS].startswith("xmlsec ")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_kept_input_is_taken_or_refused(name):
    kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    inputs = [*seeds.files(name), *(file.read_bytes() for file in kept)]
    outcomes = [targets.outcome(targets.TARGETS[name], data) for data in inputs]
    assert "taken" in outcomes


def test_the_corpus_is_small_and_belongs_to_targets():
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1 << 20
    assert {file.parent.name for file in files} <= set(targets.TARGETS)


def test_an_escaped_error_is_found_with_its_input(broken, tmp_path):
    broken("escape")
    run = fuzz.blind("nem12", fuzz.Fuzzing(20, 1, "", tmp_path))
    assert run.finding is not None
    assert "second details record" in run.finding.what
    with pytest.raises(KeyError):
        targets.outcome(targets.TARGETS["nem12"], run.finding.raw)
