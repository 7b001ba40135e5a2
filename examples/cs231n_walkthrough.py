"""Assignment 2 of CS231n on xhat.cs231n, cell by cell: every check of the course, on data made up here.

Run it as a script, or cell by cell (`# %%`) in an editor that knows notebooks. It prints every error beside its bound,
draws what the course draws into cs231n_walkthrough.png (or the file named as first argument) if matplotlib is there,
and ends with the exit status 1 if a check failed. `--short` trains less.

Left out are the download of CIFAR-10, the search for good settings, the inline questions and the frameworks' notebook.

The products of matrices are small: on a busy machine OPENBLAS_NUM_THREADS=1 makes it several times faster.
"""

# %% Setup
import sys
import time

import numpy as np

from xhat.cs231n.classifiers.cnn import *  # noqa: F403
from xhat.cs231n.classifiers.fc_net import *  # noqa: F403
from xhat.cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array
from xhat.cs231n.optim import adam, rmsprop, sgd_momentum
from xhat.cs231n.solver import Solver

SHORT = "--short" in sys.argv
FILE = next((word for word in sys.argv[1:] if not word.startswith("-")), "cs231n_walkthrough.png")
np.random.seed(231)
failures = []


def rel_error(x, y):
    """Return the course's relative error; its floor keeps gradients that are 0 from counting."""
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)))


def check(what, error, bound):
    """Print an error beside its bound, and note a failure."""
    good = bool(error <= bound)
    print(f"  {what:42} {error:9.1e}   at most {bound:7.0e}   {'ok' if good else 'WRONG'}")
    if not good:
        failures.append(what)


def check_gradients(what, forward, backward, **arrays):
    """Compare a backward function with centred differences of its forward function."""
    out, cache = forward(*arrays.values())
    dout = np.random.randn(*out.shape)
    gradients = backward(dout, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for (name, array), gradient in zip(arrays.items(), gradients, strict=True):
        true = eval_numerical_gradient_array(lambda _: forward(*arrays.values())[0], array, dout)
        check(f"{what}: d{name}", np.abs(gradient - true).max() / (1 + np.abs(true).max()), 1e-8)


def check_model(what, model, X, y):
    """Compare all gradients of a network with centred differences of its loss."""
    for values in model.params.values():
        values += 0.05 * np.random.randn(*values.shape)  # off the corners of ReLU
    _, grads = model.loss(X, y)
    for name in sorted(grads):
        true = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name], verbose=False)
        check(f"{what}: d{name}", np.abs(grads[name] - true).max() / (1 + np.abs(true).max()), 1e-7)


def pictures(number, size=8):
    """Make up pictures of ten classes: a pattern for each, and noise."""
    patterns = np.random.RandomState(0).randn(10, 3, size, size)
    y = np.random.randint(10, size=number)
    return patterns[y] + 1.5 * np.random.randn(number, 3, size, size), y


X_train, y_train = pictures(300 if SHORT else 1000)
X_val, y_val = pictures(100 if SHORT else 200)
data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
small = {**data, "X_train": X_train[:50], "y_train": y_train[:50]}


# %% Affine, ReLU and the sandwich of both
print("Affine and ReLU")
x, w, b = np.random.randn(3, 2, 4), np.random.randn(8, 5), np.random.randn(5)
check("affine: out", rel_error(affine_forward(x, w, b)[0], x.reshape(3, 8) @ w + b), 1e-9)
check_gradients("affine", affine_forward, affine_backward, x=x, w=w, b=b)
check_gradients("relu", relu_forward, relu_backward, x=x)
check_gradients("affine_relu", affine_relu_forward, affine_relu_backward, x=x, w=w, b=b)

# %% Losses: a net that knows nothing gives every class 1/C, and every wrong class a margin of 1
print("Losses")
scores, y = 0.001 * np.random.randn(50, 10), np.random.randint(10, size=50)
for name, loss_function, true in (("svm", svm_loss, 9.0), ("softmax", softmax_loss, np.log(10))):
    loss, dx = loss_function(scores, y)
    check(f"{name}: loss of a fresh net", abs(loss - true), 1e-2)
    # away from the corners of the hinge, and where each step is far below the scores
    wide = np.random.randn(6, 4)
    loss, dx = loss_function(wide, y[:6] % 4)
    true = eval_numerical_gradient(lambda s, f=loss_function: f(s, y[:6] % 4)[0], wide, verbose=False)
    check(f"{name}: dx", np.abs(dx - true).max(), 1e-8)

