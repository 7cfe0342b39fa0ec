"""Columns: where the policy's pool stands, and what its storage takes."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

POOL: tuple[Column, ...] = (
    *columns("exact", "higher", admitted_seqs="sequences admitted before the first refusal"),
    *columns(
        "exact",
        "lower",
        refused_seqs="num_seqs − admitted_seqs",
        skipped_requests="requests of the trace longer than model.max_seq_len, left out before the draw",
    ),
    *columns(
        "exact",
        None,
        live_tokens="Σ seq_len over the admitted sequences",
        pool_bytes="bytes that the policy manages over all layers; the sum of the six parts below",
        live_bytes="slots that hold a token's K and V; a shared slot counts once",
    ),
    *columns(
        "exact",
        "lower",
        rounding_bytes="scenario=churn: of internal fragmentation, what buddies of a power of two add; the paper "
        "counts it with external",
        reserved_bytes="slots held for tokens that their sequence will still produce: Σ min(held, final_len) − seq_len",
        internal_fragmentation_bytes="slots held that will never be used: Σ held − min(held, final_len)",
        external_fragmentation_bytes="unheld slots left after greedily placing copies of the first refused request "
        "(or, if none was refused, of the first request); 0 for paged policies",
    ),
    *columns(
        "exact",
        None,
        cached_bytes="unreferenced pages that a later prefix could reuse",
        free_bytes="the rest of the pool",
        shared_saved_bytes="bytes that sharing saves: what the shared slots would take again; beside the sum",
        largest_free_ratio="largest contiguous free extent / all free slots",
    ),
    *columns(
        "record",
        None,
        metadata_bytes="device bytes of page table, lengths, slot mapping and, if quantised, scales of one step; "
        "beside the sum. A gather plan in it is that of the call found fastest, so processes may differ",
    ),
    *columns(
        "exact",
        None,
        layers_allocated="layers whose K and V got storage",
        logical_bytes="pool_bytes of these layers: what the policy thinks that the storage takes",
        storage_bytes="bytes that the K and V tensors really take (layers_allocated layers)",
        batch_digest="hash of the admitted sequences' lengths: equal work has equal digests",
    ),
)
