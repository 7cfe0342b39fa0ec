"""Choosing the fastest of several ways to compute the same thing."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

from impls.interface import Unsupported

_Choice = TypeVar("_Choice", bound=Hashable)
_ROUNDS = 5


def fastest(calls: Mapping[_Choice, Callable[[], object]], device: torch.device) -> _Choice:
    """Time every call in turn, a few times, and return the key of the one with the least time.

    A call that fails when tried first is left out: this torch or this device cannot do it.

    Args:
        calls: what to choose from, by key.
        device: waited for before and after each call.

    Raises:
        Unsupported: no call works; gives the reason of each.
    """
    best_s: dict[_Choice, float] = {}
    reasons = []
    for choice, call in calls.items():
        try:
            _seconds(call, device)
            best_s[choice] = float("inf")
        except torch.OutOfMemoryError:
            raise  # not a lack of ability: the caller has a status for it
        except RuntimeError as error:
            reasons.append(f"{choice}: {str(error).splitlines()[0]}")
    if not best_s:
        raise Unsupported(f"no way to compute this attention works on {device} ({'; '.join(reasons)})")
    for _ in range(_ROUNDS if len(best_s) > 1 else 0):
        for choice in best_s:
            best_s[choice] = min(best_s[choice], _seconds(calls[choice], device))
    return min(best_s, key=best_s.__getitem__)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch explains as warnings why a back-end is refused
        call()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
