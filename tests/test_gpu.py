"""CUDA trains and samples as a CPU does, and its checkpoints open on a CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charnn import api
from charnn.config import ModelConfig, SampleConfig, TrainConfig
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.engines import many_engine
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.text.batches import Batches
from charnn.text.tokenizer import CharTokenizer
from charnn.training.loop import train_steps
from charnn.training.reports import StepReport
from charnn.training.state import TrainState
from tests.conftest import TINY, charnn, stopped_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_model_trained_on_cuda_opens_on_a_cpu(cell: str, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    where = ("--out", out, "--device", "cuda")
    assert charnn("train", text_file, "--steps", "3", "--cell", cell, *TINY, *where).exit_code == 0
    assert charnn("eval", out, "--device", "cpu").exit_code == 0
    assert charnn("sample", out, "--device", "cuda", "--length", "20").exit_code == 0


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_resumed_deterministic_run_has_the_bytes_of_an_uninterrupted_one(
    cell: str, text_file: Path, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {
        "cell": cell, "hidden_size": 128, "num_layers": 2, "batch_size": 8, "seq_len": 16,
        "dropout": 0.2, "seed": 1, "steps": 6, "device": "cuda", "deterministic": True,
    }  # fmt: skip
    api.train(text_file, out=tmp_path / "straight", **sizes)
    stopped_run(tmp_path / "stopped", text_file, 3, **sizes)
    api.resume(tmp_path / "stopped", device="cuda")
    for file in ("best.safetensors", "last.safetensors"):
        expected = (tmp_path / "straight" / file).read_bytes()
        assert (tmp_path / "stopped" / file).read_bytes() == expected


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_graphed_steps_equal_eager_steps(cell: str, precision: str, optimizer: str) -> None:
    model = ModelConfig(7, 128, 2, 128, cell, dropout=0.2)
    train = TrainConfig(45, 8, 16, 0.003, 1, optimizer=optimizer, precision=precision)
    text = np.random.default_rng(0).integers(7, size=2000, dtype=np.uint8)
    losses = []
    for graphed in (True, False):
        state = TrainState.start(model, train, 8, torch.device("cuda"))
        steps = train_steps(state, Batches(text, 8, 16, 1), train, 30, use_cuda_graph=graphed)
        reports = list(steps)
        assert all(isinstance(report, StepReport) for report in reports), reports
        losses.append([report.loss for report in reports if isinstance(report, StepReport)])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_network_and_step_engine_agree_across_devices(cell: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=9, cell=cell)
    network = CharNetwork(config).double()
    indices = torch.randint(7, (12, 3))
    with predicting(network):
        expected, _ = network(indices, network.zero_state(3))
        network.cuda()
        logits, _ = network(indices.cuda(), network.zero_state(3))
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-10, rtol=0)
    engine = many_engine(network.weights(), "cuda")
    workspace = engine.start(network.zero_state(3))
    stepped = torch.stack([engine.step(symbols, workspace).clone() for symbols in indices.cuda()])
    torch.testing.assert_close(stepped.cpu(), expected, atol=1e-10, rtol=0)


def test_records_and_large_windows_train_and_a_beam_finds_what_it_finds_on_a_cpu(
    tmp_path: Path,
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{'ab' * (n % 7)}{n}\n" for n in range(400)))
    where = ("--device", "cuda", "--steps", "30", "--quiet", "--hidden-size", "128")
    out = tmp_path / "records"
    assert charnn("train", names, "--lines", *where, "--out", out).exit_code == 0
    big = (
        "--batch-size",
        "64",
        "--seq-len",
        "64",
        "--val-fraction",
        "0",
        "--out",
        tmp_path / "big",
    )
    assert charnn("train", _long(tmp_path), *where, *big).exit_code == 0
    texts = [
        charnn(
            "sample", tmp_path / "big", "--beam", "3", "--length", "30", "--device", device
        ).stdout
        for device in ("cpu", "cuda")
    ]
    assert texts[0] == texts[1]


def _long(folder: Path) -> Path:
    text = folder / "long.txt"
    text.write_text("a steep hill, and another one.\n" * 400)
    return text


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_replayed_steps_generate_the_texts_of_eager_steps(
    precision: str, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    network = CharNetwork(ModelConfig(7, 128, 2, 9)).cuda()
    config, texts = SampleConfig(length=300, seed=1, top_p=0.9), []
    for use_graphs in (True, False):
        sampler = Sampler(
            network.weights(), CharTokenizer("\nabcdef"), device="cuda", precision=precision
        )
        sampler._use_graphs = use_graphs
        samples = sampler.samples(config, 9, "ab", StopCriteria(("fc",)), rows=rows)
        texts.append([sample.text for sample in samples])
        assert not caplog.messages
    assert texts[0] == texts[1]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_many_texts_are_the_same_on_every_device(cell: str) -> None:
    """Rows that end early leave the batch, and others take their places."""
    torch.manual_seed(1)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=9, cell=cell)
    network, tokenizer = CharNetwork(config).double(), CharTokenizer("\nabcdef")
    texts = []
    for device in ("cpu", "cuda"):
        sampler = Sampler(network.weights(), tokenizer, device=device)
        samples = sampler.samples(
            SampleConfig(length=50, seed=1, top_p=0.9), 20, "ab", StopCriteria(("c",)), rows=6
        )
        texts.append([sample.text for sample in samples])
    assert texts[0] == texts[1]
