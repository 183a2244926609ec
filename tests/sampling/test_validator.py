"""A validator answers for each record, or the error is one line and earlier answers are kept."""

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charnn.errors import CharnnError, SettingError
from charnn.sampling import validator as validator_module
from charnn.sampling.record_filter import RecordFilter
from charnn.sampling.validator import CommandValidator, valid_answers
from tests.sampling.test_record_filter import kept, samples


def command(folder: Path, code: str) -> str:
    (folder / "script.py").write_text(code)
    return f"{sys.executable} {folder / 'script.py'}"


def test_a_command_validates_records_on_its_stdin(tmp_path: Path) -> None:
    even = "import sys\nfor line in sys.stdin: print(len(line.strip()) % 2 ^ 1)\n"
    wanted = RecordFilter(9, validator=command(tmp_path, even))
    assert kept(wanted, "ab", "b", "äbca", "aba") == ["ab", "äbca"]


ENDLESS = "import sys\nwhile True: sys.{}.write('1' * 65536)"
SLEEP = "import time; time.sleep(9)"
CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise SystemExit(4)",
            "failed with exit code 4: no message on stderr; the record was 'a'",
        ),
        ("import sys; sys.exit('what is this?')", "failed with exit code 1: what is this?"),
        ("print(1)", "printed 1 answer for 2 records; it must print 1 or 0 for each"),
        ("print('yes no')", "printed 2 answers for 2 records; it must print 1 or 0 for each"),
        (SLEEP, "took more than 0.5 s for 2 records"),
        (ENDLESS.format("stdout"), "printed too much for 2 records"),
        (ENDLESS.format("stderr"), "took more than 0.5 s for 2 records"),
        (CHILD, "took more than 0.5 s for 2 records"),
    ],
)
def test_a_command_that_fails_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    if "took" in message:
        monkeypatch.setattr(validator_module, "VALIDATOR_SECONDS", 0.5)
    with pytest.raises(CharnnError, match=f"the `validator` '.*script.py' {re.escape(message)}"):
        kept(RecordFilter(9, validator=command(tmp_path, code)), "a", "b")


@pytest.mark.parametrize("text", ["no such command", "'", "/"])
def test_a_command_that_cannot_be_run_is_reported(text: str) -> None:
    with pytest.raises(CharnnError, match=f"{re.escape(text)}.* cannot be run: "):
        kept(RecordFilter(9, validator=text), "a")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_command_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="validator"):
        CommandValidator(text)


@pytest.mark.parametrize(
    "answers", [[True, False], (True, False), np.array([True, False]), iter([1, 0])]
)
def test_any_iterable_of_bools_answers(answers: Any) -> None:
    assert list(valid_answers(lambda _: answers, ["a", "b"])) == [True, False]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _: [True], "gave 1 answer for 2 records"),
        (lambda _: itertools.repeat(True), "gave more answers for 2 records"),
        (lambda _: None, "returned NoneType"),
        (lambda _: True, "returned bool"),
        (lambda _: "10", "gave an answer of type str"),
        (lambda _: [None, True], "gave an answer of type NoneType"),
        (lambda _: [2, 1], "gave an answer of type int"),
        (lambda some: (1 // 0 for _ in some), "raised ZeroDivisionError: .*; the record was 'a'"),
    ],
)
def test_a_function_that_does_not_answer_is_reported_in_one_line(
    function: Callable[[list[str]], Any], message: str
) -> None:
    with pytest.raises(CharnnError, match=f"^the `validator` {message}") as caught:
        list(valid_answers(function, ["a", "b"]))
    assert "\n" not in str(caught.value)


def test_a_validator_that_fails_on_one_record_loses_none_of_those_before() -> None:
    def all_but_c(records: list[str]) -> list[bool]:
        if "c" in records:
            raise ValueError("not a record\nat all" * 100)
        return [record == "a" for record in records]

    wanted = RecordFilter(9, validator=all_but_c)
    found: list[str] = []
    with pytest.raises(CharnnError, match="raised ValueError: not a record; the record was 'c'"):
        found.extend(sample.text for sample in wanted.apply(samples("a", "b", "a", "c", "a")))
    assert wanted.counts.kept == 2
    assert wanted.counts.generated == 3
