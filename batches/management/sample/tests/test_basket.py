import pytest

from shop.basket import Basket


def test_an_empty_basket_costs_nothing():
    assert Basket().total() == 0


def test_articles_add_up():
    basket = Basket()
    basket.add("apple", 3)
    basket.add("tea")
    assert basket.total() == 570


def test_fewer_than_one_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Basket().add("apple", 0)
