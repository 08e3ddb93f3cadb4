"""Figures as people read them: as many digits as their uncertainty leaves a meaning.

One digit of a standard error is shown, two where the first is a 1, and the figure as far as that.
What the figures are of, this module does not know.
"""

from __future__ import annotations

import math

DIGITS = 4  # of a figure without an uncertainty
MOST_DECIMALS = 7  # a figure that needs more is written with an exponent
LARGE = 1e9  # the same
LARGEST_PPL = 1e304  # about where statistics stops: the exponential of more is no float64


def figure(value: float, se: float | None = None) -> str:
    """``0.00213 ± 0.00004``; without a standard error, or with one of 0, the figure alone."""
    if se is None or not math.isfinite(se) or se <= 0 or not math.isfinite(value):
        return _alone(value)
    decimals = _decimals(se)
    if decimals > MOST_DECIMALS or max(abs(value), se) >= LARGE:
        return f"{value:.3g} ± {se:.1g}"
    return f"{value:.{decimals}f} ± {se:.{decimals}f}"


def perplexity(value: float, se: float | None = None) -> str:
    """The same of a perplexity, which can be more than a number holds: ``> 1e304``."""
    return f"> {LARGEST_PPL:.0e}".replace("+", "") if value >= LARGEST_PPL else figure(value, se)


def percent(share: float, se: float | None = None) -> str:
    """The same of a fraction, in hundredths, without the sign: ``97.1 ± 0.2``."""
    return figure(100 * share, None if se is None else 100 * se)


def alone(value: float, se: float) -> str:
    """As ``figure``, without the standard error."""
    return figure(value, se).partition(" ± ")[0]


def beside(value: float, half: float) -> str:
    """The figure alone, to the second digit of half its interval, as ``change`` is written."""
    if not math.isfinite(value) or not math.isfinite(half) or half <= 0:
        return _alone(value)
    if max(abs(value), half) >= LARGE or _to_second_digit(half) > MOST_DECIMALS:
        return f"{value:.3g}"
    return f"{value:.{_to_second_digit(half)}f}"


def change(value: float, low: float, high: float) -> str:
    """A difference with its interval, signed: ``+0.0012 (+0.0008 to +0.0016)``."""
    ends = (value, low, high)
    if not all(map(math.isfinite, ends)) or max(map(abs, ends)) >= LARGE:
        return f"{value:+.3g} ({low:+.3g} to {high:+.3g})"
    decimals = _to_second_digit((high - low) / 2 or abs(value) or 1.0)
    if decimals > MOST_DECIMALS:
        return f"{value:+.2g} ({low:+.2g} to {high:+.2g})"
    number, least, most = (f"{_unsigned_zero(end, decimals):+.{decimals}f}" for end in ends)
    return f"{number} ({least} to {most})"


def seconds(value: float) -> str:
    """``0.42 s``, ``12.3 s``, ``123 s``."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} s"


def thousands(count: int) -> str:
    """``4,096``."""
    return f"{count:,}"


def counted(count: int, what: str) -> str:
    """``1 chunk``, ``4,096 chunks``."""
    return f"{thousands(count)} {what}{'' if count == 1 else 's'}"


def _alone(value: float) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:.0f}"
    if abs(value) >= LARGE:
        return f"{value:.{DIGITS - 1}g}"
    decimals = max(0, DIGITS - 1 - _exponent(value))
    return f"{value:.{decimals}f}" if decimals <= MOST_DECIMALS + 1 else f"{value:.3g}"


def _decimals(se: float) -> int:
    """Of a figure with this standard error."""
    leading = f"{se:.0e}"[0]
    return max(0, -_exponent(se) + (leading == "1"))


def _to_second_digit(half: float) -> int:
    """Decimals."""
    return max(0, 1 - _exponent(half))


def _exponent(value: float) -> int:
    """Of ten, once the value is rounded to a digit."""
    return int(f"{value:.0e}".partition("e")[2])


def _unsigned_zero(value: float, decimals: int) -> float:
    """So that what rounds to nothing is not written as -0."""
    return value if round(value, decimals) else 0.0
