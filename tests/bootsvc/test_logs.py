"""Lines of one turn of the loop are written together, and none is lost."""

import asyncio
import io
import logging
import re
import time
from collections.abc import Iterator

import pytest

from bootsvc.logs import MAX_WAITING, BatchedHandler


class Output(io.StringIO):
    """Counts the writes."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def log(output: Output) -> Iterator[logging.Logger]:
    logger = logging.Logger("batched", logging.INFO)
    handler = BatchedHandler(output)
    logger.addHandler(handler)
    yield logger
    handler.close()


async def test_one_write_for_a_turn(log: logging.Logger, output: Output) -> None:
    for number in range(10):
        log.info("line %d", number)
    assert output.getvalue() == ""
    await asyncio.sleep(0)
    assert re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO line \d\n){10}", output.getvalue())
    assert output.writes == 1
    log.info("again")
    await asyncio.sleep(0)
    assert output.getvalue().endswith("again\n")


async def test_a_warning_is_written_at_once_after_what_waited(log: logging.Logger, output: Output) -> None:
    log.info("first")
    log.warning("second")
    assert [line.split()[-1] for line in output.getvalue().splitlines()] == ["first", "second"]


async def test_lines_after_a_clock_was_set_have_the_new_time(
    log: logging.Logger, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for year, now in ((2001, 1_000_000_000.0), (1998, 900_000_000.0), (2004, 1_100_000_000.0)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        log.info("in %d", year)
    log.warning("at once")
    assert [line[:4] + line[-7:] for line in output.getvalue().splitlines()[:3]] == [
        f"{year}in {year}" for year in (2001, 1998, 2004)
    ]


async def test_what_waits_is_bounded(log: logging.Logger, output: Output) -> None:
    for number in range(2 * MAX_WAITING):
        log.info("line %d", number)
    assert output.getvalue().count("\n") == 2 * MAX_WAITING


def test_without_a_loop_each_line_is_written(log: logging.Logger, output: Output) -> None:
    log.info("line")
    assert output.getvalue().endswith("INFO line\n")


async def test_an_output_that_is_gone_stops_nothing(log: logging.Logger, output: Output) -> None:
    output.close()
    log.warning("line")
    log.info("line")
    await asyncio.sleep(0)


def test_the_journal_is_told_how_grave_each_line_is() -> None:
    output = Output()
    handler = BatchedHandler(output, journal=True)
    logger = logging.Logger("journal", logging.INFO)
    logger.addHandler(handler)
    logger.info("ready")
    logger.warning("one\ntwo")
    logger.error("three")
    handler.close()
    assert output.getvalue() == "<6>INFO ready\n<4>WARNING one\n<4>two\n<3>ERROR three\n"
