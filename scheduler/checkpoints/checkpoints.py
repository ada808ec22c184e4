"""Checkpoints of a namespace: what a program, the command line and the scheduler call."""

from __future__ import annotations

from ...broker import RedisStreamsBroker
from ...broker.connections import LinkPool
from ...broker.dead_letter_admin import operator_name
from ..exclusive import turn
from .diffing import Difference, diff
from .model import Checkpoint, CheckpointInfo
from .pruning import PrunePolicy, kept
from .restore_plan import Restored
from .restoring import Restorer
from .store import CheckpointStore, audit_record
from .taking import take
from .verifying import Verified, verify

__all__ = ["Checkpoints"]


class Checkpoints:
    """Takes, looks at, deletes and restores the checkpoints of a broker's namespace.

    None of the handlers' code is needed, and no worker that runs. Thread-safe. Taking, pruning and
    restoring exclude each other, and retention, over all processes: a call waits for the others.

    Parameters:
      broker: Any broker of the namespace.
      links: Connections to use; default: the broker's.
    """

    def __init__(self, broker: RedisStreamsBroker, *, links: LinkPool | None = None) -> None:
        self._settings = broker.settings
        self._keys = broker.keys
        self._links = links or broker.logs.links
        self._idle = broker.idle_consumer
        self._store = CheckpointStore(self._links, self._keys.checkpoints)

    def create(self, reason: str, *, by: str | None = None) -> CheckpointInfo:
        """Takes a checkpoint: where every subscription stands on every stream, the states of its
        handler, and what is needed to go on from there. See `taking` for what is one moment.

        Workers go on meanwhile; the server is busy with it for some milliseconds.

        Parameters:
          reason: Why; not empty.
          by: Who; default: user@host.

        Raises:
          ValueError: The reason is empty.
          CheckpointsBusy: Another process restores or trims, and was not done in time.
          BrokerError: The server cannot be reached or refuses.
        """
        if not reason.strip():
            raise ValueError("A reason is required: whoever finds the checkpoint must know why.")
        with turn(self._links, self._keys.checkpoints, "taking a checkpoint") as mine:
            ids = self._store.ids()
            taken = take(
                self._links,
                self._keys,
                self._settings,
                reason=reason.strip(),
                by=by or operator_name(),
                parent=ids[-1] if ids else None,
            )
            mine.renew()  # else what it needs may have been trimmed meanwhile
            return self._store.add(taken)

    def list(self) -> tuple[CheckpointInfo, ...]:
        """All checkpoints, oldest first.

        Raises:
          BrokerError: The server cannot be reached or refuses.
        """
        return tuple(self._store.infos())

    def show(self, checkpoint_id: str = "latest") -> Checkpoint:
        """One checkpoint. `latest` means the newest, here and in all that follows.

        Raises:
          CheckpointNotFound: It is not there.
          CheckpointDamaged: It is not what was stored.
          BrokerError: The server cannot be reached or refuses.
        """
        return self._store.get(checkpoint_id)

    def diff(self, first: str, second: str = "latest") -> tuple[Difference, ...]:
        """What differs between two checkpoints. Raises as `show`."""
        return tuple(diff(self._store.get(first), self._store.get(second)))

    def verify(self, checkpoint_id: str = "latest") -> Verified:
        """Whether a checkpoint is what was stored, and the logs still hold all it needs.

        Raises:
          CheckpointNotFound: It is not there.
          BrokerError: The server cannot be reached or refuses.
        """
        return verify(self._links, self._keys, self._store, checkpoint_id)

    def prune(
        self, policy: PrunePolicy | None = None, *, dry_run: bool = False, by: str | None = None
    ) -> tuple[str, ...]:
        """Deletes the checkpoints that a policy does not keep; returns their ids.

        The newest one that can be restored stays, whatever the policy says; where none can be,
        nothing is deleted. Audited.

        Parameters:
          policy: Default: the settings' section `checkpoints`.
          dry_run: Delete nothing.

        Raises:
          CheckpointsBusy: As `create`.
          BrokerError: The server cannot be reached or refuses.
        """
        with turn(self._links, self._keys.checkpoints, "pruning checkpoints"):
            infos = self._store.infos()
            stay = kept(policy or self._policy(), infos)
            good = next((one.id for one in reversed(infos) if self._is_good(one.id)), None)
            going = [one.id for one in infos if one.id not in stay and one.id != good]
            if good is None or not going:
                return ()
            if not dry_run:
                self._store.prune(good, going, by or operator_name())
            return tuple(going)

    def restore(
        self,
        checkpoint_id: str = "latest",
        subscription: str | None = None,
        *,
        as_name: str | None = None,
        dry_run: bool = False,
        free_keys: bool = False,
        by: str | None = None,
    ) -> tuple[Restored, ...]:
        """Puts one subscription, or all of the checkpoint's, back to where it stood. See
        `restoring` for what becomes of done marks, retries, dead letters and business keys.

        No worker of it may run: that is looked at, and nothing is changed if one does. Harmless to
        repeat. Audited.

        Parameters:
          subscription: Default: all.
          as_name: Leave the subscription alone, and make a new one of this name there.
          dry_run: Only tell what would run, and what to know before.
          free_keys: Let handlers run again for business keys that are done.
          by: Who; default: user@host.

        Raises:
          CheckpointNotFound: It is not there.
          CheckpointDamaged: It is not what was stored.
          CheckpointUnusable: A log does not hold any more what it needs.
          RestoreRefused: Workers run, or it holds no such subscription, or the new name is taken.
          CheckpointsBusy: As `create`.
          BrokerError: The server cannot be reached or refuses.
        """
        who = by or operator_name()
        restorer = Restorer(
            self._links,
            self._keys,
            self._store.get(checkpoint_id),
            window_s=self._settings.event_bus.idempotency_window,
            idle=self._idle,
        )
        if dry_run:
            return tuple(restorer.plan(subscription, as_name))
        with turn(self._links, self._keys.checkpoints, "restoring a checkpoint") as mine:
            done = []
            for planned in restorer.plan(subscription, as_name):
                done.append(restorer.do(planned, mine, by=who, free_keys=free_keys))
                self._store.note(
                    audit_record(
                        "restore",
                        who,
                        checkpoint=planned.checkpoint,
                        subscription=planned.subscription,
                        name=planned.name,
                        again=planned.again,
                        free_keys=free_keys,
                    )
                )
            return tuple(done)

    def _is_good(self, checkpoint_id: str) -> bool:
        return verify(self._links, self._keys, self._store, checkpoint_id).is_good

    def _policy(self) -> PrunePolicy:
        wanted = self._settings.checkpoints
        return PrunePolicy(wanted.keep_last, wanted.keep_hourly, wanted.keep_daily)
