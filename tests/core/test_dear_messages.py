"""Messages made to be dear are judged like others, and the work each would cost is not done: counted, not timed."""

import pytest
from lxml import etree

from gridpost import messages, ns, schemas, testing
from gridpost.errors import SchemaInvalid

BLOCK = testing.block(testing.channel(), 1_767_225_600, ["1.5"])
_M = f"{{{ns.METER_READINGS}}}"


def readings(values=("1.5",)):
    """A CreatedMeterReadings with one channel, as its own element."""
    block = testing.block(testing.channel(), 1_767_225_600, list(values))
    return etree.fromstring(messages.encode(testing.readings_message("IED-1", "m", [block])))


def rows(element):
    return list(element.iter(f"{_M}IntervalReadings"))


def refused(element):
    with pytest.raises(SchemaInvalid) as found:
        schemas.validate(element)
    return found.value


class Counted:
    """A function that counts how often it is called."""

    def __init__(self, function):
        self.calls, self._function = 0, function

    def __call__(self, *arguments):
        self.calls += 1
        return self._function(*arguments)


@pytest.fixture
def counted(monkeypatch):
    def count(module, name):
        one = Counted(getattr(module, name))
        monkeypatch.setattr(module, name, one)
        return one

    return count


def litter(element, attributes):
    """Attributes that no schema knows, forty at each row."""
    for number in range(attributes):
        rows(element)[number // 40].set(f"a{number}", "")
    return element


def test_wrong_attributes_by_the_thousand_are_refused_without_being_worded(counted):
    loaded = counted(schemas, "load")
    error = refused(litter(readings(["1.5"] * 25), 1000))
    assert [(item.code, item.path) for item in error.items] == [("schema-invalid", "/mrm:CreatedMeterReadings[1]")]
    assert "1000 attributes or more" in error.reason
    assert loaded.calls == 0  # the engine words every single one


def test_wrong_attributes_by_the_hundred_are_worded_as_ever():
    error = refused(litter(readings(["1.5"] * 25), 999))
    assert len(error.items) == schemas.MAX_ITEMS
    assert "'a0'" in error.items[0].reason
    assert "'a19'" in error.items[19].reason


def test_attributes_that_the_schema_knows_may_stand_by_the_thousand():
    element = readings()
    (reading,) = element.iter(f"{_M}MeterReading")
    (block,) = reading.iter(f"{_M}IntervalBlocks")
    for _ in range(1100):
        block.addnext(etree.fromstring(etree.tostring(block)))
    schemas.validate(element)
    assert len(list(element.iter(f"{_M}ReadingType"))) == 1101


def test_a_long_row_is_judged_by_its_last_element_too(counted):
    """1,500 rows are first validated as a stream, that keeps nothing; what it lets pass the tree is still asked for."""
    element = readings(["1.5"] * 1500)
    schemas.validate(element)
    rows(element)[-1][1].text = "x"
    (item,) = refused(element).items
    assert item.path.endswith("/m:IntervalBlocks[1]/m:IntervalReadings[1500]/m:value[1]")
    assert "'x'" in item.reason


def test_a_stream_that_finds_nothing_makes_nothing_valid(monkeypatch):
    element = readings(["1.5"] * 1500)
    rows(element)[-1][1].text = "x"
    monkeypatch.setattr(schemas, "_stream", lambda element: [])
    assert len(refused(element).items) == 1


def test_wrong_rows_by_the_hundred_are_worded_and_not_looked_for(counted):
    element = readings(["x"] * 1500)
    looked_for = counted(schemas, "_at")
    error = refused(element)
    assert len(error.items) == schemas.MAX_ITEMS
    assert {item.path for item in error.items} == {"/mrm:CreatedMeterReadings[1]"}
    assert looked_for.calls == 0  # each counts its siblings


def test_an_element_is_found_without_looking_at_those_behind_it(counted):
    element = readings(["1.5"] * 5000)
    rows(element)[2][1].text = "x"
    looked_at = counted(schemas, "_is_step")
    (item,) = refused(element).items
    assert "/m:IntervalReadings[3]/" in item.path
    assert looked_at.calls < 20


def test_readings_that_say_nothing_are_not_asked_for_their_names(counted):
    element = readings()
    (reading,) = element.iter(f"{_M}MeterReading")
    for _ in range(5000):
        reading.addprevious(etree.Element(f"{_M}MeterReading"))
    schemas.validate(element)
    asked = [counted(messages, name) for name in ("_USAGE_POINT", "_METER", "_STREAM")]
    decoded = messages.decode(element)
    assert decoded.readings.blocks == (BLOCK,)
    assert [one.calls for one in asked] == [1, 1, 1]
