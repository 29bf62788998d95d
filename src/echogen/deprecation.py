"""Names of an older release that go on working for one more, with a DeprecationWarning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def renamed_keyword(old: str, new: str) -> Callable[[Function], Function]:
    """Decorate a function so that the keyword `old` is passed on as `new`; both at once raise TypeError."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def renamed(*args: Any, **keywords: Any) -> Any:
            if old in keywords:
                if new in keywords:
                    raise TypeError(f"{function.__qualname__}() got both {new!r} and its older name {old!r}")
                warnings.warn(f"the keyword {old} is called {new} now", DeprecationWarning, stacklevel=2)
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return cast(Function, renamed)

    return decorate


def renamed_property(old: str, new: str) -> Any:
    """Return a property that reads the attribute `new` under its older name, with a DeprecationWarning."""

    def read(self: Any) -> Any:
        warnings.warn(f"{type(self).__name__}.{old} is called {new} now", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    return property(read, doc=f"Older name of `{new}`.")
