"""How far a share that was counted in few cases can be trusted."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist, quantiles

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def wilson(passed: int, judged: int) -> tuple[float, float] | None:
    """The 95 % score interval of a share, within 0 and 1; None where nothing was counted.

    Unlike the usual plus or minus it is of use for few cases, and for none or all that passed.
    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if not judged:
        return None
    share, weight = passed / judged, Z * Z / judged
    middle = share + weight / 2
    reach = Z * sqrt(share * (1 - share) / judged + weight / (4 * judged))
    # At 0 and 1 the bound is exactly that; rounding must not go past it.
    low = 0.0 if passed == 0 else (middle - reach) / (1 + weight)
    high = 1.0 if passed == judged else (middle + reach) / (1 + weight)
    return low, high


def median_and_p90(values: list[float]) -> tuple[float, float] | None:
    """Of values in any order; None of none."""
    if not values:
        return None
    tenths = quantiles(values * 2 if len(values) == 1 else values, n=10, method="inclusive")
    return tenths[4], tenths[8]
