"""Numbers of channels of scaled networks."""


def scaled(channels: int, factor: float) -> int:
    """``channels`` times ``factor``, and at least 1."""
    return max(1, round(channels * factor))


def round_channels(channels: float, divisor: int = 8, fraction: float = 0.9) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, and at least ``fraction`` of it.

    As in the code of MobileNetV2 (tensorflow/models, ``mobilenet.py``), and later of MnasNet and
    EfficientNet.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= fraction * channels else rounded + divisor
