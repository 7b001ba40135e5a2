"""The course's networks: `fc_net` has the fully connected ones, `cnn` the convolutional one."""

from xhat.cs231n.classifiers.cnn import ThreeLayerConvNet
from xhat.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet

__all__ = ["FullyConnectedNet", "ThreeLayerConvNet", "TwoLayerNet"]
