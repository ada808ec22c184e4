"""The kill switch by hand: `python -m trading.kill "the strategy has gone mad"`."""

from __future__ import annotations

import sys

from .risk import kill

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python -m trading.kill "REASON"')
    count = kill(sys.argv[1])
    sys.stdout.write(f"No new orders from now on; {count} open ones are being cancelled.\n")
