"""The load generator keeps to its schedule, whatever the system under it does."""

import pytest
from benchmarks.load import due_times_ns, percentile, send_paced
from benchmarks.ticks import TICK_BYTES, encode, make_tick, number_of


class Clock:
    """A clock that moves only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000

    def read(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        # Late by 50 us, as real sleeps are.
        self.now_ns += round(seconds * 1e9) + 50_000


def test_due_times_have_the_rate_and_are_the_same_for_every_system() -> None:
    due = list(due_times_ns(2_000, rate_per_s=1_000))

    assert due == sorted(due)
    assert due == list(due_times_ns(2_000, rate_per_s=1_000))
    # One in each interval of a millisecond, so neither bunched nor drifting.
    assert [moment // 1_000_000 for moment in due] == list(range(2_000))
    # And not on a grid that a polling consumer could fall into step with.
    assert len({moment % 1_000_000 // 100_000 for moment in due}) == 10


def test_a_slow_send_delays_no_due_time_and_leaves_out_no_message() -> None:
    clock = Clock()
    notes: list[tuple[int, int, int]] = []

    def send(k: int) -> None:
        clock.now_ns += 10_000_000 if k == 2 else 100_000  # the third one takes 10 ms

    send_paced(
        iter(range(0, 20_000_000, 1_000_000)),
        send,
        lambda k, scheduled, sent: notes.append((k, scheduled, sent)),
        start_ns=clock.now_ns,
        now_ns=clock.read,
        sleep_s=clock.sleep,
    )

    assert [k for k, _, _ in notes] == list(range(20))
    assert [scheduled - 1_000_000 for _, scheduled, _ in notes] == list(range(0, 20_000_000, 10**6))
    late_ms = [(sent - scheduled) / 1e6 for _, scheduled, sent in notes]
    assert max(late_ms[:3]) < 0.1
    assert late_ms[3] > 8  # a closed loop would show no delay here
    assert late_ms[3:13] == sorted(late_ms[3:13], reverse=True)  # it catches up without a pause
    assert late_ms[-1] < 0.1


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == expected


def test_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize("number", [0, 1, 199_999])
def test_every_tick_has_the_same_length(number: int) -> None:
    tick = make_tick(number)

    assert len(encode(tick)) == TICK_BYTES
    assert number_of(tick) == number
