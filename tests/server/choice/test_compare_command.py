"""gridpost compare on files: the answer with its figures, the picture, and what it says when it cannot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal as D
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from customer import hourly_csv, urdb
from gridpost.server.commands import compare

from gridpost.errors import BillRefused, FileInvalid, NotFound, TariffRefused

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(files, monkeypatch):
    monkeypatch.chdir(files)

    def call(*more, readings="january.csv", present="now.json", offers=("cheap.json", "dear.json"), zone="Etc/UTC"):
        bids = [word for offer in offers for word in ("--bid", offer)]
        given = ["--readings", readings, "--zone", zone, "--present", present, *bids, *more]
        return CliRunner().invoke(compare.command, given, catch_exceptions=True)

    return call


def answer(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# 744 h x 0.10 = 74.40; 744 x 0.08 + 5.00 = 64.52; 744 x 0.50 = 372.00. Saved: 9.88, or 0.88 when switching costs 9.
def test_the_answer_has_its_figures(run):
    found = answer(run("--json", "--switching-cost", "9"))
    assert (found["answer"], found["best"], found["saving"]) == ("switch", "cheap, offer", ["0.88", "0.88"])
    assert [(one["name"], one["low"], one["high"]) for one in found["costs"]] == [
        ("now, offer", "74.40", "74.40"), ("cheap, offer", "64.52", "64.52"), ("dear, offer", "372.00", "372.00"),
    ]  # fmt: skip
    assert found["costs"][1]["tariffs"] == ["cheap/CHEAP"]
    assert found["decided_by"][0] == {"charge": "energy", "present": "74.40", "best": "59.52"}
    assert (found["from"], found["to"], found["currency"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "USD")


def test_people_read_the_same(run):
    said = run("--switching-cost", "20").stdout
    assert said.startswith("stay: no bid is cheaper\n")
    assert "cheap, offer  64.52  (best)" in said
    assert "saving -10.12, switching cost 20 taken off" in said


def test_missing_intervals_leave_bounds_and_are_named(run, files):
    # One hour of which like hours had 1 or 100: the present costs 74.30 + 99 x 0.10 + 0.10 to 10.00.
    values = [1] * 744
    values[24 * 5 + 3], values[24 * 6 + 3] = 100, None
    (files / "holed.csv").write_text(hourly_csv(datetime(2026, 1, 1, tzinfo=UTC), values))
    found = answer(run("--json", readings="holed.csv"))
    assert [found["costs"][0][edge] for edge in ("low", "high")] == ["84.30", "94.20"]
    assert found["uncertain"] == [{"channel": "energy", "interval_end": "2026-01-07T04:00:00Z"}]
    assert found["answer"] == "switch"
    said = run(readings="holed.csv").stdout
    assert "whatever stood in the 1 intervals that are not known" in said
    assert "not known: energy 2026-01-07T04:00:00Z" in said
    assert answer(run("--json", readings="holed.csv", offers=("now.json",)))["answer"] == "not enough data"


def test_any_past_period_and_the_running_one(run):
    found = answer(run("--json", "--from", "2026-01-10", "--to", "2026-01-19"))
    assert (found["from"], found["to"]) == ("2026-01-10T00:00:00Z", "2026-01-20T00:00:00Z")
    # 240 h x 0.08 and ten of 31 days of the standing charge: 19.20 + 1.61
    assert found["costs"][1]["low"] == "20.81"
    found = answer(run("--json", "--cycle-day", "17", "--running"))
    assert (found["from"], found["to"]) == ("2026-01-17T00:00:00Z", "2026-02-01T00:00:00Z")
    assert found["costs"][0]["low"] == "36.00"  # 15 days x 24 x 0.10
    found = answer(run("--json", "--cycle-day", "17"))
    assert (found["periods"], found["costs"][0]["low"]) == (2, "74.40")


def test_an_energy_and_a_distribution_tariff_are_one_bid(run, files):
    (files / "grid.json").write_text(urdb("grid", [0.01]).replace("Bundled", "Delivery"))
    found = answer(run("--json", offers=("Both=cheap.json+grid.json",)))
    assert (found["costs"][1]["name"], found["costs"][1]["low"]) == ("Both", "71.96")  # 64.52 + 7.44
    assert found["costs"][1]["tariffs"] == ["cheap/CHEAP", "grid/GRID"]


def test_the_picture_is_an_svg_of_every_hour(run, files):
    answer(run("--json", "--out", "cost.svg"))
    drawing = ElementTree.parse(files / "cost.svg").getroot()
    assert drawing.tag == f"{SVG}svg"
    titles = [one.text for one in drawing.iter(f"{SVG}title")]
    assert [title for title in titles if title in ("now, offer", "cheap, offer", "dear, offer")]
    # 0.10 - 0.08 in each hour; the standing charge belongs to none.
    assert "2026-01-31 23:00 saves 0.0200 USD" in titles
    assert len([title for title in titles if "saves" in title]) == 744
    texts = [one.text for one in drawing.iter(f"{SVG}text")]
    assert {"64.52 USD", "fixed 5.00", "switch to cheap, offer"} <= set(texts)


def test_the_page_holds_all_and_lets_no_text_become_markup(run, files):
    (files / "evil.json").write_text(urdb("<script>alert(1)</script>", [0.01]))
    answer(run("--json", "--out", "cost.html", offers=("evil.json",)))
    page = (files / "cost.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched from anywhere


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"readings": "nothing.csv"}, SystemExit, ""),
        ({"offers": ("nobody/NOTHING",)}, NotFound, "without a contract"),
        ({"offers": ("nothing.json",)}, NotFound, "SUPPLIER/ID"),
        ({"offers": ()}, SystemExit, ""),
        ({"offers": ("january.csv",)}, FileInvalid, "january.csv"),
        ({"offers": ("two.json",)}, FileInvalid, "2 tariffs"),
        ({"offers": ("marked.json",)}, FileInvalid, "byte order mark"),
        ({"offers": ("holes.json",)}, TariffRefused, "energy"),
        ({"zone": "Mars/Olympus"}, NotFound, "Mars"),
        ({"readings": "meters.csv"}, BillRefused, "--meter"),
        ({"readings": "none.csv"}, NotFound, "no interval energy"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_told(run, files, given, error, said):
    first = datetime(2026, 1, 1, tzinfo=UTC)
    two = hourly_csv(first, [1]), hourly_csv(first, [1], meter="M2").partition("\n")[2]
    (files / "meters.csv").write_text("".join(two))
    (files / "none.csv").write_text(two[0].replace("1.1.12", "19.1.12"))
    (files / "two.json").write_text(f"[{urdb('a', [1])}, {urdb('b', [1])}]")
    (files / "marked.json").write_text("\ufeff" + urdb("a", [1]))
    (files / "holes.json").write_text(urdb("a", [1, 2]))  # the second period is in force in no hour
    result = run(**given)
    assert isinstance(result.exception, error), result.output
    assert said in str(result.exception)
    assert not isinstance(result.exception, SystemExit) or result.exit_code == 2


@pytest.mark.parametrize(
    "more",
    [("--running", "--from", "2026-01-01"), ("--out", "cost.png"), ("--switching-cost", "NaN"), ("C-1",)],
)
def test_a_wrong_command_line_is_told_before_anything_is_done(run, files, more):
    result = run(*more)
    assert result.exit_code == 2, result.output
    assert not (files / "cost.png").exists()


def test_local_days_are_the_customers(run, files):
    """A day of 23 hours: 29 March 2026 in Berlin, from 23:00Z to 22:00Z."""
    (files / "march.csv").write_text(hourly_csv(datetime(2026, 3, 1, tzinfo=UTC), [1] * 744))
    found = answer(run("--json", "--from", "2026-03-29", "--to", "2026-03-29", readings="march.csv",
                       zone="Europe/Berlin"))  # fmt: skip
    assert (found["from"], found["to"]) == ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")
    assert D(found["costs"][0]["low"]) == D("2.30")
