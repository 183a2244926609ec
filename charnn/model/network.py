"""Embedding -> recurrent layers -> linear head; state in, state out."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from charnn.config import ModelConfig
from charnn.model.weights import STATES, Arrays, Weights
from charnn.model.window_cells import GRUWindow, RNNWindow

# Shapes: B batch, T time, E embedding, H hidden, L layers, V vocabulary,
# G gates of a cell (LSTM 4, GRU 3, RNN 1), S tensors in a cell's state (LSTM 2: h, c; others 1: h).

_MODULES: dict[str, Callable[[int, int], nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}
_FUNCTIONS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn": torch.rnn_tanh,
}
_WINDOWS: dict[type[nn.Module], Any] = {nn.GRU: GRUWindow, nn.RNN: RNNWindow}


class CharNetwork(nn.Module):
    """Network that predicts the next symbol after every symbol of a batch of texts.

    The layers are a stack of one-layer modules instead of one module with `num_layers`, because
    only one-layer modules meet the conditions of cuDNN's persistent kernel (PyTorch,
    aten/src/ATen/native/cudnn/RNN.cpp, `get_algo`), and because dropout between them differs from
    torch's.

    >>> network = CharNetwork(ModelConfig(65, hidden_size=128, num_layers=2, embedding_size=16))
    >>> logits, state = network(torch.zeros(10, 4, dtype=torch.int64), network.zero_state(4))
    >>> logits.shape, state.shape
    (torch.Size([10, 4, 65]), torch.Size([2, 4, 2, 128]))
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        E, H, V = config.embedding_size, config.hidden_size, config.vocabulary_size
        self.embedding = nn.Embedding(V, E)
        self.layers = nn.ModuleList(
            _MODULES[config.cell](H if number else E, H) for number in range(config.num_layers)
        )
        self.head = nn.Linear(H, V)
        if config.cell == "lstm":
            self._init_forget_gates()

    def _init_forget_gates(self) -> None:
        """Set the forget gates' bias to 1, so that training starts with a memory that lasts.

        Jozefowicz et al. 2015 found that no other change to the LSTM helps more. Torch adds two
        biases: the first is set to 1, the second to 0.
        """
        forget = slice(self.config.hidden_size, 2 * self.config.hidden_size)
        with torch.no_grad():
            for layer in self.layers:
                _, _, b_ih, b_hh = layer_weights(layer)
                b_ih[forget], b_hh[forget] = 1.0, 0.0

    def forward(self, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read `indices` [T, B] from `state` [S, B, L, H].

        Return the logits [T, B, V] and the new state.
        """
        new_state = []
        inputs = state  # overwritten by the first layer
        for number, layer in enumerate(self.layers):
            # [1, B, H] each; cuDNN and oneDNN require contiguous tensors.
            before = tuple(part[None, :, number].contiguous() for part in state)
            if number == 0:
                outputs, after = self._first_layer(layer, indices, before)
            else:
                outputs, after = _run_layer(layer, inputs, before)
            new_state.append(torch.cat(after))  # [S, B, H]
            inputs = self._dropout(outputs)
        return self.head(inputs), torch.stack(new_state, 2)

    def _first_layer(
        self, layer: nn.Module, indices: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the layer that reads the embedding.

        With few symbols, the product of its input weights and the embedding is a small table
        [GH, V]. A window cell looks its input up there. oneDNN's LSTM multiplies the table by
        one-hot symbols, which gives the same function with V instead of E multiplications per unit:
        on a CPU, training is 1.4 times as fast at V = 65, E = H = 384. cuDNN prefers sizes in
        multiples of 128 and gains nothing.
        """
        # One dropout mask for all symbols, because the table cannot have one for each time step.
        weight = self._dropout(self.embedding.weight)
        use_table = self.config.vocabulary_size <= self.config.embedding_size
        if indices.device.type != "cpu" or not use_table:
            return _run_layer(layer, F.embedding(indices, weight), state)
        w_ih, *others = layer_weights(layer)
        if _has_window(layer, weight):
            table = F.linear(weight, w_ih, others[1])  # [V, GH]
            return _run_window(layer, F.embedding(indices, table), state)
        # bfloat16 instructions multiply pairs: an odd number of symbols took three times as long.
        odd = self.config.vocabulary_size % 2
        one_hot = F.one_hot(indices, self.config.vocabulary_size + odd).to(weight.dtype)
        parameters = (F.pad(w_ih @ weight.t(), (0, odd)), *others)
        initial = state if self.config.cell == "lstm" else state[0]
        function = _FUNCTIONS[self.config.cell]
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        settings = (True, 1, 0.0, self.training, False, False)
        outputs, *after = function(one_hot, initial, parameters, *settings)
        return outputs, tuple(after)

    def _dropout(self, values: Tensor) -> Tensor:
        """Apply dropout with one mask for all rows of `values`.

        A lane loses the same units in the whole window (Gal and Ghahramani 2016), and few random
        numbers are drawn.
        """
        if not self.training or self.config.dropout == 0:
            return values
        return values * F.dropout(torch.ones_like(values[:1]), self.config.dropout)

    def zero_state(self, batch_size: int) -> Tensor:
        """Return the state [S, B, L, H] of a network that has read nothing."""
        c = self.config
        shape = (STATES[c.cell], batch_size, c.num_layers, c.hidden_size)
        return torch.zeros(shape, dtype=self.head.weight.dtype, device=self.head.weight.device)

    def parameter_count(self) -> int:
        """Return the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def of_weights(cls, weights: Weights) -> "CharNetwork":
        """Return a network with copies of these weights, on the CPU."""
        with torch.random.fork_rng(devices=()):  # the constructor draws weights
            network = cls(weights.config)
        tensors = tensors_of(weights.arrays)
        network.to(tensors["head.weight"].dtype).load_state_dict(tensors)
        return network

    def weights(self) -> Weights:
        """Return the weights as arrays, which share the memory of those on the CPU."""
        return Weights(self.config, arrays_of(self.state_dict()))


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return tensors as NumPy arrays, which share the memory of those on the CPU."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def tensors_of(arrays: Arrays) -> dict[str, Tensor]:
    """Return arrays as tensors, which share their memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def layer_weights(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return w_ih [GH, E], w_hh [GH, H], b_ih [GH] and b_hh [GH] of a one-layer module."""
    assert isinstance(layer, nn.RNNBase)
    w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
    return w_ih, w_hh, b_ih, b_hh


@contextlib.contextmanager
def predicting(network: CharNetwork) -> Iterator[None]:
    """Disable dropout and gradients of `network` in the block, and restore its mode afterwards."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)


def _run_layer(
    layer: nn.Module, inputs: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a recurrent layer over `inputs` [T, B, E]; the state's tensors are [1, B, H]."""
    if len(state) == 2:
        return layer(inputs, state)
    if _has_window(layer, inputs):
        w_ih, _, b_ih, _ = layer_weights(layer)
        return _run_window(layer, F.linear(inputs, w_ih, b_ih), state)
    outputs, after = layer(inputs, state[0])
    return outputs, (after,)


def _has_window(layer: nn.Module, inputs: Tensor) -> bool:
    """Return True if a function of model/window_cells.py is to run a layer.

    They pay where a gradient is wanted. Without one, and in bfloat16, torch's own is used.
    """
    training = torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return training and inputs.device.type == "cpu" and type(layer) in _WINDOWS


def _run_window(
    layer: nn.Module, inputs: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a recurrent layer over the product [T, B, GH] of the inputs and the input weights."""
    _, w_hh, _, b_hh = layer_weights(layer)
    outputs = _WINDOWS[type(layer)].apply(inputs, state[0][0], w_hh, b_hh)
    return outputs, (outputs[-1:],)
