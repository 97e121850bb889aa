"""Decorated methods that implement or override one: pyright knows plain functions alone, and is shown one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, assert_type

from opero import Retry, opero

P = ParamSpec("P")
R = TypeVar("R")


def as_method(function: Callable[P, R]) -> Callable[P, R]:
    return function


class Rates(Protocol):
    def rate(self, currency: str) -> float: ...

    async def fetch(self, currency: str) -> float: ...


class Source(ABC):
    @abstractmethod
    def rate(self, currency: str) -> float: ...

    @abstractmethod
    async def fetch(self, currency: str) -> float: ...


class Bank(Source):
    @as_method
    @opero(retries=2)
    def rate(self, currency: str) -> float:
        return 1.08

    @as_method
    @Retry(2)
    async def fetch(self, currency: str) -> float:
        return 1.08


class Branch(Bank):
    @as_method
    @opero
    def rate(self, currency: str, day: int = 0) -> float:
        return super().rate(currency) + day


def see(bank: Bank) -> None:
    rates: Rates = bank
    assert_type(rates.rate("EUR"), float)
    assert_type(bank.rate(currency="EUR"), float)
    assert_type(Bank.rate(bank, "EUR"), float)
    assert_type(Branch().rate("EUR", day=1), float)
