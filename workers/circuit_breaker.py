"""Circuit breakers: a handler that keeps failing is not run for a while. See docs/guards.md.

The state is on the server and in each process's `Guards`; here stands which runs count, and what is
reported of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dramatiq import Actor, Broker
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware, MiddlewareError, SkipMessage
from dramatiq.middleware.threading import Interrupt
from dramatiq.middleware.time_limit import TimeLimitExceeded

from ..broker import Batch, Delivery, RedisStreamsBroker
from ..broker.guard_subjects import MAX_BREAKER_NAME, subject_of
from ..broker.guards import Guards
from ..broker.turning_away import TurnedAway
from ..errors import BatchFailed, BrokerError, HandlerDefinitionError

__all__ = ["Breaker", "CircuitBreaker", "check_breaker"]

#: Longest text of an error in a reason, characters.
MAX_REASON = 200

Kinds = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a breaker opens, and for how long.

    Parameters:
      failure_threshold: Failures in a row, over all processes, that open it; default: the settings'
        `event_bus.circuit_breaker.failure_threshold`.
      reset_time_s: Seconds until an open one lets one run through as a probe; default: the
        settings' `event_bus.circuit_breaker.reset_time`.
      counts: Errors that count as failures. A time limit that is exceeded always counts.
      ignores: Errors that do not, though `counts` names them.

    Raises:
      ValueError: A number is not above 0.
      TypeError: `counts` or `ignores` is no tuple of classes of errors.
    """

    failure_threshold: int | None = None
    reset_time_s: float | None = None
    counts: Kinds = (Exception,)
    ignores: Kinds = ()

    def __post_init__(self) -> None:
        if self.failure_threshold is not None and not self.failure_threshold >= 1:
            raise ValueError(f"failure_threshold is {self.failure_threshold!r}; use 1 or more.")
        if self.reset_time_s is not None and not 0 < self.reset_time_s < float("inf"):
            raise ValueError(f"reset_time_s is {self.reset_time_s!r}; use seconds > 0.")
        for name, kinds in (("counts", self.counts), ("ignores", self.ignores)):
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise TypeError(f"{name} is {kinds!r:.80}; use a tuple of classes of errors.")

    def counts_as_failure(self, error: BaseException, throws: Kinds = ()) -> bool:
        """Whether `error` counts.

        Parameters:
          throws: What the actor is expected to raise. It does not count, unless `counts` names it
            or a class below it.
        """
        if isinstance(error, self.ignores):
            return False
        if isinstance(error, TimeLimitExceeded):
            return True
        # Words of the worker to the broker, not failures, but for who counts them by name.
        quiet: Kinds = (*throws, Retry, RateLimitExceeded, SkipMessage, TurnedAway, Interrupt)
        if isinstance(error, quiet):
            named = tuple(kind for kind in self.counts if issubclass(kind, quiet))
            return isinstance(error, named)
        return isinstance(error, self.counts)


