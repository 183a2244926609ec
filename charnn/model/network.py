"""Embedding -> recurrent layers -> linear head; state in, state out."""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charnn.config import ModelConfig

# Shapes: B batch, T time, E embedding, H hidden, L layers, V vocabulary,
# G gates of a cell (LSTM 4, GRU 3, RNN 1), S tensors in a cell's state (LSTM 2: h, c; others 1: h).

STATES = {"lstm": 2, "gru": 1, "rnn": 1}
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


class CharNetwork(nn.Module):
    """Logits of the next symbol for every symbol of a batch of texts.

    A stack of one-layer modules instead of one module with `num_layers`: only one-layer modules
    meet the conditions of cuDNN's persistent kernel (PyTorch, aten/src/ATen/native/cudnn/RNN.cpp,
    `get_algo`), and dropout between them is ours to define.
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
            self._open_forget_gates()

    def _open_forget_gates(self) -> None:
        """Start with forget gates that keep (bias 1, in the first of two biases that are added):
        Jozefowicz et al. 2015 found no change to the LSTM that helps more."""
        forget = slice(self.config.hidden_size, 2 * self.config.hidden_size)
        with torch.no_grad():
            for layer in self.layers:
                _, _, b_ih, b_hh = layer_weights(layer)
                b_ih[forget], b_hh[forget] = 1.0, 0.0

    def forward(self, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read `indices` [T, B] from `state` [S, B, L, H]: logits [T, B, V] and the new state."""
        new_state = []
        inputs = state  # set by the first layer
        for number, layer in enumerate(self.layers):
            # [1, B, H] each; contiguous, because cuDNN and oneDNN want them so
            before = tuple(part[None, :, number].contiguous() for part in state)
            if number == 0:
                outputs, after = self._first_layer(layer, indices, before)
            else:
                outputs, after = _run(layer, inputs, before)
            new_state.append(torch.cat(after))  # [S, B, H]
            inputs = self._dropped(outputs)
        return self.head(inputs), torch.stack(new_state, 2)

    def _first_layer(
        self, layer: nn.Module, indices: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The layer that reads the embedding.

        With few symbols the product of its input weights and the embedding is a small table
        [GH, V], and reading one-hot symbols through it is the same function for V instead of E
        multiplications a unit: on a CPU 1.4 times the training speed at V 65, E = H = 384. cuDNN
        wants sizes in multiples of 128 and gains nothing.
        """
        # One mask for the whole window and all lanes, so that the table stays a table.
        weight = self._dropped(self.embedding.weight)
        few = self.config.vocabulary_size <= self.config.embedding_size
        if indices.device.type != "cpu" or not few:
            return _run(layer, F.embedding(indices, weight), state)
        # Instructions for bfloat16 multiply pairs: an odd number of symbols took thrice the time.
        odd = self.config.vocabulary_size % 2
        one_hot = F.one_hot(indices, self.config.vocabulary_size + odd).to(weight.dtype)
        w_ih, *others = layer_weights(layer)
        parameters = (F.pad(w_ih @ weight.t(), (0, odd)), *others)
        first = state if self.config.cell == "lstm" else state[0]
        run = _FUNCTIONS[self.config.cell]
        outputs, *after = run(one_hot, first, parameters, True, 1, 0.0, self.training, False, False)
        return outputs, tuple(after)

    def _dropped(self, values: Tensor) -> Tensor:
        """Dropout with one mask for all rows of `values`: a lane loses the same units in the whole
        window (Gal and Ghahramani 2016), and few random numbers are drawn."""
        if not self.training or self.config.dropout == 0:
            return values
        return values * F.dropout(torch.ones_like(values[:1]), self.config.dropout)

    def zero_state(self, batch_size: int) -> Tensor:
        """The state [S, B, L, H] before anything was read."""
        c = self.config
        shape = (STATES[c.cell], batch_size, c.num_layers, c.hidden_size)
        return torch.zeros(shape, dtype=self.head.weight.dtype, device=self.head.weight.device)

    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())


def layer_weights(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """w_ih [GH, E], w_hh [GH, H], b_ih [GH] and b_hh [GH] of a one-layer module."""
    assert isinstance(layer, nn.RNNBase)
    w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
    return w_ih, w_hh, b_ih, b_hh


@contextlib.contextmanager
def predicting(network: CharNetwork) -> Iterator[None]:
    """Within the block `network` neither drops out nor records gradients; then it is as before."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)


def _run(
    layer: nn.Module, inputs: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One recurrent layer over `inputs` [T, B, E]; the state's tensors are [1, B, H]."""
    if len(state) == 2:
        return layer(inputs, state)
    outputs, after = layer(inputs, state[0])
    return outputs, (after,)
