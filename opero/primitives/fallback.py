"""Fallback: an answer when the call has none.

1. Outermost: it sees the final failure, after retries, rejections and timeouts.
2. A callable is called with the original arguments, anything else is the answer itself.
3. The call's outcome is `fallback`, never `ok`. An error of the fallback passes through, with the first as its context.
"""

from __future__ import annotations

from opero.policy import Fragment, Policy
from opero.signals import Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.call import Call, Layer, Next

USED = Event("opero.fallback.used", "warning", "The caller got the fallback's answer.", ("error",))
SIGNALS = Signals("fallback", (USED,))


class Fallback(Policy):
    """Answer with `value`, or with `value(*args, **kwargs)` if it can be called; a coroutine function is awaited.

    Holds no state.

    Example:
        >>> Fallback(0).value
        0
    """

    place = "fallback"
    SIGNALS = SIGNALS

    value: Any

    def __init__(self, value: Any) -> None:
        self._freeze(value=value)
        self.__dict__["reads_arguments"] = callable(value)

    def fragment(self) -> Fragment:
        return Fragment()

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Answer in place of a failure."""
        try:
            return await next(call)
        except Exception as error:  # noqa: BLE001 - a fallback is for all of them; the event tells which
            answer: Any = self.value(*call.args, **call.kwargs) if callable(self.value) else self.value
            if call.operation.is_async and hasattr(answer, "__await__"):
                answer = await answer
            call.record.fell_back = True
            call.emit(USED, error=type(error).__name__)
            return answer
