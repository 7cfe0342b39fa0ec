"""How Triton runs kernels in this process."""

from typing import Final

import triton

INTERPRETED: Final = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter (``TRITON_INTERPRET=1`` when they were defined)."""
VERSION: Final = str(triton.__version__)
