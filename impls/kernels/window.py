"""Where a sequence's attended tokens begin, for the kernels that must agree on it."""

import triton
import triton.language as tl


@triton.jit
def first_token(seq_len, WINDOW: tl.constexpr, BLOCK_TOKENS: tl.constexpr):
    """First token that is read: 0, or where the window begins, rounded down to a whole tile.

    Whole tiles from the sequence's start never cross a page that is a multiple of the tile.
    """
    if WINDOW:
        first = tl.maximum(seq_len - WINDOW, 0) // BLOCK_TOKENS * BLOCK_TOKENS
    else:
        first = 0
    return first
