"""Fill a policy to mid-decode, for a prediction and for a real run. No torch.

A request enters with its prompt and then appends up to its mid-decode length. The queue is first come,
first served, and the first refusal ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench.config import Config, Workload
from bench.config.scenarios import CacheScenario, PrefillScenario
from bench.config.units import parse_bytes
from bench.workload.layouts import aged_order, page_order
from bench.workload.requests import Requests, draw_requests, mid_decode_lens
from impls.interface import Admission, Policy
from impls.policies import is_paged, make_policy
from impls.policies.pages import PagePool
from impls.spec import ceil_div

PREFIX_SEQ_ID = -1
"""Id of the sequence that holds the shared prefix (page_layout=shared_prefix). It is never decoded."""


class CannotRun(Exception):
    """This point cannot run. The message gives the reason in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A policy that holds the sequences ``0 .. len(seq_lens) - 1`` in mid-decode.

    Attributes:
        policy: holds ``seq_lens[i]`` tokens of sequence ``i``.
        seq_lens: int64 ``[admitted]``, the newest token included.
        requests: all requests offered, admitted first.
        prefix_tokens: leading tokens that all longer sequences share. 0 without sharing.
    """

    policy: Policy
    seq_lens: NDArray[np.int64]
    requests: Requests
    prefix_tokens: int

    @property
    def refused(self) -> int:
        """Number of requests that were refused."""
        return len(self.requests) - len(self.seq_lens)

    @property
    def head(self) -> int:
        """Index of the request at the queue's head, or 0 if the queue is empty."""
        return len(self.seq_lens) if self.refused else 0

    def shares_prefix(self, index: int) -> bool:
        """Return whether a sequence uses the shared prefix."""
        return 0 < self.prefix_tokens < int(self.seq_lens[index])


def draw(config: Config) -> tuple[Requests, NDArray[np.int64]]:
    """Return the requests of a point, and their lengths at mid-decode or at this point of the prompt.

    Raises:
        ValueError: the workload cannot give ``num_seqs`` requests that fit the model.
    """
    requests, seq_lens = _draw(config.workload, config.num_seqs, config.model.max_seq_len, config.seed)
    return _prompts(requests, config.scenario) if isinstance(config.scenario, PrefillScenario) else (requests, seq_lens)


def _prompts(requests: Requests, scenario: PrefillScenario) -> tuple[Requests, NDArray[np.int64]]:
    """Return the requests with prompts cut to the tokens that the step contains."""
    seq_lens = np.array([scenario.seq_len(prompt_len) for prompt_len in requests.prompt_lens.tolist()], dtype=np.int64)
    output_lens = requests.final_lens - seq_lens
    return replace(
        requests, prompt_lens=seq_lens, output_lens=output_lens, hash_ids=None, hash_block_tokens=None
    ), seq_lens


@lru_cache(maxsize=32)  # the points of a sweep share few workloads, and reading a trace takes time
def _draw(workload: Workload, num_seqs: int, max_seq_len: int, seed: int) -> tuple[Requests, NDArray[np.int64]]:
    requests = draw_requests(workload, num_seqs=num_seqs, max_seq_len=max_seq_len, seed=seed)
    return requests, mid_decode_lens(requests, seed)


def fill(config: Config, requests: Requests, seq_lens: NDArray[np.int64], host_ratio: float = 0.0) -> Filled:
    """Admit the requests in order until the first refusal.

    Args:
        config: resolved, with the name of a policy and a memory budget in bytes.
        requests: offered requests.
        seq_lens: length of each request, from ``draw``.
        host_ratio: see ``new_policy``.

    Raises:
        CannotRun: the budget cannot hold even the first sequence, or the layout needs longer pages.
    """
    prefix_tokens = _prefix_tokens(config)
    trial = new_policy(config, None, host_ratio)
    admitted = _admit(trial, requests, seq_lens, prefix_tokens)
    if admitted == 0:
        raise CannotRun(holds_none(config, trial, int(requests.prompt_lens[0]), int(seq_lens[0])))
    if not is_paged(trial):
        return Filled(policy=trial, seq_lens=seq_lens[:admitted], requests=requests, prefix_tokens=0)
    policy = new_policy(config, _order(config, trial, requests, seq_lens[:admitted]), host_ratio)
    _admit(policy, requests, seq_lens[:admitted], prefix_tokens)
    return Filled(policy=policy, seq_lens=seq_lens[:admitted], requests=requests, prefix_tokens=prefix_tokens)


def predict(config: Config) -> Filled:
    """Fill a policy like scenarios ``decode``, ``prefill`` and ``swap``.

    Args:
        config: resolved, with the name of a policy and a memory budget in bytes.

    Raises:
        CannotRun: the budget cannot hold even the first sequence, or the layout needs longer pages.
        ValueError: the workload cannot give ``num_seqs`` requests that fit the model.
    """
    return fill(config, *draw(config))


