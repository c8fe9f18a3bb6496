"""binary32 and back, against numpy and the standard library's own conversion."""

from __future__ import annotations

import struct
from decimal import Decimal

import numpy
import pytest
from gridpost.adapters.mv90 import float32
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridpost.errors import CannotRepresent

FINITE = st.integers(0, 2**32 - 1).filter(float32.is_finite)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("0", 0x00000000),
        ("-0", 0x80000000),
        ("1", 0x3F800000),
        ("-2", 0xC0000000),
        ("0.1", 0x3DCCCCCD),
        ("16777217", 0x4B800000),  # 2**24 + 1 lies half-way: to even, 2**24
        ("16777219", 0x4B800002),  # half-way again: to even, 2**24 + 4
        ("3.4028235e38", 0x7F7FFFFF),  # the greatest
        ("1.4e-45", 0x00000001),  # the least above zero
        ("1.17549435e-38", 0x00800000),  # the least normal
        ("1e-60", 0x00000000),
    ],
)
def test_known_values(text, bits):
    assert float32.bits_of(Decimal(text)) == bits


def test_a_decimal_that_double_rounding_gets_wrong():
    # 1 + 2**-24 + 2**-60 lies above half-way between two binary32; rounded to a double first it falls on half-way.
    value = 1 + Decimal(2) ** -24 + Decimal(2) ** -60
    assert float32.bits_of(value) == 0x3F800001
    assert struct.pack("<f", float(value)) == b"\x00\x00\x80\x3f"


def test_what_no_binary32_holds_is_refused():
    with pytest.raises(CannotRepresent):
        float32.bits_of(Decimal("3.5e38"))


@given(FINITE)
def test_the_exact_value_is_that_of_the_standard_library(bits):
    assert float32.exact(bits) == Decimal(struct.unpack("<f", struct.pack("<I", bits))[0])


@given(FINITE)
@example(0x00000001)
@example(0x7F7FFFFF)
@example(0x4B800000)
def test_the_shortest_decimal_is_that_of_numpy(bits):
    single = numpy.array([bits], dtype=numpy.uint32).view(numpy.float32)[0]
    expected = Decimal(numpy.format_float_scientific(single, unique=True, trim="-"))
    found = float32.shortest(bits)
    assert float32.bits_of(found) == bits
    assert len(found.normalize().as_tuple().digits) <= len(expected.normalize().as_tuple().digits)
    if bits & 0x7FFFFF:  # at a power of two the interval is lopsided and numpy may be a digit longer
        assert found == expected


@settings(max_examples=500)
@given(st.from_regex(r"-?[0-9]{1,9}(\.[0-9]{1,6})?", fullmatch=True))
@example("0.1")
@example("123456.789")
@example("20000.437")  # binary32 20000.4375: .437 and .438 are equally near and both read back; the even one stands
def test_a_value_is_held_when_numpy_prints_it_back(text):
    printed = numpy.format_float_positional(numpy.float32(text), unique=True, trim="-")
    assert float32.holds(Decimal(text)) == (Decimal(printed) == Decimal(text))
