"""Pictures in a grid."""

import numpy as np

from xhat.cs231n.vis_utils import vis_grid, vis_nn, visualize_grid


def test_visualize_grid_stretches_each_picture():
    Xs = np.random.randn(5, 4, 3, 2) * np.arange(1, 6).reshape(5, 1, 1, 1)
    grid = visualize_grid(Xs, ubound=2.0, padding=3)
    assert grid.shape == (3 * 4 + 2 * 3, 3 * 3 + 2 * 3, 2)
    for k in range(5):
        i, j = divmod(k, 3)
        picture = grid[i * 7 : i * 7 + 4, j * 6 : j * 6 + 3]
        assert np.allclose(picture, 2 * (Xs[k] - Xs[k].min()) / (Xs[k].max() - Xs[k].min()))
    assert not grid[4:7].any()
    assert not grid[:, 3:6].any()
    assert not visualize_grid(np.ones((1, 2, 2, 1)), padding=0).any()  # one value: nothing to stretch
    assert visualize_grid(np.ones((4, 2, 3, 1)), padding=0).shape == (4, 6, 1)


def test_vis_grid_and_vis_nn_stretch_all_together():
    Xs = np.random.randn(3, 2, 2, 3)
    grid = vis_grid(Xs)
    assert grid.shape == (6, 6, 3)
    assert grid.min() == 0
    assert grid.max() == 1
    assert np.allclose(grid[3:5, 0:2], (Xs[2] - Xs.min()) / (Xs.max() - Xs.min()))
    assert not grid[2].any()
    rows = [[Xs[0], Xs[1]], [Xs[2], Xs[0]]]
    grid = vis_nn(rows)
    low, high = min(Xs.min(), 1), max(Xs.max(), 1)
    assert np.allclose(grid[3:5, 0:2], (Xs[2] - low) / (high - low))
    assert np.allclose(grid[5], (1 - low) / (high - low))
