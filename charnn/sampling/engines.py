"""The choice of the step engine."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from charnn.model.weights import STATES, Weights
from charnn.sampling.arrays import Array
from charnn.sampling.clamp import Clamp
from charnn.sampling.engine import StepEngine, Workspace
from charnn.sampling.numpy_engine import FullVectorProduct, MakeProduct, NumpyEngine

if TYPE_CHECKING:
    import torch

    from charnn.model.network import CharNetwork

# Shapes: H hidden, L layers, S tensors in a cell's state.

PRECISIONS = ("fp32", "int8", "fp16")
# Up to so many symbols are read faster by the steps of an engine than torch is imported.
MAX_STEPPED = 4096
_CHUNK = 1024  # symbols that a network reads at once


class Engines:
    """The step engines of a model, each made when it is first needed.

    Their weights are copies of the given ones. Threads may share the engines.
    """

    def __init__(
        self,
        weights: Weights,
        device: str = "cpu",
        precision: str = "fp32",
        clamps: Sequence[Clamp] = (),
        threads: int = 0,
        exact: bool = False,
    ) -> None:
        """`threads` compute a single text by NumPy, at most 2; 0 chooses.

        With `exact` a text is the same bits alone and among others.
        """
        self.clamps = tuple(clamps)
        self._threads, self._exact = threads, exact
        self.device = device
        copies = {name: array.copy() for name, array in weights.arrays.items()}
        self._weights, self._precision = Weights(weights.config, copies), precision
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle needs: the engines are made anew."""
        return vars(self) | {"_made": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    @property
    def on_cpu(self) -> bool:
        """True if the texts are computed by the CPU."""
        return self.device.partition(":")[0] == "cpu"

    def needs_torch(self, texts: int) -> bool:
        """Return True if torch steps so many texts, False if NumPy does."""
        return texts > 1 or self._exact or self._precision != "fp32" or not self.on_cpu

    def one(self) -> StepEngine[Any]:
        """Return the engine that steps a single text fastest."""
        if not self.on_cpu or self._exact:
            return self.many()
        return self._once(f"one {self._precision}", lambda: self._vectors(self._precision))

    def many(self) -> StepEngine[Any]:
        """Return the engine that steps many texts fastest; it can step any number."""
        return self._once("many", self._make_many)

    def read(self, engine: StepEngine[Any], symbols: Sequence[int]) -> Workspace:
        """Return the workspace, for one of the engines, of a text that starts with these symbols.

        On a CPU the same computation reads them for every engine.
        """
        if self.on_cpu and (self.clamps or len(symbols) <= MAX_STEPPED):
            state = self._stepped(symbols)
        elif self.clamps:  # symbol by symbol, because the clamps apply from the first one on
            return stepped(engine, _started(engine, self._zero_state(), self.device), symbols)
        else:
            state = read_state(self._network(), symbols)
        return _started(engine, state, self.device)

    def _stepped(self, symbols: Sequence[int]) -> Array:
        """Return the state [S, 1, L, H] after these symbols, read by steps."""
        reader = self._once("one fp32", lambda: self._vectors("fp32"))
        return reader.state(stepped(reader, reader.start(self._zero_state()), symbols))

    def _zero_state(self) -> Array:
        """Return the state [S, 1, L, H] of a model that has read nothing."""
        c, dtype = self._weights.config, self._weights.arrays["head.weight"].dtype
        return np.zeros((STATES[c.cell], 1, c.num_layers, c.hidden_size), dtype)

    def _make_many(self) -> StepEngine[Any]:
        engine = many_engine(self._weights, self.device, self._precision, self.clamps)
        if not self._exact:
            return engine
        from charnn.sampling.tiled_engine import TiledEngine

        return TiledEngine(engine)

    def _vectors(self, precision: str) -> NumpyEngine:
        product: MakeProduct = FullVectorProduct
        if precision == "int8":
            from charnn.sampling.products import Int8VectorProduct

            product = Int8VectorProduct
        return NumpyEngine(self._weights, self.clamps, product, self._threads)

    def _network(self) -> "CharNetwork":
        from charnn.model.network import CharNetwork

        return self._once(
            "network", lambda: CharNetwork.of_weights(self._weights).to(self.device).eval()
        )

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]


def many_engine(
    weights: Weights,
    device: "torch.device | str" = "cpu",
    precision: str = "fp32",
    clamps: Sequence[Clamp] = (),
) -> StepEngine[Any]:
    """Return the engine that steps many texts fastest; it can step any number."""
    from charnn.sampling.folded_engine import FoldedEngine
    from charnn.sampling.lstm_engine import LSTMEngine
    from charnn.sampling.products import PRODUCTS

    if weights.config.cell == "lstm" and precision == "fp32":
        return LSTMEngine(weights, device, clamps)
    return FoldedEngine(weights, device, PRODUCTS[precision], clamps)


def _started(engine: StepEngine[Any], state: Array, device: str) -> Workspace:
    """Return the workspace of texts that were read up to `state`, an array of NumPy or torch."""
    if isinstance(engine, NumpyEngine):
        return engine.start(np.asarray(state))
    import torch

    return engine.start(torch.as_tensor(state, device=device))


def stepped(engine: StepEngine[Any], workspace: Workspace, symbols: Sequence[int]) -> Workspace:
    """Let a text read these symbols one by one; return its workspace."""
    for symbol in symbols:
        engine.step(np.array([symbol]), workspace)
    return workspace


def read_state(network: "CharNetwork", symbols: Sequence[int]) -> "torch.Tensor":
    """Return the state [S, 1, L, H] of a network after these symbols, read many at once."""
    import torch

    from charnn.model.network import predicting

    indices = torch.tensor(symbols, dtype=torch.int64, device=network.head.weight.device)
    state = network.zero_state(1)
    with predicting(network):
        for chunk in indices[:, None].split(_CHUNK):
            _, state = network(chunk, state)
    return state.clone()
