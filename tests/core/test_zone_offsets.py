"""A zone written down for a bill gives the local times of the zone it was written from; the oracle is zoneinfo."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gridpost.zone_offsets import ListedZone, Offset, offsets

# Forward and back within the year, half an hour's change, none at all, and a standard time that moved (2010-2014).
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Etc/UTC", "Europe/Moscow", "Africa/Casablanca")
YEARS = [(1_262_304_000, 1_293_840_000), (1_735_689_600, 1_767_225_600), (1_398_902_400, 1_420_070_400)]


@pytest.mark.parametrize("period", YEARS, ids=["2010", "2025", "2014"])
@pytest.mark.parametrize("name", ZONES)
def test_every_quarter_hour_is_as_the_zone_had_it(name, period):
    zone = ZoneInfo(name)
    listed = ListedZone(name, offsets(zone, *period))
    for moment in range(period[0], period[1] + 1, 900):
        ours, theirs = (datetime.fromtimestamp(moment, one) for one in (listed, zone))
        assert (ours.replace(tzinfo=None), ours.fold) == (theirs.replace(tzinfo=None), theirs.fold), moment
        assert (ours.utcoffset(), ours.dst()) == (theirs.utcoffset(), theirs.dst()), moment


def test_a_change_is_found_to_the_second():
    # Paris 2025: summer time from 2025-03-30T01:00:00Z to 2025-10-26T01:00:00Z.
    found = offsets(ZoneInfo("Europe/Paris"), 1_735_689_600, 1_767_225_600)
    assert found == (
        Offset(1_735_689_600, 3600, 0),
        Offset(1_743_296_400, 7200, 3600),
        Offset(1_761_440_400, 3600, 0),
    )


def test_a_time_that_the_clock_jumped_over_has_the_offset_pep_495_says():
    listed = ListedZone("Europe/Paris", offsets(ZoneInfo("Europe/Paris"), 1_735_689_600, 1_767_225_600))
    for fold in (0, 1):
        skipped = datetime(2025, 3, 30, 2, 30, fold=fold)
        theirs = skipped.replace(tzinfo=ZoneInfo("Europe/Paris")).utcoffset()
        assert skipped.replace(tzinfo=listed).utcoffset() == theirs


@pytest.mark.parametrize("listed", [(), (Offset(5, 0, 0), Offset(5, 60, 0)), (Offset(5, 0, 0), Offset(4, 60, 0))])
def test_offsets_out_of_order_are_no_zone(listed):
    with pytest.raises(ValueError, match="order"):
        ListedZone("Etc/UTC", listed)
