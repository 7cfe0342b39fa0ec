"""Where traces are: small ones of our own making, and the published ones where a checkout has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PUBLISHED = HERE.parents[1].parent / "shared" / "traces"


@pytest.fixture
def fixture_trace() -> Callable[[str], str]:
    """Path of a small trace by its file name."""
    return lambda name: str(HERE / "fixtures" / name)


@pytest.fixture
def published_trace() -> Callable[[str], str]:
    """Return the path of a published trace by its file name. Skip where it is absent."""

    def find(name: str) -> str:
        path = PUBLISHED / name
        if not path.exists():
            pytest.skip(f"the published trace {name} is not in shared/traces beside this checkout")
        return str(path)

    return find