# %% Two-layer net
print("Two-layer net")
np.random.seed(231)
model = TwoLayerNet(input_dim=4, hidden_dim=50, num_classes=7, weight_scale=1e-2)
check("first weights: deviation", abs(model.params["W1"].std() - 1e-2) / 1e-2, 0.2)
check("first biases", np.abs(model.params["b1"]).max(), 0)
X, y = np.random.randn(3, 4), np.array([0, 5, 1])
for reg in (0.0, 0.7):
    model.reg = reg
    check_model(f"reg {reg}", model, X, y)
two_layer = Solver(
    TwoLayerNet(input_dim=192, weight_scale=1e-2), data, optim_config={"learning_rate": 0.05},
    lr_decay=0.95, num_epochs=5 if SHORT else 10, batch_size=50, print_every=100,
)  # fmt: skip
two_layer.train()
check("share wrong on the validation data", 1 - two_layer.best_val_acc, 0.5)

# %% Fully connected nets of any depth: a fresh one, its gradients, and 50 samples learned by heart
print("Fully connected nets")
X, y = np.random.randn(3, 15), np.array([2, 0, 4])
for reg in (0.0, 3.14):
    model = FullyConnectedNet([9, 8], 15, 5, reg=reg, weight_scale=5e-2, dtype=np.float64)
    if reg == 0:
        check("loss of a fresh net", abs(model.loss(X, y)[0] - np.log(5)), 1e-1)
    check_model(f"reg {reg}", model, X, y)
overfit = {}
for widths in ([100, 100], [100, 100, 100, 100]):
    model = FullyConnectedNet(widths, 192, weight_scale=0.1, dtype=np.float64)
    solver = Solver(
        model, small, update_rule="sgd_momentum", optim_config={"learning_rate": 5e-3},
        num_epochs=20, batch_size=25, print_every=20, verbose=False,
    )  # fmt: skip
    solver.train()
    overfit[f"{len(widths) + 1} layers"] = solver.loss_history
    check(f"{len(widths) + 1} layers: share not learned by heart", 1 - max(solver.train_acc_history), 0)

# %% Update rules against their formulas
print("Update rules")
w, dw, v = np.random.randn(3, 4, 5)
a = np.random.rand(4, 5)
config = {"learning_rate": 1e-3, "velocity": v}
next_w, _ = sgd_momentum(w, dw, config)
check("sgd_momentum: w", rel_error(next_w, w + 0.9 * v - 1e-3 * dw), 1e-8)
check("sgd_momentum: velocity", rel_error(config["velocity"], 0.9 * v - 1e-3 * dw), 1e-8)
config = {"learning_rate": 1e-2, "cache": a}
next_w, _ = rmsprop(w, dw, config)
cache = 0.99 * a + 0.01 * dw**2
check("rmsprop: w", rel_error(next_w, w - 1e-2 * dw / (np.sqrt(cache) + 1e-8)), 1e-7)
check("rmsprop: cache", rel_error(config["cache"], cache), 1e-7)
config = {"learning_rate": 1e-2, "m": v, "v": a, "t": 5}
next_w, _ = adam(w, dw, config)
m2, a2 = 0.9 * v + 0.1 * dw, 0.999 * a + 0.001 * dw**2
step = 1e-2 * (m2 / (1 - 0.9**6)) / (np.sqrt(a2 / (1 - 0.999**6)) + 1e-8)
check("adam: w", rel_error(next_w, w - step), 1e-7)
check("adam: m and v", max(rel_error(config["m"], m2), rel_error(config["v"], a2)), 1e-7)
rules = {}
for rule, rate in (("sgd", 0.1), ("sgd_momentum", 3e-2), ("rmsprop", 5e-4), ("adam", 1e-3)):
    np.random.seed(231)
    model = FullyConnectedNet([100] * 4, 192, weight_scale=0.1)
    rules[rule] = Solver(
        model, data, update_rule=rule, optim_config={"learning_rate": rate},
        num_epochs=3 if SHORT else 5, batch_size=100, verbose=False,
    )  # fmt: skip
    rules[rule].train()
    print(f"  {rule:13} loss {rules[rule].loss_history[0]:.3f} to {rules[rule].loss_history[-1]:.3f}")
    check(f"{rule}: share of the loss that is left", rules[rule].loss_history[-1] / rules[rule].loss_history[0], 0.8)

