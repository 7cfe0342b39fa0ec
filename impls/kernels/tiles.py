"""Tiles of the K and V of a sequence: first token, pages, addresses and loads."""

import triton
import triton.language as tl


@triton.jit
def first_token(seq_len, WINDOW: tl.constexpr, BLOCK_TOKENS: tl.constexpr):
    """Return the first token that a query at the end reads: 0, or the start of its window, rounded down to a tile.

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
    """Return the page ids of the tokens of a tile: one for all where a tile never crosses a page, else one each.

    Without pages nothing is looked up, and the result is not used.
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
    """Return where K and V of each token begin, in elements. A pool may hold more than 2**31, a page does not."""
    if PAGED:
        offsets = pages.to(tl.int64) * PAGE_STRIDE + tokens % PAGE_SIZE * TOKEN_STRIDE
    else:
        offsets = tokens.to(tl.int64) * TOKEN_STRIDE
    return offsets


@triton.jit
def load_pairs(
    head_ptr,  # one KV head of the cache, of 8-bit elements. HEAD_DIM and all strides are even
    starts,  # where each token begins, in elements
    live,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Return the even and the odd dims of a tile, ``[BLOCK_TOKENS, BLOCK_DIM / 2]`` each, loaded as pairs of 16 bits.

    A tile is transposed on its way from shared memory to the right side of a product. Processors
    transpose elements of 16 bits. Elements of 8 bits would be copied in pieces of 8 bytes instead of
    16, and read one by one. Each half goes to a product of its own. Halves joined before one product
    would be loaded into registers, and every step would wait for memory.
    """
    pairs = tl.arange(0, BLOCK_DIM // 2)
    mask = live[:, None] if HEAD_DIM == BLOCK_DIM else live[:, None] & (pairs < HEAD_DIM // 2)[None, :]
    token_ptr = (head_ptr + starts).to(tl.pointer_type(tl.uint16), bitcast=True)
    both = tl.load(token_ptr[:, None] + pairs[None, :], mask=mask, other=0)
    element: tl.constexpr = head_ptr.dtype.element_ty
    even = both.to(tl.uint8).to(element, bitcast=True)
    odd = (both >> 8).to(tl.uint8).to(element, bitcast=True)
    return even, odd
