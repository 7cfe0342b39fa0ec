"""The timings of scenario ``decode``: every operation of a step as samples, their medians in the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from bench.answer import Answer
from bench.config import Config
from bench.intervals import median_interval, rel_spread
from bench.measure.choice import TimerChoice
from bench.measure.fitness import doubts, fitness_columns, sample_doubts
from bench.measure.host import pinned
from bench.measure.host_state import usable_cores
from bench.measure.samples import Samples
from bench.measure.telemetry import Telemetry
from bench.measure.timing import Timer, settle
from bench.measure.work import Work
from bench.scenarios.filling import Filled, new_policy
from impls.interface import Batch, KVCache, Policy


@dataclass(frozen=True, kw_only=True)
class Step:
    """One decode step, ready to be timed.

    Attributes:
        config: resolved.
        filled: the policy and what it holds.
        cache: holds the same K and V in every layer, so that its layers are copies to rotate among.
        query: ``[num_seqs, num_query_heads, head_dim]``.
        newest: K and V of each sequence's newest token.
        batch: the step's metadata.
    """

    config: Config
    filled: Filled
    cache: KVCache
    query: Tensor
    newest: tuple[Tensor, Tensor]
    batch: Batch

    def decode(self, copies: int) -> Work:
        """Attention over one layer."""
        return Work(
            call=lambda layer: self.cache.decode(layer, self.query, self.batch),
            copies=self._layers(copies),
            bytes_per_call=seen_layer_bytes(self.config, self.filled),
        )

    def append(self, copies: int) -> Work:
        """Writing the newest token of each sequence into one layer."""
        keys, values = self.newest
        return Work(
            call=lambda layer: self.cache.write(layer, self.batch.slot_mapping, keys, values),
            copies=self._layers(copies),
            bytes_per_call=2 * (keys.nbytes + values.nbytes),
        )

    def _layers(self, count: int) -> list[tuple[Tensor, Tensor]]:
        tensors = self.cache.tensors
        return [(tensors[layer], tensors[len(tensors) // 2 + layer]) for layer in range(count)]


def seen_layer_bytes(config: Config, filled: Filled) -> int:
    """Bytes of the K and V that one layer's attention must read: those of a shared slot once."""
    window, policy = config.model.sliding_window, filled.policy
    if window is None:
        return policy.usage().live_bytes // config.model.num_layers
    lens = filled.seq_lens.tolist()
    seen = {
        slot for seq_id, seq_len in enumerate(lens) for slot in policy.slots(seq_id, max(seq_len - window, 0), seq_len)
    }
    return len(seen) * config.model.token_bytes_per_layer


def time_step(answer: Answer, step: Step, choice: TimerChoice) -> None:
    """Time attention, append, prepare and the policy; medians go to the row, samples beside it."""
    config = step.config
    choice = settle(choice, config.measure.timer, step.decode(choice.copies))
    watch = Telemetry.of(step.query.device)
    timer = Timer(config.measure, step.query.device, choice, watch)
    seq_ids = range(len(step.filled.seq_lens))
    samples = {
        "decode": timer.device_work(step.decode(choice.copies)),
        "append": timer.device_work(step.append(choice.copies)),
        "prepare": timer.host_work(lambda: step.cache.prepare(seq_ids)),
        "policy": _time_policy(config, step.filled, timer),
    }
    hot = timer.device_work_hot(step.decode(1))
    if hot is None:
        answer.leave_null("on a CPU decode_us is with warm caches already", "decode_hot_us")
    else:
        samples["decode_hot"] = hot
        answer.values["decode_hot_us"] = median_interval(hot.values_us).median
    answer.values["timer_reason"] = choice.reason
    _summarise(answer, samples, operations=3 * len(seq_ids))
    _judge(answer, samples, watch, on_cuda=step.query.is_cuda)


def _time_policy(config: Config, filled: Filled, timer: Timer) -> Samples:
    """Admit, append to and free every sequence of the batch, on an empty policy of the same kind."""
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


def _summarise(answer: Answer, samples: Mapping[str, Samples], operations: int) -> None:
    decode = samples["decode"]
    low, median, high = median_interval(decode.values_us)
    answer.values |= {
        "decode_us": median,
        "decode_us_low": low,
        "decode_us_high": high,
        "decode_us_per_ktoken": 1000 * median / answer.values["live_tokens"],
        "decode_spread_ratio": rel_spread(decode.values_us),
        "decode_samples": len(decode.values_us),
        "decode_sample_calls": decode.calls_per_sample,
        "decode_warmup_calls": decode.warmup_calls,
        "decode_stop": decode.stop,
        "discarded_ratio": max(taken.discarded_ratio for taken in samples.values()),
        "timer": decode.timer,
        "l2_mode": decode.l2_mode,
        "append_l2_mode": samples["append"].l2_mode,
        "append_us": median_interval(samples["append"].values_us).median,
        "prepare_us": median_interval(samples["prepare"].values_us).median,
        "policy_ns_per_op": 1000 * median_interval(samples["policy"].values_us).median / operations,
        **_launching(answer, decode),
    }
    answer.samples |= {name: taken.to_json() for name, taken in samples.items()}


def _judge(answer: Answer, samples: Mapping[str, Samples], watch: Telemetry, *, on_cuda: bool) -> None:
    """Whether the machine was quiet enough for these times."""
    blocks = [taken.telemetry for taken in samples.values()]
    found = doubts(blocks, usable_cores=usable_cores(), heavy_processes=watch.heavy_processes(), on_cuda=on_cuda)
    found |= sample_doubts(
        median_interval(samples["decode"].values_us).rel_half_width, answer.values["discarded_ratio"]
    )
    answer.values |= fitness_columns(found)
    if not found:
        answer.leave_null("nothing was found to doubt", "fitness_reasons")


def _launching(answer: Answer, decode: Samples) -> dict[str, Any]:
    """What it costs the host to enqueue a decode step, where it enqueues one."""
    if decode.launch_us is None:
        answer.leave_null("on a CPU nothing is enqueued", "decode_enqueue_us", "launch_bound")
    return {"decode_enqueue_us": decode.launch_us, "launch_bound": decode.launch_bound}


def compare_with_ceiling(answer: Answer, step: Step, ceiling_gbps: float | None) -> None:
    """Achieved bandwidth from the bytes that any implementation must move, not those that this one does."""
    values = answer.values
    queries_and_output = 2 * step.query.nbytes
    moved = seen_layer_bytes(step.config, step.filled) + queries_and_output + step.batch.metadata_bytes
    values["achieved_gbps"] = moved / values["decode_us"] / 1000
    if ceiling_gbps is None:
        answer.leave_null("the ceiling could not be measured; see the log", "ceiling_gbps", "ceiling_ratio")
    else:
        values |= {"ceiling_gbps": ceiling_gbps, "ceiling_ratio": values["achieved_gbps"] / ceiling_gbps}
