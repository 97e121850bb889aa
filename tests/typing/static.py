"""@staticmethod over @opero: pyright gets it right; mypy binds a callable object in a class, static or not."""

from typing import assert_type

from opero import Retry, opero


class Shop:
    @staticmethod
    @opero
    def parse(text: str) -> int:
        return int(text)

    @Retry(2)
    @staticmethod
    def again(text: str) -> int:
        return int(text)


def see(shop: Shop) -> None:
    assert_type(Shop.parse("1"), int)
    assert_type(shop.parse("1"), int)
    assert_type(Shop.again("1"), int)
    assert_type(shop.again("1"), int)
