"""docs/formats.md lists exactly the fields that charnn writes."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors

from tests.conftest import TINY, charnn, exploding
from tests.documented import blocks, document

FORMATS = document("docs/formats.md")
TINY_RUN = ("--steps", "4", *TINY, "--quiet")


def section(heading: str) -> str:
    """Return the text below a heading of the document, up to the next heading."""
    (text,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", FORMATS, re.M | re.S)
    return text


def listed(heading: str) -> set[str]:
    """Return the names in the first column of the tables below a heading."""
    names = re.findall(r"^\| `([^`]+)` \|", section(heading), re.M)
    assert names, heading
    assert len(names) == len(set(names)), heading
    return set(names)


def metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object in a checkpoint's metadata."""
    with safetensors.safe_open(path, framework="numpy") as file:
        (value,) = file.metadata().values()
        assert file.metadata().keys() == {"charnn"}
    return json.loads(value)


def tensors(path: Path) -> set[str]:
    """Return the names of a checkpoint's tensors, generalized as the document writes them."""
    with safetensors.safe_open(path, framework="numpy") as file:
        names = set(file.keys())
    parameters = [name.removeprefix("model.") for name in names if name.startswith("model.")]
    for parameter in parameters:
        names = {name.replace(f"optimizer.{parameter}.", "optimizer.PARAMETER.") for name in names}
    return {re.sub(r"\.\d+\.", ".N.", name) for name in names}


def rows(*command: str | Path) -> list[dict[str, Any]]:
    """Return the JSON objects that a command prints, one per line."""
    result = charnn(*command, "--quiet")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def byte_run(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run of a byte model."""
    folder = tmp_path_factory.mktemp("runs") / "bytes"
    assert charnn("train", text_file, *TINY_RUN, "--tokenizer", "byte", "--out", folder).stdout
    return folder


@pytest.fixture(scope="module")
def record_run(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run of a record model."""
    folder = tmp_path_factory.mktemp("runs") / "records"
    assert charnn("train", text_file, *TINY_RUN, "--lines", "--out", folder).stdout
    return folder


def test_a_run_folder_holds_the_listed_files(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} == listed("The run folder")


def test_the_metadata_of_a_checkpoint_has_the_listed_fields(run_folder: Path) -> None:
    about = metadata(run_folder / "last.safetensors")
    assert about.keys() == listed("Metadata")
    for name in ("model", "text", "train", "corpus", "figures", "progress"):
        assert about[name].keys() == listed(f"Metadata: `{name}`"), name
    assert about["run"].keys() == listed("Metadata: `run`")
    for name in ("validation", "validations", "machine"):
        heading = f"Metadata: `run`, `{name}`" if name != "validation" else "`validation`"
        assert about["run"][name].keys() == listed(heading), name
    assert about["tokenizer"].keys() == listed("Metadata: `tokenizer`, characters")
    best = metadata(run_folder / "best.safetensors")
    assert best["progress"] is None
    assert "run" not in best


def test_the_example_reads_a_checkpoint(run_folder: Path) -> None:
    ((kind, example),) = blocks(FORMATS)
    there = example.replace("checkpoints/corpus", str(run_folder))
    assert (kind, there) != ("python", example)
    names: dict[str, Any] = {}
    exec(compile(there, "docs/formats.md", "exec"), names)
    assert names["embedding"].shape[0] == names["about"]["model"]["vocabulary_size"]


def test_the_tokenizer_of_bytes_has_the_listed_fields(byte_run: Path) -> None:
    about = metadata(byte_run / "last.safetensors")
    assert about["tokenizer"].keys() == listed("Metadata: `tokenizer`, bytes")


def test_a_checkpoint_holds_the_listed_tensors(run_folder: Path, record_run: Path) -> None:
    model, resume = listed("Tensors of the model"), listed("Tensors needed to resume")
    assert tensors(run_folder / "best.safetensors") == model
    assert tensors(run_folder / "last.safetensors") == model | resume
    records = listed("Tensors of a record model")
    assert tensors(record_run / "best.safetensors") == model | records


def test_each_line_of_the_metrics_has_the_listed_fields(tmp_path: Path, text_file: Path) -> None:
    def once(state: Any, _: float) -> bool:
        return state.step == 2 and state.rollbacks == 0

    folder = tmp_path / "run"
    with exploding(once, math.nan):
        assert charnn("train", text_file, *TINY_RUN, "--out", folder).exit_code == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kinds = ("A step", "A validation", "A rollback")
    assert {frozenset(line) for line in lines} == {frozenset(listed(kind)) for kind in kinds}


def test_run_json_has_the_listed_fields(run_folder: Path) -> None:
    about = json.loads((run_folder / "run.json").read_text())
    assert about.keys() == listed("Top level")
    for name in ("validation", "versions", "machine"):
        assert about[name].keys() == listed(f"`{name}`"), name


def test_a_line_of_sample_has_the_listed_fields(run_folder: Path) -> None:
    sample = ("sample", run_folder, "--format", "jsonl", "--length", "3", "--seed", "1")
    plain, with_logprobs = listed("charnn sample --format jsonl"), listed("With `--logprobs K`")
    assert rows(*sample)[0].keys() == plain
    (row,) = rows(*sample, "--logprobs", "2")
    assert row.keys() == plain | with_logprobs
    assert row["logprobs"][0].keys() == listed("Each object of `logprobs`")


def test_eval_prints_the_listed_fields(run_folder: Path, byte_run: Path) -> None:
    plain = listed("charnn eval --json")
    assert rows("eval", run_folder, "--json")[0].keys() == plain
    more = listed("Of a byte model also") | listed("With `--int8` also")
    assert rows("eval", byte_run, "--json", "--int8")[0].keys() == plain | more


def test_runs_prints_the_listed_fields(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(charnn("runs", "--json").stdout) == []
    shutil.copytree(run_folder, "checkpoints/whole")
    Path("checkpoints/damaged").mkdir()
    Path("checkpoints/damaged/best.safetensors").write_text("{}")
    damaged, whole = json.loads(charnn("runs", "--json").stdout)
    assert damaged.keys() == whole.keys() == listed("charnn runs --json")
    assert (whole["run"], whole["step"], whole["problem"]) == ("checkpoints/whole", 4, None)
    assert damaged["problem"]
    assert damaged["cell"] is None


def test_info_prints_the_listed_fields(run_folder: Path) -> None:
    (about,) = rows("info", run_folder, "--json")
    assert about.keys() == listed("charnn info --json")
