"""Says why a dataflow dies, which bytewax does not when processes form a cluster.

There any exception of a worker becomes "Send thread panic" in every process, itself among them, or a panic
within the panic aborts the process; the fault that says how to mend it is gone. So what bytewax calls is
wrapped, to learn of what is raised before bytewax does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from bytewax.dataflow import Dataflow

__all__ = ["ErrorCapture", "PeerLostError", "once_listed"]

_CALLED: Final = (
    *("list_parts", "build_part", "build", "part_fn"),
    *("next_batch", "next_awake", "write_batch", "on_batch", "on_notify", "on_eof", "notify_at"),
    *("snapshot", "close"),
)
"""What bytewax calls of sources, sinks, their partitions, and logics."""
_MAKERS: Final = ("build_part", "build")


class PeerLostError(Exception):
    """Another process of the job died, and this one with it."""


class ErrorCapture:
    """Tells the first thing that a callback of a dataflow raises. Make it before the dataflow runs.

    >>> import bytewax.operators as op
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> flow = Dataflow("division")
    >>> numbers = op.map("divide", op.input("numbers", flow, TestingSource([1, 0])), lambda n: 1 // n)
    >>> op.output("out", numbers, TestingSink([]))
    >>> witness = ErrorCapture(flow, lambda err: print(repr(err)))
    >>> try:
    ...     run_main(flow)
    ... except Exception:
    ...     print("bytewax knows, too")
    ZeroDivisionError('integer division or modulo by zero')
    bytewax knows, too
    """

    def __init__(self, flow: Dataflow, tell: Callable[[BaseException], None]) -> None:
        self._tell = tell
        self._has_told = False
        for step in _steps(flow.substeps):
            if hasattr(step, "mapper"):
                _set(step, "mapper", self._noting(_at_once(step.mapper)))
            for name in ("predicate", "inspector"):
                if hasattr(step, name):
                    _set(step, name, self._noting(getattr(step, name)))
            if hasattr(step, "builder"):
                _set(step, "builder", self._making(step.builder))
            for name in ("source", "sink"):
                if hasattr(step, name):
                    self._watch(getattr(step, name))

    def _noting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except StopIteration:
                raise  # the end of a source
            except BaseException as err:
                if not self._has_told:
                    self._has_told = True
                    self._tell(err)
                raise

        return noting

    def _making(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """The same for what makes a partition or a logic, whose methods are called then."""
        noting = self._noting(make)

        def making(*args: Any, **kwargs: Any) -> Any:
            return self._watch(noting(*args, **kwargs))

        return making

    def _watch(self, one: Any) -> Any:
        for name in _CALLED:
            if callable(method := getattr(one, name, None)):
                _set(one, name, self._making(method) if name in _MAKERS else self._noting(method))
        return one


def once_listed(flow: Dataflow, tell: Callable[[], None]) -> None:
    """Have ``tell`` called once the last source has listed its partitions.

    Of what bytewax calls of sources, only that is called in every process of a cluster, and none reads
    before all have done it.

    >>> import bytewax.operators as op
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> flow = Dataflow("one")
    >>> op.output("out", op.input("numbers", flow, TestingSource([1])), TestingSink([]))
    >>> once_listed(flow, lambda: print("listed"))
    >>> run_main(flow)
    listed
    """
    last = [
        step.source for step in _steps(flow.substeps) if hasattr(getattr(step, "source", None), "list_parts")
    ][-1]
    list_parts = last.list_parts

    def listing() -> list[str]:
        found: list[str] = list_parts()
        tell()
        return found

    _set(last, "list_parts", listing)


def _at_once(mapper: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What is mapped when it is called, not when bytewax looks at it."""

    def mapping(batch: Any) -> list[Any]:
        return list(mapper(batch))

    return mapping


def _steps(steps: list[Any]) -> Iterator[Any]:
    """The operators that bytewax itself runs."""
    for step in steps:
        if getattr(step, "core", False):
            yield step
        else:
            yield from _steps(step.substeps)


def _set(one: Any, name: str, value: Any) -> None:
    object.__setattr__(one, name, value)  # steps are frozen for their users
