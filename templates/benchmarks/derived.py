"""Figures that nobody measures, because they would take days: pure arithmetic on measured ones."""

from __future__ import annotations

# The training set of ILSVRC 2012: https://arxiv.org/abs/1409.0575, table 2 (2015-01)
IMAGENET_IMAGES = 1_281_167


def hours(units: float, per_second: float) -> float:
    """How long so many units of work take at that speed."""
    return units / per_second / 3600


def flops_per_token(parameters: int, layers: int, width: int, context: int) -> int:
    """Floating-point operations of training on one token, forward and backward.

    Six for each parameter that takes part in a matrix product, and the two products of attention, which are counted
    whole although half of each is masked: https://arxiv.org/abs/2204.02311, appendix B (2022-04).
    """
    return 6 * parameters + 12 * layers * width * context


def share_of_peak(flops_per_second: float, peak_tflops: float, devices: int) -> float:
    """The share of what the devices could do at most that went into the model: its MFU."""
    return flops_per_second / (peak_tflops * 1e12 * devices)
