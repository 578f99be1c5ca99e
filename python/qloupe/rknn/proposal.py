"""Which layers to raise to float16: the vendor's rule of ``build(auto_hybrid=True)``, on the local error."""

from __future__ import annotations

from typing import List, Optional

from ..quantized import Quantized
from ..samples import Samples


def propose(
    quantized: Quantized, samples: Samples, cos_thresh: Optional[float], euc_thresh: Optional[float]
) -> List[str]:
    """The integer layers whose own error is beyond a threshold: cosine below, Euclidean distance above."""
    report = quantized.analyze(samples, views=("local",), costs=False)
    integer = {value.name for value in quantized.values if value.precision == "int8" and value.unit != "Input"}

    def is_beyond(name: str) -> bool:
        layer = report[name]
        cosine, euclidean = layer.metric("cosine", "local"), layer.metric("euclidean", "local")
        is_low = cos_thresh is not None and cosine is not None and cosine < cos_thresh
        is_far = euc_thresh is not None and euclidean is not None and euclidean > euc_thresh
        return is_low or is_far

    return [layer.name for layer in report.layers if layer.name in integer and layer.views and is_beyond(layer.name)]
