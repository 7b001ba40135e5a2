"""The package `cs231n` of Stanford's course, on the layers of xhat.

A notebook or a solution of assignment 2 runs with `from cs231n` replaced by `from xhat.cs231n`: the same modules,
names, arguments, dicts and random draws. Nothing here computes a layer: these modules translate shapes, dicts and
words, and call xhat. Nothing else in xhat imports them.

| module | what lives there |
|---|---|
| `layers`, `fast_layers`, `layer_utils`, `im2col`, `im2col_cython` | forward and backward functions |
| `classifiers` | `TwoLayerNet`, `FullyConnectedNet`, `ThreeLayerConvNet` |
| `optim`, `solver` | update rules and the training loop |
| `gradient_check` | centred differences |
| `data_utils`, `vis_utils` | CIFAR-10 and Tiny ImageNet from their files; pictures in a grid |
| `years` | what an older form of the course wrote otherwise, and the switch for it |

Documentation: docs/cs231n.md
"""

from xhat.cs231n.years import set_year, year

__all__ = ["set_year", "year"]
