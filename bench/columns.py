"""The metric registry: every column of a row, in order, with its kind, direction and meaning.

``results/README.md`` is generated from it, rows are checked against it, figures and comparisons
read kind and direction from it. Later versions add columns; none is ever renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["identity", "exact", "timing", "memory", "record"]
Better = Literal["lower", "higher"] | None


@dataclass(frozen=True)
class Column:
    """One column: its kind says how two runs are compared on it."""

    name: str
    kind: Kind
    better: Better
    meaning: str

    @property
    def dtype(self) -> str:
        """The pandas type: the unit in a number's name tells whole numbers from fractions."""
        if self.name.endswith(FRACTIONS):
            return "Float64"
        return "Int64" if self.name.endswith(WHOLE) else "object"

    @property
    def unit(self) -> str:
        """What its name says that it is counted in; empty for a plain count or a text.

        >>> Column("decode_us", "timing", "lower", "").unit
        'µs'
        """
        return next((unit for suffix, unit in UNITS.items() if self.name.endswith(suffix)), "")

    @property
    def judged(self) -> bool:
        """Whether comparing two runs gives a verdict on it."""
        return self.kind == "exact" or (self.better is not None and self.name not in DERIVED)


FRACTIONS = ("_mean", "_us", "_us_low", "_us_high", "_us_per_ktoken", "_ns_per_op", "_ratio", "_gbps", "_tflops",
             "_error", "_s", "_p50", "_p90", "_p99", "_per_token")  # fmt: skip
WHOLE = ("_bytes", "_seqs", "_tokens", "_requests", "_samples", "_calls", "_retries", "bytes_read", "page_size",
         "replicate", "seed", "layers_allocated", "admissions", "appends", "frees", "preemptions", "steps", "_pages",
         "pages_taken_admit", "pages_taken_append", "num_gpus")  # fmt: skip

UNITS = {
    "_us_per_ktoken": "µs per 1,000 tokens",
    "_ns_per_op": "ns",
    "_us": "µs",
    "_us_low": "µs",
    "_us_high": "µs",
    "_ms": "ms",
    "_ms_mean": "ms",
    "_ms_p50": "ms",
    "_ms_p90": "ms",
    "_ms_p99": "ms",
    "_per_s": "per s",
    "_s": "s",
    "_bytes": "bytes",
    "_gbps": "GB/s",
    "_tflops": "TFLOP/s",
    "_tokens": "tokens",
    "_pages": "pages",
    "_seqs": "sequences",
    "_requests": "requests",
    "_ratio": "ratio",
}
"""Suffix of a column's name: unit. The first that fits counts."""

DERIVED = ("prefill_us_per_ktoken", "prefill_us_low", "prefill_us_high", "prefill_spread_ratio", "prefill_tflops",
           "swap_out_gbps", "swap_in_gbps", "copy_pages_gbps",
           "decode_us_per_ktoken", "decode_us_low", "decode_us_high", "decode_spread_ratio", "achieved_gbps",
           "ceiling_ratio", "ceiling_gbps", "process_memory_bytes", "polled_peak_rise_bytes", "torch_difference_bytes",
           "process_difference_bytes", "device_difference_bytes")  # fmt: skip
"""Times and bytes that repeat another column or speak of the machine: judging them would count a change twice."""


def _columns(kind: Kind, better: Better, **meanings: str) -> list[Column]:
    return [Column(name, kind, better, meaning) for name, meaning in meanings.items()]


