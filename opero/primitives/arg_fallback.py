"""ArgFallback: try several values of one argument, in order, until one works.

1. The caller passes a list or tuple of alternatives, the function gets one of them. Anything else is passed on.
2. The next one is tried at once after an error; refusals by Opero itself and the call's deadline end the round.
3. When all failed, `AllFailedError` holds each error. A retry around it starts the round again.
"""

from __future__ import annotations

from opero.errors import AllFailedError, ConfigurationError, Rejected
from opero.policy import Policy
from opero.signals import Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from opero.call import Call, Layer, Next

ADVANCED = Event(
    "opero.arg_fallback.advanced",
    "info",
    "An alternative failed, the next one is tried.",
    ("parameter", "alternative", "error"),
)
SIGNALS = Signals("arg_fallback", (ADVANCED,))


class ArgFallback(Policy):
    """Take the alternatives from the argument named `parameter`. Holds no state.

    Example:
        >>> ArgFallback("host").parameter
        'host'
    """

    place = "arg_fallback"
    SIGNALS = SIGNALS

    parameter: str

    def __init__(self, parameter: str) -> None:
        if not str(parameter).isidentifier():
            raise ConfigurationError("arg_fallback", parameter, "the name of a parameter")
        self._freeze(parameter=parameter)

    def attach(self, function: Callable[..., Any]) -> Layer:
        from inspect import Parameter, signature

        parameters = signature(function).parameters
        found = parameters.get(self.parameter)
        if found is None or found.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            named = [
                p.name for p in parameters.values() if p.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
            ]
            raise ConfigurationError(
                "arg_fallback", self.parameter, f"a parameter of the function: {', '.join(named) or 'it has none'}"
            )
        place = None if found.kind is Parameter.KEYWORD_ONLY else list(parameters).index(self.parameter)
        default = None if found.default is Parameter.empty else found.default

        async def layer(call: Call, next: Next) -> Any:  # noqa: A002
            """Try one alternative after the other."""
            given = (
                call.args[place]
                if place is not None and place < len(call.args)
                else call.kwargs.get(self.parameter, default)
            )
            if not isinstance(given, list | tuple):
                return await next(call)
            errors: list[Exception] = []
            for branch in self._branches(call, place, given):
                try:
                    return await next(branch)
                except Rejected:
                    raise
                except Exception as error:
                    if call.deadline is not None and call.deadline.hit:
                        raise
                    errors.append(error)
                    if len(errors) < len(given):
                        call.emit(
                            ADVANCED, parameter=self.parameter, alternative=len(errors), error=type(error).__name__
                        )
            if not errors:
                raise ConfigurationError(self.parameter, given, "at least one alternative")
            try:
                raise AllFailedError(f"every alternative of {self.parameter} failed", errors)
            finally:
                del errors  # the group's traceback holds this frame

        return layer

    def _branches(self, call: Call, place: int | None, given: list[Any] | tuple[Any, ...]) -> Iterator[Call]:
        for alternative in given:
            if place is not None and place < len(call.args):
                yield call.branch((*call.args[:place], alternative, *call.args[place + 1 :]), call.kwargs)
            else:
                yield call.branch(call.args, {**call.kwargs, self.parameter: alternative})
