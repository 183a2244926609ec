"""`charnn doctor` describes this machine for a bug report."""

from pathlib import Path

import pytest
import torch

from charnn import __version__, device
from charnn.cli.commands import doctor
from charnn.device import has_bfloat16_lstm
from charnn.errors import SettingError
from tests.conftest import charnn as command


def test_versions_devices_and_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    result = command("doctor", "--no-speed", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    told = {line[:20].strip(): line[21:] for line in result.stdout.splitlines()}
    assert told["charnn"].startswith(__version__)
    assert told["torch"] == torch.__version__
    assert told["OMP_NUM_THREADS"] == "7"
    assert told["device"] == "cpu is used"
    assert "free" in told["memory"]


def test_a_missing_package_is_shown_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    result = command("doctor", "--no-speed")
    assert "not installed; pip install no-such-package" in result.stdout


def test_three_speeds_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 0.01)
    result = command("doctor", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    names = list(doctor.REFERENCE)
    if not has_bfloat16_lstm(torch.device("cpu")):
        names.remove("training in bf16")
    speeds = result.stdout.splitlines()[-len(names) :]
    assert [line[:20].strip() for line in speeds] == names
    assert all("characters/s" in line for line in speeds)


@pytest.mark.parametrize(
    ("version", "driver", "said"),
    [
        (None, False, "built without CUDA"),
        ("12.8", False, "no NVIDIA driver is loaded"),
        ("12.8", True, "the driver shows no card"),
    ],
)
def test_the_error_says_why_there_is_no_card(
    version: str | None,
    driver: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", (tmp_path if driver else tmp_path / "none",))
    with pytest.raises(SettingError, match=said):
        device.pick_device("cuda")
    assert (said in device.unused_gpu()) == driver


def test_a_card_that_this_pytorch_cannot_use_is_noted_once(
    monkeypatch: pytest.MonkeyPatch, text_file: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", (tmp_path,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny = ("--steps", "1", "--hidden-size", "4", "--out", tmp_path / "run")
    result = command("train", text_file, *tiny)
    assert result.stderr.count("note: this machine has an NVIDIA card, but") == 1


def test_processes_without_a_card_of_their_own_and_unequal_cards_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from charnn.training.distributed import local_device

    assert local_device("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingError, match="--nproc-per-node 1"):
        local_device("auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "twins")
    assert local_device("cuda") == "cuda:1"
    assert local_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    with pytest.raises(SettingError, match="of different kinds"):
        local_device("auto")
