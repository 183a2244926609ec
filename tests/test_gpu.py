"""On a CUDA device: the same program, and models that open on a CPU without a flag."""

from pathlib import Path

import pytest
import torch

from charnn import checkpoint
from charnn.config import ModelConfig
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.stepper import Stepper
from tests.conftest import TINY, charnn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_model_trained_on_cuda_opens_on_a_cpu(cell: str, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    where = ("--out", out, "--device", "cuda")
    assert charnn("train", text_file, "--steps", "3", "--cell", cell, *TINY, *where).exit_code == 0
    assert all(not w.is_cuda for w in checkpoint.load(out / "best.safetensors").weights.values())
    assert charnn("eval", out, "--device", "cpu").exit_code == 0
    assert charnn("sample", out, "--device", "cuda", "--length", "20").exit_code == 0


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_network_and_stepper_agree_across_devices(cell: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=9, cell=cell)
    network = CharNetwork(config).double()
    indices = torch.randint(7, (12, 3))
    with predicting(network):
        expected, _ = network(indices, network.zero_state(3))
        network.cuda()
        logits, _ = network(indices.cuda(), network.zero_state(3))
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-10, rtol=0)
    stepper, state = Stepper(network), network.zero_state(3)
    stepped = torch.stack([stepper.step(symbols, state) for symbols in indices.cuda()])
    torch.testing.assert_close(stepped.cpu(), expected, atol=1e-10, rtol=0)
