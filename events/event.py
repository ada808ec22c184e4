"""`Event`: the envelope that every event carries, and the class statement that declares a type.

`class MyEvent(Event, type="my_event", version=1, log=Partitioned(1))` registers a type. On the wire
its name and schema version are the first two keys, so that a reader can choose the class before it
parses the rest. Type, version and id have no default when an event is *decoded*: bytes that lack
them are refused, since a made-up id would defeat the dedupe. Only the constructor fills them in.

Empty optional envelope fields stay off the wire; a payload field is always written, because its
default may change from one schema version to the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from uuid import UUID

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from ..errors import EventDefinitionError
from .definition import check_definition, refuse_instances, require_on_the_wire
from .ids import new_id
from .layout import Lane, Laned, Partitioned
from .record import Record, absent, empty
from .registry import register
from .times import Time
from .upcasting import Upcast, declared_upcasters

__all__ = ["Event"]

#: A type name: at most 64 characters, safe in a Redis key and in a metric label.
_TYPE_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
#: Longest key, in characters.
MAX_KEY_CHARS: Final = 256

_new = object.__new__
_set = object.__setattr__


class Event(Record):
    """An immutable, typed, versioned fact. Abstract: declare a subclass with `type=`.

    Parameters of the class statement:
      type: Type name, unique; without it the subclass is an abstract base.
      version: Schema version, from 1; raise it when the payload changes incompatibly, and say
        with `@upcast` how what is stored under an older one becomes the present one.
      log: Layout of the type's log: `Partitioned(n)` or `Laned()`.

    Raises:
      InvalidEvent: The constructor got a bad, missing or unknown field; field and value are named.
      EventDefinitionError: The class is abstract, or its class statement is wrong.
    """

    #: Type name of the class; empty where the class is abstract.
    event_type: ClassVar[str] = ""
    #: Schema version of the class.
    schema_version: ClassVar[int] = 1
    #: Layout of the type's log.
    log: ClassVar[Partitioned | Laned] = Partitioned(1)
    #: How stored events come up to `schema_version`, by the version that each step reads.
    upcasters: ClassVar[Mapping[int, Upcast]] = MappingProxyType({})

    #: Type name, as on the wire.
    type: str = ""
    #: Schema version, as on the wire.
    v: int = 1
    #: Unique id; UUIDv7 unless given.
    id: UUID = Field(default_factory=new_id)
    #: When it happened, in ns since 1970 UTC; an aware datetime is converted.
    ts_event: Time
    #: When it was published, in ns since 1970 UTC; set by the publisher.
    ts_published: Time | None = absent()
    #: Who says so: a feed, a strategy, a venue adapter.
    source: Annotated[str, Field(max_length=MAX_KEY_CHARS)] = empty("")
    #: What it is about; events of one key keep their order in a partitioned log.
    key: Annotated[str, Field(max_length=MAX_KEY_CHARS)] = empty("")
    #: Id of the event that began the whole chain.
    correlation_id: UUID | None = absent()
    #: Id of the event that led to this one.
    causation_id: UUID | None = absent()
    #: Lane in a laned log.
    priority: Lane = empty(Lane.NORMAL)
    #: How long after `ts_published` it is still worth handling, in ms; None: for ever.
    valid_for_ms: Annotated[int, Field(ge=1)] | None = absent()
    #: W3C trace context: `traceparent`, `tracestate`.
    trace: dict[str, str] | None = absent()

    def __init__(self, /, **data: Any) -> None:
        cls = self.__class__
        if not cls.event_type:
            raise EventDefinitionError(
                f"{cls.__name__} is an abstract event and has no instances; declare "
                f'class My{cls.__name__}({cls.__name__}, type="...") and use that'
            )
        data.setdefault("type", cls.event_type)
        data.setdefault("v", cls.schema_version)
        if "id" not in data:
            data["id"] = new_id()
        super().__init__(**data)

    # See Record.__init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # pydantic's own mark

    def __init_subclass__(
        cls,
        *,
        type: str | None = None,
        version: int = 1,
        log: Partitioned | Laned | None = None,
        **config: Any,
    ) -> None:
        super().__init_subclass__(**config)
        if type is not None and not (isinstance(type, str) and _TYPE_NAME.fullmatch(type)):
            raise EventDefinitionError(
                f"{cls.__name__}: event type {type!r} does not match [a-z][a-z0-9_.-]* "
                "of at most 64 characters"
            )
        if version.__class__ is not int or version < 1:
            raise EventDefinitionError(
                f"{cls.__name__}: version {version!r} is not an int of 1 or more"
            )
        if log is not None and not isinstance(log, Partitioned | Laned):
            raise EventDefinitionError(
                f"{cls.__name__}: log {log!r} is neither Partitioned(n) nor Laned()"
            )
        cls.event_type = "" if type is None else str(type)
        cls.schema_version = version
        cls.upcasters = declared_upcasters(cls)
        if log is not None:
            cls.log = log
        # Pydantic collects the fields after this hook has run: the subclass's own `type` and `v`
        # admit one value each, which makes the check part of the one pass over the bytes.
        cls.__annotations__["type"] = Literal[cls.event_type]
        cls.__annotations__["v"] = Literal[version]

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        check_definition(cls)
        if cls.event_type:
            register(cls)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = super().__get_pydantic_core_schema__(source, handler)
        require_on_the_wire(schema, "type", "v", "id")
        return schema if cls.event_type else refuse_instances(schema)

    def __hash__(self) -> int:
        return hash(self.id)

    def stamped(self, ts_published: int) -> Self:
        """Return a copy with the time of publishing set; nothing is validated again.

        Parameters:
          ts_published: ns since 1970 UTC.
        """
        return self._with({"ts_published": ts_published})

    def traced(self, trace: dict[str, str]) -> Self:
        """Return a copy with a trace context; nothing is validated again.

        Parameters:
          trace: `traceparent`, and `tracestate` if there is one.
        """
        return self._with({"trace": trace})

    def caused_by(self, cause: Event, *, event_id: UUID) -> Self:
        """Return a copy as the effect of another event; nothing is validated again.

        It is given the cause's id as causation id; the cause's correlation id (or else its id)
        and its trace context where this event has none of its own.

        Parameters:
          cause: The event whose handling produced this one.
          event_id: Id of the copy; see `emit_id`.
        """
        changes: dict[str, Any] = {"id": event_id, "causation_id": cause.id}
        if self.correlation_id is None:
            changes["correlation_id"] = cause.correlation_id or cause.id
        if self.trace is None and cause.trace is not None:
            changes["trace"] = cause.trace
        return self._with(changes)

    def _with(self, changes: dict[str, Any]) -> Self:
        """Return a copy with some fields replaced by values known to be valid."""
        copy = _new(self.__class__)
        _set(copy, "__dict__", {**self.__dict__, **changes})
        _set(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        _set(copy, "__pydantic_extra__", None)
        _set(copy, "__pydantic_private__", self.__pydantic_private__)
        return copy
