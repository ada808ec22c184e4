"""When: schedules, replays, and what else happens at a certain time."""

from __future__ import annotations

# Reaches beyond this package, so that a bare `import scheduler` fails.
from ..errors import StreamatiqError as StreamatiqError
