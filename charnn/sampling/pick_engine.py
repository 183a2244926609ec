"""The choice of the step engine."""

from collections.abc import Sequence
from typing import Any

from charnn.model.network import CharNetwork
from charnn.sampling.clamp import Clamp
from charnn.sampling.engine import StepEngine
from charnn.sampling.folded_engine import FoldedEngine
from charnn.sampling.lstm_engine import LSTMEngine
from charnn.sampling.products import FullProduct, Product


def pick_engine(
    network: CharNetwork,
    rows: int,
    product: type[Product] = FullProduct,
    clamps: Sequence[Clamp] = (),
) -> StepEngine[Any]:
    """Return the engine that steps so many texts fastest; it can step any other number too."""
    if rows > 1 and network.config.cell == "lstm" and product is FullProduct:
        return LSTMEngine(network, clamps)
    return FoldedEngine(network, product, clamps)
