"""Tiles of a sequence's K and V: where they begin, which pages they are on, and how they are loaded."""

import triton
import triton.language as tl


@triton.jit
def first_token(seq_len, WINDOW: tl.constexpr, BLOCK_TOKENS: tl.constexpr):
    """First token that a query at the end reads: 0, or where its window begins, rounded down to a whole tile.

    Whole tiles from the sequence's start never cross a page that is a multiple of the tile.
    """
    if WINDOW:
        first = tl.maximum(seq_len - WINDOW, 0) // BLOCK_TOKENS * BLOCK_TOKENS
    else:
        first = 0
    return first


@triton.jit
def load_pages(
    table_row_ptr,  # PAGED: [max_pages_per_seq] int32
    first,
    stop,
    PAGED: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    """Page ids of a tile's tokens: one for all where a tile never crosses a page, else one each.

    Without pages nothing is looked up, and what is returned is not used.
    """
    if not PAGED:
        pages = first
    elif PAGE_SIZE % BLOCK_TOKENS == 0:
        pages = tl.load(table_row_ptr + first // PAGE_SIZE, mask=first < stop, other=0)
    else:
        tokens = first + tl.arange(0, BLOCK_TOKENS)
        pages = tl.load(table_row_ptr + tokens // PAGE_SIZE, mask=tokens < stop, other=0)
    return pages


@triton.jit
def tile_offsets(
    pages,
    tokens,
    PAGED: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    PAGE_STRIDE: tl.constexpr,
    TOKEN_STRIDE: tl.constexpr,
):
    """Where each token's K and V begin, in elements; a pool may hold more than 2**31 of them, a page does not."""
    if PAGED:
        offsets = pages.to(tl.int64) * PAGE_STRIDE + tokens % PAGE_SIZE * TOKEN_STRIDE
    else:
        offsets = tokens.to(tl.int64) * TOKEN_STRIDE
    return offsets
