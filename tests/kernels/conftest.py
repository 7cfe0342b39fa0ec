"""The processes in which Triton interprets or compiles, one of each per test session."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from tests.kernels.workers import worker


@pytest.fixture(scope="session")
def kernels() -> Iterator[ProcessPoolExecutor]:
    """Runs kernels: on the GPU if there is one, else in Triton's interpreter."""
    with worker(interpret=not torch.cuda.is_available()) as process:
        yield process


@pytest.fixture(scope="session")
def compiler() -> Iterator[ProcessPoolExecutor]:
    """Compiles kernels, for any target and without a GPU."""
    with worker(interpret=False) as process:
        yield process
