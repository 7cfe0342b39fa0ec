"""One decode step of a small batch through ``PagedTriton`` or its control arm, compared with the reference.

Runs in a worker: under Triton's interpreter, or for real where there is a GPU.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from impls.caches.paged_triton import PagedTriton, TritonBatch
from impls.caches.triton_contiguous import TritonContiguous
from impls.policies import PagePool, Reserved
from impls.reference import allowed_error, decode_attention, decode_lse, max_rel_error
from impls.spec import ModelSpec, ceil_div

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch and how to attend over it. Lengths in tokens."""

    seq_lens: Sequence[int]
    page_size: int = 16
    heads: tuple[int, int] = (4, 1)  # query heads, KV heads
    head_dim: int = 64
    dtype: str = "float32"
    options: Mapping[str, object] = field(default_factory=dict)
    semantics: Mapping[str, Any] = field(default_factory=dict)  # kv_dtype, sliding_window, soft_cap
    paged: bool = True  # else regions, and no page table
    extras: Sequence[str] = ()  # sinks, slopes
    mutation: str | None = None

    @property
    def model(self) -> ModelSpec:
        num_query_heads, num_kv_heads = self.heads
        return ModelSpec(
            name="case",
            num_layers=1,
            num_query_heads=num_query_heads,
            num_kv_heads=num_kv_heads,
            head_dim=self.head_dim,
            dtype=self.dtype,
            max_seq_len=max(self.seq_lens),
            **self.semantics,
        )

    @property
    def masking(self) -> dict[str, Any]:
        """What the reference must know."""
        options = {"window": self.model.sliding_window, "soft_cap": self.model.soft_cap}
        generator = torch.Generator().manual_seed(2)
        heads = self.heads[0]
        values = {"sinks": torch.randn(heads, generator=generator), "slopes": torch.rand(heads, generator=generator)}
        return options | {name: values[name].to(DEVICE) for name in self.extras}


class Outcome(NamedTuple):
    """Error of the output and how much of it correct arithmetic may make, both relative per head."""

    error: float
    allowed: float
    num_splits: int
    num_programs: int = 0


def attend(case: Case) -> Outcome:
    """Fill a cache of permuted pages whose other slots are NaN, decode, compare."""
    cache, keys, values, query, batch = filled(case)
    if case.mutation is not None:
        ALL_MUTATIONS[case.mutation](cache, batch)
    reference = decode_attention(query, keys, values, **case.masking)
    return Outcome(
        error=max_rel_error(cache.decode(0, query, batch), reference),
        allowed=allowed_error(query, keys, values, reference, **case.masking),
        num_splits=batch.plan.num_splits,
        num_programs=batch.plan.num_programs,
    )


def attend_with_lse(case: Case) -> tuple[Outcome, float, bool]:
    """The outcome, the largest error of the log-sum-exp, and whether ``decode`` returns the same output."""
    cache, keys, values, query, batch = filled(case)
    out, lse = cache.decode_with_lse(0, query, batch)
    reference = decode_attention(query, keys, values, **case.masking)
    expected = decode_lse(query, keys, **case.masking)
    outcome = Outcome(
        error=max_rel_error(out, reference),
        allowed=allowed_error(query, keys, values, reference, **case.masking),
        num_splits=batch.plan.num_splits,
    )
    return outcome, float((lse - expected).abs().max()), torch.equal(out, cache.decode(0, query, batch))


def attend_with_padding(case: Case, padding: Sequence[int]) -> tuple[Outcome, bool, bool]:
    """Error of the other rows, and whether padding rows are zeros with a log-sum-exp of -inf: two ways.

    First their lengths become 0 on the device alone, as in a captured graph. Then on the host, too.
    """
    cache, keys, values, query, batch = filled(case)
    others = [seq_id for seq_id in range(len(case.seq_lens)) if seq_id not in padding]
    reference = decode_attention(query[others], [keys[i] for i in others], [values[i] for i in others], **case.masking)
    batch.seq_lens[list(padding)] = 0
    results = [cache.decode_with_lse(0, query, batch)]
    host_lens = np.array(case.seq_lens, dtype=np.int32)
    host_lens[list(padding)] = 0
    results.append(cache.decode_with_lse(0, query, replace(batch, plan=cache.decoder.plan(host_lens))))
    errors = [max_rel_error(out[others], reference) for out, _ in results]
    rest = [keys[i] for i in others], [values[i] for i in others]
    outcome = Outcome(
        error=max(errors),
        allowed=allowed_error(query[others], *rest, reference, **case.masking),
        num_splits=batch.plan.num_splits,
    )
    are_zeros = all(bool((out[list(padding)] == 0).all()) for out, _ in results)
    are_lowest = all(bool(torch.isneginf(lse[list(padding)]).all()) for _, lse in results)
    return outcome, are_zeros, are_lowest


