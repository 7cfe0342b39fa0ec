"""The table's rows, made in a worker that compiles."""

from __future__ import annotations

from tests.proofs.kernel_table import all_work, markdown_row, sources_digest, subset_work


def digest() -> str:
    return sources_digest()


def subset_rows() -> list[str]:
    return [markdown_row(row) for work in subset_work() for row in work.rows()]


def all_rows() -> list[str]:
    return [markdown_row(row) for work in all_work() for row in work.rows()]
