import itertools

import numpy as np
import pytest

import xhat
from xhat.cs231n import layers as course
from xhat.verify.faults import DICTIONARIES, Row, diagnose, faults_of, source_of, table
from xhat.verify.faults.dictionary import compiled
from xhat.verify.faults.signature import signature, wrong_parts

FAULTS = [fault for layer in DICTIONARIES for fault in faults_of(layer)]


# layer, forward, backward, harmless, different signatures, pairs, unique pairs, masked pairs
ROWS = [
    Row("batch_norm", 54, 63, 1, 111, 6384, 5265, 168),
    Row("spatial_batch_norm", 11, 9, 0, 20, 159, 156, 3),
    Row("layer_norm", 26, 44, 0, 69, 2183, 2045, 44),
    Row("group_norm", 30, 47, 0, 76, 2657, 2459, 96),
    Row("instance_norm", 27, 44, 0, 70, 2218, 2085, 41),
    Row("rms_norm", 14, 22, 0, 36, 551, 535, 12),
    Row("affine", 7, 18, 0, 25, 258, 256, 2),
    Row("relu", 9, 10, 1, 17, 101, 70, 13),
    Row("dropout", 13, 9, 0, 22, 195, 177, 6),
    Row("conv", 17, 19, 0, 36, 588, 585, 3),
    Row("max_pool", 12, 10, 0, 22, 200, 195, 3),
    Row("flatten", 5, 3, 0, 8, 15, 15, 0),
    Row("softmax_cross_entropy", 14, 11, 0, 25, 246, 244, 2),
    Row("hinge_loss", 10, 9, 0, 19, 154, 147, 7),
    Row("squared_error", 7, 7, 0, 14, 55, 55, 0),
]


def name(fault):
    return f"{fault.layer}-{fault.side}-{fault.key}"


def functions(layer, *faults):
    return DICTIONARIES[layer].functions(faults)


def fault_of(layer, side, key):
    return next(fault for fault in faults_of(layer) if (fault.side, fault.key) == (side, key))


def instance_norm(x, gamma, beta, eps):
    return xhat.instance_norm.forward(x, gamma, beta, eps=eps)


def rms_norm(x, gamma, eps):
    return xhat.rms_norm.forward(x, gamma, eps=eps)


RIGHT = {
    "batch_norm": (course.batchnorm_forward, course.batchnorm_backward_alt),
    "spatial_batch_norm": (course.spatial_batchnorm_forward, course.spatial_batchnorm_backward),
    "layer_norm": (course.layernorm_forward, course.layernorm_backward),
    "group_norm": (course.spatial_groupnorm_forward, course.spatial_groupnorm_backward),
    "instance_norm": (instance_norm, xhat.instance_norm.backward),
    "rms_norm": (rms_norm, lambda dy, cache: xhat.rms_norm.backward(dy, cache)[:2]),
    "affine": (course.affine_forward, course.affine_backward),
    "relu": (course.relu_forward, course.relu_backward),
    "dropout": (course.dropout_forward, course.dropout_backward),
    "conv": (course.conv_forward_naive, course.conv_backward_naive),
    "max_pool": (course.max_pool_forward_naive, course.max_pool_backward_naive),
    "flatten": (xhat.flatten.forward, xhat.flatten.backward),
    "softmax_cross_entropy": (course.softmax_loss, None),
    "hinge_loss": (course.svm_loss, None),
    "squared_error": (xhat.squared_error, None),
}


@pytest.mark.parametrize("layer", DICTIONARIES)
def test_the_right_code_of_a_dictionary_does_what_the_library_does(layer):
    assert diagnose(layer, *RIGHT[layer]) == []
    assert diagnose(layer, *functions(layer)) == []


@pytest.mark.parametrize("layer", DICTIONARIES)
def test_every_mistake_is_found_and_only_the_harmless_ones_are_not_wrong(layer):
    for fault in faults_of(layer):
        forward, backward = functions(layer, fault)
        wrong = wrong_parts(layer, signature(layer, forward, backward))
        assert bool(wrong) != fault.harmless, name(fault)
        matches = diagnose(layer, forward, backward)
        assert fault.harmless or (fault,) in [match.faults for match in matches if match.whole], name(fault)


