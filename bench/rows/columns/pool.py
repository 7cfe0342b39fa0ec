"""Columns: the parts of the policy's pool, and the bytes of its storage."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import SHARE, Column, Topic

TENSORS = ("decode", "prefill", "swap")
"""Scenarios that time a cache."""

_FILLED = (*TENSORS, "capacity", "notebook")
_POOLS = (*_FILLED, "churn", "serving")

_pool = partial(Column, kind="exact", tables=("memory",), scenarios=_POOLS)
_storage = partial(Column, kind="exact", scenarios=(*TENSORS, "capacity"))

POOL = Topic(
    title="The policy's pool, and its storage",
    columns=(
        Column(
            name="admitted_seqs",
            kind="exact",
            better="higher",
            heading="admitted",
            tables=("memory", "report"),
            place=20,
            marks_best=True,
            scenarios=(*_FILLED, "churn"),
            meaning="sequences admitted before the first refusal",
        ),
        _pool(
            name="refused_seqs",
            better="lower",
            heading="refused",
            place=21,
            scenarios=(*_POOLS, "prefix_cache"),
            meaning="num_seqs − admitted_seqs",
        ),
        Column(
            name="skipped_requests",
            kind="exact",
            better="lower",
            scenarios=(*TENSORS, "churn", "serving", "lengths"),
            meaning="requests of the trace that are longer than model.max_seq_len, left out before the draw",
        ),
        Column(
            name="live_tokens",
            kind="exact",
            scenarios=_FILLED,
            meaning="Σ seq_len over the admitted sequences",
        ),
        _pool(
            name="pool_bytes",
            heading="pool",
            place=22,
            meaning="bytes that the policy manages over all layers: live + reserved + internal_fragmentation + "
            "external_fragmentation + cached + free",
        ),
        _pool(
            name="live_bytes",
            heading="live",
            place=23,
            meaning="slots that hold a token's K and V. A shared slot counts once",
        ),
        Column(
            name="rounding_bytes",
            kind="exact",
            better="lower",
            scenarios=("churn",),
            meaning="part of the internal fragmentation that the buddy allocator adds, because its regions are powers "
            "of two. The paper counts it as external",
        ),
        _pool(
            name="reserved_bytes",
            better="lower",
            heading="reserved",
            place=24,
            meaning="slots held for tokens that their sequence will still produce: Σ min(held, final_len) − seq_len",
        ),
        _pool(
            name="internal_fragmentation_bytes",
            better="lower",
            heading="internal",
            place=25,
            meaning="slots held that will never be used: Σ held − min(held, final_len)",
        ),
        _pool(
            name="external_fragmentation_bytes",
            better="lower",
            heading="external",
            place=26,
            meaning="free slots that remain after placing copies of the first refused request, or of the first "
            "request if none was refused. It is 0 for paged policies",
        ),
        _pool(
            name="cached_bytes",
            heading="cached",
            place=27,
            meaning="unreferenced pages that a later prefix can reuse",
        ),
        _pool(name="free_bytes", heading="free", place=28, meaning="the rest of the pool"),
        Column(
            name="shared_saved_bytes",
            kind="exact",
            scenarios=_POOLS,
            meaning="bytes that the shared slots would use without sharing. They are not part of the sum",
        ),
        Column(
            name="largest_free_ratio",
            kind="exact",
            heading="largest free",
            tables=("counts",),
            place=49,
            bounds=SHARE,
            scenarios=(*_FILLED, "churn"),
            meaning="largest contiguous free extent / all free slots",
        ),
        Column(
            name="metadata_bytes",
            kind="record",
            scenarios=("decode", "prefill"),
            meaning="device bytes of page table, lengths, slot mapping and quantisation scales of one step, not part "
            "of the sum. They include a gather plan if the fastest call uses one, so that processes can differ",
        ),
        _storage(name="layers_allocated", counts=True, meaning="layers whose K and V have storage"),
        _storage(name="logical_bytes", source="memory", meaning="bytes of these layers as the policy counts them"),
        _storage(
            name="storage_bytes",
            source="memory",
            heading="storage",
            tables=("memory",),
            place=29,
            meaning="bytes of the K and V tensors of these layers",
        ),
        Column(
            name="batch_digest",
            kind="exact",
            must_match=("timing", "memory"),
            scenarios=(*TENSORS, "capacity", "churn", "serving", "lengths"),
            meaning="hash of the admitted sequences' lengths. Equal work has equal digests",
        ),
    ),
)
