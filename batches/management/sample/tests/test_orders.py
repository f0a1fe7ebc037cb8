from shop.orders import parse


def test_a_line_is_a_basket():
    assert parse("3 * apple").articles == {"apple": 3}
