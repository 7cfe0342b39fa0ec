"""Columns: parameters, counts and modelled times of ``scenario=serving``."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import SHARE, Column, Topic

_serving = partial(Column, scenarios=("serving",))
_identity = partial(_serving, kind="identity")
_exact = partial(_serving, kind="exact")
_fewer = partial(_exact, better="lower")
_more = partial(_exact, better="higher")

_PERCENTILES = ("p50", "p90", "p99")


def _latency(name: str, heading: str, meaning: str, printed: str, place: int) -> tuple[Column, ...]:
    """Return mean and percentiles of one latency. ``printed`` names the statistic that is printed."""
    meanings = {"mean": f"{meaning}. Mean over all"}
    meanings |= {
        which: f"{meaning}. {which[1:]}th percentile (linear between order statistics)" for which in _PERCENTILES
    }
    return tuple(
        _fewer(
            name=f"{name}_{which}",
            heading=heading,
            tables=("serving",) if which == printed else (),
            place=place,
            meaning=text,
        )
        for which, text in meanings.items()
    )


SERVING = Topic(
    title="Serving",
    columns=(
        _identity(name="arrivals", meaning="poisson, poisson_10ms, gamma, trace or saturated"),
        _identity(
            name="rate_per_s",
            heading="rate",
            tables=("question",),
            place=15,
            meaning="offered requests per second. Null if the times are those of the trace, or 0",
        ),
        _identity(name="cv_ratio", meaning="arrivals=gamma: coefficient of variation of the gaps"),
        _identity(name="sampling", tables=("question",), place=16, meaning="parallel (samples) or beam"),
        _identity(
            name="num_samples",
            heading="samples",
            tables=("question",),
            place=17,
            meaning="sequences per request: samples, or beams",
        ),
        _identity(name="beam_turnover_ratio", bounds=SHARE, meaning="sampling=beam: scenario.beam_turnover"),
        _identity(name="shared_prefix_tokens", meaning="tokens that every prompt begins with"),
        _identity(name="preemption_kind", meaning="recompute or swap, `auto` resolved"),
        _identity(name="gpu", meaning="GPU whose constants the cost model has"),
        _identity(name="num_gpus", counts=True, meaning="GPUs that share the model"),
        _identity(name="slowdown_ratio", meaning="cost.slowdown: factor on the modelled time of every step"),
        _identity(
            name="measured_rows",
            meaning="hash of the rows that give the time of reading K and V (cost.rows). Null: a roofline gives it",
        ),
        _exact(
            name="finished_requests",
            heading="finished",
            tables=("serving",),
            place=41,
            meaning="requests that got their last token",
        ),
        _exact(
            name="unfinished_requests",
            heading="unfinished",
            tables=("serving",),
            place=42,
            meaning="requests that had arrived and did not get their last token (scenario.stop_at=trace_end)",
        ),
        _exact(
            name="unordered_requests",
            meaning="requests that the trace lists after a later one. They were sorted",
        ),
        _exact(
            name="repeated_requests",
            meaning="requests that the trace has only once and that were served again. workload.repeat=fresh gives "
            "them prefixes of their own",
        ),
        _exact(
            name="prompt_tokens",
            meaning="tokens of the admitted prompts, shared prefix included. A preempted prompt counts once",
        ),
        _exact(name="output_tokens", meaning="tokens generated, over all sequences"),
        _exact(
            name="prefix_hit_tokens",
            meaning="tokens of prompts that were in the pool when their request was first admitted. What a preempted "
            "request finds again does not count",
        ),
        _fewer(name="recomputed_tokens", meaning="tokens computed again after a preemption"),
        _fewer(name="swapped_out_pages", meaning="pages moved to the host"),
        _fewer(name="swapped_in_pages", meaning="pages moved back from the host"),
        _fewer(name="copied_pages", meaning="pages copied because a shared page was written to"),
        _fewer(name="simulated_s", meaning="modelled seconds from the first arrival to the end"),
        _more(name="busy_ratio", bounds=SHARE, meaning="share of simulated_s in which a step ran"),
        _more(name="offered_per_s", meaning="requests / seconds until the last arrival"),
        _more(name="finished_per_s", meaning="finished_requests / simulated_s"),
        _more(name="output_tokens_per_s", meaning="output_tokens / simulated_s"),
        *_latency("ttft_ms", "TTFT", "first token − arrival", "mean", place=60),
        *_latency(
            "tpot_ms",
            "TPOT",
            "(last token − first token) / (output tokens − 1), of requests with at least 2 output tokens",
            "mean",
            place=61,
        ),
        *_latency("itl_ms", "ITL p99", "time between two consecutive tokens of a sequence", "p99", place=62),
        *_latency("e2e_ms", "e2e", "last token − arrival", "mean", place=63),
        _fewer(
            name="normalized_latency_ms_per_token",
            heading="normalized",
            tables=("serving",),
            place=64,
            marks_best=True,
            meaning="(last token − arrival) / output tokens, mean over requests. A request that is unfinished counts "
            "with the time so far, unless scenario.record_finished_only",
        ),
        *(
            _fewer(
                name=f"normalized_latency_ms_per_token_{which}",
                meaning=f"(last token − arrival) / output tokens. {which[1:]}th percentile over requests",
            )
            for which in _PERCENTILES
        ),
        _more(
            name="batched_requests_mean",
            heading="batched",
            tables=("serving",),
            place=43,
            marks_best=True,
            meaning="requests in a step, mean over the time of the steps before the last admission",
        ),
        _more(
            name="batched_seqs_mean",
            meaning="sequences in a step, mean over the time of the steps before the last admission",
        ),
        _exact(
            name="waiting_requests_mean",
            meaning="requests that wait, preempted ones included, mean over simulated_s",
        ),
        _exact(
            name="in_system_requests_mean",
            meaning="requests that have arrived and are not finished, mean over simulated_s (Little's L)",
        ),
        _more(
            name="pages_saved_ratio",
            heading="pages saved",
            tables=("serving",),
            place=65,
            bounds=SHARE,
            meaning="pages that sharing saves / pages that the sequences would hold without sharing, both summed over "
            "time (PagedAttention paper, Figure 15)",
        ),
    ),
)