def filled(case: Case) -> tuple[Any, list[Tensor], list[Tensor], Tensor, Any]:
    """A cache whose extras are set, its K and V, a query and the batch of all sequences."""
    warnings.simplefilter("error", RuntimeWarning)  # NumPy warns where the interpreter computes inf - inf
    generator = torch.Generator().manual_seed(0)
    cache = make_cache(case)
    keys, values = [], []
    for seq_id, seq_len in enumerate(case.seq_lens):
        cache.policy.admit(seq_id, seq_len)
        keys.append(_draw((seq_len, case.heads[1], case.head_dim), case, generator))
        values.append(_draw((seq_len, case.heads[1], case.head_dim), case, generator))
        store(cache, seq_id, keys[-1], values[-1])
    query = _draw((len(case.seq_lens), case.heads[0], case.head_dim), case, generator)
    return cache, keys, values, query, cache.prepare(range(len(case.seq_lens)))


def make_cache(case: Case) -> PagedTriton | TritonContiguous:
    """A cache with some pages to spare, assigned in random order, NaN in every slot."""
    model = case.model
    if case.paged:
        num_pages = sum(ceil_div(seq_len, case.page_size) for seq_len in case.seq_lens) + 2
        order = random.Random(0).sample(range(num_pages), num_pages)
        pool = PagePool(num_pages, case.page_size, model.token_bytes, free_order=order)
        cache = PagedTriton(model, pool, device=DEVICE, num_layers=1, options=case.options)
    else:
        num_slots = model.max_seq_len * (len(case.seq_lens) + 1)
        regions = Reserved(num_slots, model.max_seq_len, model.token_bytes, estimate="max")
        cache = TritonContiguous(model, regions, device=DEVICE, num_layers=1, options=case.options)
    for tensor in cache.tensors:
        tensor.fill_(math.nan)
    if "sinks" in case.extras:
        cache.set_sinks(0, case.masking["sinks"])
    if "slopes" in case.extras:
        cache.set_alibi(case.masking["slopes"])
    return cache


def store(cache: PagedTriton | TritonContiguous, seq_id: int, keys: Tensor, values: Tensor) -> None:
    """What the write kernel does, by torch: the interpreter takes a millisecond per token."""
    slots = torch.tensor(cache.policy.slots(seq_id, 0, len(keys)), device=DEVICE)
    for tensor, rows in zip(cache.tensors, (keys, values), strict=True):
        put(tensor, slots, rows)


def put(tensor: Tensor, slots: Tensor, rows: Tensor) -> None:
    """Rows into slots, of whatever layout."""
    if tensor.dim() == 3:
        tensor[slots] = rows
    else:
        tensor[slots // tensor.shape[1], slots % tensor.shape[1]] = rows


def take(tensor: Tensor, slots: Tensor) -> Tensor:
    """The rows of slots, of whatever layout."""
    if tensor.dim() == 3:
        return tensor[slots]
    return tensor[slots // tensor.shape[1], slots % tensor.shape[1]]


def _draw(shape: Sequence[int], case: Case, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).to(DEVICE, getattr(torch, case.dtype))


def _drop_token(cache: PagedTriton, batch: TritonBatch) -> None:
    batch.seq_lens[_longest(batch)] -= 1


def _swap_page(cache: PagedTriton, batch: TritonBatch) -> None:
    """The longest sequence's first page becomes another sequence's (within one, order is no matter)."""
    table, longest = batch.paged.page_table, _longest(batch)
    table[longest, 0] = table[longest - 1, 0]


def _leave_slot_stale(cache: PagedTriton, batch: TritonBatch) -> None:
    """The newest token was never written: its slot still holds what another sequence left."""
    newest = batch.slot_mapping[_longest(batch)]
    for tensor in cache.tensors:
        slots = tensor.flatten(0, 1)
        slots[newest] = slots[batch.slot_mapping[_longest(batch) - 1]]


def _forget_extras(cache: PagedTriton, batch: TritonBatch) -> None:
    cache.set_sinks(0, None)
    cache.set_alibi(None)


def _longest(batch: TritonBatch) -> int:
    return int(batch.paged.host.seq_lens.argmax())


MUTATIONS: Mapping[str, Callable[[PagedTriton, TritonBatch], None]] = {
    "dropped token": _drop_token,
    "swapped page": _swap_page,
    "stale slot": _leave_slot_stale,
}
ALL_MUTATIONS: Mapping[str, Callable[[PagedTriton, TritonBatch], None]] = {
    **MUTATIONS,
    "no extras": _forget_extras,
}
