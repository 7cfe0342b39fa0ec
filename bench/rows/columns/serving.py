"""Columns: what scenario=serving asks, counts and models."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

SERVING: tuple[Column, ...] = (
    *columns(
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
    *columns(
        "exact",
        None,
        finished_requests="requests that got their last token",
        unfinished_requests="requests that had arrived and did not (scenario.stop_at=trace_end)",
        unordered_requests="requests of the trace that stood behind a later one, and were sorted",
        prompt_tokens="tokens of the prompts that were admitted, shared prefix included, preempted ones not again",
        output_tokens="tokens generated, over all sequences",
        prefix_hit_tokens="of the tokens to be admitted, those found in the pool and not computed",
    ),
    *columns(
        "exact",
        "lower",
        recomputed_tokens="tokens computed again after a preemption",
        swapped_out_pages="pages moved to the host",
        swapped_in_pages="pages moved back",
        copied_pages="pages copied because a shared one was written to",
        simulated_s="modelled seconds from the first arrival to the end",
    ),
    *columns(
        "exact",
        "higher",
        busy_ratio="share of simulated_s in which a step ran",
        offered_per_s="requests / seconds until the last arrival",
        finished_per_s="finished_requests / simulated_s",
        output_tokens_per_s="output_tokens / simulated_s",
    ),
    *columns(
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
    *columns(
        "exact",
        "higher",
        batched_requests_mean="requests in the step, mean over the time of the steps before the last admission",
        batched_seqs_mean="sequences in the step, likewise",
    ),
    *columns(
        "exact",
        None,
        waiting_requests_mean="requests that wait, preempted ones included, mean over simulated_s",
        in_system_requests_mean="requests that have arrived and are not finished, mean over simulated_s (Little's L)",
    ),
    *columns(
        "exact",
        "higher",
        pages_saved_ratio="pages that sharing saves / pages that the sequences would hold without (PagedAttention "
        "paper, Figure 15), both summed over time",
    ),
)
