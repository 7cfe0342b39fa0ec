"""Take the timings of scenario ``prefill``: samples of every operation of a step, and their medians for the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from bench.config import Config
from bench.config.scenarios import PrefillScenario
from bench.measure.machine.telemetry import Telemetry
from bench.measure.timers.choice import TimerChoice
from bench.measure.timers.timing import Timer, settle
from bench.measure.timers.work import Work
from bench.rows.result import Answer
from bench.scenarios.filling import Filled
from bench.scenarios.tensors.output_check import Audit
from bench.scenarios.tensors.timed import (
    add_fitness,
    add_hot,
    add_main,
    append_work,
    compare_with_ceiling,
    layer_copies,
    median_us,
)
from impls.interface import PrefillBatch, PrefillKVCache
from impls.spec import ModelSpec, ceil_div


@dataclass(frozen=True, kw_only=True)
class PrefillStep:
    """One prefill step, ready to be timed.

    Attributes:
        config: resolved.
        num_queries: number of query tokens of each sequence.
        cache: holds the same K and V in every layer, so that its layers are copies to rotate among.
        queries: ``[copies, num_queries, num_query_heads, head_dim]``, equal in each copy.
        newest: K and V of all query tokens.
        batch: the step's metadata.
        kv_bytes: bytes of K and V that attention of one layer must read.
        audit: checks outputs of timed calls.
    """

    config: Config
    num_queries: Sequence[int]
    cache: PrefillKVCache
    queries: Tensor
    newest: tuple[Tensor, Tensor]
    batch: PrefillBatch
    kv_bytes: int
    audit: Audit

    def prefill(self, copies: int) -> Work:
        """Return the work of attention over one layer."""
        layers = layer_copies(self.cache, copies)
        return Work(
            call=lambda layer: self.cache.prefill(layer, self.queries[layer], self.batch),
            copies=[(*layer, query) for layer, query in zip(layers, self.queries, strict=False)],
            bytes_per_call=self.kv_bytes + 2 * self.queries[0].nbytes,
        )

    def append(self, copies: int) -> Work:
        """Return the work of writing K and V of all query tokens into one layer."""
        return append_work(self.cache, self.batch.slot_mapping, self.newest, copies)

    def linear(self) -> Work:
        """Return the work of one layer's matrix products of all query tokens, as one product with as many weights."""
        model = self.config.model
        hidden = model.num_query_heads * model.head_dim
        weights = self.queries.new_ones((ceil_div(model.num_parameters, model.num_layers * hidden), hidden))
        tokens = self.queries.new_ones((sum(self.num_queries), hidden))
        return Work.of_one(lambda: F.linear(tokens, weights), tokens, weights)


def attention_flops(model: ModelSpec, seq_lens: Sequence[int], num_queries: Sequence[int]) -> int:
    """Return operations of causal attention in one layer: 4 · query heads · head_dim · (query, token) pairs.

    There are two products, q kᵀ and weights · v, of two operations per element. A query sees the tokens
    up to its own, at most ``sliding_window`` of them. Softmax and masked pairs are not counted.

    >>> model = ModelSpec(name="m", num_layers=1, num_query_heads=2, num_kv_heads=1, head_dim=8, dtype="float16",
    ...                   max_seq_len=9)
    >>> attention_flops(model, [3, 5], [3, 1]) == 4 * 2 * 8 * (1 + 2 + 3 + 5)
    True
    """
    longest = model.sliding_window or max(seq_lens)
    pairs = sum(
        min(seen, longest)
        for seq_len, count in zip(seq_lens, num_queries, strict=True)
        for seen in range(seq_len - count + 1, seq_len + 1)
    )
    return 4 * model.num_query_heads * model.head_dim * pairs


def time_prefill(
    answer: Answer, step: PrefillStep, filled: Filled, choice: TimerChoice, ceiling_gbps: float | None
) -> None:
    """Time attention, append and prepare, and with ``linear_layers`` the matrix products of the layer."""
    config, device = step.config, step.queries.device
    choice = settle(choice, config.measure.timer, step.prefill(choice.copies))
    watch = Telemetry.of(device)
    timer = Timer(config.measure, device, choice, watch)
    seq_ids = range(len(step.num_queries))
    samples = {
        "prefill": timer.device_work(step.audit.work(step.prefill(choice.copies))),
        "append": timer.device_work(step.append(choice.copies)),
        "prepare": timer.host_work(lambda: step.cache.prepare_prefill(seq_ids, step.num_queries)),
    }
    samples |= add_hot(answer, "prefill", timer, step.audit.work(step.prefill(1)))
    step.audit.finish(step.prefill(1).call)
    assert isinstance(config.scenario, PrefillScenario)
    if config.scenario.linear_layers:
        samples["linear"] = timer.device_work(step.linear())
        answer.values["linear_us"] = median_us(samples["linear"])
    else:
        answer.leave_null("scenario.linear_layers is false", "linear_us")
    add_main(answer, "prefill", samples["prefill"])
    prefill_us = answer.values["prefill_us"]
    flops = attention_flops(config.model, filled.seq_lens.tolist(), step.num_queries)
    answer.values |= {
        "timer_reason": choice.reason,
        "prefill_us_per_ktoken": 1000 * prefill_us / sum(step.num_queries),
        "prefill_tflops": flops / prefill_us / 1e6,
        "append_l2_mode": samples["append"].l2_mode,
        "append_us": median_us(samples["append"]),
        "prepare_us": median_us(samples["prepare"]),
    }
    add_fitness(answer, samples, watch, "prefill", config.device)
    moved_bytes = step.kv_bytes + 2 * step.queries[0].nbytes + step.batch.metadata_bytes
    compare_with_ceiling(answer, moved_bytes, prefill_us, ceiling_gbps, step.queries[0].device)
