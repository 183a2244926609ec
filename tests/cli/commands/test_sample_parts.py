"""Texts in parts, exact texts, and threads."""

import itertools
import os
from pathlib import Path

import pytest

from tests.conftest import charnn

MANY = ("-n", "7", "--seed", "3", "--length", "20", "--temperature", "1.5")


@pytest.mark.parametrize("form", [(), ("--format", "jsonl"), ("--format", "bytes")])
@pytest.mark.parametrize("parts", [1, 3, 9])
def test_cat_joins_the_parts_of_samples(
    form: tuple[str, ...], parts: int, run_folder: Path
) -> None:
    command: tuple[str | Path, ...] = ("sample", run_folder, *MANY, *form)
    written = [charnn(*command, "--part", f"{k}/{parts}").stdout for k in range(1, parts + 1)]
    assert "".join(written) == charnn(*command, "--exact").stdout


def test_an_exact_text_is_that_of_its_seed_among_many(run_folder: Path) -> None:
    command = ("sample", run_folder, "--length", "20", "--exact", "--format", "jsonl")
    rows = charnn(*command, "-n", "5", "--seed", "3").stdout.splitlines()
    for index, row in enumerate(rows):
        seed = row.partition('"seed": ')[2].partition(",")[0]
        alone = charnn(*command, "--seed", seed).stdout.strip()
        assert alone == row.replace(f'"index": {index}', '"index": 0')


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ("--part 4/3 -n 4 --seed 1", "'4/3': not PART/PARTS"),
        ("--part 0/3 -n 4 --seed 1", "'0/3': not PART/PARTS"),
        ("--part 1/3 --seed 1", "--part needs -n N and --seed N"),
        ("--part 1/3 -n 4", "--part needs -n N and --seed N"),
        ("--part 1/3 -n 4 --seed 1 --best-of 4", "cannot be combined with --best-of"),
        ("--exact --fp16", "--exact and --part are not for --fp16"),
        ("--part 1/2 -n 4 --seed 1 --fp16", "--exact and --part are not for --fp16"),
        ("--threads 0", "0 must be at least 1"),
    ],
)
def test_what_does_not_fit_together_is_one_line(options: str, met: str, run_folder: Path) -> None:
    result = charnn("sample", run_folder, *options.split())
    assert result.exit_code == 2
    assert met in result.stderr
    assert result.stderr.count("\n") == 1


def test_more_threads_than_cores_are_noted(run_folder: Path) -> None:
    command = ("sample", run_folder, "--seed", "1", "--length", "20")
    usual, cores = charnn(*command), os.cpu_count() or 1
    for threads in (1, 2, cores + 1):
        result = charnn(*command, "--threads", str(threads))
        assert result.stdout == usual.stdout
        assert (f"--threads {threads}: this machine has" in result.stderr) == (threads > cores)


def test_every_text_is_in_one_part(run_folder: Path) -> None:
    command = ("sample", run_folder, "--length", "3", "--seed", "1", "--format", "jsonl")
    for count, parts in itertools.product((1, 5), (2, 4)):
        rows = [
            charnn(*command, "-n", str(count), "--part", f"{k}/{parts}").stdout.count("\n")
            for k in range(1, parts + 1)
        ]
        assert sum(rows) == count
        assert max(rows) - min(rows) <= 1
