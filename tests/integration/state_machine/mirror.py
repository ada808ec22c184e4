"""Links whose script calls are followed by the model, one by one.

The product decides what it calls; here each call is told to the model as well, and the answers are
compared; after the step, all that the server holds is, too. After a lost reply the server decides
whether the call has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from tests.integration.state_machine.partitions import suffix
from tests.integration.state_machine.reference import Reference
from tests.integration.state_machine.standings import Wanting

from streamatiq.broker.calls import Call, script_name
from streamatiq.broker.connections import Link, LinkPool
from streamatiq.broker.sources import Source

if TYPE_CHECKING:
    from tests.integration.state_machine.running import Running

__all__ = ["MirroredLink", "MirroredPool"]

T = TypeVar("T")


class MirroredLink(Link):
    """See the module. `machine` has the model."""

    machine: Running

    def send(self, *args: Any) -> Any:
        """As of `Link`."""
        name = script_name(args[1]) if args[0] in ("EVALSHA", "EVAL") else None
        effect = _EFFECTS.get(name or "")
        if effect is None:
            return super().send(*args)
        count = args[2]
        keys, rest = args[3 : 3 + count], [_text(one) for one in args[3 + count :]]
        machine, do = self.machine, super().send
        said: list[Any] = []
        reply = machine.attempt_or_raise(
            lambda: do(*args), lambda model: said.append(effect(model, keys, rest))
        )
        should, shown = said[-1]
        if shown(reply) != should:
            # Told again after the step: the product survives whatever a hook raises.
            machine.wrong.append(f"{name} {rest} said {reply}, should say {should}")
            raise AssertionError(machine.wrong[-1])
        return reply

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """One by one: what several threads asked together comes from one thread here."""
        return [self.run(call) for call in calls]


class MirroredPool(LinkPool):
    """Links of one process."""

    def __init__(self, *args: Any, machine: Running) -> None:
        super().__init__(*args)
        self._link = MirroredLink(self.endpoint)
        self._link.machine = machine

    @contextmanager
    def borrow(self) -> Iterator[Link]:
        """As of `LinkPool`."""
        try:
            yield self._link
        except BaseException:
            self._link.close()
            raise

    def close(self) -> None:
        """As of `LinkPool`."""
        self._link.close()
        super().close()


def _text(one: Any) -> str:
    return one.decode("latin-1") if isinstance(one, bytes) else str(one)


def _texts(many: Sequence[bytes]) -> list[str]:
    return [_text(one) for one in many]


#: What the call should say, and how to bring what it said into that form.
Told = tuple[Any, Callable[[Any], Any]]


def _source(model: Reference, entries: str, group: str) -> Source:
    return model.layout.source(entries, group)


def _of(model: Reference, key: str, end: str) -> Source:
    """The source whose key `SUB:end` this is."""
    tag, _, group = key.removesuffix(":" + end).rpartition(":sub:")
    return _source(model, f"{tag}:entries", group)


def _enlist(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    model.enlist(args[0], args[1])
    if len(keys) > 3:
        model.claimants[args[1]].add(args[0])
    return 1, int


def _claimants(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    return model.share(keys[0].rpartition(":")[2]), lambda reply: set(_texts(reply[1:]))


def _resign(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    return model.resign(keys[0].rpartition(":")[2], args[0]), int


def _own(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    def shown(reply: Any) -> Any:
        if len(reply) == 1:
            return (reply[0].decode(),)
        _, epoch, last, _, expected, elsewhere = reply
        held = dict(zip(elsewhere[::2], _texts(elsewhere[1::2]), strict=True))
        return epoch, last, set(expected), held

    return model.own(_of(model, keys[0], "owner"), args[1]), shown


def _disown(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    return model.disown(_of(model, keys[0], "owner"), args[0]), int


def _whereabouts(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    ids = [one.encode() for one in args[1:]]
    return model.whereabouts(_source(model, keys[0], args[0]), ids), _texts


def _fetch(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    group, consumer, room, count, alone = args[:5]
    sources = [_source(model, keys[8 * place], group) for place in range(int(count))]
    said = model.fetch(
        sources,
        None,
        consumer,
        int(room),
        alone=alone == "1",
        owned=args[7] == "1",
        nothing_new=args[8] == "1",
    )
    if isinstance(said, str):
        return (said, []), lambda reply: (reply[2].decode(), reply[6:])
    blocks = [
        (sources.index(source) + 1, [one.entry_id for one in entries], options)
        for source, entries, options in said
    ]

    def shown(reply: Any) -> Any:
        return reply[2].decode(), [
            (place, [one for one, _ in entries], list(options or [None] * len(entries)))
            for place, entries, options, _ in reply[6:]
        ]

    return ("", blocks), shown


def _reclaim(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    said = model.reclaim(
        _source(model, keys[0], args[0]),
        args[1],
        fence=args[2] == "1",
        max_deliveries=int(args[3]),
        page=int(args[7]),
    )
    return said, lambda reply: (*reply[:3], reply[3] == 1)


def _token(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    group, consumer, entry_id = args
    said = model.next_token(_source(model, keys[0], group), consumer, entry_id.encode())
    return said, lambda reply: reply if isinstance(reply, int) else reply.decode()


def _reserve(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    source = _source(model, keys[3], args[0])
    wants = [
        Wanting(key, entry + suffix(source), run, name, takes == "1")
        for key, entry, run, name, takes in zip(*(args[at::5] for at in range(3, 8)), strict=True)
    ]
    said = [(str(standing), stood) for standing, stood in model.reserve(source, args[1], wants)]

    def shown(reply: Any) -> Any:
        if reply[0] == b"FENCED":
            return [("fenced", "")] * len(wants)
        # Which entry has done it is for restoring alone.
        return [
            (one.decode(), "d" if stood.startswith(b"d ") else stood.decode())
            for one, _, stood in reply
        ]

    return said, shown


def _requeue(model: Reference, keys: Sequence[str], args: list[str]) -> Told:
    source = _source(model, keys[3], args[1])
    letters = [
        (entry.encode(), event.encode("latin-1"))
        for entry, event in zip(args[3::3], args[4::3], strict=True)
    ]
    return model.requeue(source, keys[2], args[0], letters), _texts


_EFFECTS: dict[str, Callable[[Reference, Sequence[str], list[str]], Told]] = {
    "enlist": _enlist,
    "claimants": _claimants,
    "resign": _resign,
    "own": _own,
    "disown": _disown,
    "whereabouts": _whereabouts,
    "fetch": _fetch,
    "reclaim": _reclaim,
    "token": _token,
    "reserve": _reserve,
    "requeue_event": _requeue,
}
