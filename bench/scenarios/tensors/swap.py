"""Scenario ``swap``: move the pages of sequences in mid-decode to the host and back, and to other pages of the pool.

The pool is compared bit for bit before anything is timed. The policy chooses the pages that move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.config import Config, build
from bench.measure.machine.telemetry import Telemetry
from bench.measure.timers.choice import TimerChoice, choose_on_host
from bench.measure.timers.timing import Timer
from bench.measure.timers.work import Work
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import bookkeeping
from bench.scenarios.filling import Filled, draw, fill
from bench.scenarios.tensors.filled import make_cache
from bench.scenarios.tensors.timed import add_fitness, median_us
from impls.interface import Admission, KVCache, MovingKVCache, PageCopy, Unsupported
from impls.policies import is_paged

EVENTS = "a move reads its list of pages from the host, which a graph cannot contain"


@dataclass(frozen=True, kw_only=True)
class Moves:
    """The moving pages: source and target of each.

    Attributes:
        out: from the pool to the host.
        back: from the host to the pool, maybe to other pages.
        within: to free pages of the pool. Empty if fewer pages are free than move.
    """

    out: Sequence[PageCopy]
    back: Sequence[PageCopy]
    within: Sequence[PageCopy]


def time_point(argument: Mapping[str, Any]) -> Answer:
    """Check every move, then time it.

    Args:
        argument: ``config`` (resolved, plain containers).

    Raises:
        Unsupported: the implementation cannot move pages, or ``measure.timer`` cannot time it.
    """
    config = build(argument["config"])
    choice = _choose_timer(config)
    filled = fill(config, *draw(config), host_ratio=1.0)
    answer = Answer(values=bookkeeping(filled) | {"layers_allocated": config.layers_allocated})
    cache = _moving(make_cache(config, filled.policy), config)
    moves = plan_moves(filled)
    answer.values |= {
        "page_moves": cache.details().get("page_moves"),
        "moved_pages": len(moves.out),
        "moved_bytes": len(moves.out) * config.page_size * config.model.token_bytes_per_layer,
    }
    _check(answer, cache, moves, config.seed)
    if answer.status == "ok":
        _time(answer, cache, moves, config, choice)
    return answer


def plan_moves(filled: Filled) -> Moves:
    """Swap all sequences of the policy out and in, and take as many pages again."""
    policy, seq_ids = filled.policy, range(len(filled.seq_lens))
    assert is_paged(policy)
    out = policy.swap_out(*seq_ids)
    back = policy.swap_in(*seq_ids)
    tokens = len(back) * policy.page_size
    if policy.can_admit(tokens) is not Admission.NOW:
        return Moves(out=out, back=back, within=())
    others = len(seq_ids)
    policy.admit(others, tokens)
    pages = [target for _, target in back]
    within = [PageCopy(page, other) for page, other in zip(pages, policy.page_ids(others), strict=True)]
    return Moves(out=out, back=back, within=within)


def _moving(cache: KVCache, config: Config) -> MovingKVCache:
    if not isinstance(cache, MovingKVCache):
        raise Unsupported(f"{config.impl.name} cannot move pages: it has no swap_out, swap_in and copy_pages")
    return cache


def _choose_timer(config: Config) -> TimerChoice:
    asked = config.measure.timer
    if config.device == "cpu":
        return choose_on_host(asked)
    if asked not in ("auto", "events"):
        raise Unsupported(f"measure.timer={asked} cannot time scenario=swap on cuda: {EVENTS}. Use auto or events")
    return TimerChoice(timer="events", reason=EVENTS if asked == "auto" else "configured")


def _check(answer: Answer, cache: MovingKVCache, moves: Moves, seed: int) -> None:
    """Compare every byte of the pool after each move: moved pages arrived, and nothing else changed."""
    generator = torch.Generator(device=cache.tensors[0].device).manual_seed(seed)
    before = _fill(cache, generator)
    cache.swap_out(moves.out)
    wrong = {"swap_out": _wrong_tensors(cache, before, before, ())}
    others = _fill(cache, generator)
    cache.swap_in(moves.back)
    page_of = {host: page for page, host in moves.out}
    back = [PageCopy(page_of[host], page) for host, page in moves.back]
    wrong["swap_in"] = _wrong_tensors(cache, others, before, back)
    before = _fill(cache, generator)
    cache.copy_pages(moves.within)
    wrong["copy_pages"] = _wrong_tensors(cache, before, before, moves.within)
    if bad := [f"{number} after {name}" for name, number in wrong.items() if number]:
        answer.status = "incorrect"
        answer.status_reason = (
            f"tensors differ from the expected bytes ({', '.join(bad)}, of {len(before)}), and nothing was timed"
        )


def _fill(cache: KVCache, generator: torch.Generator) -> list[Tensor]:
    """Write random bytes into every page. Return copies, uint8 ``[num_pages, page_size, num_kv_heads, bytes]``."""
    views = [tensor.view(torch.uint8) for tensor in cache.tensors]
    return [view.random_(generator=generator).clone() for view in views]


def _wrong_tensors(cache: KVCache, rest: Sequence[Tensor], source: Sequence[Tensor], copies: Sequence[PageCopy]) -> int:
    """Return the number of tensors that differ from ``rest`` with pages of ``source`` copied into it."""
    wrong = 0
    for tensor, expected, held in zip(cache.tensors, rest, source, strict=True):
        expected = expected.clone()
        if copies:
            pages, others = torch.tensor(copies, device=tensor.device).unbind(1)
            expected[others] = held[pages]
        wrong += not torch.equal(tensor.view(torch.uint8), expected)
    return wrong


def _time(answer: Answer, cache: MovingKVCache, moves: Moves, config: Config, choice: TimerChoice) -> None:
    """Time each move of all pages. The row has the time of one layer."""
    device = torch.device(config.device)
    watch = Telemetry.of(device)
    timer = Timer(config.measure, device, choice, watch)
    calls = {"swap_out": (cache.swap_out, moves.out), "swap_in": (cache.swap_in, moves.back),
             "copy_pages": (cache.copy_pages, moves.within)}  # fmt: skip
    layer_bytes, samples = answer.values["moved_bytes"], {}
    for name, (move, copies) in calls.items():
        if not copies:
            answer.leave_null(
                "fewer pages are free than move. Give a larger memory_budget", f"{name}_us", f"{name}_gbps"
            )
            continue
        samples[name] = timer.device_work(Work.of_one(partial(move, copies)))
        us = median_us(samples[name]) / config.layers_allocated
        answer.values |= {f"{name}_us": us, f"{name}_gbps": layer_bytes / us / 1000}
    out = samples["swap_out"]
    answer.values |= {"timer": out.timer, "timer_reason": choice.reason, "l2_mode": out.l2_mode}
    add_fitness(answer, samples, watch, "swap_out", config.device)
