"""Every setting of Streamatiq, read and validated once, into one frozen object.

Order of precedence, highest first: environment variables (`STREAMATIQ_REDIS__URL`), `.env` in the
working directory, the settings file, the defaults below. Each source is checked on its own, so a
wrong value is an error even where another source overrides it, and all errors of all sources are
reported together, each with its place (`_config_layer`). `Settings(...)` itself reads no source:
it takes arguments and defaults only, which is what tests and embedding programs want.

Passwords appear in `redis.url` only; no message and no repr of ours shows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ._config_file import read_file
from ._config_layer import Layer, by_line, dotted, explain, leaves, redact
from ._config_types import (
    MAX_ENTRIES,
    AuditLevel,
    CheckpointInterval,
    Count,
    EventTypeName,
    Lifetime,
    ModuleName,
    Namespace,
    Port,
    Seconds,
    ServerUrl,
    SheddableType,
    WhenFull,
)
from ._config_variables import CONFIG_VARIABLE, read_dotenv, read_variables
from .errors import InvalidSettings

__all__ = [
    "DEFAULT_FILE",
    "AuditLevel",
    "AuditSettings",
    "CheckpointSettings",
    "CircuitBreakerSettings",
    "EventBusSettings",
    "ProcessorSettings",
    "RedisSettings",
    "RetentionSettings",
    "SchedulerSettings",
    "Settings",
    "WorkersSettings",
]

#: Read where no other file is named and it exists; relative to the working directory.
DEFAULT_FILE = Path("config/event_engine.yaml")


class _Section(BaseModel):
    # Inputs are hidden in pydantic's own errors, for they may hold a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RedisSettings(_Section):
    """The server, and how calls to it are repeated.

    Attributes:
      url: redis://, rediss://, unix://, or embedded://PATH, which starts our own server.
      max_retries: Reconnect attempts of one call before it fails. Workers go on for ever.
      retry_delay: First pause between them, seconds; doubles, with jitter.
      stream_max_length: Entries that retention aims to keep in each stream (partition or lane) of
        a log. `streamatiq retention run` acts upon it, nothing does by itself yet.
    """

    url: ServerUrl = "redis://localhost:6379"
    max_retries: Count = Field(3, ge=0, le=1000)
    retry_delay: Seconds = 1.0
    stream_max_length: Count = Field(100_000, ge=1, le=MAX_ENTRIES)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """As the base class, without the password."""
        for name, value in super().__repr_args__():
            yield name, redact(value) if name == "url" else value


class CircuitBreakerSettings(_Section):
    """When a breaker opens, where a handler has one (`@on(..., breaker=True)`).

    Attributes:
      failure_threshold: Failures in a row, over all processes, that open it.
      reset_time: Seconds until an open breaker lets one event through as a probe.
    """

    failure_threshold: Count = Field(5, ge=1, le=1_000_000)
    reset_time: Seconds = 60.0


class EventBusSettings(_Section):
    """Limits of publishing and handling.

    Attributes:
      max_queue_size: Backlog limit of a work queue, and of a subscription on one stream (partition
        or lane): entries that are ready, unread or running. 0 = no limit.
      when_full: At the limit `reject` raises BacklogFull, `block` waits for room first.
      block_timeout: Seconds that `block` waits without finding room for anything.
      shed: Types of events that are dropped and counted at the limit, instead; no orders or fills.
      idempotency_window: Seconds for which a duplicate is recognised.
      handler_timeout: Seconds that a subscription's handler may run; None: for ever.
      dead_letter_ttl: Seconds after which dead letters are deleted; None keeps them for ever.
      circuit_breaker: See `CircuitBreakerSettings`.
    """

    max_queue_size: Count = Field(10_000, ge=0, le=MAX_ENTRIES)
    when_full: WhenFull = "reject"
    block_timeout: Seconds = 5.0
    shed: tuple[SheddableType, ...] = ()
    idempotency_window: Seconds = 300.0
    handler_timeout: Lifetime = 5.0
    dead_letter_ttl: Lifetime = None
    circuit_breaker: CircuitBreakerSettings = CircuitBreakerSettings()


class ProcessorSettings(_Section):
    """How workers take in entries.

    Attributes:
      batch_size: Entries in one fetch.
      checkpoint_interval: Seconds between two checkpoints, which the scheduler process takes; None:
        none are taken by themselves.
    """

    batch_size: Count = Field(100, ge=1, le=10_000)
    checkpoint_interval: CheckpointInterval = 60.0


class WorkersSettings(_Section):
    """What worker processes run.

    Attributes:
      handlers: Modules with handlers, which `dramatiq streamatiq.workers` imports, in order.
      tune: Python's garbage collector leaves alone what a worker process under the `dramatiq`
        command has loaded when it boots, and begins later with what comes then.
    """

    handlers: tuple[ModuleName, ...] = ()
    tune: bool = True


class SchedulerSettings(_Section):
    """The scheduler process.

    Attributes:
      host: Where it answers about its health and metrics, over HTTP.
      port: The port there; 0 for any free one, None for none.
      threads: Runs at a time, at most.
      lease: Seconds for which leadership holds without a word; a dead leader is replaced after
        that.
      history: Entries that are kept of each schedule's history.
      stop_timeout: Seconds that runs are given to end when the process is stopped.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 9193
    threads: Count = Field(10, ge=1, le=1000)
    lease: Annotated[Seconds, Field(ge=0.3, le=60)] = 3.0
    history: Count = Field(200, ge=1, le=10_000)
    stop_timeout: Seconds = 8.0


