"""`charnn doctor` describes this machine for a bug report."""

from pathlib import Path

import pytest
import torch

from charnn import __version__, device
from charnn.cli.commands import doctor
from charnn.device import has_bfloat16_lstm
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


@pytest.mark.medium
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


def test_a_gpu_that_this_pytorch_cannot_use_is_noted_once(
    monkeypatch: pytest.MonkeyPatch, text_file: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", (tmp_path,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny = ("--steps", "1", "--hidden-size", "4", "--out", tmp_path / "run")
    result = command("train", text_file, *tiny)
    assert result.stderr.count("note: this machine has an NVIDIA GPU, but") == 1
