"""What a customer is about to buy."""

from shop.prices import price_of


class Basket:
    """Articles and how many of each."""

    def __init__(self) -> None:
        self.articles: dict[str, int] = {}

    def add(self, article: str, number: int = 1) -> None:
        if number < 1:
            raise ValueError("at least one")
        self.articles[article] = self.articles.get(article, 0) + number

    def total(self) -> int:
        """Cents."""
        return sum(price_of(article) * number for article, number in self.articles.items())
