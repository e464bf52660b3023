"""What the processes of a job say arrives, and the noise of the engine never before the reason."""

from __future__ import annotations

import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.runtime.output import ProcessOutput, Sieve

LOG = b"2026-11-28 10:55:48,108 INFO process=0 recstream.runtime.runner flow=recommend\n"
PANICS = [
    [
        b"thread '<unnamed>' panicked at src/run.rs:128:17:\n",
        b"Box<dyn Any>\n",
        b"note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
        b"\n",
    ],
    [
        b"thread 'timely:work-0' (4711) panicked at src/recovery.rs:626:22:\n",
        b'called `Result::unwrap()` on an `Err` value: SqliteFailure(.., Some("disk is full"))\n',
    ],
    [b"worker 1:\terror connecting to worker 0: Connection refused (os error 111); retrying\n"],
]
REASONS = [b"error: Kafka at k:9092 has no topic ['events']\n", b"Traceback (most recent call last):\n"]
OTHERS = [LOG, b"a library warns\n", b"\n"]

noise = st.lists(st.sampled_from(PANICS), max_size=4).map(
    lambda found: [line for one in found for line in one]
)
own = st.lists(st.sampled_from([LOG, *REASONS]), max_size=4)


@given(st.lists(st.tuples(own, noise), max_size=4))
def test_no_noise_passes_and_all_that_is_ours_does_in_its_order(
    said: list[tuple[list[bytes], list[bytes]]],
) -> None:
    sieve = Sieve()
    passed = [line for ours, theirs in said for line in [*ours, *theirs] if sieve.passes(line)]
    assert passed == [line for ours, _ in said for line in ours]
    assert sieve.has_reason == any(line in REASONS for line in passed)


@given(st.lists(st.sampled_from(OTHERS)))
def test_without_a_panic_everything_passes(lines: list[bytes]) -> None:
    sieve = Sieve()
    assert [line for line in lines if sieve.passes(line)] == lines
    assert not sieve.withheld


def test_of_a_complaint_that_comes_every_second_one_is_kept() -> None:
    sieve = Sieve()
    for _ in range(100):
        assert not sieve.passes(PANICS[2][0])
    assert sieve.withheld == PANICS[2]


def shown(*scripts: str, well: bool = False) -> str:
    """What is passed on of shells that run these scripts one after the other."""
    out = io.BytesIO()
    output = ProcessOutput(out)
    for script in scripts:
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output.follow(process)
        process.wait()
    output.end(well=well)
    return out.getvalue().decode()


PANIC = "echo \"thread 'x' panicked at src/a.rs:1:\" >&2; echo why >&2"


@pytest.mark.parametrize(
    ("scripts", "well", "wanted"),
    [
        ((f"{PANIC}; echo error: no topic",), False, "error: no topic\n"),
        ((PANIC, "echo error: no topic"), False, "error: no topic\n"),
        ((f"echo one; {PANIC}",), False, "one\nthread 'x' panicked at src/a.rs:1:\nwhy\n"),
        ((f"echo one; {PANIC}",), True, "one\n"),
        (("printf 'no end of line'",), False, "no end of line"),
    ],
    ids=["reason", "reason of another process", "no reason", "well", "last line"],
)
def test_what_was_withheld_follows_only_where_nothing_else_says_why(
    scripts: tuple[str, ...], well: bool, wanted: str
) -> None:
    assert shown(*scripts, well=well) == wanted


def test_a_reader_that_is_gone_does_not_stop_the_job() -> None:
    class Gone(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    output = ProcessOutput(Gone())
    process = subprocess.Popen(["sh", "-c", "seq 100000"], stdout=subprocess.PIPE)
    output.follow(process)
    assert process.wait() == 0
    output.end(well=True)
