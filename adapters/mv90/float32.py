"""IEEE 754 binary32, exactly: decimal to its 32 bits and back to the shortest decimal.

The one place where binary floating point may be known (DESIGN 3.4), because MDEF is made of it. In and out: Decimal
and the 32 bits as an int; the arithmetic is on whole numbers, so nothing is rounded twice.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from gridpost.errors import CannotRepresent

_SIGN = 1 << 31
_FRACTION = 23
_BIAS = 127
_SURE_DIGITS = 6  # FLT_DIG: so many decimal digits always survive binary32
_MAX_DIGITS = 9  # so many always suffice to tell two binary32 apart


def is_finite(bits: int) -> bool:
    """Tell whether the bits are a number; the padding ``FF 7F FF 7F`` is not."""
    return bits >> _FRACTION & 0xFF != 0xFF


def bits_of(value: Decimal) -> int:
    """Return the bits of the binary32 nearest to `value`, ties to even.

    Raises:
        CannotRepresent: beyond the greatest binary32, about 3.4e38.
    """
    sign = _SIGN if value.is_signed() else 0
    numerator, denominator = abs(value).as_integer_ratio()
    if not numerator:
        return sign
    exponent = numerator.bit_length() - denominator.bit_length()
    if _scaled(numerator, denominator, -exponent) < 1:
        exponent -= 1
    exponent = max(exponent, 1 - _BIAS)
    significand = _nearest(numerator, denominator, _FRACTION - exponent)
    if significand >> (_FRACTION + 1):
        significand >>= 1
        exponent += 1
    field = exponent + _BIAS if significand >> _FRACTION else 0
    if field > 0xFE:
        raise CannotRepresent(f"{value} is greater than any binary32")
    return sign | field << _FRACTION | significand & ((1 << _FRACTION) - 1)


@lru_cache(maxsize=65536)
def shortest(bits: int) -> Decimal:
    """Return the decimal of fewest digits that reads back to the same bits; the nearest of them, ties to even.

    Raises:
        ValueError: the bits are not a finite number.
    """
    sign, digits, exponent = exact(bits).as_tuple()
    number = int("".join(map(str, digits)))
    length = len(str(number))
    for kept in range(1, min(length, _MAX_DIGITS + 1)):
        unit = 10 ** (length - kept)
        below = number // unit
        for candidate in sorted((below, below + 1), key=lambda part: (abs(part * unit - number), part % 2)):
            short = Decimal((sign, tuple(map(int, str(candidate))), int(exponent) + length - kept))
            if _reads_back(short, bits):
                return short
    return exact(bits)


def exact(bits: int) -> Decimal:
    """Return the exact value of the bits.

    Raises:
        ValueError: the bits are not a finite number.
    """
    if not is_finite(bits):
        raise ValueError("not a finite number")
    field = bits >> _FRACTION & 0xFF
    significand = bits & ((1 << _FRACTION) - 1) | (1 << _FRACTION if field else 0)
    power = max(field, 1) - _BIAS - _FRACTION
    number = significand << power if power >= 0 else significand * 5**-power
    return Decimal((bits >> 31, tuple(map(int, str(number))), min(power, 0) if number else 0))


def holds(value: Decimal) -> bool:
    """Tell whether the shortest decimal of the nearest binary32 is `value` itself."""
    parts = value.as_tuple()
    if len(parts.digits) <= _SURE_DIGITS and -30 < int(parts.exponent) < 30:
        return True
    return shortest(bits_of(value)) == value


def _reads_back(value: Decimal, bits: int) -> bool:
    try:
        return bits_of(value) == bits
    except CannotRepresent:
        return False


def _scaled(numerator: int, denominator: int, power: int) -> int:
    """Return floor(numerator / denominator * 2**power)."""
    return (numerator << power) // denominator if power >= 0 else numerator // (denominator << -power)


def _nearest(numerator: int, denominator: int, power: int) -> int:
    """Return numerator / denominator * 2**power, rounded to the nearest whole number, ties to even."""
    if power >= 0:
        numerator <<= power
    else:
        denominator <<= -power
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole & 1))
