"""Columns: decode steps and host work, and how every time was taken."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

TIMING: tuple[Column, ...] = (
    *columns("timing", "lower", decode_us_per_ktoken="1,000 · decode_us / live_tokens"),
    *columns(
        "record",
        None,
        sdpa_backend="back-end of torch's scaled_dot_product_attention, where one is used",
        sdpa_call="which equivalent call the contiguous cache found fastest before timing",
        kernel_choice="whose kernel; of our own: tile and splits, and whether the tile was timed or kept on disk",
        bytes_read="bytes that one decode step of one layer reads and writes, padding included",
        server_id="the fork server that the timing process came from; distinct values are the n of a comparison",
        code_hash="hash of the sources that a point's processes, its implementation and its parameters import "
        "(bench/plan/code_hash.py)",
        fingerprint="hash of the blocking facts of the machine that ran the point",
        rounds_interleaved="true: the replicates of a point took turns with other points', round by round; false: a "
        "cluster's launcher ran jobs in an order of its own, so that drift of the machine may look like a difference",
        took_turns="true: the same point of another revision was run at the same time, in turn with this one as long "
        "as both lasted (scripts/ab.py); false: this one alone",
        mixed="true in a resumed run whose code or machine had changed (resume_mixed=true)",
        timer="events, graph, cupti or perf_counter",
        timer_reason="why that timer: asked for, or from predicted bytes / ceiling, decided once per point",
        l2_mode="cold: no timed call behind decode_us (prefill_us, swap_out_us) found its inputs in the L2 cache "
        "(flushed before each sample, or copies of the inputs taken in turn); hot: it did",
        append_l2_mode="the same of append_us",
    ),
    *columns("timing", "lower", benchmark_us="scenario=pytest_benchmark: median time of one call"),
    *columns("timing", "lower", decode_hot_us="median decode step of one layer with warm caches; null on a CPU"),
    *columns("timing", "higher", ceiling_ratio="achieved_gbps / ceiling_gbps; above 1 the batch fits a cache"),
    *columns(
        "timing",
        "lower",
        policy_ns_per_op="host time per policy operation (admit, append or free of one sequence)",
        prepare_us="building one step's metadata on the host and copying it to the device; once per step",
        append_us="writing one token's K and V per sequence into one layer; scenario=prefill: of all tokens that ask",
        decode_us="median decode step of one layer",
        decode_us_low="lower end of the 95 % order-statistic interval of that median",
        decode_us_high="upper end of it",
        decode_us_min="the fastest of its samples; judged only where --metric names it",
        decode_spread_ratio="interquartile range of the samples behind decode_us / their median",
        decode_enqueue_us="median host time to enqueue one decode step outside of a graph; null on a CPU",
    ),
    *columns(
        "record",
        None,
        launch_bound="true if that is longer than decode_us (prefill_us): without a graph the host is waited for",
        decode_samples="samples behind decode_us",
        decode_sample_calls="calls that one of these samples averages over",
        decode_warmup_calls="calls before the first of these samples",
        decode_stop="why sampling stopped: converged, stable_noise or budget",
        discarded_ratio="samples discarded because the clocks were throttled / samples taken; the worst of the "
        "row's timings, never above 0.25",
    ),
    *columns(
        "timing",
        "higher",
        achieved_gbps="(K and V that must be read, shared ones once, those outside a window not + queries + output + "
        "metadata_bytes, of one layer) / decode_us (prefill_us), 10⁹ bytes/s",
        ceiling_gbps="best bandwidth of several kernels that only read, same run, same timer",
    ),
    *columns(
        "record",
        None,
        max_rel_error="largest ‖out − ref‖₂ / ‖ref‖₂ over sequences and query heads, against float32",
        allowed_rel_error="3 × the error that the same mathematics makes in this precision; above it: incorrect",
    ),
)