def new_policy(config: Config, free_order: Sequence[int] | None, host_ratio: float = 0.0) -> Policy:
    """Return an empty policy of a resolved configuration.

    Args:
        config: gives the policy, the budget in bytes and the page size.
        free_order: pages in the order in which a fresh pool assigns them.
        host_ratio: pages of the host, for swapping, over pages of the pool.

    Raises:
        CannotRun: the budget does not hold a single page.
    """
    try:
        return make_policy(
            config.policy.name,
            model=config.model,
            budget_bytes=parse_bytes(config.memory_budget, "memory_budget"),
            page_size=config.page_size,
            watermark=config.policy.watermark,
            arena=config.policy.arena,
            free_order=free_order,
            host_ratio=host_ratio,
            target=config.policy.target,
            kind=config.policy.kind,
        )
    except ValueError as error:
        raise CannotRun(str(error)) from error


def _prefix_tokens(config: Config) -> int:
    """Return the tokens in whole pages of the shared prefix."""
    if config.page_layout != "shared_prefix" or not config.policy.has_pages:
        return 0
    assert isinstance(config.scenario, CacheScenario)
    asked = config.scenario.shared_prefix_tokens
    tokens = asked // config.page_size * config.page_size
    if tokens == 0:
        raise CannotRun(f"page_layout=shared_prefix shares whole pages, and page_size={config.page_size} is longer "
                        f"than scenario.shared_prefix_tokens={asked}")  # fmt: skip
    return tokens


def _admit(policy: Policy, requests: Requests, seq_lens: NDArray[np.int64], prefix_tokens: int) -> int:
    """Admit in order. Return the number of admitted requests."""
    if prefix_tokens:
        if policy.can_admit(prefix_tokens) is not Admission.NOW:
            return 0
        policy.admit(PREFIX_SEQ_ID, prefix_tokens)
    for index, seq_len in enumerate(seq_lens.tolist()):
        prompt_len, final_len = int(requests.prompt_lens[index]), int(requests.final_lens[index])
        if 0 < prefix_tokens < seq_len:
            assert is_paged(policy)
            policy.fork(PREFIX_SEQ_ID, index, final_len)
            entered = grow(policy, index, seq_len - prefix_tokens)
        else:
            entered = enter(policy, index, prompt_len, seq_len, final_len)
        if not entered:
            return index
    return len(seq_lens)


def enter(policy: Policy, seq_id: int, prompt_len: int, seq_len: int, final_len: int) -> bool:
    """Admit a sequence with its prompt and grow it to ``seq_len``. Return whether the policy allowed it."""
    if policy.can_admit(prompt_len, final_len) is not Admission.NOW:
        return False
    policy.admit(seq_id, prompt_len, final_len)
    return grow(policy, seq_id, seq_len - prompt_len)


def grow(policy: Policy, seq_id: int, num_tokens: int) -> bool:
    """Append tokens to a sequence, or free it if there is no room for all of them."""
    if num_tokens and not policy.can_append(seq_id, num_tokens):
        policy.free(seq_id)
        return False
    if num_tokens:
        policy.append(seq_id, num_tokens)
    return True


def _order(config: Config, trial: PagePool, requests: Requests, seq_lens: NDArray[np.int64]) -> list[int]:
    """Return the order in which the pool assigns its pages, for the configured layout."""
    if config.page_layout == "aged":
        assert isinstance(config.scenario, CacheScenario)
        order = aged_order(
            requests,
            num_pages=trial.num_pages,
            page_size=trial.page_size,
            turnovers=config.scenario.aged_turnovers,
            seed=config.seed,
        )
    else:
        # Shared pages are scattered like all others, because the axis is the sharing, not a new order.
        layout = "shuffled" if config.page_layout == "shared_prefix" else config.page_layout
        pages = [ceil_div(int(seq_len), trial.page_size) for seq_len in seq_lens]
        order = page_order(layout, pages_per_seq=pages, num_pages=trial.num_pages, seed=config.seed)
    return [int(page) for page in order]


def holds_none(config: Config, policy: Policy, prompt_len: int, seq_len: int) -> str:
    """Return the message for a budget that refuses its first sequence."""
    model = config.model
    if config.policy.name == "reserved_max":
        tokens, what = model.max_seq_len, "a sequence's reservation of model.max_seq_len"
    else:
        tokens, what = max(seq_len, prompt_len), "the first sequence's"
    return (
        f"memory_budget={config.memory_budget} cannot hold one sequence (NEVER): the pool of {config.policy.name} has "
        f"{policy.pool_bytes:,} bytes, and {what} {tokens:,} tokens alone are {tokens * model.token_bytes:,} bytes"
    )
