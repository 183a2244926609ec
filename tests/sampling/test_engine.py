"""Every step engine computes the function of the network, and keeps no state of its own."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from charnn.model.evaluate import evaluate
from charnn.model.network import predicting
from charnn.sampling.engine import select
from charnn.sampling.folded_engine import SteppedNetwork
from tests.sampling.engines import ALONE, KINDS, make_engine, read, tiny_network

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.mark.parametrize(
    ("kind", "rows"), [*itertools.product(KINDS, (1, 3, 8)), *((kind, 1) for kind in ALONE)]
)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_equal_the_network(kind: str, layers: int, rows: int, dtype: torch.dtype) -> None:
    network = tiny_network(kind, layers).to(dtype)
    indices = torch.randint(7, (12, rows))
    state = torch.randn_like(network.zero_state(rows))
    with predicting(network):
        logits, after = network(indices, state)
    stepped, stepped_after = read(make_engine(kind, network), indices, state)
    torch.testing.assert_close(stepped, logits, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(stepped_after, after, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_workspace_starts_with_the_logits_after_what_was_read(kind: str) -> None:
    network = tiny_network(kind)
    indices = torch.randint(7, (12, 3))
    with predicting(network):
        logits, after = network(indices, network.zero_state(3))
    torch.testing.assert_close(make_engine(kind, network).start(after).logits, logits[-1])


@pytest.mark.parametrize("kind", ALONE)
def test_a_workspace_of_one_text_starts_with_its_logits_and_can_be_copied(kind: str) -> None:
    network, indices = tiny_network(kind), torch.randint(7, (12, 1))
    with predicting(network):
        logits, after = network(indices, network.zero_state(1))
    engine = make_engine(kind, network)
    workspace = engine.start(after.numpy())
    np.testing.assert_allclose(workspace.logits, logits[-1])
    copied = select(engine, workspace, [0])
    expected = engine.step([3], copied).copy()
    np.testing.assert_allclose(workspace.logits, logits[-1])
    workspace.replace(0, copied)
    np.testing.assert_array_equal(workspace.logits, expected)
    np.testing.assert_array_equal(engine.state(workspace), engine.state(copied))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_be_selected_reordered_and_repeated(kind: str) -> None:
    network = tiny_network(kind)
    engine, symbols = make_engine(kind, network), torch.tensor([3, 1, 4])
    workspace = engine.start(torch.randn_like(network.zero_state(3)))
    for order in ([0, 1, 2], [2, 0], [1], [1, 1, 2, 0]):
        whole = select(engine, workspace, [0, 1, 2])
        expected = engine.step(symbols, whole)[order]
        selected = select(engine, workspace, order)
        torch.testing.assert_close(engine.step(symbols[order], selected), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_may_be_overwritten_by_one_of_another_workspace(kind: str) -> None:
    network = tiny_network(kind)
    engine = make_engine(kind, network)
    ours, theirs = (engine.start(torch.randn_like(network.zero_state(n))) for n in (3, 1))
    expected = select(engine, theirs, [0])
    ours.replace(1, theirs)
    symbols = torch.tensor([2, 5, 2])
    torch.testing.assert_close(engine.step(symbols, ours)[1:2], engine.step(symbols[1:2], expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 3])
def test_workspaces_of_one_engine_do_not_disturb_each_other(kind: str, rows: int) -> None:
    network = tiny_network(kind)
    engine, indices = make_engine(kind, network), torch.randint(7, (20, rows))
    first, second = (torch.randn_like(network.zero_state(rows)) for _ in range(2))
    expected = [read(engine, indices, state)[0] for state in (first, second)]
    workspaces = [engine.start(state) for state in (first, second)]
    for place, symbols in enumerate(indices):
        for workspace, logits in zip(workspaces, expected, strict=True):
            assert torch.equal(engine.step(symbols, workspace), logits[place])


@pytest.mark.medium
@pytest.mark.parametrize("kind", [*KINDS, *ALONE])
def test_threads_may_share_an_engine(kind: str) -> None:
    network = tiny_network(kind).float()
    engine, indices = make_engine(kind, network), torch.randint(7, (200, 24, 3))
    widths = [1 if kind in ALONE else 1 + n % 3 for n in range(24)]
    texts = [indices[:, n, :width] for n, width in enumerate(widths)]

    def logits(text: torch.Tensor) -> torch.Tensor:
        return read(engine, text, network.zero_state(text.shape[1]))[0]

    with torch.no_grad():
        expected = [logits(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(logits, texts))
    assert all(map(torch.equal, threaded, expected))


@pytest.mark.parametrize("kind", [*KINDS, *ALONE])
def test_later_training_does_not_change_an_engine(kind: str) -> None:
    network = tiny_network(kind)
    engine, indices = make_engine(kind, network), torch.tensor([[3], [4]])
    before = read(engine, indices, network.zero_state(1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    after = read(engine, indices, network.zero_state(1))
    assert all(map(torch.equal, after, before))


def test_a_network_that_reads_step_by_step_scores_as_the_network() -> None:
    network = tiny_network("lstm")
    text = torch.randint(7, (300,)).numpy().astype("uint8")
    for protocol in ("stream", "window", "lanes"):
        exact, stepped = (
            evaluate(n, text, protocol).nats for n in (network, SteppedNetwork(network))
        )
        assert stepped == pytest.approx(exact)
