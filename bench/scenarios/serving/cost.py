"""Compute the duration of a step, in whole femtoseconds.

The times are integers, so that steps summed in closed form and steps added one by one give equal times to the last
digit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from bench.config import CostConfig
from impls.spec import DTYPE_BYTES, ModelSpec

FS_PER_S: Final = 10**15
FS_PER_US: Final = 10**9


class StepWork(NamedTuple):
    """The work of one step.

    Attributes:
        tokens: tokens that go through the weights: one per decoding sequence, and those of the prompts.
        context: tokens whose K and V are read, summed over the decoding sequences.
        pairs: (query, key) pairs of the prompts' attention.
        copied: tokens whose K and V are copied within the pool.
        swapped_pages: pages moved to or from the host.
    """

    tokens: int
    context: int
    pairs: int = 0
    copied: int = 0
    swapped_pages: int = 0


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """A step's time as a sum of terms (a roofline of each kind of work), in femtoseconds.

    Attributes:
        overhead_fs: overhead of every step.
        weights_fs: reading all weights once.
        token_fs: multiplying one token with all weights. A step takes the larger of this and the former.
        link_fs: exchanging one token's activations between the GPUs.
        context_fs: reading one token's K and V over all layers.
        pair_fs: one query meeting one key, over all heads and layers.
        copy_fs: copying one token's K and V within the pool, read and written.
        swap_page_fs: moving one page to or from the host: its bytes, and a copy for K and V of each layer.
    """

    overhead_fs: int
    weights_fs: int
    token_fs: int
    link_fs: int
    context_fs: int
    pair_fs: int
    copy_fs: int
    swap_page_fs: int

    def step_fs(self, work: StepWork) -> int:
        """Return the duration of one step."""
        tokens, context, pairs, copied, swapped_pages = work
        return (
            self.linear_fs(tokens)
            + self.context_fs * context
            + self.pair_fs * pairs
            + self.copy_fs * copied
            + self.swap_page_fs * swapped_pages
        )

    def slowed(self, factor: float) -> StepCost:
        """Return the cost with every term multiplied by a factor."""
        terms = {term.name: round(factor * getattr(self, term.name)) for term in fields(self)}
        return StepCost(**terms) if factor != 1 else self

    def linear_fs(self, tokens: int) -> int:
        """Return the part that depends only on the number of tokens."""
        return self.overhead_fs + max(self.weights_fs, self.token_fs * tokens) + self.link_fs * tokens


def roofline(cost: CostConfig, model: ModelSpec, page_size: int) -> StepCost:
    """Return the terms of a model on one GPU, or on several with weights and heads divided among them.

    Every term is (amount of work) / (reached rate). A token takes 2 operations per weight, and a pair 4 per element of
    the query heads (q·k and p·v). Each layer has two sums over all GPUs, of one hidden vector per token. Each sends
    2 (n − 1) / n of it over the link (ring all-reduce).

    Args:
        cost: the constants, checked to be complete by ``cost.check(model)``.
        model: gives weights and bytes per token.
        page_size: tokens per page, for swapping.
    """
    rates = {name: getattr(cost, name) or 0.0 for name in ("read_gbps", "read_ratio", "tflops", "compute_ratio")}
    read = rates["read_gbps"] * 1e9 * rates["read_ratio"] * cost.num_gpus  # bytes per second
    compute = rates["tflops"] * 1e12 * rates["compute_ratio"] * cost.num_gpus  # operations per second
    element_bytes = DTYPE_BYTES[model.dtype]
    hidden = model.num_query_heads * model.head_dim
    sent = 2 * model.num_layers * hidden * element_bytes * 2 * (cost.num_gpus - 1) / cost.num_gpus
    host = (cost.host_gbps or 0.0) * 1e9 * cost.num_gpus
    copies_us = 2 * model.num_layers * (cost.host_copy_us or 0.0)  # K and V separately, each GPU in parallel
    return StepCost(
        overhead_fs=round((cost.step_overhead_us or 0.0) * FS_PER_US),
        weights_fs=_fs(model.num_parameters * element_bytes / read),
        token_fs=_fs(2 * model.num_parameters / compute),
        link_fs=_fs(sent / (cost.link_gbps * 1e9)) if cost.num_gpus > 1 and cost.link_gbps else 0,
        context_fs=_fs(model.token_bytes / read),
        pair_fs=_fs(4 * hidden * model.num_layers / compute),
        copy_fs=_fs(2 * model.token_bytes / read),
        swap_page_fs=_fs(model.page_bytes(page_size) / host) + round(copies_us * FS_PER_US),
    )


def _fs(seconds: float) -> int:
    return round(seconds * FS_PER_S)
