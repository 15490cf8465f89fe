"""Well-known networks, as short functions over layers.

Each takes the shape of an image (height, width, channels) and the number of classes, and gives logits.
"""

from .densenet import densenet121
from .efficientnet import efficientnet_b0
from .lenet import lenet5
from .mobilenet import mobilenet_v2
from .resnet import resnet18, resnet20, resnet50
from .squeezenet import squeezenet1_1
from .vgg import vgg11, vgg16

__all__ = [
    "densenet121",
    "efficientnet_b0",
    "lenet5",
    "mobilenet_v2",
    "resnet18",
    "resnet20",
    "resnet50",
    "squeezenet1_1",
    "vgg11",
    "vgg16",
]
