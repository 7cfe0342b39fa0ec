"""Choosing the fastest of several ways to compute the same thing."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection, Hashable, Mapping, MutableMapping
from typing import TypeVar

import torch

from impls.interface import Unsupported

_Choice = TypeVar("_Choice", bound=Hashable)
_ROUNDS = 5
_MAX_REASON = 200  # characters of one refusal
_COMPILER_ERRORS = ("CompilationError", "PTXASError")  # of Triton, and what derives from them
_DEVICE_LIMITS = ("OutOfResources",)  # of Triton: too much shared memory, too many registers


def fastest(
    calls: Mapping[_Choice, Callable[[], object]],
    device: torch.device,
    timer: Callable[[Callable[[], object], torch.device], float] | None = None,
    refused: MutableMapping[_Choice, str] | None = None,
) -> _Choice:
    """Time every call in turn, a few times, and return the key of the one with the least time.

    A call is left out if its first try is refused: this torch, this Triton or this device cannot do it.

    Args:
        calls: what to choose from, by key.
        device: the function waits for it before and after each call.
        timer: returns the seconds of one call. ``None`` is the host's clock.
        refused: is filled with the reason of each call that was left out.

    Raises:
        Unsupported: no call works. The message gives the reason of each.
        RuntimeError: no call works, and a compiler failed: that is a fault of the kernel, not a limit of the device.
        Exception: a call failed in a way that is no refusal, such as a memory fault or a wrong argument.
    """
    seconds = timer or _seconds
    best_s = dict.fromkeys(calls, math.inf)
    reasons: dict[_Choice, str] = {}
    is_kernel_fault = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch explains as warnings why a back-end is refused
        for choice, call in calls.items():
            try:
                seconds(call, device)
            except Exception as error:
                if not is_refusal(error):
                    raise
                _synchronize(device)  # raises if the device itself has failed: no later call could work
                del best_s[choice]
                reasons[choice] = _first_line(error)
                is_kernel_fault |= _is_of_triton(error, _COMPILER_ERRORS)
        for _ in range(_ROUNDS if len(best_s) > 1 else 0):
            for choice, least_s in best_s.items():
                best_s[choice] = min(least_s, seconds(calls[choice], device))
    if refused is not None:
        refused.update(reasons)
    if not best_s:
        told = "; ".join(f"{choice}: {reason}" for choice, reason in reasons.items())
        sentence = f"no way to compute this attention works on {device} ({told})"
        raise RuntimeError(sentence) if is_kernel_fault else Unsupported(sentence)
    return min(best_s, key=best_s.__getitem__)


def is_refusal(error: Exception) -> bool:
    """Return whether a call that raised this cannot be done here, while another way may work.

    Torch refuses with a ``RuntimeError``. Triton's ``OutOfResources``, ``PTXASError`` and
    ``CompilationError`` derive from ``Exception``. Out of memory is no refusal: the caller has a
    status for it.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, RuntimeError) or _is_of_triton(error, (*_COMPILER_ERRORS, *_DEVICE_LIMITS))


def _is_of_triton(error: Exception, names: Collection[str]) -> bool:
    """Return whether an error is of one of these classes of Triton, which need not be installed."""
    return any(kind.__name__ in names and kind.__module__.startswith("triton.") for kind in type(error).__mro__)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no message"
    return (text if isinstance(error, RuntimeError) else f"{type(error).__name__}: {text}")[:_MAX_REASON]


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
