"""The file of policies: what it says, and what it may not."""

from __future__ import annotations

import tomllib
from decimal import Decimal as D

import pytest
from gridpost.server.choice import policies

from gridpost.applications.limits import F64_LIMITS
from gridpost.applications.realtime import Bounds, Pulses
from gridpost.errors import ConfigInvalid, NotFound

WHOLE = """
[[watch]]
contract = "C-1"
most_kw = "12.5"
times_usual = "4"
pulse_kwh = "0.001"
device = "METER-7"
on_excess = "reduce"
level_kw = "3"
limits = "06:00-18:00 0.80, 18:00-06:00 0.60"
"""


@pytest.fixture
def load(tmp_path):
    def loaded(text):
        (tmp_path / "policies.toml").write_text(text)
        return policies.load(tmp_path / "policies.toml")

    return loaded


def test_a_policy_is_read_exactly(load):
    (watch,) = load(WHOLE)
    assert watch.bounds == Bounds(most_kw=D("12.5"), times_usual=D(4))
    assert watch.pulses == Pulses(D("0.001"))
    assert watch.actions == {"excess": "reduce", "shortage": "", "anomaly": ""}
    assert watch.prices.limits == F64_LIMITS  # the source document's own
    assert (watch.prices.level_kw, watch.prices.may_switch, watch.release) == (D(3), True, False)


def test_what_is_not_said_is_not_watched(load):
    (watch,) = load('[[watch]]\ncontract = "C-1"\n')
    assert (watch.bounds, watch.pulses, watch.prices) == (Bounds(), None, None)
    assert load("") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('contract = "C-1"', "", "contract is missing"),
        ('most_kw = "12.5"', 'most_kw = "NaN"', "most_kw"),
        ('most_kw = "12.5"', 'most_kw = "0"', "most_kw"),
        ('most_kw = "12.5"', "most_kw = 12.5", "most_kw"),
        ('times_usual = "4"', 'times_usual = "1"', "above 1"),
        ('level_kw = "3"', "", "reduce needs level_kw"),
        ('device = "METER-7"', "", "needs a device"),
        ('"reduce"', '"explode"', "explode"),
        ("most_kw", "most_kwh", "unknown key most_kwh"),
        ("0.60", "", "limits"),
        ("18:00-06:00", "18:00-05:59", "at 05:59 none is in force"),
        ("18:00-06:00", "17:00-06:00", "at 17:00"),
        ("[[watch]]", "[[watch]]\ncontract = 'C-1'\n[[watch]]", "two"),
        ("[[watch]]", "[watch]", "[[watch]]"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(load, old, new, said):
    with pytest.raises(ConfigInvalid, match=said.replace("[", r"\[")):
        load(WHOLE.replace(old, new))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFound, match="policies"):
        policies.load(tmp_path / "policies.toml")


def test_the_example_has_every_key_and_can_be_read(load):
    assert load(policies.example())[0].contract == "C-1"
    text = policies.example().replace("\n# ", "\n")
    keys = {line.partition(" = ")[0] for line in text.splitlines() if " = " in line}
    assert {"most_kva", "on_anomaly", "tell_tariff", "release"} <= keys
    assert tomllib.loads(policies.example())