# %% Batch norm: means and deviations, running statistics, both backward passes
print("Batch norm")
a = np.maximum(0, np.random.randn(200, 50) @ np.random.randn(50, 60)) @ np.random.randn(60, 3)
for gamma, beta in ((np.ones(3), np.zeros(3)), (np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.0, 13.0]))):
    out, _ = batchnorm_forward(a, gamma, beta, {"mode": "train"})
    check("training: means are beta", np.abs(out.mean(0) - beta).max(), 1e-12)
    check("training: deviations are gamma", np.abs(out.std(0) - gamma).max(), 1e-5)
bn_param = {"mode": "train"}
for _ in range(60):
    a = np.maximum(0, np.random.randn(200, 50) @ np.random.randn(50, 60)) @ np.random.randn(60, 3)
    batchnorm_forward(a, np.ones(3), np.zeros(3), bn_param)
bn_param["mode"] = "test"
out, _ = batchnorm_forward(a, np.ones(3), np.zeros(3), bn_param)
check("test: means near 0", np.abs(out.mean(0)).max(), 1)
check("test: deviations near 1", np.abs(out.std(0) - 1).max(), 0.5)
x, gamma, beta = 5 * np.random.randn(4, 5) + 12, np.random.randn(5), np.random.randn(5)
for backward in (batchnorm_backward, batchnorm_backward_alt):
    check_gradients(
        backward.__name__, lambda *a: batchnorm_forward(*a, {"mode": "train"}), backward, x=x, gamma=gamma, beta=beta
    )

# %% Batch norm in deep nets
print("Deep nets with batch norm, layer norm and dropout")
X, y = np.random.randn(4, 15), np.array([2, 0, 4, 1])
for normalization, keep in (("batchnorm", 1), ("layernorm", 1), (None, 0.75), ("batchnorm", 0.5)):
    model = FullyConnectedNet(
        [6, 5], 15, 5, dropout_keep_ratio=keep, normalization=normalization,
        reg=0.5, weight_scale=0.3, dtype=np.float64, seed=123,
    )  # fmt: skip
    check_model(f"{normalization}, keep {keep}", model, X, y)
scales, scale_losses = np.logspace(-4, 0, 5 if SHORT else 9), {"batchnorm": [], None: []}
for normalization, losses in scale_losses.items():
    for scale in scales:
        model = FullyConnectedNet([50] * 7, 192, normalization=normalization, weight_scale=scale)
        solver = Solver(
            model, data, update_rule="adam", optim_config={"learning_rate": 1e-3},
            num_epochs=2, batch_size=50, verbose=False,
        )  # fmt: skip
        solver.train()
        losses.append(np.mean(solver.loss_history[-5:]))
check("small weights: loss with batch norm less without", scale_losses["batchnorm"][0] - scale_losses[None][0], 0)

# %% Layer norm
print("Layer norm")
out, _ = layernorm_forward(np.random.randn(4, 50) * 3 + 5, np.full(50, 3.0), np.full(50, 5.0), {"mode": "train"})
check("means are beta", np.abs(out.mean(1) - 5).max(), 1e-12)
check("deviations are gamma", np.abs(out.std(1) - 3).max(), 1e-4)
check_gradients("layernorm", lambda *a: layernorm_forward(*a, {}), layernorm_backward, x=x, gamma=gamma, beta=beta)

# %% Dropout: p is the share kept
print("Dropout")
x = np.random.randn(500, 500) + 10
for p in (0.25, 0.4, 0.7):
    out, _ = dropout_forward(x, {"mode": "train", "p": p})
    out_test, _ = dropout_forward(x, {"mode": "test", "p": p})
    check(f"p {p}: mean in training", abs(out.mean() - x.mean()), 0.15)
    check(f"p {p}: share of zeros", abs((out == 0).mean() - (1 - p)), 0.01)
    check(f"p {p}: in prediction nothing changes", np.abs(out_test - x).max(), 0)
