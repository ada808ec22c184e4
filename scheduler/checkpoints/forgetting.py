"""What is forgotten of events that run again: that they were handled, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller

from ...broker import checkpoint_scripts as scripts
from ...broker.connections import LinkPool
from ...broker.dead_letter_entry import letter_from
from ...broker.dead_letter_scripts import purge
from ...broker.keys import SourceKeys
from ...broker.payloads import id_of_data
from ..exclusive import run
from .restore_plan import Range, letters_in, pages_behind, settled_keys_in

__all__ = ["drop_letters", "forget"]

#: Fields, or letters, of one call.
PAGE = 200


def forget(links: LinkPool, keys: SourceKeys, chosen: Range, last: str, *, free_keys: bool) -> None:
    """Drops the done marks of `chosen`. Before the position is put back: if this process dies in
    between, no event is skipped by one. Harmless to repeat.

    Parameters:
      last: The newest entry that may have one; `+`: any.
      free_keys: And the business keys that are done by them.
    """
    marks = [keys.done, keys.done_old]
    for at in range(0, len(chosen.pending), PAGE):
        reads = [("XRANGE", keys.entries, one, one) for one in chosen.pending[at : at + PAGE]]
        found = links.call(methodcaller("send_many", reads))
        _unmark(links, marks, [id_of_data(one[0][1]) for one in found if one])
    for page in pages_behind(links, keys.entries, chosen.behind, last):
        _unmark(links, marks, [id_of_data(flat) for _, flat in page])
    if free_keys:
        _unmark(links, [keys.keys, keys.keys_old], settled_keys_in(links, keys, chosen))


def drop_letters(links: LinkPool, name: str, keys: SourceKeys, chosen: Range, by: str) -> None:
    """Deletes the dead letters of `chosen`, each with an audit record. Once the position is put
    back: until then they are all that there is of these events. Harmless to repeat."""
    letters = letters_in(links, keys, chosen)
    for at in range(0, len(letters), PAGE):
        page = [letter_from(name, one.encode(), ()) for one in letters[at : at + PAGE]]
        run(links, purge(keys, by, page))


def _unmark(links: LinkPool, hashes: Sequence[str], fields: Sequence[bytes]) -> None:
    known = [field for field in fields if field]
    for at in range(0, len(known), PAGE):
        run(links, scripts.unmark(hashes, known[at : at + PAGE]))
