"""The real-data campaign on files made here by nemwriter: the same way through the house, in seconds."""

from __future__ import annotations

import importlib.util
import random
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from nemwriter import NEM12


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("real_data", Path(__file__).parent / "real_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, name: str, streams) -> None:
    """Write a zip with one NEM12 file: streams are (nmi, suffix, unit, minutes, days, quality of an interval)."""
    made, chance = NEM12(to_participant="TO", from_participant="FROM"), random.Random(7)
    for nmi, suffix, uom, minutes, days, quality in streams:
        start = datetime(2024, 2, 1)
        reads = [
            (start + timedelta(minutes=minutes * number), round(chance.uniform(0, 90), 3), *quality(number))
            for number in range(1, days * 1440 // minutes + 1)
        ]
        made.add_readings(nmi=nmi, nmi_configuration="E1B1Q1", nmi_suffix=suffix, uom=uom, readings=reads)
    text = "\r\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in made.build_output())
    assert text.endswith("900")
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr(f"{name}.csv", text + "\r\n")


def plain(_):
    return ("A",)


def variable(number):
    return ("A",) if number <= 70 else ("S14", 76, "Communications Fault") if number <= 90 else ("E52", "", "")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "nem12"
    (folder / "invalid").mkdir(parents=True)
    meters = [(f"NMI{number}", suffix, "kWh", 30, 1, plain) for number in range(3) for suffix in ("E1", "B1")]
    write(folder, "Many", meters)
    streams = [("NMI9", "E1", "kWh", 15, 2, variable), ("NMI9", "Q1", "kvarh", 15, 2, plain)]
    write(folder, "NEM12#1#OWNER#NEMMCO", streams)
    (folder / "invalid" / "empty.csv").write_text("")
    (folder / "invalid" / "short.csv").write_text(
        "100,NEM12,202402020000,A,B\n200,N,E1,,E1,,,kWh,30,\n300,20240201,1,A,,,,\n900\n"
    )
    return folder.parent


def test_every_digit_and_quality_comes_out_again(campaign, data, tmp_path):
    found = campaign.run(data, tmp_path, campaign.Options(seed=3, meters_per_ied=2), {"Many.zip": (3, 6, 6 * 48)})
    assert found["problems"] == []
    assert found["ok"]
    total = 2 * 6 * 48 + 2 * 2 * 96  # six streams of half hours, once more with decimals; two of quarters on two days
    counts = (found["values"], found["stored"], found["nem12"]["texts"]["equal"], found["mdef"]["values"])
    assert counts == (total,) * 4
    assert (found["ieds"], found["mdef"]["files"]) == (3, 3 * 2 + 2)
    assert found["mdef"]["changed"] > 0  # decimals of 15 digits are more than float32 holds
    assert set(found["invalid"]) == {"empty.csv", "short.csv"}


def test_it_sees_a_digit_and_a_quality_that_are_wrong(campaign, data, tmp_path):
    """The judge is judged: the same comparison on an export in which one digit and one quality were changed."""
    (one, *_, other) = campaign.inputs_of(data / "nem12", 3)[:2]
    for change in (("E52", "E53"), (",A,", ",F14,")):
        text = other.text if change[0] in other.text else one.text
        file = tmp_path / "export.csv"
        file.write_bytes(text.replace(*change, 1).encode())
        problems = campaign.Problems()
        whole = [campaign.Input("", text, "")]
        campaign.check_nem12(problems, [{"file": str(file), "losses": []}], whole, tmp_path)
        assert any(line.startswith("nemreader: ") for line in problems)
        assert any(line.startswith("NEM12 text: ") for line in problems)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.1", 0x3DCCCCCD),
        ("16777217", 0x4B800000),  # 2**24 + 1 lies between two float32: the even one
        ("16777217.0000000001", 0x4B800001),  # as a double first it would be that tie
        ("16777219", 0x4B800002),
        ("0", 0),
    ],
)
def test_the_judge_knows_the_nearest_float32(campaign, text, number):
    assert campaign.oracles.nearest(text) == (number.to_bytes(4, "little"), False)


def test_without_data_it_says_so_and_ends_with_2(campaign, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["real_data.py", "--data", str(tmp_path / "absent")])
    assert campaign.main() == 2
    assert "does not exist; name the data folder" in capsys.readouterr().err
