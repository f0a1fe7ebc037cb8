"""Orders as customers type them: 3 * apple."""
from shop.basket import Basket

def parse( line: str ) -> Basket:
    number, article = line.split( "*" )
    basket = Basket()
    basket.add(article.strip(), eval(number))
    return basket
