"""Columns: parameters and measurements of ``scenario=prefill`` and ``scenario=swap``."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import Column, Topic

_prefill = partial(Column, scenarios=("prefill",))
_swap = partial(Column, scenarios=("swap",))
_prefill_time = partial(_prefill, kind="timing", better="lower")
_prefill_record = partial(_prefill, kind="record")
_swap_time = partial(_swap, kind="timing", better="lower", tables=("times", "report"), marks_best=True)
_swap_rate = partial(_swap, kind="timing", better="higher", tables=("times",))

PREFILL_SWAP = Topic(
    title="Prefill and swap",
    columns=(
        _prefill(
            name="chunk_tokens",
            kind="identity",
            heading="chunk",
            tables=("question",),
            place=12,
            meaning="largest number of query tokens of a prompt in the step. 0: all tokens that are not cached",
        ),
        _prefill(
            name="cached_tokens",
            kind="identity",
            heading="cached",
            tables=("question",),
            place=13,
            meaning="tokens of each prompt that are cached before the step, at most all but its last",
        ),
        _swap(
            name="page_moves",
            kind="identity",
            heading="moves",
            tables=("question", "report"),
            place=11,
            meaning="at_once (a kernel, or a gather, a transfer and a scatter, per tensor) or each (a copy per page "
            "and tensor)",
        ),
        _prefill(name="prefill_tokens", kind="exact", meaning="query tokens of the step, over all sequences"),
        _swap(name="moved_pages", kind="exact", meaning="pages of the admitted sequences. A shared page counts once"),
        _swap(name="moved_bytes", kind="exact", meaning="bytes of the moved pages' K and V in one layer"),
        _prefill_time(
            name="prefill_us",
            tables=("times", "report"),
            place=1,
            marks_best=True,
            meaning="median time of the step's causal attention in one layer",
        ),
        _prefill_time(
            name="prefill_us_low",
            tables=("report",),
            place=1,
            derived_from=("prefill_us",),
            meaning="lower end of the 95 % order-statistic interval of the median prefill_us",
        ),
        _prefill_time(
            name="prefill_us_high",
            tables=("report",),
            place=1,
            derived_from=("prefill_us",),
            meaning="upper end of the 95 % order-statistic interval of the median prefill_us",
        ),
        _prefill_time(
            name="prefill_us_min",
            on_request=True,
            meaning="fastest sample of prefill_us. Compared only if --metric names it",
        ),
        _prefill_time(
            name="prefill_us_per_ktoken",
            tables=("times",),
            place=2,
            marks_best=True,
            derived_from=("prefill_us", "prefill_tokens"),
            meaning="1,000 · prefill_us / prefill_tokens",
        ),
        _prefill_time(
            name="prefill_spread_ratio",
            derived_from=("prefill_us",),
            meaning="interquartile range of the samples of prefill_us / their median",
        ),
        _prefill_time(
            name="prefill_enqueue_us",
            meaning="median host time to enqueue the step outside of a graph. Null on a CPU",
        ),
        _prefill_time(
            name="prefill_hot_us",
            meaning="median time of the step's causal attention in one layer with warm caches. Null on a CPU",
        ),
        _prefill_time(
            name="linear_us",
            tables=("times", "report"),
            place=4,
            heading="linear",
            meaning="scenario.linear_layers: time of one layer's matrix products for prefill_tokens tokens, timed as "
            "one product with num_parameters / num_layers weights",
        ),
        _prefill(
            name="prefill_tflops",
            kind="timing",
            better="higher",
            heading="",
            tables=("times", "report"),
            place=3,
            marks_best=True,
            derived_from=("prefill_us",),
            meaning="4 · num_query_heads · head_dim · Σ tokens visible to each query / prefill_us, in 10¹² "
            "operations/s. Masked tokens are not counted",
        ),
        _prefill_record(name="prefill_samples", meaning="number of samples of prefill_us"),
        _prefill_record(name="prefill_sample_calls", meaning="calls per sample of prefill_us. A sample is their mean"),
        _prefill_record(name="prefill_warmup_calls", meaning="calls before the first sample of prefill_us"),
        _prefill_record(
            name="prefill_stop",
            meaning="reason why sampling of prefill_us stopped: converged, stable_noise or budget",
        ),
        _swap_time(
            name="swap_out_us",
            place=5,
            meaning="time to copy moved_pages pages to the host, per layer: the time of one call over "
            "layers_allocated layers, divided by them",
        ),
        _swap_time(name="swap_in_us", place=6, meaning="time to copy the pages back from the host, per layer"),
        _swap_time(
            name="copy_pages_us",
            place=7,
            meaning="time to copy the pages to as many other pages of the pool, per layer",
        ),
        _swap_rate(
            name="swap_out_gbps",
            heading="out",
            place=8,
            derived_from=("swap_out_us",),
            meaning="moved_bytes / swap_out_us, in 10⁹ bytes/s",
        ),
        _swap_rate(
            name="swap_in_gbps",
            heading="in",
            place=9,
            derived_from=("swap_in_us",),
            meaning="moved_bytes / swap_in_us, in 10⁹ bytes/s",
        ),
        _swap_rate(
            name="copy_pages_gbps",
            heading="copy",
            place=10,
            derived_from=("copy_pages_us",),
            meaning="moved_bytes / copy_pages_us, in 10⁹ bytes/s. Each byte counts once, though it is read and written",
        ),
    ),
)
