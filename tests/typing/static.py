"""@staticmethod over @opero: pyright gets it right; mypy binds a callable object in a class, static or not."""

from typing import assert_type

from opero import opero


class Shop:
    @staticmethod
    @opero
    def parse(text: str) -> int:
        return int(text)


def see(shop: Shop) -> None:
    assert_type(Shop.parse("1"), int)
    assert_type(shop.parse("1"), int)
