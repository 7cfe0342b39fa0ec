"""Checks of what an implementation returns: before timing, while it is timed, and with grouped KV heads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.measure.timers.work import Work
from bench.rows.result import Answer
from impls.reference import max_rel_error


def output_problem(out: object, query: Tensor) -> str | None:
    """Return a sentence about an output that cannot be compared with the reference, or ``None``.

    Args:
        out: what the implementation returned for ``query``.
        query: ``[num_queries, num_query_heads, head_dim]``. The output must be like it.
    """
    if not isinstance(out, Tensor):
        return f"the output is a {type(out).__module__}.{type(out).__qualname__}, and must be a torch.Tensor"
    for what in ("shape", "dtype", "device"):
        got, expected = getattr(out, what), getattr(query, what)
        if got != expected:
            texts = (tuple(got), tuple(expected)) if what == "shape" else (got, expected)
            return f"the output has {what} {texts[0]}, and must have {texts[1]}, like the query"
    bad = int((~torch.isfinite(out)).sum())
    if bad:
        nan = int(out.isnan().sum())
        return f"the output has {nan} NaN and {bad - nan} infinite values among {out.numel()}"
    return None


def judge_outputs(answer: Answer, outputs: Iterable[object], query: Tensor, reference: Tensor, allowed: float) -> None:
    """Record the largest error of some outputs. A row with a wrong one becomes ``incorrect``, and is not timed."""
    largest = 0.0
    answer.values["allowed_rel_error"] = allowed
    for out in outputs:
        problem = output_problem(out, query)
        if problem is not None:
            answer.status, answer.status_reason = "incorrect", f"{problem}, and nothing was timed"
            return
        assert isinstance(out, Tensor)
        largest = max(largest, max_rel_error(out, reference))
    answer.values["max_rel_error"] = largest
    if not largest <= allowed:
        answer.status = "incorrect"
        answer.status_reason = f"max_rel_error={largest:.3g} is above the allowed {allowed:.3g}, and nothing was timed"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One content of the query, and what an output for it must be."""

    query: Tensor
    reference: Tensor
    allowed: float


@dataclass(kw_only=True, eq=False)
class Audit:
    """Checks the outputs of randomly chosen timed calls, while the query changes between them.

    An implementation cannot know which call is checked. The checks are after a sample and outside of its timing. The
    gaps between them grow, so that a long measurement has few more of them than a short one.

    Attributes:
        queries: the tensors that the timed calls read. They are overwritten in place.
        variants: contents of the query that take turns.
        rng: chooses the calls. It is not seeded, so that no implementation can predict it.
        problem: sentence about the first wrong output.
        checked: outputs that were checked.
    """

    queries: Sequence[Tensor]
    variants: Sequence[Variant]
    rng: random.Random = field(default_factory=random.SystemRandom)
    problem: str | None = None
    checked: int = 0

    def __post_init__(self) -> None:
        self._calls = self._calls_before = 0
        self._due = 0  # number of the call whose output is kept
        self._kept: object = None
        self._last: object = None
        self._samples, self._next_sample = 0, 1
        self._variant = 0

    def work(self, work: Work) -> Work:
        """Return the work with audited calls, and change the query."""
        self._change()
        self._samples, self._next_sample = 0, 1
        return Work(
            call=self._audited(work.call),
            copies=work.copies,
            bytes_per_call=work.bytes_per_call,
            after_sample=self._after_sample,
        )

    def finish(self, call: Callable[[int], object]) -> None:
        """Check one more call with a changed query."""
        self._change()
        self._check(call(0))

    def _audited(self, call: Callable[[int], object]) -> Callable[[int], object]:
        def audited(copy: int) -> object:
            out = call(copy)
            self._last = out  # a graph's last output: it has no calls while it is replayed
            self._calls += 1
            if self._calls == self._due:
                self._kept = out
            return out

        return audited

    def _after_sample(self) -> None:
        self._samples += 1
        calls = self._calls - self._calls_before
        self._calls_before = self._calls
        if self._samples == self._next_sample:
            self._next_sample += self.rng.randint(1, self._samples + 1)
            self._check(self._last if self._kept is None else self._kept)
            self._change()
        self._kept = None
        self._due = self._calls + self.rng.randint(1, max(calls, 1))

    def _change(self) -> None:
        self._variant = (self._variant + 1) % len(self.variants)
        for query in self.queries:
            query.copy_(self.variants[self._variant].query)

    def _check(self, out: object) -> None:
        variant = self.variants[self._variant]
        self.checked += 1
        problem = output_problem(out, variant.query)
        if problem is None:
            assert isinstance(out, Tensor)
            error = max_rel_error(out, variant.reference)
            if not error <= variant.allowed:
                problem = f"max_rel_error={error:.3g} is above the allowed {variant.allowed:.3g}"
        self.problem = self.problem or problem

    def judge(self, answer: Answer) -> None:
        """Make the row ``incorrect`` if a timed output was wrong."""
        if self.problem is not None and answer.status == "ok":
            answer.status = "incorrect"
            answer.status_reason = f"right before timing, but wrong in a timed call: {self.problem}"
