"""Choosing the fastest of several ways to compute the same thing."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

from impls.interface import Unsupported

_Choice = TypeVar("_Choice", bound=Hashable)
_ROUNDS = 5


def fastest(
    calls: Mapping[_Choice, Callable[[], object]],
    device: torch.device,
    timer: Callable[[Callable[[], object], torch.device], float] | None = None,
) -> _Choice:
    """Time every call in turn, a few times, and return the key of the one with the least time.

    A call that fails when tried first is left out: this torch or this device cannot do it.

    Args:
        calls: what to choose from, by key.
        device: waited for before and after each call.
        timer: returns the seconds of one call; the host's clock if ``None``.

    Raises:
        Unsupported: no call works; gives the reason of each.
    """
    seconds = timer or _seconds
    best_s = dict.fromkeys(calls, math.inf)
    reasons = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch explains as warnings why a back-end is refused
        for choice, call in calls.items():
            try:
                seconds(call, device)
            except torch.OutOfMemoryError:
                raise  # not a lack of ability: the caller has a status for it
            except RuntimeError as error:
                del best_s[choice]
                reasons.append(f"{choice}: {str(error).splitlines()[0]}")
        for _ in range(_ROUNDS if len(best_s) > 1 else 0):
            for choice, least_s in best_s.items():
                best_s[choice] = min(least_s, seconds(calls[choice], device))
    if not best_s:
        raise Unsupported(f"no way to compute this attention works on {device} ({'; '.join(reasons)})")
    return min(best_s, key=best_s.__getitem__)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
