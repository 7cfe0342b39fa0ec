"""Keys of full pages, computed from tokens or from the hash ids of a trace. A key covers the page and its prefix."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Sequence
from hashlib import blake2b

from impls.policies.ledger import check_at_least
from impls.spec import ceil_div

PageKey = Hashable
"""Key of a full page. Equal keys mean equal tokens from the start of the sequence to the end of the page."""


def keys_of_tokens(tokens: Sequence[int], page_size: int) -> list[PageKey]:
    """Return the keys of the full pages of a prompt: a chain of hashes, each over its page and the previous hash.

    Args:
        tokens: token ids of the prompt, from 0 to 2**63 - 1.
        page_size: tokens per page.

    Raises:
        ValueError: ``page_size`` is not positive.
    """
    check_at_least(1, page_size=page_size)
    keys: list[PageKey] = []
    previous = b""
    for start in range(0, len(tokens) - page_size + 1, page_size):
        page = array("q", tokens[start : start + page_size]).tobytes()
        previous = blake2b(previous + page, digest_size=16).digest()
        keys.append(previous)
    return keys


def keys_of_hash_ids(hash_ids: Sequence[int], hash_block: int, num_tokens: int, page_size: int) -> list[PageKey]:
    """Return the keys of the full pages of a prompt whose trace has one hash id per block.

    A hash id identifies its block and all blocks before it. An id that repeats within the prompt is made unique by how
    often it occurred before, as in engines, where a key covers the page and its prefix. The key of a page inside a
    block is made of the id and the index of the page in the block. The key of a page of several blocks is the last of
    their ids. Only pages that end within the prompt have a key, because the last block may be partly filled.

    Args:
        hash_ids: one id per block of the prompt, including a partly filled last block.
        hash_block: tokens per block of the trace (512, 64 or 16).
        num_tokens: length of the prompt.
        page_size: tokens per page.

    Raises:
        ValueError: the number of ids does not fit the prompt, or neither of ``page_size`` and ``hash_block``
            divides the other.

    >>> keys_of_hash_ids([7, 9], hash_block=4, num_tokens=7, page_size=2)
    [14, 15, 18]
    >>> keys_of_hash_ids([7, 9, 8], hash_block=4, num_tokens=12, page_size=8)
    [9]
    >>> keys_of_hash_ids([7, 7], hash_block=4, num_tokens=8, page_size=4)
    [7, (7, 1)]
    """
    check_at_least(1, hash_block=hash_block, num_tokens=num_tokens, page_size=page_size)
    if len(hash_ids) != ceil_div(num_tokens, hash_block):
        blocks = ceil_div(num_tokens, hash_block)
        raise ValueError(
            f"hash_ids has {len(hash_ids)} ids, but {num_tokens} tokens in blocks of {hash_block} need {blocks}"
        )
    full_pages = num_tokens // page_size
    if hash_block % page_size == 0:
        per_block = hash_block // page_size
        return _unique([hash_ids[page // per_block] * per_block + page % per_block for page in range(full_pages)])
    if page_size % hash_block == 0:
        per_page = page_size // hash_block
        return _unique(list(hash_ids[per_page - 1 : full_pages * per_page : per_page]))
    raise ValueError(f"page_size={page_size} must divide hash_block={hash_block} of the trace, or be a multiple of it")


def _unique(keys: list[PageKey]) -> list[PageKey]:
    """Return the keys, each repeated one with the number of times that it occurred before."""
    if len(set(keys)) == len(keys):
        return keys
    seen: Counter[PageKey] = Counter()
    unique: list[PageKey] = []
    for key in keys:
        unique.append((key, seen[key]) if seen[key] else key)
        seen[key] += 1
    return unique
