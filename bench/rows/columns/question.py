"""Columns: what was asked, and how it ended."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

QUESTION: tuple[Column, ...] = (
    *columns(
        "identity",
        None,
        key="hash of the question: what is asked, not what was answered; no code, no hardware",
        replicate="0 … replicates − 1; each replicate round has a fork server of its own",
    ),
    *columns(
        "record",
        None,
        status="ok, incorrect, unsupported, oom, oom_predicted, skipped_dominated, timeout, crashed or interrupted",
        status_reason="one sentence, where status is not ok",
    ),
    *columns(
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
)
