"""Numbers as they are read: on a control, at a tick, in a sentence."""

import math

Number = float | int  # the tests check types at run time, where an int is no float


def ten_to(exponent: int) -> str:
    """Such as 10⁻³."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def number_text(value: Number, digits: int = 4) -> str:
    """A number as it is read best: 56, 0.003, 10⁻⁵, 3×10⁻⁵.

    >>> number_text(1e-5), number_text(0.003), number_text(-2.5e7)
    ('10⁻⁵', '0.003', '−2.5×10⁷')
    """
    if isinstance(value, int):
        return str(value).replace("-", "−")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    sign, mantissa = "−" * (value < 0), mantissa.lstrip("-").rstrip("0").rstrip(".")
    power = ten_to(int(exponent))
    if mantissa == "1" and not -3 < int(exponent) < 4:
        return sign + power
    return f"{sign}{abs(value):.{digits}g}" if -4 < int(exponent) < 4 else f"{sign}{mantissa}×{power}"


def power_label(value: Number) -> str:
    """Such as 1, 10, 0.1, 10⁻³: a power of ten as a tick shows it."""
    exponent = round(math.log10(value))
    if -1 <= exponent <= 2:
        return f"{10.0**exponent:g}"
    return ten_to(exponent)


def readable(value: Number) -> str:
    """A number in two digits as a sentence has it: 0.034, 2.5, 230, 48,000, 3.1×10⁸."""
    rounded = float(f"{value:.2g}")
    if rounded and not 1e-3 <= abs(rounded) < 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}×{ten_to(int(exponent))}"
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:.2g}"
