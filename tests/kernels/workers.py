"""Processes of their own for Triton: whether it interprets or compiles is settled when it is imported."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor


def worker(*, interpret: bool) -> ProcessPoolExecutor:
    """One fresh process that has not imported Triton yet, and will with or without its interpreter."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_set_interpreter,
        initargs=(interpret,),
    )


def _set_interpreter(interpret: bool) -> None:
    os.environ["TRITON_INTERPRET"] = "1" if interpret else "0"