dropout_param = {"mode": "train", "p": 0.2, "seed": 123}
check_gradients("dropout", lambda a: dropout_forward(a, dropout_param), dropout_backward, x=np.random.randn(10, 10))
kept = {}
for keep in (1, 0.25):
    model = FullyConnectedNet([100], 192, dropout_keep_ratio=keep, weight_scale=5e-2)
    kept[keep] = Solver(
        model, data, update_rule="adam", optim_config={"learning_rate": 5e-4}, num_epochs=4, verbose=False
    )
    kept[keep].train()

# %% Convolution, pooling, and their fast forms
print("Convolution and pooling")
x, w, b = np.random.randn(2, 3, 5, 4), np.random.randn(2, 3, 3, 3), np.random.randn(2)
for stride, pad in ((1, 1), (2, 1), (1, 0)):
    conv_param = {"stride": stride, "pad": pad}
    check_gradients(
        f"conv, stride {stride}, pad {pad}", lambda *a, p=conv_param: conv_forward_naive(*a, p), conv_backward_naive,
        x=x, w=w, b=b,
    )  # fmt: skip
x = np.random.permutation(2 * 3 * 4 * 6).reshape(2, 3, 4, 6) / 8.0
for size, stride in ((2, 2), (3, 1)):
    pool_param = {"pool_height": size, "pool_width": size, "stride": stride}
    check_gradients(
        f"pool {size}, stride {stride}", lambda a, p=pool_param: max_pool_forward_naive(a, p), max_pool_backward_naive,
        x=x,
    )  # fmt: skip
