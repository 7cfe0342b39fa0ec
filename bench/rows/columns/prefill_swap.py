"""Columns: what scenario=prefill and scenario=swap ask and measure."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

PREFILL_SWAP: tuple[Column, ...] = (
    *columns(
        "identity",
        None,
        chunk_tokens="scenario=prefill: most tokens of a prompt that ask in the step; 0: all that are not cached",
        cached_tokens="scenario=prefill: tokens of each prompt that are cached already, at most all but its last",
        page_moves="scenario=swap: at_once (a kernel, or a gather, a transfer and a scatter, per tensor) or each (a "
        "copy per page and tensor)",
    ),
    *columns(
        "exact",
        None,
        prefill_tokens="scenario=prefill: tokens that ask in the step, over all sequences",
        moved_pages="scenario=swap: pages that move: those of the admitted sequences, shared ones once",
        moved_bytes="scenario=swap: bytes of these pages' K and V in one layer",
    ),
    *columns(
        "timing",
        "lower",
        prefill_us="scenario=prefill: median time of the step's causal attention in one layer",
        prefill_us_low="lower end of the 95 % order-statistic interval of that median",
        prefill_us_high="upper end of it",
        prefill_us_min="the fastest of its samples; judged only where --metric names it",
        prefill_us_per_ktoken="1,000 · prefill_us / prefill_tokens",
        prefill_spread_ratio="interquartile range of the samples behind prefill_us / their median",
        prefill_enqueue_us="median host time to enqueue it outside of a graph; null on a CPU",
        prefill_hot_us="the same as prefill_us with warm caches; null on a CPU",
        linear_us="scenario.linear_layers: one layer's matrix products of prefill_tokens tokens, timed as one product "
        "with num_parameters / num_layers weights",
    ),
    *columns(
        "timing",
        "higher",
        prefill_tflops="4 · num_query_heads · head_dim · Σ tokens that each query sees / prefill_us, 10¹² "
        "operations/s: causal, what a mask hides is not counted",
    ),
    *columns(
        "record",
        None,
        prefill_samples="samples behind prefill_us",
        prefill_sample_calls="calls that one of these samples averages over",
        prefill_warmup_calls="calls before the first of these samples",
        prefill_stop="why sampling stopped: converged, stable_noise or budget",
    ),
    *columns(
        "timing",
        "lower",
        swap_out_us="scenario=swap: copying moved_pages pages to the host, of one layer: the time of the call, which "
        "moves layers_allocated layers, divided by them",
        swap_in_us="the same back from the host",
        copy_pages_us="the same to as many other pages of the pool",
    ),
    *columns(
        "timing",
        "higher",
        swap_out_gbps="moved_bytes / swap_out_us, 10⁹ bytes/s",
        swap_in_gbps="moved_bytes / swap_in_us",
        copy_pages_gbps="moved_bytes / copy_pages_us: each byte counted once, though read and written",
    ),
)
