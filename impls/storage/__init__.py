"""Storage and page tables that the caches share."""
