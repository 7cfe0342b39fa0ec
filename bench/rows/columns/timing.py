"""Columns: times of a decode step and of host work, how they were taken, and by which code."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import Column, Topic
from bench.rows.columns.pool import TENSORS

_decode = partial(Column, scenarios=("decode",))
_decode_time = partial(_decode, kind="timing", better="lower")
_decode_record = partial(_decode, kind="record")
_cache_record = partial(Column, kind="record", scenarios=("decode", "prefill"))
_timed_record = partial(Column, kind="record", scenarios=TENSORS)
_provenance = partial(Column, kind="record", source="harness")

TIMING = Topic(
    title="Decode times, timers and provenance",
    columns=(
        _decode_time(
            name="decode_us_per_ktoken",
            heading="",
            tables=("times",),
            place=13,
            marks_best=True,
            derived_from=("decode_us", "live_tokens"),
            meaning="1,000 · decode_us / live_tokens",
        ),
        _cache_record(
            name="sdpa_backend",
            meaning="back-end of torch's scaled_dot_product_attention, if the implementation calls it",
        ),
        _cache_record(
            name="sdpa_call",
            meaning="equivalent call that the contiguous cache found fastest before timing",
        ),
        _cache_record(
            name="kernel_choice",
            meaning="library of the kernel. For a kernel of this project: tile and splits, and whether the tile was "
            "timed or read from disk",
        ),
        _cache_record(
            name="bytes_read",
            counts=True,
            meaning="bytes that one decode step of one layer reads and writes, padding included",
        ),
        _provenance(
            name="server_id",
            meaning="fork server of the timing process. The number of distinct values is the n of a comparison",
        ),
        _provenance(
            name="code_hash",
            meaning="hash of the sources that a point's processes, its implementation and its parameters import "
            "(bench/plan/code_hash.py)",
        ),
        _provenance(name="fingerprint", meaning="hash of the blocking facts of the machine that ran the point"),
        _provenance(
            name="rounds_interleaved",
            meaning="true: all points ran once before any ran again. false: a cluster's launcher chose the order, so "
            "that drift of the machine can look like a difference",
        ),
        _provenance(
            name="took_turns",
            meaning="true: the point ran at the same time as that of another revision, in turns (scripts/ab.py). "
            "false: it ran alone",
        ),
        _provenance(
            name="mixed",
            meaning="true in a resumed run whose code or machine had changed (resume_mixed=true)",
        ),
        Column(
            name="timer",
            kind="record",
            tables=("report",),
            place=19,
            must_match=("timing",),
            scenarios=(*TENSORS, "pytest_benchmark"),
            meaning="events, graph, cupti or perf_counter",
        ),
        _timed_record(
            name="timer_reason",
            meaning="reason for the timer: set by measure.timer, or chosen once per point from predicted bytes / "
            "ceiling",
        ),
        _timed_record(
            name="l2_mode",
            tables=("report",),
            place=19,
            must_match=("timing",),
            meaning="cold: no call behind decode_us (prefill_us, swap_out_us) found its inputs in the L2 cache, which "
            "was flushed before each sample or read through copies in turn. hot: calls found them there",
        ),
        _cache_record(name="append_l2_mode", meaning="L2 state while append_us was timed: cold or hot"),
        Column(
            name="benchmark_us",
            kind="timing",
            better="lower",
            scenarios=("pytest_benchmark",),
            meaning="median time of one call",
        ),
        _decode_time(
            name="decode_hot_us",
            heading="hot",
            tables=("times", "report"),
            place=12,
            marks_best=True,
            meaning="median decode step of one layer with warm caches. Null on a CPU",
        ),
        Column(
            name="ceiling_ratio",
            kind="timing",
            better="higher",
            heading="of ceiling",
            tables=("times", "report"),
            place=18,
            derived_from=("achieved_gbps", "ceiling_gbps"),
            scenarios=("decode", "prefill"),
            meaning="achieved_gbps / ceiling_gbps. A step that reads more than 4 last-level caches, or finds "
            "L2 cold, is incorrect above 1.25. Another row above 1.25 measures a cache and is never marked as best",
        ),
        _decode_time(
            name="policy_ns_per_op",
            heading="policy",
            tables=("times",),
            place=16,
            marks_best=True,
            meaning="host time per policy operation (admit, append or free of one sequence)",
        ),
        _decode_time(
            name="prepare_us",
            tables=("times",),
            place=15,
            marks_best=True,
            scenarios=("decode", "prefill"),
            meaning="time to build one step's metadata on the host and copy it to the device, once per step",
        ),
        _decode_time(
            name="append_us",
            tables=("times",),
            place=14,
            marks_best=True,
            scenarios=("decode", "prefill"),
            meaning="time to write one token's K and V per sequence into one layer. scenario=prefill: K and V of all "
            "query tokens",
        ),
        _decode_time(
            name="decode_us",
            tables=("times", "report"),
            place=11,
            marks_best=True,
            meaning="median decode step of one layer",
        ),
        _decode_time(
            name="decode_us_low",
            tables=("report",),
            place=11,
            derived_from=("decode_us",),
            meaning="lower end of the 95 % order-statistic interval of the median decode_us",
        ),
        _decode_time(
            name="decode_us_high",
            tables=("report",),
            place=11,
            derived_from=("decode_us",),
            meaning="upper end of the 95 % order-statistic interval of the median decode_us",
        ),
        _decode_time(
            name="decode_us_min",
            on_request=True,
            meaning="fastest sample of decode_us. Compared only if --metric names it",
        ),
        _decode_time(
            name="decode_spread_ratio",
            derived_from=("decode_us",),
            meaning="interquartile range of the samples of decode_us / their median",
        ),
        _decode_time(
            name="decode_enqueue_us",
            meaning="median host time to enqueue one decode step outside of a graph. Null on a CPU",
        ),
        _cache_record(
            name="launch_bound",
            meaning="true if decode_enqueue_us is longer than decode_us (prefill_enqueue_us than prefill_us): without "
            "a graph the GPU waits for the host",
        ),
        _decode_record(name="decode_samples", meaning="number of samples of decode_us"),
        _decode_record(name="decode_sample_calls", meaning="calls per sample of decode_us. A sample is their mean"),
        _decode_record(name="decode_warmup_calls", meaning="calls before the first sample of decode_us"),
        _decode_record(
            name="decode_stop",
            meaning="reason why sampling of decode_us stopped: converged, stable_noise or budget",
        ),
        _timed_record(
            name="discarded_ratio",
            bounds=(0.0, 0.25),
            meaning="samples discarded because the clocks were throttled / samples taken. The largest value of the "
            "row's timings",
        ),
        Column(
            name="achieved_gbps",
            kind="timing",
            better="higher",
            heading="",
            tables=("times", "report"),
            place=17,
            marks_best=True,
            derived_from=("decode_us", "prefill_us"),
            scenarios=("decode", "prefill"),
            meaning="(K and V that must be read + queries + output + metadata_bytes, of one layer) / decode_us "
            "(prefill_us), in 10⁹ bytes/s. Shared K and V count once, those outside a window do not count",
        ),
        Column(
            name="ceiling_gbps",
            kind="timing",
            scenarios=("decode", "prefill"),
            meaning="best bandwidth of several kernels that only read, in the same run, with the same timer. A "
            "property of the machine, so that neither direction is better",
        ),
        _cache_record(
            name="last_level_cache_bytes",
            meaning="size of the GPU's L2 cache, or of the processor's largest cache. It decides how ceiling_ratio "
            "is checked",
        ),
        _cache_record(
            name="max_rel_error",
            heading="rel. error",
            tables=("times", "report"),
            place=98,
            digits=2,
            meaning="largest ‖out − ref‖₂ / ‖ref‖₂ over sequences and query heads, against float32",
        ),
        _cache_record(
            name="allowed_rel_error",
            digits=2,
            meaning="3 × the error of the same mathematics in this precision. A row above it is incorrect",
        ),
    ),
)