x, w, b = np.random.randn(20 if SHORT else 100, 3, 31, 31), np.random.randn(25, 3, 3, 3), np.random.randn(25)
conv_param, pool_param = {"stride": 2, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
for name, naive, fast, inputs in (
    ("conv", (conv_forward_naive, conv_backward_naive), (conv_forward_fast, conv_backward_fast), (x, w, b, conv_param)),
    ("pool", (max_pool_forward_naive, max_pool_backward_naive), (max_pool_forward_fast, max_pool_backward_fast),
     (x[:, :, :30, :30].copy(), pool_param)),
):  # fmt: skip
    results, seconds, dout = [], [], None
    for forward, backward in (naive, fast):
        start = time.perf_counter()
        out, cache = forward(*inputs)
        middle = time.perf_counter()
        dout = np.random.randn(*out.shape) if dout is None else dout
        start_back = time.perf_counter()
        gradients = backward(dout, cache)
        seconds.append((middle - start, time.perf_counter() - start_back))
        results.append([out, *(gradients if isinstance(gradients, tuple) else (gradients,))])
    for array, other in zip(*results, strict=True):
        check(f"{name}: fast against naive", np.abs(array - other).max() / np.abs(array).max(), 1e-12)
    times = ", ".join(f"{1e3 * t:.1f}" for pair in seconds for t in pair)
    print(f"  {name}: {times} ms (naive forward and backward, fast forward and backward)")

# %% Sandwiches and the convolutional net
print("Three-layer convolutional net")
x, w, b = np.random.permutation(2 * 3 * 64).reshape(2, 3, 8, 8) / 100.0, np.random.randn(3, 3, 3, 3), np.random.randn(3)
conv_param = {"stride": 1, "pad": 1}
check_gradients(
    "conv_relu_pool",
    lambda *a: conv_relu_pool_forward(*a, conv_param, pool_param),
    conv_relu_pool_backward,
    x=x,
    w=w,
    b=b,
)
check_gradients("conv_relu", lambda *a: conv_relu_forward(*a, conv_param), conv_relu_backward, x=x, w=w, b=b)
model = ThreeLayerConvNet(input_dim=(3, 8, 8))
X, y = np.random.randn(50, 3, 8, 8), np.random.randint(10, size=50)
check("loss of a fresh net", abs(model.loss(X, y)[0] - np.log(10)), 1e-2)
plain = model.loss(X, y)[0]
model.reg = 0.5
check("the penalty adds to it", plain - model.loss(X, y)[0], 0)
model = ThreeLayerConvNet((2, 4, 6), 3, 3, 5, 10, weight_scale=0.2, dtype=np.float64)
check_model("conv net", model, np.random.randn(2, 2, 4, 6), y[:2])
model = ThreeLayerConvNet(input_dim=(3, 8, 8), num_filters=16 if SHORT else 32, weight_scale=5e-2)
conv_net = Solver(
    model, small, update_rule="adam", optim_config={"learning_rate": 2e-3},
    num_epochs=15, batch_size=25, print_every=10,
)  # fmt: skip
conv_net.train()
check("share not learned by heart", 1 - max(conv_net.train_acc_history), 0)

# %% Spatial batch norm and group norm
print("Spatial batch norm and group norm")
x = 4 * np.random.randn(2, 3, 4, 5) + 10
gamma, beta = np.asarray([3, 4, 5]), np.asarray([6, 7, 8])
out, _ = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
check("batch norm: means are beta", np.abs(out.mean((0, 2, 3)) - beta).max(), 1e-12)
check("batch norm: deviations are gamma", np.abs(out.std((0, 2, 3)) - gamma).max(), 1e-5)
gamma, beta = np.random.randn(3), np.random.randn(3)
check_gradients(
    "spatial_batchnorm", lambda *a: spatial_batchnorm_forward(*a, {"mode": "train"}), spatial_batchnorm_backward,
    x=x, gamma=gamma, beta=beta,
)  # fmt: skip
x, gamma, beta = 4 * np.random.randn(2, 6, 4, 5) + 10, np.random.randn(1, 6, 1, 1), np.random.randn(1, 6, 1, 1)
out, _ = spatial_groupnorm_forward(x, np.ones((1, 6, 1, 1)), np.zeros((1, 6, 1, 1)), 2, {"mode": "train"})
groups = out.reshape(4, -1)
check("group norm: means of groups", np.abs(groups.mean(1)).max(), 1e-12)
check("group norm: deviations of groups", np.abs(groups.std(1) - 1).max(), 1e-5)
check_gradients(
    "spatial_groupnorm", lambda *a: spatial_groupnorm_forward(*a, 2, {}), spatial_groupnorm_backward,
    x=x, gamma=gamma, beta=beta,
)  # fmt: skip

# %% What the course draws
try:
    import matplotlib
except ImportError:
    print("matplotlib is not there: no picture.")
else:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from xhat.cs231n.vis_utils import visualize_grid

    figure, axes = plt.subplots(2, 4, figsize=(18, 8))
    panels = axes.ravel()
    for name, losses in overfit.items():
        panels[0].plot(losses, "o", label=name)
    for rule, solver in rules.items():
        panels[1].plot(solver.loss_history, label=rule)
        panels[2].plot(solver.train_acc_history, "-o", label=rule)
    for normalization, losses in scale_losses.items():
        panels[3].semilogx(scales, losses, "-o", label=normalization or "no norm")
    for keep, solver in kept.items():
        panels[4].plot(solver.train_acc_history, "-o", label=f"keep {keep}, training")
        panels[4].plot(solver.val_acc_history, "--o", label=f"keep {keep}, validation")
    panels[5].plot(conv_net.loss_history, "o", label="convolutional net")
    panels[6].plot(two_layer.train_acc_history, "-o", label="training")
    panels[6].plot(two_layer.val_acc_history, "-o", label="validation")
    panels[7].imshow(visualize_grid(model.params["W1"].transpose(0, 2, 3, 1)).astype("uint8"))
    titles = (
        "Learning 50 samples by heart: loss", "Update rules: loss", "Update rules: training accuracy",
        "Loss against the scale of the first weights", "Dropout: accuracy", "Learning 50 pictures by heart: loss",
        "Two-layer net: accuracy", "Filters of the convolutional net",
    )  # fmt: skip
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title)
    labels = [("step", "loss"), ("step", "loss"), ("epoch", "accuracy"), ("standard deviation of W", "loss"),
              ("epoch", "accuracy"), ("step", "loss"), ("epoch", "accuracy")]  # fmt: skip
    for panel, (across, up) in zip(panels, labels, strict=False):
        panel.set_xlabel(across)
        panel.set_ylabel(up)
    panels[7].set_axis_off()
    panels[3].set_ylim(0, 5)  # without a norm, large weights give losses that hide all others
    for panel in panels[:7]:
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2, fontsize="small")  # over no curve
    figure.tight_layout()
    figure.savefig(FILE, dpi=60)
    print(f"Drawn: {FILE}")

# %% The verdict
print(f"{len(failures)} checks failed{': ' + ', '.join(failures) if failures else ''}.")
sys.exit(1 if failures else 0)
