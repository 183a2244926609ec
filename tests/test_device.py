"""A device name is checked before anything is built on the device."""

from pathlib import Path

import pytest
import torch

from charnn import device
from charnn.device import pick_device, thread_count, unused_gpu
from charnn.errors import SettingError


@pytest.mark.parametrize(
    ("version", "driver", "reason"),
    [
        (None, False, "built without CUDA"),
        ("12.8", False, "no NVIDIA driver is loaded"),
        ("12.8", True, "the NVIDIA driver reports no GPU"),
    ],
)
def test_the_reason_why_cuda_is_missing_is_given(
    version: str | None,
    driver: bool,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", (tmp_path if driver else tmp_path / "none",))
    with pytest.raises(SettingError, match=f'{reason}.*`device="cpu"`'):
        pick_device("cuda")
    assert (reason in unused_gpu()) == driver


def test_auto_is_cuda_where_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert pick_device("auto").type == kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu'; use auto, cpu, cuda, mps"),
        ("meta", "does not support 'meta'"),
        ("cuda:1", "has 1 CUDA device, numbered from cuda:0"),
        ("mps", "no Apple GPU"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingError, match=message):
        pick_device(name)
    assert pick_device("cuda:0").type == "cuda"


def test_a_number_of_threads_holds_within_the_block_only() -> None:
    before = torch.get_num_threads()
    with thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
        with thread_count(0):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
