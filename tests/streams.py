"""Generators of both kinds, and what they give."""

import asyncio

import opero as o


def generators(policies=(), **settings):
    """Return a decorated generator function of each kind, and how often their bodies began."""
    began = []

    @o.opero(*policies, **settings)
    def numbers(first, /, step=1, *, last=3):
        began.append(1)
        yield from range(first, last, step)

    @o.opero(*policies, **settings)
    async def later(first, /, step=1, *, last=3):
        began.append(1)
        for each in range(first, last, step):
            yield each

    return {"sync": numbers, "async": later}, began


def items(kind, function, *args):
    """Return the items of a generator, the error last if there was one."""
    found = []
    if kind == "sync":
        try:
            found.extend(function(*args))
        except Exception as error:
            found.append(error)
        return found

    async def take():
        try:
            async for item in function(*args):
                found.append(item)
        except Exception as error:
            found.append(error)
        return found

    return asyncio.run(take())
