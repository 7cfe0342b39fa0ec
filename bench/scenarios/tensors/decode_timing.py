"""Take the timings of scenario ``decode``: samples of every operation of a step, and their medians for the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bench.config import Config
from bench.measure.machine.telemetry import Telemetry
from bench.measure.samples import Samples
from bench.measure.timers.choice import TimerChoice
from bench.measure.timers.host import pinned
from bench.measure.timers.timing import Timer, settle
from bench.measure.timers.work import Work
from bench.rows.result import Answer
from bench.scenarios.filling import Filled, new_policy
from bench.scenarios.tensors.output_check import Audit
from bench.scenarios.tensors.timed import add_fitness, add_hot, add_main, append_work, layer_copies, median_us
from impls.interface import Batch, KVCache, Policy


@dataclass(frozen=True, kw_only=True)
class DecodeStep:
    """One decode step, ready to be timed.

    Attributes:
        config: resolved.
        filled: the policy and what it holds.
        cache: holds the same K and V in every layer, so that its layers are copies to rotate among.
        query: ``[num_seqs, num_query_heads, head_dim]``.
        newest: K and V of each sequence's newest token.
        batch: the step's metadata.
        audit: checks outputs of timed calls.
    """

    config: Config
    filled: Filled
    cache: KVCache
    query: Tensor
    newest: tuple[Tensor, Tensor]
    batch: Batch
    audit: Audit

    def decode(self, copies: int) -> Work:
        """Return the work of attention over one layer."""
        return Work(
            call=lambda layer: self.cache.decode(layer, self.query, self.batch),
            copies=layer_copies(self.cache, copies),
            bytes_per_call=seen_layer_bytes(self.config, self.filled),
        )

    def append(self, copies: int) -> Work:
        """Return the work of writing the newest token of each sequence into one layer."""
        return append_work(self.cache, self.batch.slot_mapping, self.newest, copies)


def seen_layer_bytes(config: Config, filled: Filled, num_queries: Sequence[int] | None = None) -> int:
    """Return the bytes of K and V that attention of one layer must read, with shared slots counted once.

    Args:
        config: resolved.
        filled: the sequences.
        num_queries: number of query tokens of each sequence. One if ``None``.
    """
    window, policy = config.model.sliding_window, filled.policy
    if window is None:
        return policy.usage().live_bytes // config.model.num_layers
    lens = filled.seq_lens.tolist()
    firsts = [seq_len - count + 1 - window for seq_len, count in zip(lens, num_queries or [1] * len(lens), strict=True)]
    seen = {
        slot
        for seq_id, (first, seq_len) in enumerate(zip(firsts, lens, strict=True))
        for slot in policy.slots(seq_id, max(first, 0), seq_len)
    }
    return len(seen) * config.model.token_bytes_per_layer


def time_step(answer: Answer, step: DecodeStep, choice: TimerChoice) -> None:
    """Time attention, append, prepare and the policy. Medians go to the row, samples beside it."""
    config = step.config
    choice = settle(choice, config.measure.timer, step.decode(choice.copies))
    watch = Telemetry.of(step.query.device)
    timer = Timer(config.measure, step.query.device, choice, watch)
    seq_ids = range(len(step.filled.seq_lens))
    samples = {
        "decode": timer.device_work(step.audit.work(step.decode(choice.copies))),
        "append": timer.device_work(step.append(choice.copies)),
        "prepare": timer.host_work(lambda: step.cache.prepare(seq_ids)),
        "policy": _time_policy(config, step.filled, timer),
    }
    samples |= add_hot(answer, "decode", timer, step.audit.work(step.decode(1)))
    step.audit.finish(step.decode(1).call)
    add_main(answer, "decode", samples["decode"])
    answer.values |= {
        "timer_reason": choice.reason,
        "decode_us_per_ktoken": 1000 * answer.values["decode_us"] / answer.values["live_tokens"],
        "append_l2_mode": samples["append"].l2_mode,
        "append_us": median_us(samples["append"]),
        "prepare_us": median_us(samples["prepare"]),
        "policy_ns_per_op": 1000 * median_us(samples["policy"]) / (3 * len(seq_ids)),
    }
    add_fitness(answer, samples, watch, "decode", config.device)


def moved_bytes(step: DecodeStep) -> int:
    """Return the bytes that any implementation must move in a step of one layer."""
    return seen_layer_bytes(step.config, step.filled) + 2 * step.query.nbytes + step.batch.metadata_bytes


def _time_policy(config: Config, filled: Filled, timer: Timer) -> Samples:
    """Time admitting, appending to and freeing every sequence of the batch, on an empty policy of the same kind."""
    policy = new_policy(config, None)
    lens = filled.seq_lens.tolist()
    finals = np.maximum(filled.requests.final_lens[: len(lens)], filled.seq_lens + 1).tolist()
    with pinned():
        return timer.host_work(lambda: _cycle(policy, lens, finals))


def _cycle(policy: Policy, lens: list[int], finals: list[int]) -> None:
    for seq_id, (seq_len, final_len) in enumerate(zip(lens, finals, strict=True)):
        policy.admit(seq_id, max(seq_len - 1, 1), final_len)
    for seq_id in range(len(lens)):
        policy.append(seq_id)
    for seq_id in range(len(lens)):
        policy.free(seq_id)