def test_the_dictionaries_are_as_large_as_the_documentation_says():
    assert table() == ROWS
    assert sum(row.forward + row.backward for row in ROWS) == len(FAULTS)


def test_messages_are_sentences_and_keys_are_unique():
    for fault in FAULTS:
        assert fault.message.endswith("."), name(fault)
        assert len(fault.message) <= 125, name(fault)
        assert not any(word in fault.message for word in ("AXIS", "SUM", "X_HAT", "DOUT")), name(fault)
    assert len({name(fault) for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("layer", DICTIONARIES)
def test_two_mistakes_at_once_are_both_named(layer):
    rng = np.random.default_rng(0)
    harmful = [fault for fault in faults_of(layer) if not fault.harmless]
    pairs = list(itertools.combinations(harmful, 2))
    tried = 0
    for number in rng.permutation(len(pairs))[:6]:
        try:
            forward, backward = functions(layer, *pairs[number])
        except ValueError:
            continue  # both in one place
        tried += 1
        matches = diagnose(layer, forward, backward)
        found = [set(match.faults) for match in matches if match.whole]
        assert found or not wrong_parts(layer, signature(layer, forward, backward)), pairs[number]
        singles = any(len(faults) == 1 for faults in found)
        assert singles or not found or set(pairs[number]) in found, pairs[number]
    assert tried


def test_one_gradient_is_explained_where_another_is_wrong_in_an_unknown_way():
    forward, backward = functions("batch_norm", fault_of("batch_norm", "backward", "mean_constant"))

    def odd(dout, cache):
        dx, dgamma, dbeta = backward(dout, cache)
        return dx, dgamma + 0.1, dbeta

    matches = diagnose("batch_norm", forward, odd)
    assert {match.parts for match in matches} == {("dx",)}
    assert not any(match.whole for match in matches)
    assert "The mean is treated as constant: the term dmu / N is missing in dx." in [match.message for match in matches]


def test_an_unknown_mistake_is_not_given_a_name():
    forward, backward = functions("batch_norm")
    assert (
        diagnose(
            "batch_norm", forward, lambda dout, cache: (1.001 * backward(dout, cache)[0], *backward(dout, cache)[1:])
        )
        == []
    )


def test_code_that_raises_is_judged_up_to_there():
    forward, _ = functions("batch_norm", fault_of("batch_norm", "forward", "variance_over_all"))

    def unwritten(dout, cache):
        raise NotImplementedError

    matches = diagnose("batch_norm", forward, unwritten)
    assert next(fault.key for match in matches for fault in match.faults) == "variance_over_all"

    def broken(x, gamma, beta, bn_param):
        raise NameError

    assert diagnose("batch_norm", broken, unwritten) == []


def test_a_diagnosis_leaves_the_global_generator_where_it_was():
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    diagnose("dropout", *functions("dropout"))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize("layer", DICTIONARIES)
def test_a_whole_module_is_written_for_each_mistake(layer):
    right = source_of(layer)
    for fault in faults_of(layer):
        text = source_of(layer, [fault])
        assert text != right
        assert text.startswith("import numpy as np\n")
        namespace = {}
        exec(compile(text, "<text>", "exec"), namespace)
        assert sum(map(callable, namespace.values())) >= 1 + bool(DICTIONARIES[layer].backward)


def test_mistakes_in_one_place_are_refused():
    one, other = (fault_of("batch_norm", "forward", key) for key in ("variance_over_all", "variance_unbiased"))
    with pytest.raises(ValueError, match="expected faults in different places, got two in one"):
        source_of("batch_norm", [one, other])


def test_other_styles_of_right_code_leave_the_same():
    text = """
import numpy as np
def backward(dout, cache):
    x_hat, gamma, xmu, ivar, std, var, eps = cache
    m = dout.shape[0]
    db = dout.sum(0)
    dg = np.einsum("ij,ij->j", dout, x_hat)
    return (1.0 / m) * gamma * ivar * (m * dout - db - x_hat * dg), dg, db
"""
    assert diagnose("batch_norm", functions("batch_norm")[0], compiled(text, "<closed form>")) == []