class CheckpointSettings(_Section):
    """Which checkpoints stay when the scheduler takes a new one. Each keeps in the logs what it
    needs; the newest good one always stays.

    Attributes:
      keep_last: The newest ones.
      keep_hourly: Of so many hours that have any, the newest of each.
      keep_daily: The same of days, UTC.
    """

    keep_last: Count = Field(10, ge=1, le=10_000)
    keep_hourly: Count = Field(0, ge=0, le=10_000)
    keep_daily: Count = Field(0, ge=0, le=10_000)


class RetentionSettings(_Section):
    """What is taken out of logs.

    Attributes:
      abandoned_after: Seconds for which nobody has read a subscription, after which it is given up
        and holds nothing back any more; None: never.
    """

    abandoned_after: Lifetime = None


class AuditSettings(_Section):
    """How much of each settled batch is recorded.

    Attributes:
      level: For every event type without an entry in `overrides`.
      overrides: Level by event type name. Entries of all sources are merged.
    """

    level: AuditLevel = "counts"
    overrides: Mapping[EventTypeName, AuditLevel] = Field(default_factory=dict)

    def level_of(self, event_type: str) -> AuditLevel:
        """The level for events of type `event_type`."""
        return self.overrides.get(event_type, self.level)


class Settings(BaseSettings):
    """All settings.

    Attributes:
      namespace: First part of every key on the server; keeps installations apart.
      redis, event_bus, processor, workers, scheduler, checkpoints, retention, audit: See the
        classes of these sections.

    Raises:
      InvalidSettings: An argument is unknown or bad.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    namespace: Namespace = "streamatiq"
    redis: RedisSettings = RedisSettings()
    event_bus: EventBusSettings = EventBusSettings()
    processor: ProcessorSettings = ProcessorSettings()
    workers: WorkersSettings = WorkersSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()

    _reading: ClassVar[ContextVar[tuple[Layer, ...]]] = ContextVar("reading", default=())

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            layers = self._reading.get()
            layer = layers[0] if layers else Layer("Settings")
            raise InvalidSettings(explain(error, layer, leaves(type(self)))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Our own sources, because pydantic's forget where a value came from."""
        return (init_settings, *(_Source(settings_cls, layer) for layer in cls._reading.get()))

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Read all sources.

        Parameters:
          path: The settings file; without it the one that STREAMATIQ_CONFIG names, else
            config/event_engine.yaml in the working directory, if it exists.

        Raises:
          InvalidSettings: Keys or values are wrong; it names all of them, each with its place.
        """
        return cls.load_with_origins(path)[0]

    @classmethod
    def load_with_origins(
        cls, path: str | os.PathLike[str] | None = None
    ) -> tuple[Self, dict[str, str]]:
        """As `load`; also returns, by dotted key, where each value came from."""
        known = leaves(cls)
        environment = read_variables(os.environ, known)
        dotenv, named_in_dotenv = read_dotenv(Path(".env"), known)
        layers = [environment, dotenv]
        named = os.environ.get(CONFIG_VARIABLE, named_in_dotenv)
        if path is not None:
            layers.append(read_file(Path(path), known))
        elif named is not None:
            if not Path(named).is_file():
                environment.problems.append(f"{CONFIG_VARIABLE}: no such file: {named!r}")
            else:
                layers.append(read_file(Path(named), known))
        elif DEFAULT_FILE.exists():
            layers.append(read_file(DEFAULT_FILE, known))

        problems: list[str] = []
        for layer in reversed(layers):
            here = list(layer.problems)
            try:
                with cls._from(layer):
                    cls()
            except InvalidSettings as error:
                here += error.problems
            problems += sorted(here, key=by_line)
        if problems:
            raise InvalidSettings(problems)
        with cls._from(*layers):
            settings = cls()
        origins = {
            dotted(key): next((la.value_places[key] for la in layers if key in la.value_places), "")
            for key in known
        }
        return settings, {key: origin or "default" for key, origin in origins.items()}

    @classmethod
    def file_read(cls, path: str | os.PathLike[str] | None = None) -> Path | None:
        """The settings file that `load` reads with this `path`; None if it reads none."""
        if path is not None:
            return Path(path)
        named = os.environ.get(CONFIG_VARIABLE, read_dotenv(Path(".env"), leaves(cls))[1])
        if named is not None:
            return Path(named)
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None

    @classmethod
    @contextmanager
    def _from(cls, *layers: Layer) -> Iterator[None]:
        token = cls._reading.set(layers)
        try:
            yield
        finally:
            cls._reading.reset(token)


class _Source(PydanticBaseSettingsSource):
    """A layer in the form that pydantic-settings merges."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One section's values; the base class demands it, and `__call__` needs it not."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """All values."""
        return self._layer.values
