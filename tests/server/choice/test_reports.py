"""Reports from a real store: asked for, when a period is over, when a watch found something; and delivered once."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from customer_place import MIDNIGHT, CustomerPlace, tariff
from gridpost.adapters.delivery import Directory
from gridpost.server.choice.scheduled import Reporter, Schedule
from gridpost.server.commands import report
from gridpost.server.readers import Deliveries
from gridpost.server.zones import zone_of

from gridpost.errors import NotFound

DAY, HOUR_MS = 86_400, 3_600_000


@pytest.fixture
def place(post_office, tmp_path):
    """A customer of A at 0.10 EUR a kWh; 1 kWh each quarter of an hour of 30 and 31 December 2025."""
    (tmp_path / "gridpost.toml").write_text("")
    made = CustomerPlace(post_office)
    made.offer(tariff("A", "0.10"))
    made.contract("A")
    made.push(MIDNIGHT - 2 * DAY + 900, *["1"] * 192)
    return made


def reporter(place, every="day", **of):
    made = Reporter(place.store, zone_of, Schedule(every, of.pop("grace_h", 6), **of))
    made.begin()
    return made


def waiting(place):
    return [item.name for item in place.store.pending(100, "reports")]


def asked(place, *given):
    config = ["--config", str(place.post.path.parent / "gridpost.toml"), "--json"]
    found = CliRunner().invoke(report.command, [*given, "--out", str(place.post.path.parent / "out"), *config])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


# --- asked for ---


def test_a_users_report_is_a_page_and_a_file(place):
    files = json.loads(asked(place, "C-1").stdout)["files"]
    assert [name.rpartition("/")[2] for name in files] == [
        "report_C-1_20251230_20251231.html", "report_C-1_20251230_20251231.csv",
    ]  # fmt: skip
    with open(files[1]) as file:
        rows = list(csv.DictReader(file))
    assert [(row["day"], row["kwh"], row["cost_EUR"]) for row in rows] == [
        ("2025-12-30", "96", "9.600000"), ("2025-12-31", "96", "9.600000"),
    ]  # fmt: skip
    with open(files[0]) as file:
        assert "192 kWh cost 19.20 EUR" in file.read()


def test_a_suppliers_report_has_a_row_a_contract(place):
    place.contract("A", number="C-2")
    (page, table) = json.loads(asked(place, "--supplier", "A", "--for", "provider", "--running").stdout)["files"]
    with open(table) as file:
        rows = list(csv.DictReader(file))
    # Both contracts of the usage point are in force, so each pays both tariffs: 192 kWh at 0.20.
    assert [(row["contract"], row["kwh"], row["cost"]) for row in rows] == [
        ("C-1", "192", "38.40"), ("C-2", "192", "38.40"),
    ]  # fmt: skip
    assert page.endswith("provider_A_Etc%2FUTC_20251201_20251231.html")


def test_what_cannot_be_reported_is_told(place):
    with pytest.raises(NotFound, match="C-9"):
        asked(place, "C-9")
    with pytest.raises(NotFound, match="no contract in force"):
        asked(place, "--supplier", "Z")
    assert asked(place).exit_code == asked(place, "C-1", "--running", "--from", "2025-12-30").exit_code == 2


# --- on a schedule ---


@pytest.mark.parametrize(
    ("every", "first", "last"),
    # 1 January 2026 is a Thursday: its week's Monday is 29 December, the week before began on the 22nd.
    [("day", "20251231", "20251231"), ("week", "20251222", "20251228"), ("cycle", "20251201", "20251231")],
)
def test_a_period_is_reported_when_it_is_over_and_late_data_has_had_its_time(place, every, first, last):
    made = reporter(place, every)
    place.post.now = MIDNIGHT * 1000 + 6 * HOUR_MS - 1000
    before = made.step(place.post.now).files
    place.post.now += 1000
    found = {*before, *made.step(place.post.now).files}
    assert {f"report_C-1_{first}_{last}.html", f"provider_A_Etc%2FUTC_{first}_{last}.csv"} <= found
    assert any(f"_{last}." in name for name in before) == (every == "week")
    assert made.step(place.post.now).files == ()
    place.post.now += 2 * HOUR_MS
    assert made.step(place.post.now).files == ()


def test_a_contract_that_cannot_be_reported_holds_up_no_other(place):
    place.contract("Z", "energy", "C-Z", usage_point="UP-elsewhere")
    made = reporter(place)
    place.post.now += 7 * HOUR_MS
    found = made.step(place.post.now)
    assert [one[:2] for one in found.failed] == [("C-Z", "not-found")]
    assert "report_C-1_20251231_20251231.csv" in found.files
    assert made.step(place.post.now).failed == ()


def test_a_step_taken_again_makes_the_same_files_and_they_are_delivered_once(place, tmp_path):
    made, out = reporter(place), Deliveries("reports", place.store, Directory(tmp_path / "reports"))
    place.post.now += 7 * HOUR_MS
    version, state = place.store.cursor("reports")
    files = made.step(place.post.now).files
    place.store.advance("reports", version, state, ()).result()  # as if the process had died before the cursor moved
    assert reporter(place).step(place.post.now).files == files
    assert sorted(sent.name for sent in out.step(place.post.now)) == sorted(files)
    assert sorted(one.name for one in (tmp_path / "reports").iterdir()) == sorted(files)
    assert out.step(place.post.now) == ()


# --- on an event ---


def test_what_a_watch_found_is_reported_with_the_cycle_so_far(place, tmp_path):
    made = reporter(place, "", on_event=True)
    place.push(MIDNIGHT + 900, "1", "4")
    place.watcher(most_kw="12").step(place.post.now)
    while made.step(place.post.now).more:
        pass
    (csv_name, page_name) = sorted(waiting(place))
    assert page_name.startswith("report_C-1_20260101_20260101_")
    page = next(item.content for item in place.store.pending(9, "reports") if item.name == page_name).decode()
    assert "5 kWh cost 0.50 EUR" in page
    when = datetime.fromtimestamp(MIDNIGHT + 1800, UTC).strftime("%Y-%m-%dT%H:%M")
    assert when in page
    assert "16 kW, above 12 kW" in page
    assert csv_name.endswith(".csv")


def test_without_a_schedule_and_an_event_nothing_is_made(place):
    made = reporter(place, "", on_event=True)
    place.post.now += 40 * 24 * HOUR_MS
    assert made.step(place.post.now).files == ()