class CircuitBreaker(Middleware):
    """Runs no handler whose breaker is open, and reports failures.

    `@on(..., breaker=True)` adds it by itself; plain actors need
    `broker.add_middleware(CircuitBreaker())` before they are declared. Options of both:

    - `breaker`: True, or a `Breaker`. The breaker has the name of the subscription or actor.
    - `breaker_key`: A name that handlers share (`"venue:binance"`), or a function of the event (of
      the message's arguments) that returns one: a breaker each; an empty one: no breaker.

    A success costs nothing while no failure is known in its process, a failure one round trip. What
    cannot be reported, because the server is away, is not counted.
    """

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))
        #: Deliveries that run as probes, and of which breakers. Adding and removing are atomic.
        self._probes: dict[Delivery, tuple[str, ...]] = {}
        self._said_full = False

    @property
    def actor_options(self) -> set[str]:
        """Options of actors."""
        return {"breaker", "breaker_key"}

    # -- hooks ---------------------------------------------------------------------------------

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        """Refuses options that make no sense."""
        try:
            check_breaker(actor.actor_name, actor.options)
        except HandlerDefinitionError as error:
            raise _WrongBreaker(str(error)) from None

    def before_delivery(self, broker: Broker, delivery: Delivery) -> None:
        """Turns the delivery away while a breaker of it is open. A hook of our broker."""
        guards = _guards(broker)
        if guards is None or guards.quiet or not _has_breaker(broker, delivery):
            return
        assert isinstance(broker, RedisStreamsBroker)
        probes = guards.enter(
            subject_of(broker, delivery), _run(delivery), lambda: not delivery.settled
        )
        if probes:
            self._probes[delivery] = probes

    def after_process_message(
        self,
        broker: Broker,
        message: Any,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Reports how the run ended."""
        guards = _guards(broker)
        if not isinstance(message, Delivery) or guards is None:
            return
        runs = message.chosen if isinstance(message, Batch) else [message]
        probes = {run: self._probes.pop(run, ()) for run in runs}
        if (exception is None and guards.quiet) or not _has_breaker(broker, message):
            return
        assert isinstance(broker, RedisStreamsBroker)
        options = broker.actors[message.actor_name].options
        breaker = _breaker(options)
        throws = _kinds(message.options.get("throws") or options.get("throws") or ())
        # Of a batch each breaker hears once: of a failure, if there is one.
        outcomes: dict[str, tuple[Delivery, BaseException | None]] = {}
        for run in runs:
            error = exception
            if isinstance(exception, BatchFailed) and run is not message:
                error = run._exception
            failed = error is not None and breaker.counts_as_failure(error, throws)
            # A message that failed without an error was not run: it was too old, for example.
            passed = error is None and not message.failed
            if not (failed or passed):
                guards.release(probes[run], _run(run))
                continue
            for name in self._names(broker, run):
                if failed or name not in outcomes:
                    outcomes[name] = (run, error if failed else None)
        for name, (run, error) in outcomes.items():
            try:
                if error is not None:
                    self._failed(broker, guards, name, run, breaker, error)
                elif guards.is_failing(name):
                    guards.passed(name, _run(run))
            except BrokerError as wrong:
                self.logger.warning("How %r ended is not counted by its breaker: %s", run, wrong)

    def _names(self, broker: RedisStreamsBroker, run: Delivery) -> tuple[str, ...]:
        try:
            return subject_of(broker, run).breakers
        except Exception:
            self.logger.exception("How %r ended is not counted by its breaker.", run)
            return ()

    def after_skip_message(self, broker: Broker, message: Any) -> None:
        """Gives up the place of the probe: there was no outcome."""
        guards = _guards(broker)
        if isinstance(message, Delivery) and guards is not None:
            for run in message.chosen if isinstance(message, Batch) else [message]:
                guards.release(self._probes.pop(run, ()), _run(run))

    #: Another middleware has turned it away after us.
    after_turned_away = after_skip_message

    # -- parts ---------------------------------------------------------------------------------

    def _failed(
        self,
        broker: RedisStreamsBroker,
        guards: Guards,
        name: str,
        delivery: Delivery,
        breaker: Breaker,
        error: BaseException,
    ) -> None:
        defaults = broker.settings.event_bus.circuit_breaker
        threshold = breaker.failure_threshold or defaults.failure_threshold
        reset_s = breaker.reset_time_s or defaults.reset_time
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        report = guards.failed(
            name,
            _run(delivery),
            threshold=threshold,
            reset_ms=int(reset_s * 1000),
            why=f"{what[:MAX_REASON]} (in {delivery.actor_name})",
        )
        if report.to == "full" and not self._said_full:
            self._said_full = True
            self.logger.error(
                "Breaker %r is one too many: failures of it are not counted, it cannot open. Has "
                "breaker_key of %r too many values?",
                name,
                delivery.actor_name,
            )


class _WrongBreaker(HandlerDefinitionError, MiddlewareError):
    """Dramatiq lets errors of this kind through from its hooks."""


def check_breaker(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options of a handler or actor that make no sense.

    Raises:
      HandlerDefinitionError: They do not.
    """
    breaker, key = options.get("breaker"), options.get("breaker_key")
    if not (breaker is None or isinstance(breaker, bool | Breaker)):
        raise HandlerDefinitionError(
            f"Handler {name!r}: breaker is {breaker!r:.80}; use True or a Breaker(...)."
        )
    if isinstance(key, str):
        if not 0 < len(key) <= MAX_BREAKER_NAME:
            raise HandlerDefinitionError(
                f"Handler {name!r}: breaker_key has {len(key)} characters; use 1 to "
                f"{MAX_BREAKER_NAME}."
            )
    elif key is not None and not callable(key):
        raise HandlerDefinitionError(
            f"Handler {name!r}: breaker_key is {key!r:.80}; use a str, or a function of the event "
            "that returns one."
        )
    if key is not None and breaker is False:
        raise HandlerDefinitionError(
            f"Handler {name!r}: breaker=False and a breaker_key contradict each other."
        )


def _guards(broker: Broker) -> Guards | None:
    return broker.guards if isinstance(broker, RedisStreamsBroker) else None


def _has_breaker(broker: Broker, delivery: Delivery) -> bool:
    actor = broker.actors.get(delivery.actor_name)
    return actor is not None and bool(
        actor.options.get("breaker") or actor.options.get("breaker_key")
    )


def _breaker(options: Mapping[str, Any]) -> Breaker:
    breaker = options.get("breaker")
    return breaker if isinstance(breaker, Breaker) else Breaker()


def _kinds(throws: Any) -> Kinds:
    return throws if isinstance(throws, tuple) else (throws,)


def _run(delivery: Delivery) -> str:
    """Names this run of the handler, over all processes."""
    where = f"{delivery.consumer} {delivery.source.keys.entries} {delivery.entry_id.decode()}"
    return f"{where} {delivery.started_ns}"
