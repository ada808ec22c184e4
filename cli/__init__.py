"""(being written)"""

from __future__ import annotations

# The parent import guards the layout: a bare import from the repository's root must fail.
from ..errors import StreamatiqError as StreamatiqError
