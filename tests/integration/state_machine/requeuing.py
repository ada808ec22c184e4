"""Rules: somebody lets dead letters run again."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import rule
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.owned_process import OwnedProcess
from tests.integration.state_machine.running import Running

from streamatiq.broker.dead_letter_admin import DeadLetters
from streamatiq.broker.dead_letter_filter import DeadLetterFilter
from streamatiq.broker.members import reads_of
from streamatiq.errors import BrokerConnectionError

__all__ = ["Requeuing"]

groups = st.sampled_from(("orders", "bars", "notes", "quotes"))


class Requeuing(Running):
    """See the module."""

    @rule(group=groups, who=any_of, cut=st.sampled_from((0, 0, 1, 2)))
    def requeue(self, group: str, who: int, cut: int) -> None:
        """All letters of a subscription; those of several processes at a time go back once."""
        process = self.process(who)
        assert isinstance(process, OwnedProcess)
        letters = DeadLetters(
            process.pool, self.example.keys, lambda name: reads_of(self.sources(name))
        )
        for source in self.sources(group):
            at = (source.keys.entries, group)
            for entry_id, _ in self.model.dead[source.keys.dead]:
                self.order.late.add((at, entry_id))
        try:
            with self.example.cutting(cut):
                letters.requeue(group, DeadLetterFilter(), by="me")
        except BrokerConnectionError:
            return
