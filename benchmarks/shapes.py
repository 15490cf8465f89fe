"""The layers that are timed, and the share of peak that each is held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convolution:
    """A square convolution: ``channels`` at ``size`` x ``size`` to ``filters``, padded by ``padding``.

    ``prototype``: the share of what its report takes for the FMA peak, at batch 1 and 8, that the
    prototype of the kernels reached on one thread; None where it was not measured.
    """

    channels: int
    filters: int
    size: int
    kernel: int = 3
    stride: int = 1
    prototype: tuple[float, float] | None = None
    groups: int = 1
    dilation: int = 1

    @property
    def padding(self) -> int:
        return self.kernel // 2 * self.dilation

    @property
    def output(self) -> int:
        reach = (self.kernel - 1) * self.dilation + 1
        return (self.size + 2 * self.padding - reach) // self.stride + 1

    def flops(self, batch: int) -> float:
        """A multiply-add counts two, and so do those that fall on padding."""
        taps = self.kernel**2 * self.channels // self.groups
        return 2.0 * batch * self.output**2 * self.filters * taps

    def x(self, batch: int) -> tuple[int, ...]:
        return (batch, self.size, self.size, self.channels)

    @property
    def w(self) -> tuple[int, ...]:
        return (self.kernel, self.kernel, self.channels // self.groups, self.filters)

    def y(self, batch: int) -> tuple[int, ...]:
        return (batch, self.output, self.output, self.filters)

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        window = f"{self.kernel}x{self.kernel}{stride}" + f"d{self.dilation}" * (self.dilation > 1)
        if self.groups == self.channels == self.filters:
            return f"{window} {self.channels} @{self.size}"
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"{window} {self.channels}->{self.filters}{groups} @{self.size}"


CONVOLUTIONS = [
    Convolution(64, 64, 56, prototype=(1.04, 0.97)),
    Convolution(128, 128, 28, prototype=(1.07, 0.99)),
    Convolution(256, 256, 14, prototype=(1.09, 1.02)),
    Convolution(512, 512, 7, prototype=(1.07, 1.02)),
    Convolution(3, 64, 224, kernel=7, stride=2, prototype=(0.97, 0.92)),
    Convolution(64, 256, 56, kernel=1, prototype=(1.02, 0.98)),
    Convolution(256, 64, 56, kernel=1, prototype=(1.04, 1.02)),
    Convolution(1024, 256, 14, kernel=1, prototype=(1.07, 1.04)),
    Convolution(512, 2048, 7, kernel=1, prototype=(1.06, 1.02)),
    Convolution(128, 128, 56, stride=2, prototype=(1.06, 1.02)),
    Convolution(64, 64, 224),
    Convolution(256, 256, 56),
    # ResNet-20's, for `--batches 128`
    Convolution(16, 16, 32),
    Convolution(32, 32, 16),
    Convolution(64, 64, 8),
]
BATCHES = (1, 8)  # unless others are asked for
GEMM = 1024  # rows, columns and depth


# The prototype's report counts 250 GFLOP/s as the whole; bursts as short as its calls, as `peak.py` times
# them, reached 255 to 281 on the same machine, 268 in the middle.
PROTOTYPE_PEAK = 250 / 268


def required(shape: Convolution, op: str, batch: int) -> float | None:
    """The share of the FMA peak, at the clock that the product itself leaves, that ``op`` is to reach on
    ``shape``, None where none is set."""
    if op == "forward":
        prototypes = dict(zip(BATCHES, shape.prototype or (), strict=False))
        return max(0.90, 0.95 * PROTOTYPE_PEAK * prototypes.get(batch, 0.0))
    return 0.85 if shape.kernel == 3 and shape.stride == 1 else None


def _depthwise(kernel: int, channels: int, size: int, stride: int = 1) -> Convolution:
    return Convolution(channels, channels, size, kernel, stride, groups=channels)


# those of MobileNetV2 and EfficientNet-B0, and of ConvNeXt
DEPTHWISE = [
    *(_depthwise(3, *s) for s in [(32, 112), (96, 112, 2), (144, 56), (144, 56, 2), (192, 28)]),
    *(_depthwise(3, *s) for s in [(384, 14), (576, 14), (576, 14, 2), (960, 7)]),
    *(_depthwise(5, *s) for s in [(144, 56, 2), (240, 28), (480, 14), (672, 14), (672, 14, 2)]),
    _depthwise(5, 1152, 7),
    *(_depthwise(7, *s) for s in [(96, 56), (192, 28), (384, 14), (768, 7)]),
]
# those of ResNeXt-50 (32x4d) and ResNeXt-101 (32x8d), RegNets (groups of 8, 16, 24 and 48 channels),
# ShuffleNet, and depthwise with two filters a channel and the reverse
GROUPED = [
    *(Convolution(c, c, s, groups=32) for c, s in [(128, 56), (256, 28), (512, 14), (1024, 7)]),
    *(Convolution(c, c, s, stride=2, groups=32) for c, s in [(256, 56), (512, 28), (1024, 14)]),
    *(Convolution(c, c, s, groups=32) for c, s in [(256, 56), (1024, 14)]),
    *(Convolution(c, c, s, groups=c // g) for c, s, g in [(104, 28, 8), (160, 28, 16)]),
    *(Convolution(c, c, s, groups=c // g) for c, s, g in [(168, 28, 24), (192, 28, 48)]),
    Convolution(240, 240, 28, kernel=1, groups=3),
    *(Convolution(c, k, 28, groups=64) for c, k in [(64, 128), (128, 64)]),
]
# each beside the same layer undilated
DILATED = [Convolution(c, c, size, dilation=d) for c, size in [(64, 56), (256, 14)] for d in (1, 2)]
