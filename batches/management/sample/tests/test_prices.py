import pytest

from shop.prices import discounted


@pytest.mark.parametrize(("percent", "price"), [(0, 320), (25, 240), (100, 0)])
def test_a_discount_lowers_the_price(percent, price):
    assert discounted(320, percent) == price


def test_nobody_is_paid_for_buying():
    with pytest.raises(ValueError):
        discounted(320, 150)