COLUMNS: tuple[Column, ...] = (
    *_columns(
        "identity",
        None,
        key="hash of the question: what is asked, not what was answered; no code, no hardware",
        replicate="0 … replicates − 1; each replicate round has a fork server of its own",
    ),
    *_columns(
        "record",
        None,
        status="ok, incorrect, unsupported, oom, oom_predicted, skipped_dominated, timeout, crashed or interrupted",
        status_reason="one sentence, where status is not ok",
    ),
    *_columns(
        "identity",
        None,
        scenario="what is done with the cache",
        implementation="which cache; null where the scenario has no tensors",
        policy="which memory policy, `auto` resolved",
        arena="how a reserved policy finds its regions: first_fit, or the paper's buddy allocator",
        model="name of the model's shape",
        workload="name of the workload",
        trace="file name of workload=trace, without endings",
        page_layout="where pages lie in the pool; null where it has no effect",
        page_size="tokens per page; null where it has no effect",
        num_seqs="sequences offered",
        memory_budget_bytes="bytes for the KV cache over all layers, `auto` resolved",
        seed="seed of every random draw",
        device="cpu or cuda; null without tensors",
        dtype="element type of queries and, unless attention_shape says otherwise, of K and V",
        attention_shape="query heads / KV heads x head_dim; what K and V are stored in, window and soft cap, if any",
        benchmark="scenario=pytest_benchmark: full name of the test that was timed; null elsewhere",
    ),
    *_columns("exact", "higher", admitted_seqs="sequences admitted before the first refusal"),
    *_columns(
        "exact",
        "lower",
        refused_seqs="num_seqs − admitted_seqs",
        skipped_requests="requests of the trace longer than model.max_seq_len, left out before the draw",
    ),
    *_columns(
        "exact",
        None,
        live_tokens="Σ seq_len over the admitted sequences",
        pool_bytes="bytes that the policy manages over all layers; the sum of the six parts below",
        live_bytes="slots that hold a token's K and V; a shared slot counts once",
    ),
    *_columns(
        "exact",
        "lower",
        rounding_bytes="scenario=churn: of internal fragmentation, what buddies of a power of two add; the paper "
        "counts it with external",
        reserved_bytes="slots held for tokens that their sequence will still produce: Σ min(held, final_len) − seq_len",
        internal_fragmentation_bytes="slots held that will never be used: Σ held − min(held, final_len)",
        external_fragmentation_bytes="unheld slots left after greedily placing copies of the first refused request "
        "(or, if none was refused, of the first request); 0 for paged policies",
    ),
    *_columns(
        "exact",
        None,
        cached_bytes="unreferenced pages that a later prefix could reuse",
        free_bytes="the rest of the pool",
        shared_saved_bytes="bytes that sharing saves: what the shared slots would take again; beside the sum",
        largest_free_ratio="largest contiguous free extent / all free slots",
    ),
    *_columns(
        "record",
        None,
        metadata_bytes="device bytes of page table, lengths, slot mapping and, if quantised, scales of one step; "
        "beside the sum. A gather plan in it is that of the call found fastest, so processes may differ",
    ),
    *_columns(
        "exact",
        None,
        layers_allocated="layers whose K and V got storage",
        logical_bytes="pool_bytes of these layers: what the policy thinks that the storage takes",
        storage_bytes="bytes that the K and V tensors really take (layers_allocated layers)",
        batch_digest="hash of the admitted sequences' lengths: equal work has equal digests",
    ),
    *_columns(
        "exact",
        "higher",
        contiguous_cumulative_ratio="scenario=notebook: its efficiency of reservation, summed over all that ever came",
        contiguous_exact_ratio="the same of the sequences that are there at the end: live / held",
        paged_cumulative_ratio="scenario=notebook: its efficiency of paging, summed over all that ever came",
        paged_exact_ratio="the same of the sequences that are there at the end: live / held",
    ),
    *_columns(
        "exact",
        None,
        held="scenario=capacity: how far each sequence has grown: final, or mid_decode (caught at a random token)",
        queue="scenario=churn: saturated (all requests wait from the start) or open (Poisson arrivals)",
        admissions="sequences admitted, preempted ones again",
        appends="tokens appended after admission",
        frees="sequences that left with all of their tokens",
    ),
    *_columns(
        "exact",
        "lower",
        preemptions="sequences thrown out for want of a page, to be computed again; scenario=serving: requests, those "
        "swapped too",
        delayed_requests="queue=open: requests that were not admitted in the step in which they arrived",
        pages_taken_admit="pages taken at admission",
        pages_taken_append="pages taken by appends",
        peak_pages="most pages held at once",
        steps="steps until all was served; in a step every running sequence gets one token",
    ),
    *_columns(
        "exact",
        None,
        loaded_steps="steps in which requests were still to be admitted; the parts of the pool are means over these",
        most_running_seqs="most sequences running at once",
    ),
    *_columns("exact", "higher", running_mean="sequences running at once, mean over loaded_steps"),
    *_columns(
        "exact",
        None,
        prompt_len_mean="scenario=lengths: tokens of a prompt, mean over num_seqs requests",
        output_len_mean="the same of an output",
        cache_pages="scenario=prefix_cache: pages that the cache can hold",
        looked_up_pages="pages of all prompts, a partial last one included",
    ),
    *_columns(
        "exact",
        "higher",
        hit_pages="those of them that the cache held",
        prefix_hit_ratio="share of the pages of all prompts found in the cache; scenario=serving: of the tokens",
    ),
    *_columns("timing", "lower", replay_s="wall seconds of the replay, accounting at every step included"),
    *_columns("exact", None, curves="series behind a scenario's plots, as JSON: {name: [number, …]}"),
    *_columns(
        "identity",
        None,
        arrivals="scenario=serving: poisson, poisson_10ms, gamma, trace or saturated",
        rate_per_s="scenario=serving: requests per second that were asked for; null where times are the trace's or 0",
        cv_ratio="arrivals=gamma: coefficient of variation of the gaps",
        sampling="scenario=serving: parallel (samples) or beam",
        num_samples="sequences per request: samples, or beams",
        beam_turnover_ratio="sampling=beam: scenario.beam_turnover",
        shared_prefix_tokens="tokens that every prompt begins with",
        preemption_kind="scenario=serving: recompute or swap, `auto` resolved",
        gpu="scenario=serving: whose constants the cost model has",
        num_gpus="GPUs that the model is divided among",
        slowdown_ratio="cost.slowdown: every step takes so many times as long as its model says",
        measured_rows="hash of the rows that the time of reading K and V comes from (cost.rows); null: a roofline",
    ),
    *_columns(
        "exact",
        None,
        finished_requests="requests that got their last token",
        unfinished_requests="requests that had arrived and did not (scenario.stop_at=trace_end)",
        unordered_requests="requests of the trace that stood behind a later one, and were sorted",
        prompt_tokens="tokens of the prompts that were admitted, shared prefix included, preempted ones not again",
        output_tokens="tokens generated, over all sequences",
        prefix_hit_tokens="of the tokens to be admitted, those found in the pool and not computed",
    ),
    *_columns(
        "exact",
        "lower",
        recomputed_tokens="tokens computed again after a preemption",
        swapped_out_pages="pages moved to the host",
        swapped_in_pages="pages moved back",
        copied_pages="pages copied because a shared one was written to",
        simulated_s="modelled seconds from the first arrival to the end",
    ),
    *_columns(
        "exact",
        "higher",
        busy_ratio="share of simulated_s in which a step ran",
        offered_per_s="requests / seconds until the last arrival",
        finished_per_s="finished_requests / simulated_s",
        output_tokens_per_s="output_tokens / simulated_s",
    ),
    *_columns(
        "exact",
        "lower",
        ttft_ms_mean="scenario=serving: first token − arrival; mean",
        ttft_ms_p50="the same, 50th percentile (linear between order statistics)",
        ttft_ms_p90="the same, 90th percentile (linear between order statistics)",
        ttft_ms_p99="the same, 99th percentile (linear between order statistics)",
        tpot_ms_mean="scenario=serving: (last token − first token) / (output tokens − 1), of requests with at least 2; "
        "mean",
        tpot_ms_p50="the same, 50th percentile (linear between order statistics)",
        tpot_ms_p90="the same, 90th percentile (linear between order statistics)",
        tpot_ms_p99="the same, 99th percentile (linear between order statistics)",
        itl_ms_mean="scenario=serving: time between two consecutive tokens of a sequence, over all such pairs; mean",
        itl_ms_p50="the same, 50th percentile (linear between order statistics)",
        itl_ms_p90="the same, 90th percentile (linear between order statistics)",
        itl_ms_p99="the same, 99th percentile (linear between order statistics)",
        e2e_ms_mean="scenario=serving: last token − arrival; mean",
        e2e_ms_p50="the same, 50th percentile (linear between order statistics)",
        e2e_ms_p90="the same, 90th percentile (linear between order statistics)",
        e2e_ms_p99="the same, 99th percentile (linear between order statistics)",
        normalized_latency_ms_per_token="scenario=serving: mean over requests of (last token − arrival) / output "
        "tokens; one that is unfinished counts with the time so far, unless scenario.record_finished_only",
        normalized_latency_ms_per_token_p50="the same, 50th percentile",
        normalized_latency_ms_per_token_p90="the same, 90th percentile",
        normalized_latency_ms_per_token_p99="the same, 99th percentile",
    ),
    *_columns(
        "exact",
        "higher",
        batched_requests_mean="requests in the step, mean over the time of the steps before the last admission",
        batched_seqs_mean="sequences in the step, likewise",
    ),
    *_columns(
        "exact",
        None,
        waiting_requests_mean="requests that wait, preempted ones included, mean over simulated_s",
        in_system_requests_mean="requests that have arrived and are not finished, mean over simulated_s (Little's L)",
    ),
    *_columns(
        "exact",
        "higher",
        pages_saved_ratio="pages that sharing saves / pages that the sequences would hold without (PagedAttention "
        "paper, Figure 15), both summed over time",
    ),
    *_columns(
        "identity",
        None,
        chunk_tokens="scenario=prefill: most tokens of a prompt that ask in the step; 0: all that are not cached",
        cached_tokens="scenario=prefill: tokens of each prompt that are cached already, at most all but its last",
        page_moves="scenario=swap: at_once (a kernel, or a gather, a transfer and a scatter, per tensor) or each (a "
        "copy per page and tensor)",
    ),
    *_columns(
        "exact",
        None,
        prefill_tokens="scenario=prefill: tokens that ask in the step, over all sequences",
        moved_pages="scenario=swap: pages that move: those of the admitted sequences, shared ones once",
        moved_bytes="scenario=swap: bytes of these pages' K and V in one layer",
    ),
    *_columns(
        "timing",
        "lower",
        prefill_us="scenario=prefill: median time of the step's causal attention in one layer",
        prefill_us_low="lower end of the 95 % order-statistic interval of that median",
        prefill_us_high="upper end of it",
        prefill_us_per_ktoken="1,000 · prefill_us / prefill_tokens",
        prefill_spread_ratio="interquartile range of the samples behind prefill_us / their median",
        prefill_enqueue_us="median host time to enqueue it outside of a graph; null on a CPU",
        prefill_hot_us="the same as prefill_us with warm caches; null on a CPU",
        linear_us="scenario.linear_layers: one layer's matrix products of prefill_tokens tokens, timed as one product "
        "with num_parameters / num_layers weights",
    ),
    *_columns(
        "timing",
        "higher",
        prefill_tflops="4 · num_query_heads · head_dim · Σ tokens that each query sees / prefill_us, 10¹² "
        "operations/s: causal, what a mask hides is not counted",
    ),
    *_columns(
        "record",
        None,
        prefill_samples="samples behind prefill_us",
        prefill_sample_calls="calls that one of these samples averages over",
        prefill_warmup_calls="calls before the first of these samples",
        prefill_stop="why sampling stopped: converged, stable_noise or budget",
    ),
    *_columns(
        "timing",
        "lower",
        swap_out_us="scenario=swap: copying moved_pages pages to the host, of one layer: the time of the call, which "
        "moves layers_allocated layers, divided by them",
        swap_in_us="the same back from the host",
        copy_pages_us="the same to as many other pages of the pool",
    ),
    *_columns(
        "timing",
        "higher",
        swap_out_gbps="moved_bytes / swap_out_us, 10⁹ bytes/s",
        swap_in_gbps="moved_bytes / swap_in_us",
        copy_pages_gbps="moved_bytes / copy_pages_us: each byte counted once, though read and written",
    ),
    *_columns("timing", "lower", decode_us_per_ktoken="1,000 · decode_us / live_tokens"),
    *_columns(
        "record",
        None,
        sdpa_backend="back-end of torch's scaled_dot_product_attention, where one is used",
        sdpa_call="which equivalent call the contiguous cache found fastest before timing",
        kernel_choice="whose kernel; of our own: tile and splits, and whether the tile was timed or kept on disk",
        bytes_read="bytes that one decode step of one layer reads and writes, padding included",
        server_id="the fork server that the timing process came from; distinct values are the n of a comparison",
        code_hash="hash of the sources that decide the answer: impls/, bench/{scenarios,measure,workload}, and an "
        "implementation from elsewhere",
        fingerprint="hash of the blocking facts of the machine that ran the point",
        rounds_interleaved="true: the replicates of a point took turns with other points', round by round; false: a "
        "cluster's launcher ran jobs in an order of its own, so that drift of the machine may look like a difference",
        mixed="true in a resumed run whose code or machine had changed (resume_mixed=true)",
        timer="events, graph, cupti or perf_counter",
        timer_reason="why that timer: asked for, or from predicted bytes / ceiling, decided once per point",
        l2_mode="cold: no timed call behind decode_us (prefill_us, swap_out_us) found its inputs in the L2 cache "
        "(flushed before each sample, or copies of the inputs taken in turn); hot: it did",
        append_l2_mode="the same of append_us",
    ),
    *_columns("timing", "lower", benchmark_us="scenario=pytest_benchmark: median time of one call"),
    *_columns("timing", "lower", decode_hot_us="median decode step of one layer with warm caches; null on a CPU"),
    *_columns("timing", "higher", ceiling_ratio="achieved_gbps / ceiling_gbps; above 1 the batch fits a cache"),
    *_columns(
        "timing",
        "lower",
        policy_ns_per_op="host time per policy operation (admit, append or free of one sequence)",
        prepare_us="building one step's metadata on the host and copying it to the device; once per step",
        append_us="writing one token's K and V per sequence into one layer; scenario=prefill: of all tokens that ask",
        decode_us="median decode step of one layer",
        decode_us_low="lower end of the 95 % order-statistic interval of that median",
        decode_us_high="upper end of it",
        decode_spread_ratio="interquartile range of the samples behind decode_us / their median",
        decode_enqueue_us="median host time to enqueue one decode step outside of a graph; null on a CPU",
    ),
    *_columns(
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
    *_columns(
        "timing",
        "higher",
        achieved_gbps="(K and V that must be read, shared ones once, those outside a window not + queries + output + "
        "metadata_bytes, of one layer) / decode_us (prefill_us), 10⁹ bytes/s",
        ceiling_gbps="read bandwidth of a reduction over measure.ceiling_bytes, same run, same timer",
    ),
    *_columns(
        "record",
        None,
        max_rel_error="largest ‖out − ref‖₂ / ‖ref‖₂ over sequences and query heads, against float32",
        allowed_rel_error="3 × the error that the same mathematics makes in this precision; above it: incorrect",
    ),
    *_columns(
        "memory",
        "lower",
        torch_allocated_peak_bytes="torch.cuda.max_memory_allocated of the memory process",
        torch_reserved_peak_bytes="torch.cuda.max_memory_reserved of the memory process",
        process_memory_bytes="NVML's memory of the memory process; on a CPU its peak resident set",
        process_memory_rise_bytes="the same above its idle reading after warm-up; compare it with storage_bytes",
        device_memory_bytes="NVML (v2) used memory of the device above the idle reading",
        polled_peak_rise_bytes="the highest of device_memory_bytes (on a CPU: of the rise) seen every measure.poll_ms",
        torch_difference_bytes="torch_allocated_peak_bytes − pool_bytes, where all layers are allocated",
        process_difference_bytes="process_memory_rise_bytes − pool_bytes, where all layers are allocated",
        device_difference_bytes="device_memory_bytes − pool_bytes, where all layers are allocated",
    ),
    *_columns(
        "record",
        None,
        torch_reserved_idle_bytes="torch.cuda.memory_reserved at the idle reading, part of no rise",
        torch_alloc_retries="times that torch's allocator had to give memory back and ask again",
        process_memory_source="nvml_pid; nvml_only_new_process: NVML lists host PIDs, and one process appeared after "
        "our context; resident_set",
        process_memory_confidence="high, or low where the process was not found by its PID",
        device_memory_source="nvml_v2; nvml_v1: includes what the driver reserves; mem_get_info (why): NVML does not "
        "tell",
    ),
    *_columns(
        "record",
        None,
        fitness="ok, or doubtful: something on the machine may have disturbed the times of this row",
        fitness_reasons="what, as `code: sentence; …`, from readings before and after each block of samples",
        harness_s="wall seconds of this row that measured nothing: process start, planning, recording",
        measured_s="wall seconds inside the point's processes",
        null_reasons="why a field is null, as JSON: {column: reason}",
        log="the processes' output, relative to the run folder",
        repro_command="re-runs exactly this point from the repository's root",
    ),
)

MAY_BE_NULL = ("status_reason", "null_reasons", "log")
"""Columns that are null without a reason."""

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
BY_NAME = {column.name: column for column in COLUMNS}
