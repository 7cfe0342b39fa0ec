"""Requests as columns: the offer of a workload to a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """Requests in the order in which they are offered, one entry per request in every column.

    Attributes:
        prompt_lens: int64 ``[n]``, tokens of the prompt, at least 1.
        output_lens: int64 ``[n]``, tokens to generate. 0 if a request ends with its prompt.
        arrivals_s: float64 ``[n]``, seconds since the workload began. ``None`` if unknown.
        hash_ids: for each request the ids of its prompt's blocks, a partial last block included.
            Equal ids mean an equal prefix up to the end of the block. ``None`` if unknown.
        hash_block_tokens: tokens per block of ``hash_ids``.
        skipped: requests left out because prompt plus output exceeded the model's ``max_seq_len``.

    Raises:
        ValueError: the columns differ in length, or only one of the two hash fields is given.
    """

    prompt_lens: NDArray[np.int64]
    output_lens: NDArray[np.int64]
    arrivals_s: NDArray[np.float64] | None = None
    hash_ids: list[list[int]] | None = None
    hash_block_tokens: int | None = None
    skipped: int = 0

    def __post_init__(self) -> None:
        columns = (self.prompt_lens, self.output_lens, self.arrivals_s, self.hash_ids)
        lengths = [len(column) for column in columns if column is not None]
        if len(set(lengths)) != 1:
            raise ValueError(f"the columns of Requests differ in length: {lengths}")
        if (self.hash_ids is None) != (self.hash_block_tokens is None):
            raise ValueError("hash_ids and hash_block_tokens must both be given, or neither")

    def __len__(self) -> int:
        return len(self.prompt_lens)

    @property
    def final_lens(self) -> NDArray[np.int64]:
        """Prompt plus output in tokens, int64 ``[n]``."""
        return self.prompt_lens + self.output_lens

    def take(self, indices: Sequence[int] | NDArray[np.int64], *, skipped: int = 0) -> Requests:
        """Return the requests at ``indices``, in that order, with unchanged arrivals.

        Args:
            indices: positions, each ``0 .. len(self) - 1``.
            skipped: number of other requests that were left out because of their length.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return Requests(
            prompt_lens=self.prompt_lens[chosen],
            output_lens=self.output_lens[chosen],
            arrivals_s=None if self.arrivals_s is None else self.arrivals_s[chosen],
            hash_ids=None if self.hash_ids is None else [self.hash_ids[index] for index in chosen.tolist()],
            hash_block_tokens=self.hash_block_tokens,
            skipped=skipped,
        )
