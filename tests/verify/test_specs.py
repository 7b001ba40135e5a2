import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xhat
import xhat.cs231n.layer_utils as course
from xhat.verify.problem import Unsupported, size
from xhat.verify.specs import CONVENTIONS, constant, find


def forward_of(parameters):
    """Return a function with these parameters that gives them back."""
    names = [word.split("=")[0].strip(" *") for word in parameters.split(",")]
    made = {}
    exec(f"def forward({parameters}): return ({', '.join(name for name in names if name)},), None", made)
    return made["forward"]


def backward(dout, cache):
    return dout


NAMES = [
    ("batchnorm", "x, gamma, beta, bn_param", "batch_norm", "cs231n", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("batchnorm_alt", "x, gamma, beta, bn_param", "batch_norm", "cs231n", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("bn", "X, g, b, eps", "batch_norm", "xhat", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("BatchNorm", "inp, scale, shift, epsilon=1e-3", "batch_norm", "xhat", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("batch_norm", "x", "batch_norm", "xhat", {"x": "N D"}),
    ("my_batchnorm_v2", "a, c, d, bn_param", "batch_norm", "cs231n", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("batch_norm", "input, running_mean, running_var, weight=None, bias=None, training=False", "batch_norm", "torch", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("spatial_batchnorm", "x, gamma, beta, bn_param", "batch_norm", "cs231n", {"x": "N C H W", "gamma": "C", "beta": "C"}),
    ("BatchNorm2d", "x, gamma, beta, eps", "batch_norm", "xhat", {"x": "N C H W", "gamma": "C", "beta": "C"}),
    ("layernorm", "x, gamma, beta, ln_param", "layer_norm", "cs231n", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("ln", "x, w, b, eps=1e-5", "layer_norm", "xhat", {"x": "N D", "gamma": "D", "beta": "D"}),
    ("spatial_groupnorm", "x, gamma, beta, G, gn_param", "group_norm", "cs231n", {"x": "N G*K H W", "gamma": "1 G*K 1 1", "beta": "1 G*K 1 1"}),
    ("gn", "x, gamma, beta, groups, eps", "group_norm", "xhat", {"x": "N G*K H W", "gamma": "G*K", "beta": "G*K"}),
    ("instance_norm", "x, gamma, beta, eps", "instance_norm", "xhat", {"x": "N C H W", "gamma": "C", "beta": "C"}),
    ("rmsnorm", "x, g, eps", "rms_norm", "xhat", {"x": "N D", "gamma": "D"}),
    ("affine", "x, w, b", "affine", "cs231n", {"x": "N A B", "w": "A*B M", "b": "M"}),
    ("fc", "X, W, b", "affine", "xhat", {"x": "N D", "w": "D M", "b": "M"}),
    ("linear", "x, W", "affine", "xhat", {"x": "N D", "w": "D M"}),
    ("linear", "input, weight, bias", "affine", "torch", {"x": "N D", "w": "M D", "b": "M"}),
    ("relu", "x", "relu", "cs231n", {"x": "N D"}),
    ("dropout", "x, dropout_param", "dropout", "cs231n", {"x": "N D"}),
    ("conv_naive", "x, w, b, conv_param", "conv", "cs231n", {"x": "N C H W", "w": "F C HH WW", "b": "F"}),
    ("conv", "x, w, b, stride, pad", "conv", "xhat", {"x": "N C H W", "w": "F C HH WW", "b": "F"}),
    ("max_pool_naive", "x, pool_param", "max_pool", "cs231n", {"x": "N C H W"}),
    ("maxpool2d", "x, pool_height, pool_width, stride", "max_pool", "xhat", {"x": "N C H W"}),
    ("softmax_loss", "x, y", "softmax_cross_entropy", "cs231n", {"x": "N C"}),
    ("cross_entropy_loss", "scores, labels", "softmax_cross_entropy", "cs231n", {"x": "N C"}),
    ("svm_loss", "x, y", "hinge_loss", "cs231n", {"x": "N C"}),
    ("mse_loss", "y_pred, y_true", "squared_error", "xhat", {"x": "N C"}),
    ("flatten", "x", "flatten", "xhat", {"x": "N A B"}),
    ("affine_relu", "x, w, b", None, "cs231n", {"x": "N A B", "w": "A*B M", "b": "M"}),
    ("fc_bn_relu", "x, w, b, gamma, beta, bn_param", None, "cs231n", {"x": "N D", "w": "D M", "b": "M", "gamma": "M", "beta": "M"}),
    ("affine_layernorm_relu", "x, w, b, gamma, beta, ln_param", None, "cs231n", {"x": "N A B", "w": "A*B M", "b": "M", "gamma": "M", "beta": "M"}),
    ("conv_bn_relu", "x, w, b, gamma, beta, conv_param, bn_param", None, "cs231n", {"x": "N C H W", "w": "F C HH WW", "b": "F", "gamma": "F", "beta": "F"}),
    ("conv_relu_pool", "x, w, b, conv_param, pool_param", None, "cs231n", {"x": "N C H W", "w": "F C HH WW", "b": "F"}),
    ("spatial_layernorm", "x, gamma, beta, eps", "layer_norm", "xhat", {"x": "N C H W", "gamma": "C H W", "beta": "C H W"}),
    ("layernorm_fc_relu", "x, gamma, beta, w, b, ln_param", None, "cs231n", {"x": "N D", "gamma": "D", "beta": "D", "w": "D M", "b": "M"}),
    ("sigmoid", "z", None, "xhat", {"x": "N D"}),
    ("softplus", "t", None, "none", {"t": "N D"}),
    ("two_layer", "X, W1, b1, W2, b2", None, "none", {"X": "N D", "W1": "D M1", "b1": "M1", "W2": "M1 M2", "b2": "M2"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "layer", "convention", "axes"), NAMES)
def test_names_and_parameters_tell_what_a_pair_is(name, parameters, layer, convention, axes):
    loss = layer in ("softmax_cross_entropy", "hinge_loss", "squared_error")
    spec = find(name, forward_of(parameters), None if loss else backward)
    assert (spec.layer, spec.convention) == (layer, convention)
    assert {key: " ".join(value) for key, value in spec.problem.inputs.items()} == axes
    assert list(spec.problem.inputs) == list(axes)
    assert spec.problem.layer == layer
    assert spec.name == spec.problem.name == name
    assert ("eps" in spec.problem.scalars) == ("eps" in parameters or ("_param" in parameters and "norm" in name) or "bn_" in parameters)  # fmt: skip
    for sizes in spec.problem.sizes:
        values = spec.problem.draw(np.random.default_rng(0), sizes)
        positional, named = spec.problem.arguments(values)
        given = [*positional, *named.values()]
        assert all(any(one is values[key] for one in given) for key in axes), name
        spec.problem.forward(*positional, **named)


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row[0])
def test_sizes_are_small_and_differ(row):
    name, parameters, layer, _, _ = row
    loss = layer in ("softmax_cross_entropy", "hinge_loss", "squared_error")
    first, second = find(name, forward_of(parameters), None if loss else backward).problem.sizes
    names = [key for key in first if key not in ("pad", "stride")]
    assert min(first[key] for key in names) >= 2
    assert first != second
    batch, *others = [key for key in ("N", "D", "M", "C", "K") if key in first]
    assert all(first[batch] != first[other] or second[batch] != second[other] for other in others)
    statistics = {"layer_norm": "N", "batch_norm": "DC", "group_norm": "NG", "rms_norm": "N"}.get(layer or "", "")
    for sizes in (first, second):
        roots = np.prod([sizes[key] for key in statistics if key in sizes])
        assert roots <= 6, "a root in a prime field is found in one of two draws"


OWN = {
    "affine": ("affine", "x, w, b"),
    "relu": ("relu", "x"),
    "batch_norm": ("batchnorm", "x, gamma, beta, eps"),
    "layer_norm": ("layernorm", "x, gamma, beta, eps"),
    "group_norm": ("groupnorm", "x, gamma, beta, groups, eps"),
    "instance_norm": ("instance_norm", "x, gamma, beta, eps"),
    "rms_norm": ("rms_norm", "x, gamma, eps"),
}


@pytest.mark.parametrize("layer", OWN)
def test_the_formula_is_that_of_the_library(layer):
    name, parameters = OWN[layer]
    problem = find(name, forward_of(parameters), backward, convention="xhat").problem
    for sizes in problem.sizes:
        values = problem.draw(np.random.default_rng(1), sizes)
        positional, _ = problem.arguments(values)
        y, _ = getattr(xhat, layer).reference_forward(*positional)
        assert problem.specification is not None
        np.testing.assert_allclose(problem.specification(values), y, rtol=1e-13, atol=1e-13)


COURSE = ["affine", "relu", "batchnorm", "layernorm", "spatial_batchnorm", "spatial_groupnorm", "affine_relu"]
COURSE += ["conv_relu", "conv_bn_relu", "conv_relu_pool"]


@pytest.mark.parametrize("name", [*COURSE, "conv_naive", "max_pool_naive", "softmax_loss", "svm_loss"])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_the_formula_is_that_of_the_course(name, mode):
    stem, _, variant = name.partition("_naive")
    end = "_naive" * (variant == "" and name.endswith("_naive"))
    forward = getattr(course, name, None) or getattr(course, f"{stem}_forward{end}")
    back = None if name.endswith("_loss") else getattr(course, f"{stem}_backward{end}")
    spec = find(name, forward, back)
    problem = spec.problem
    rng = np.random.default_rng(2)
    for sizes in problem.sizes:
        values = problem.draw(rng, sizes)
        if spec.running is not None:
            count = [size(axis, sizes) for axis in spec.running.shape]
            values |= {"running_mean": rng.standard_normal(count), "running_var": rng.uniform(1, 2, count)}
        values["mode"] = mode
        y, cache = problem.run_forward(values)
        assert problem.specification is not None
        np.testing.assert_allclose(problem.specification(values), y, rtol=1e-12, atol=1e-12)
        if mode == "train":
            gradients = problem.run_backward(np.ones_like(y), cache)
            assert {key: np.shape(g) for key, g in gradients.items()} == {
                f"d{key}": problem.shape(key, sizes) for key in problem.inputs
            }


def test_arguments_are_made_afresh_and_of_any_numbers():
    spec = find("batchnorm", forward_of("x, gamma, beta, bn_param"), backward)
    values = {"x": object(), "gamma": object(), "beta": object(), "eps": object(), "N": 4, "D": 3}
    (x, gamma, _, first), _ = spec.problem.arguments(values)
    second = spec.problem.arguments(values)[0][3]
    assert x is values["x"]
    assert gamma is values["gamma"]
    assert first == {"mode": "train", "eps": values["eps"], "momentum": 0.9}
    first["running_mean"] = 1
    assert second is not first
    assert "running_mean" not in second
    told = {**values, "mode": "test", "momentum": 0.3, "running_mean": 1, "running_var": 2}
    assert spec.problem.arguments(told)[0][3] == {key: told[key] for key in ("mode", "eps", "momentum", "running_mean", "running_var")}  # fmt: skip


def test_running_statistics_are_found_where_the_function_keeps_them():
    spec = find("bn", forward_of("x, running_mean, running_var, weight, bias, training, momentum, eps"), backward)
    assert spec.running is not None
    assert (spec.running.keeps_old, spec.running.unbiased, spec.running.shape) == (False, True, ("D",))
    values = spec.problem.draw(np.random.default_rng(0), spec.problem.sizes[0])
    call = spec.problem.arguments(values)
    assert call[0][5] is True
    assert spec.running.read(call)["running_var"] is call[0][2]
    assert spec.problem.arguments({**values, "mode": "test"})[0][5] is False


def test_samples_along_the_second_axis():
    spec = find("pair", forward_of("X, gamma, beta, eps"), backward, layer="batch_norm", axis=1)
    assert spec.problem.inputs == {"x": ("D", "N"), "gamma": ("D", "1"), "beta": ("D", "1")}
    values = spec.problem.draw(np.random.default_rng(0), spec.problem.sizes[0])
    turned, _ = xhat.batch_norm.reference_forward(
        values["x"].T, values["gamma"][:, 0], values["beta"][:, 0], values["eps"]
    )
    assert spec.problem.specification is not None
    np.testing.assert_allclose(spec.problem.specification(values), turned.T, rtol=1e-13)


def test_without_a_specification_only_the_gradient_is_asked_for():
    spec = find("batchnorm", forward_of("x, gamma, beta, bn_param"), backward, convention="none")
    assert (spec.convention, spec.problem.specification, spec.norm, spec.running) == ("none", None, None, None)
    assert list(spec.problem.inputs) == ["x", "gamma", "beta"]


DECLARED = {"x": "N D", "w": "D M", "labels": "N < M", "eps": "eps", "groups": "size D", "power": 2, "param": {"eps": "eps", "k": [1]}}  # fmt: skip


def test_a_declaration_says_what_every_parameter_is():
    spec = find("own", forward_of("x, w, labels, eps, groups, power, *, param, more=3"), backward, declaration=DECLARED)
    problem = spec.problem
    assert (spec.layer, spec.convention, problem.gradients) == (None, "declared", ("dx", "dw"))
    assert (problem.scalars, dict(problem.labels)) == (("eps",), {"labels": ("N", "M")})
    for sizes in problem.sizes:
        assert sizes["N"] > sizes["M"]  # so that some class occurs twice
        values = problem.draw(np.random.default_rng(0), sizes)
        positional, named = problem.arguments(values)
        assert [type(one).__name__ for one in positional] == ["ndarray", "ndarray", "ndarray", "float", "int", "int"]
        assert positional[4] == sizes["D"]
        assert named == {"param": {"eps": values["eps"], "k": [1]}}
        named["param"]["k"].append(2)
        assert problem.arguments(values)[1]["param"]["k"] == [1]


def test_a_declaration_chooses_the_gradients():
    declared = {"x": "N D", "w": "D M", "gradients": "dw dx", "output": "N M"}
    spec = find("own", forward_of("x, w"), backward, declaration=declared)
    assert (spec.problem.gradients, spec.problem.output) == (("dw", "dx"), ("N", "M"))
    only = find("own", forward_of("x, w"), backward, declaration={**declared, "gradients": "dw"}).problem
    values = only.draw(np.random.default_rng(0), only.sizes[0])
    (x, w), _ = only.arguments(values)
    assert w is values["w"]
    np.testing.assert_array_equal(x, constant("x", (only.sizes[0]["N"], only.sizes[0]["D"])))
    with pytest.raises(Unsupported, match="constant"):
        only.arguments({**values, "N": object()})


@pytest.mark.parametrize(
    ("declared", "layer", "turned"),
    [
        ({"X": "D N", "g": "D 1", "b": "D 1", "eps": "eps"}, "batch_norm", True),
        ({"X": "D N", "g": "D", "b": "D", "eps": "eps"}, "batch_norm", True),
        ({"X": "N D", "g": "D", "b": "D", "eps": "eps"}, "batch_norm", False),
        ({"X": "N D", "g": "D", "b": "D", "eps": "eps"}, "layer_norm", False),
    ],
)
def test_a_declared_layer_has_the_formula_that_its_axes_tell(declared, layer, turned):
    spec = find("own", forward_of("X, g, b, eps"), backward, declaration={**declared, "layer": layer})
    problem = spec.problem
    values = problem.draw(np.random.default_rng(0), problem.sizes[0])
    x = values["X"].T if turned else values["X"]
    y, _ = getattr(xhat, layer).reference_forward(x, values["g"].ravel(), values["b"].ravel(), values["eps"])
    assert spec.layer == layer
    assert problem.specification is not None
    np.testing.assert_allclose(problem.specification(values), y.T if turned else y, rtol=1e-13)


MESSAGES = [
    ({}, "x, kappa", ValueError, 'XHAT = {"own": {"x": "N D", "kappa": "D"}}'),
    ({"convention": "caffe"}, "x", ValueError, "expected convention 'cs231n', 'torch', 'xhat', 'none', got 'caffe'"),
    ({"layer": "norm"}, "x", ValueError, "got 'norm'"),
    ({"layer": "batch_norm", "axis": 2}, "x", ValueError, "expected axis 0 or 1, got 2"),
    ({"declaration": "N D"}, "x", TypeError, "expected a declaration as a dict, got str"),
    ({"declaration": {"y": "N D"}}, "x", ValueError, "expected a declaration of x, got 'y'"),
    ({"declaration": {"x": "N D"}}, "x, w", ValueError, "unknown 'w'"),
    ({"declaration": {"x": "n d"}}, "x", ValueError, "Names of axes begin with a capital letter"),
    ({"declaration": {"x": 3}}, "x", ValueError, "expected an array to differentiate, got none"),
    ({"declaration": {"x": "N D", "gradients": "dw"}}, "x", ValueError, "expected gradients out of dx, got dw"),
    ({"declaration": {"x": "N D", "layer": "norm"}}, "x", ValueError, "got 'norm'"),
]


@pytest.mark.parametrize(("options", "parameters", "kind", "message"), MESSAGES)
def test_messages_say_what_to_do(options, parameters, kind, message):
    with pytest.raises(kind) as caught:
        find("own", forward_of(parameters), backward, **options)
    assert str(caught.value).startswith("own: expected ")
    assert message in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="expected a forward function"):
        find("own", 3, backward)  # type: ignore[arg-type]


@given(
    st.permutations(["x", "gamma", "beta"]),
    st.sampled_from(["eps", "bn_param", "epsilon=1e-5"]),
    st.sampled_from([None, *CONVENTIONS]),
)
def test_roles_do_not_depend_on_the_order_of_the_parameters(order, last, convention):
    spec = find("batchnorm", forward_of(", ".join([*order, last])), backward, convention=convention)
    values = spec.problem.draw(np.random.default_rng(0), spec.problem.sizes[0])
    positional, _ = spec.problem.arguments(values)
    assert all(positional[i] is values[name] for i, name in enumerate(order))
    assert list(spec.problem.inputs) == ["x", "gamma", "beta"]


@given(st.dictionaries(st.sampled_from("xyzw"), st.lists(st.sampled_from(["N", "D", "M", "N*D", "2"]), max_size=3), min_size=1))  # fmt: skip
def test_declared_arrays_have_their_shapes(axes):
    declared = {name: " ".join(one) for name, one in axes.items()}
    problem = find("own", forward_of(", ".join(axes)), backward, declaration=declared).problem
    for sizes in problem.sizes:
        positional, _ = problem.arguments(problem.draw(np.random.default_rng(0), sizes))
        for one, names in zip(positional, axes.values(), strict=True):
            assert np.shape(one) == tuple(
                int(np.prod([size(part, sizes) for part in axis.split("*")])) for axis in names
            )


def test_no_alias_names_two_layers():
    from xhat.verify import specs

    listed = list(itertools.chain.from_iterable(known.aliases.split() for known in specs._LAYERS.values()))
    assert len(listed) == len(set(listed))
