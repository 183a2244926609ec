"""The memory that a run needs is estimated, compared with what is available, and explained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import SettingError
from charnn.model.network import CharNetwork
from charnn.training import memory
from charnn.training.memory import (
    available_memory,
    check_memory,
    estimate_memory,
    format_bytes,
    memory_explained,
    parameter_count,
)

MODEL = ModelConfig(65, hidden_size=512, num_layers=2, embedding_size=256)
TRAIN = TrainConfig(10, batch_size=64, seq_len=64, learning_rate=1e-3, seed=1)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_parameters_are_counted_as_the_network_counts_them(cell: str) -> None:
    model = ModelConfig(5, hidden_size=6, num_layers=3, embedding_size=4, cell=cell)
    assert parameter_count(model) == CharNetwork(model).parameter_count()


def test_memory_grows_with_each_size() -> None:
    needed = estimate_memory(MODEL, TRAIN)
    for name in ("hidden_size", "num_layers", "embedding_size", "vocabulary_size"):
        larger = replace(MODEL, **{name: 2 * getattr(MODEL, name)})
        assert estimate_memory(larger, TRAIN) > needed
    for name in ("batch_size", "seq_len"):
        larger_train = replace(TRAIN, **{name: 2 * getattr(TRAIN, name)})
        assert estimate_memory(MODEL, larger_train) > needed


def test_a_run_that_is_too_large_is_refused_with_sizes_that_need_less() -> None:
    check_memory(MODEL, TRAIN, available=1e9)
    with pytest.raises(SettingError) as caught:
        check_memory(MODEL, TRAIN, available=1e8)
    message = str(caught.value)
    assert message.startswith("2 x 512 lstm, 65 symbols, 64 lanes x 64 would need about ")
    assert "but only 100 MB is available; try `hidden_size=256` (" in message
    assert message.endswith("), or `force=True` to try anyway")


def test_an_allocation_that_fails_is_explained_and_other_errors_are_not() -> None:
    with (
        pytest.raises(SettingError, match=r"not enough memory for 2 x 512 lstm.*`hidden_size=256`"),
        memory_explained(MODEL, TRAIN),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
    with pytest.raises(RuntimeError, match="another"), memory_explained(MODEL, TRAIN):
        raise RuntimeError("another problem")


def test_this_machine_has_memory() -> None:
    assert available_memory(torch.device("cpu")) > 0


def test_the_limit_of_a_container_counts_cached_file_pages_as_available(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 7\n")
    assert memory._cgroup_available(*memory.CGROUPS[0], folder=tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    for files in memory.CGROUPS:
        assert memory._cgroup_available(*files, folder=tmp_path) == float("inf")


def test_bytes_are_printed_in_mb_and_gb() -> None:
    assert [format_bytes(size) for size in (2.6e6, 1e9, 1.234e12)] == [
        "3 MB",
        "1.0 GB",
        "1,234.0 GB",
    ]
