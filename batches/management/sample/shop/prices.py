"""Prices in cents."""

import os

PRICES = {"apple": 40, "bread": 320, "tea": 450}


def price_of(article: str) -> int:
    return PRICES[article]


def discounted(cents: int, percent: int) -> int:
    """The price less a discount of 0 to 100 percent."""
    return cents - cents * percent // 100
