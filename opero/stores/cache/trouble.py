"""Why a store did not do its part; the layer turns these into events, and the caller never sees them."""

from __future__ import annotations


class Refused(Exception):
    """What lies in a store is not what was stored, or a value cannot be stored: `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unavailable(Exception):
    """The store did not do its part; `quiet` when it was not even asked, because it did not answer before.

    `answered`: it said no, at once; so it is asked again for all else.
    """

    def __init__(self, reason: str, *, quiet: bool = False, answered: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.quiet = quiet
        self.answered = answered
