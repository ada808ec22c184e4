"""Who should own which partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["fair_shares"]


def fair_shares(owners: Sequence[str | None], claimants: Sequence[str]) -> list[str | None]:
    """Divides partitions evenly, and moves as few as possible.

    A claimant that owns no more than its share keeps what it has; what others have too much, or
    what nobody owns that claims, goes to those that have too little. All that see the same owners
    and claimants come to the same result, in whatever order they list them.

    Parameters:
      owners: Of each partition; None where there is none.
      claimants: Who wants a share.

    Returns:
      Who should own each partition; None for all where nobody claims one.
    """
    names = sorted(set(claimants))
    if not names:
        return [None] * len(owners)
    least, left_over = divmod(len(owners), len(names))
    has = Counter(owner for owner in owners if owner in names)
    # Who has most keeps the larger shares.
    by_size = sorted(names, key=lambda name: (-has[name], name))
    share = {name: least + (place < left_over) for place, name in enumerate(by_size)}
    kept: Counter[str] = Counter()
    shares: list[str | None] = []
    for owner in owners:
        keeps = owner is not None and kept[owner] < share.get(owner, 0)
        shares.append(owner if keeps else None)
        if owner is not None and keeps:
            kept[owner] += 1
    wanting = [name for name in names for _ in range(share[name] - kept[name])]
    free = iter(wanting)
    return [owner if owner is not None else next(free) for owner in shares]
