"""What `xhat check` must say of every file in `students/`, right and wrong, and whether it said it.

A row tells a file and a pair, and a word for everything that a report judges:

    PROVED, EXACT, AGREES       right: at least this
    DISPROVED                   wrong, and seen to be wrong
    WRONG                       disproved, or not decided with a finding that says why
    NOT_EXACT, NOT_PROVED       wrong in some case that a check may or may not meet (`at`, `sizes`): it may be left
                                undecided, but never be called exact (never be called proved)

What is not named may get any verdict. Inputs have the names of their roles, whatever the file calls them: dx for dinput.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xhat.verify.report import LEVEL_OF, Level, PairReport, Word

RIGHT = (Word.PROVED, Word.EXACT, Word.AGREES)
BELOW = {"NOT_EXACT": Level.EXACT, "NOT_PROVED": Level.PROOF}


@dataclass(frozen=True)
class Expectation:
    """A row of the table.

    `says` is a pattern that some message must match, whatever the case of its letters. `line` is a piece of the line
    that must be named. `changes` are the arguments that the code modifies though it should not. `at` are factors on
    inputs ("dout" too), and `sizes` are sizes, at which that is wrong which is right elsewhere.
    Findings that `may` matches are no false alarm.
    """

    file: str
    pair: str
    words: Mapping[str, str]
    says: str | None = None
    line: str | None = None
    changes: tuple[str, ...] = ()
    at: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    may: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.pair}"


def broken(expected: Expectation, report: PairReport, source: Iterable[str]) -> list[str]:
    """Return what in a report is other than expected, as sentences; `source` are the lines of the file."""
    found = {verdict.name: verdict.word for verdict in report.verdicts}
    told = [*report.verdicts, *report.findings, *report.remarks]
    wrongs = [
        f"{name}: expected {word}, got {found.get(name, 'no verdict')}"
        for name, word in expected.words.items()
        if not _satisfied(word, found.get(name), bool(report.findings))
    ]
    if expected.says and not any(re.search(expected.says, entry.message, re.IGNORECASE) for entry in told):
        wrongs.append(f"no message says {expected.says!r}")
    if expected.line:
        lines = [number for number, text in enumerate(source, 1) if expected.line in text]
        assert len(lines) == 1, f"{expected}: {expected.line!r} stands in {len(lines)} lines"
        if lines[0] not in [entry.line for entry in told]:
            wrongs.append(f"line {lines[0]} is not named: {expected.line}")
    if expected.changes and not report.findings:
        wrongs.append(f"no finding, though {' and '.join(expected.changes)} is modified")
    if not {*expected.words.values()}.difference(RIGHT) and not expected.says:
        alarms = [entry.message for entry in report.findings if not re.search(expected.may or "(?!)", entry.message)]
        wrongs += [f"a false alarm: {message}" for message in alarms]
    return wrongs


def _satisfied(word: str, found: Word | None, explained: bool) -> bool:
    if word in RIGHT:
        return found is not None and LEVEL_OF[found] >= LEVEL_OF[Word(word)]
    if word in BELOW:
        return found is None or LEVEL_OF[found] < BELOW[word]
    if word == "WRONG":
        return found is Word.DISPROVED or (found in (None, Word.NOT_DECIDED) and explained)
    return found is Word(word)


def _words(text: str) -> dict[str, str]:
    """Read "dx dgamma=PROVED out=AGREES"."""
    words: dict[str, str] = {}
    names: list[str] = []
    for part in text.split():
        name, _, word = part.partition("=")
        names.append(name.replace("_in_test", " (test)"))
        if word:
            words.update(dict.fromkeys(names, word))
            names = []
    assert not names, f"{text!r}: {names} got no word"
    return words


def _row(
    file: str,
    pair: str,
    words: str,
    says: str | None = None,
    line: str | None = None,
    *,
    changes: str = "",
    at: Mapping[str, float] | None = None,
    sizes: Mapping[str, int] | None = None,
    may: str | None = None,
) -> Expectation:
    return Expectation(file, pair, _words(words), says, line, tuple(changes.split()), at or {}, sizes or {}, may)


_NORM = "dx dgamma dbeta=PROVED out=AGREES"
_RUNNING = "running_mean running_var out_in_test=AGREES"
_OTHERS = "dgamma dbeta=PROVED out=AGREES"  # where dx alone is wrong

_WIDER = "float64"  # float32 becomes float64: no mistake in the mathematics, though it may be told

_RIGHT = [
    _row("layers.py", "affine", "dx dw db=PROVED out=AGREES"),
    _row("layers.py", "relu", "dx=EXACT out=AGREES"),
    _row("layers.py", "batchnorm", f"{_NORM} {_RUNNING}"),
    _row("layers.py", "batchnorm_alt", _NORM),
    _row("layers.py", "layernorm", _NORM),
    _row("layers.py", "dropout", "dx=EXACT", may=_WIDER),
    _row("layers.py", "conv_naive", "dx dw db=EXACT out=AGREES"),
    _row("layers.py", "max_pool_naive", "dx=EXACT out=AGREES"),
    _row("layers.py", "spatial_batchnorm", f"dx dgamma dbeta=EXACT out=AGREES {_RUNNING}"),
    _row("layers.py", "spatial_groupnorm", "dx dgamma dbeta=EXACT out=AGREES"),
    _row("layers.py", "svm_loss", "dx=EXACT out=AGREES"),
    _row("layers.py", "softmax_loss", "dx=EXACT out=AGREES"),
    _row("nine_steps.py", "batchnorm", _NORM, may=_WIDER),
    _row("closed_form.py", "batchnorm", f"{_NORM} {_RUNNING}"),
    _row("closed_form.py", "batchnorm_alt", _NORM),
    _row("features_by_samples.py", "batch_norm", "dZ dgamma dbeta=PROVED"),
    _row("in_place_careful.py", "batchnorm", f"{_NORM} {_RUNNING}"),
    _row("loop_samples.py", "batchnorm", "dx dgamma dbeta=EXACT out=AGREES", may=_WIDER),
    _row("loop_features.py", "batchnorm", "dx dgamma dbeta=EXACT out=AGREES", may=_WIDER),
    _row("double_loop.py", "layernorm", "dx dgamma dbeta=EXACT out=AGREES", may=_WIDER),
    _row("einsum_style.py", "batchnorm", _NORM),
    _row("einsum_style.py", "affine", "dx dw db=PROVED out=AGREES"),
    _row("std_and_float_n.py", "batchnorm", _NORM),
    _row("matrix_style.py", "batchnorm", "dx dgamma dbeta=EXACT out=AGREES", may=_WIDER),
    _row("ones_dot.py", "batchnorm", _NORM, may=_WIDER),
    _row("lambdas_and_powers.py", "batchnorm", _NORM),
    _row("star_import.py", "batchnorm", _NORM),
    _row("typed_dataclass.py", "batchnorm", _NORM),
    _row("typed_dataclass.py", "layernorm", _NORM),
    _row("namedtuple_cache.py", "bn", _NORM),
    _row("namedtuple_cache.py", "ln", _NORM),
    _row("helper_functions.py", "batchnorm", f"{_NORM} {_RUNNING}"),
    _row("layernorm_by_transposition.py", "layernorm", _NORM),
    _row("groupnorm_by_reshape.py", "spatial_groupnorm", "dx dgamma dbeta=EXACT out=AGREES"),
    _row("two_layer_net.py", "sigmoid_net_loss", "dW1 db1 dW2 db2=EXACT"),
    _row("two_layer_net.py", "relu_net_loss", "dW1 db1 dW2 db2=EXACT"),
    _row("softmax_one_hot.py", "softmax_loss", "dx=EXACT out=AGREES", may=_WIDER),
    _row("weighted_batchnorm.py", "weighted_norm", "dx dgamma dbeta=EXACT"),
    _row("rmsnorm.py", "rmsnorm", "dx dg=PROVED"),
    _row("activations.py", "silu", "dx=EXACT"),
    _row("activations.py", "tanh", "dx=EXACT"),
    _row("activations.py", "sigmoid", "dx=EXACT"),
    _row("activations.py", "leaky_relu", "dx=EXACT"),
    _row("activations.py", "softplus", "dx=AGREES"),
    _row("activations.py", "swish", "dx db=EXACT"),
    _row("activations.py", "log_softmax", "dx=EXACT"),
    _row("attention.py", "attention", "dq dk dv=EXACT"),
    _row("conv_im2col.py", "conv_naive", "dx dw db=EXACT out=AGREES"),
    _row("pool_with_mask.py", "max_pool_naive", "dx=EXACT out=AGREES"),
    _row("torch_names.py", "layer_norm", "dx dgamma dbeta=PROVED out=AGREES"),
    _row("torch_names.py", "linear", "dx dw db=PROVED out=AGREES"),
    _row("sandwich.py", "affine_bn_relu", "dx dw db dgamma dbeta=EXACT"),
    _row("embedding.py", "embedding", "dtable=EXACT", may=_WIDER),
    _row("views_that_are_right.py", "scale", "dx dgamma dbeta=PROVED"),
    _row("views_that_are_right.py", "square", "dx=EXACT"),
    _row("decorated.py", "batchnorm", _NORM),
    _row("local_imports.py", "batchnorm", _NORM),
    _row("expanded_by_hand.py", "batchnorm", _NORM),
    _row("instance_norm_of_images.py", "instancenorm", "dx dgamma dbeta=EXACT out=AGREES"),
    _row("static_class.py", "BatchNorm", _NORM),
    _row("staff_log_sum_exp.py", "softmax_loss", "dx=EXACT out=AGREES"),
    _row("homework.ipynb", "batchnorm", f"{_NORM} {_RUNNING}"),
]

_WRONG = [
    # the forward pass
    _row("variance_over_everything.py", "batchnorm", "out dx=DISPROVED", "axis|all entries", "np.sum(xmu ** 2)"),
    _row("std_subtracted.py", "batchnorm", "out=DISPROVED", "subtract", "(x - mean) - std"),
    _row("std_multiplied.py", "batchnorm", "out dx=DISPROVED dgamma dbeta=PROVED", "multipl"),
    _row("statistics_over_features.py", "batchnorm", "out dx=DISPROVED", "axis|features"),
    _row("eps_outside_root.py", "batchnorm", "out dx=DISPROVED dgamma dbeta=PROVED", "eps"),
    _row("n_minus_one_hidden.py", "batchnorm", "out dx=DISPROVED", r"N ?- ?1|ddof"),
    _row("statement_without_effect.py", "batchnorm", "out dbeta=DISPROVED dx dgamma=PROVED", None, "out + beta"),
    # running statistics and test mode
    _row("running_not_written.py", "batchnorm", f"{_NORM} running_mean running_var=WRONG", "running_mean"),
    _row("running_roles_exchanged.py", "batchnorm", f"{_NORM} running_mean running_var=WRONG", "momentum"),
    _row("running_var_unbiased.py", "batchnorm", f"{_NORM} running_mean=AGREES running_var=WRONG", r"N ?- ?1"),
    _row("running_stores_eps.py", "batchnorm", f"{_NORM} running_mean=AGREES running_var=WRONG", "eps"),
    _row("test_mode_returns_none.py", "batchnorm", f"{_NORM} out_in_test=WRONG", "test.*None|None.*test"),
    _row("test_mode_uses_the_batch.py", "batchnorm", f"{_NORM} out_in_test=WRONG", "batch"),
    _row("test_mode_updates_running.py", "batchnorm", _NORM, "test"),
    _row("eps_of_the_caller_ignored.py", "layernorm", "dx dgamma dbeta=PROVED out=DISPROVED", "eps"),
    _row(
        "unknown_mode_accepted.py", "batchnorm", f"{_NORM} {_RUNNING}"
    ),  # the course asks for an error; a hint at most
    # what is found without a formula
    _row("misspelt_name.py", "batchnorm", "out dx=WRONG", "variance", "np.sqrt(varaince"),
    _row("misspelt_in_backward.py", "batchnorm", "out=AGREES dx=WRONG", "dxhat", "dxht"),
    _row("cache_order.py", "batchnorm", "out=AGREES dx=WRONG dbeta=PROVED", "order", "xhat, gamma, std = cache"),
    _row("cache_too_short.py", "batchnorm", "dx dgamma dbeta=WRONG", "gamma", "xmu, std, xhat, gamma = cache"),
    _row(
        "gradient_order.py", "layernorm", "dx=PROVED dgamma dbeta=WRONG", "order|exchanged", "return dx, dbeta, dgamma"
    ),
    _row("dout_changed.py", "batchnorm", "out=AGREES", "dout", "dout *= gamma", changes="dout"),
    _row("x_changed.py", "batchnorm", "", "x ", changes="x"),
    _row("relu_changes_dout.py", "relu", "out=AGREES", "dout", changes="dout"),
    _row("gradients_one_by_d.py", "batchnorm", "dx=PROVED dgamma dbeta=WRONG", r"\(1, ?\w+\)"),
    _row("groupnorm_flat_parameters.py", "spatial_groupnorm", "dx=EXACT dgamma dbeta=WRONG", "shape"),
    _row("affine_dx_flat.py", "affine", "dw db=PROVED dx=WRONG", "shape"),
    _row("affine_bias_ignored_axis.py", "affine", "dx dw=PROVED db=WRONG", "axis|shape", "db = np.sum(dout)"),
    _row("not_written_yet.py", "batchnorm", "out=AGREES dx dgamma dbeta=WRONG", "not written|None"),
    _row("only_one_gradient.py", "batchnorm", "dx dgamma dbeta=WRONG", "1 gradient", None),
    _row("conv_padding_kept.py", "conv_naive", "dw db=EXACT dx=WRONG", "shape|pad"),
    # the gradient of batch norm
    _row("eps_dropped_in_backward.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "eps", "std = np.sqrt(var)"),
    _row("eps_twice.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "eps"),
    _row("jacobian_as_diagonal.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "diagonal|missing"),
    _row("statistics_as_constants.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "missing|constant"),
    _row("mean_term_missing.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", r"mean\("),
    _row("variance_term_missing.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "missing|constant"),
    _row("dgamma_times_gamma.py", "batchnorm", "dx dbeta=PROVED dgamma=DISPROVED", "gamma", "dout * gamma * xmu"),
    _row(
        "sums_for_means.py",
        "batchnorm",
        f"{_OTHERS} dx=DISPROVED",
        "factor|sum|mean",
        "np.sum(dxhat * xhat, axis=0)) /",
    ),
    _row("axis_missing_in_dmean.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "axis", "np.sum(-dxhat * ivar)"),
    _row("root_of_the_root.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", None, "np.sqrt(sqrtvar)"),
    _row("half_forgotten.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "2|half|twice"),
    _row("divided_by_variance.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "variance|sigma|std"),
    _row("n_minus_one_in_backward.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", r"N ?- ?1|N/\(N", "(N - 1)"),
    _row("parameters_averaged.py", "batchnorm", "dx=PROVED dgamma dbeta=DISPROVED", "N|mean"),
    _row(
        "dgamma_without_division.py", "batchnorm", "dx dbeta=PROVED dgamma=DISPROVED", "sigma|std", "np.sum(dout * xmu"
    ),
    _row("sign_of_variance_term.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "sign|missing"),
    _row("gamma_forgotten_in_dx.py", "batchnorm", f"{_OTHERS} dx=DISPROVED", "gamma"),
    # other norms
    _row("layernorm_over_the_batch.ipynb", "layernorm", f"{_OTHERS} dx=DISPROVED", "axis|missing"),
    _row("layernorm_dgamma_axis.py", "layernorm", "dx=PROVED dgamma dbeta=WRONG", "axis|shape"),
    _row("layernorm_divides_by_n.py", "layernorm", f"{_OTHERS} dx=DISPROVED"),
    _row("gamma_after_the_sums.py", "layernorm", f"{_OTHERS} dx=DISPROVED", "gamma"),
    _row("spatial_without_transpose.py", "spatial_batchnorm", "out=DISPROVED"),
    _row("groupnorm_counts_channels.py", "spatial_groupnorm", "dgamma dbeta=EXACT out=AGREES dx=DISPROVED"),
    _row("rms_projection_missing.py", "rms_norm", "dgamma=PROVED dx=DISPROVED", "missing"),
    _row("weights_forgotten.py", "weighted_norm", "dx=DISPROVED"),
    # other layers
    _row("affine_bias_averaged.py", "affine", "dx=PROVED dw db=DISPROVED", "N|mean"),
    _row("relu_slope_one.py", "relu", "out=AGREES dx=DISPROVED"),
    _row("relu_tests_dout.py", "relu", "out=AGREES dx=DISPROVED"),
    _row("relu_indexes_a_copy.py", "relu", "out=AGREES dx=DISPROVED"),
    _row("silu_product_rule.py", "silu", "dx=DISPROVED"),
    _row("tanh_not_squared.py", "tanh", "dx=DISPROVED"),
    _row("attention_diagonal_softmax.py", "attention", "dv=EXACT dq dk=DISPROVED"),
    _row("embedding_repeated_words.py", "embedding", "dtable=NOT_PROVED", sizes={"N": 9, "V": 4}),
    _row("pool_all_ties.py", "max_pool_naive", "out=AGREES dx=NOT_PROVED", at={"x": 0.0}),
    _row("pool_overlap_overwritten.py", "max_pool_naive", "out=AGREES dx=NOT_PROVED"),
    _row("conv_stride_ignored.py", "conv_naive", "dx db=EXACT out=AGREES dw=NOT_PROVED"),
    _row("conv_float32_becomes_float64.py", "conv_naive", "dx dw db=EXACT out=AGREES", "float32|float64|type"),
    _row("conv_pad_zero_slice.py", "conv_naive", "dw db=EXACT out=AGREES dx=NOT_PROVED", sizes={"pad": 0}),
    _row("dropout_no_mask_in_backward.py", "dropout", "dx=DISPROVED"),
    _row("dropout_not_scaled_back.py", "dropout", "dx=DISPROVED", "p"),
    _row("dropout_new_mask.py", "dropout", "dx=DISPROVED"),
    # losses
    _row("softmax_without_one_over_n.py", "softmax_loss", "out=AGREES dx=DISPROVED", "N"),
    _row("softmax_label_not_subtracted.py", "softmax_loss", "out=AGREES dx=DISPROVED"),
    _row("softmax_sum_over_batch.py", "softmax_loss", "out dx=DISPROVED"),
    _row("softmax_overflows.py", "softmax_loss", "dx=EXACT", "overflow|maximum|large"),
    _row("svm_correct_class_forgotten.py", "svm_loss", "out=AGREES dx=DISPROVED"),
    _row("svm_correct_class_minus_one.py", "svm_loss", "out=AGREES dx=DISPROVED"),
    _row("squared_error_without_mean.py", "squared_error_loss", "dy=DISPROVED", "N|factor"),
    _row("squared_error_without_two.py", "squared_error_loss", "dy=DISPROVED", "2|factor"),
    _row("sigmoid_slope_one.py", "net_loss", "dW2=EXACT dW1=DISPROVED"),
    _row("sigmoid_slope_of_input.py", "net_loss", "dW2=EXACT dW1=DISPROVED"),
]

_TRAPS = [
    # one array under two names
    _row("alias_by_name.py", "scale", "dgamma dbeta=WRONG", "dout", changes="dout"),
    _row("alias_by_reshape.py", "scale", "dbeta=WRONG", "dout", changes="dout"),
    _row("alias_by_transpose.py", "scale", "dbeta=WRONG", "dout", changes="dout"),
    _row("alias_by_slice.py", "scale", "dbeta=WRONG", "dout", changes="dout"),
    _row("alias_in_cache.py", "batchnorm", "out=AGREES dbeta=PROVED dgamma dx=WRONG"),
    _row("out_argument.py", "scale", "dbeta=WRONG", "dout", changes="dout"),
    _row("out_of_a_sum.py", "shift", "dbeta=NOT_EXACT"),
    _row("copyto.py", "scale", "dgamma dbeta=WRONG", "dout", changes="dout"),
    _row("cache_changed_by_forward.py", "square", "dx=NOT_EXACT"),
    _row("doubled_in_place.py", "copy", "dx=WRONG", "dout", changes="dout"),
    _row("alias_by_einsum.py", "scale", "dbeta=WRONG", "dout", changes="dout"),
    _row("alias_by_asarray.py", "scale", "dbeta=WRONG", "dout", changes="dout"),
    _row("alias_by_asarray.py", "shift", "dx=WRONG", "dout", changes="dout"),
    _row("alias_by_ravel.py", "scale", "dgamma=WRONG", "dout", changes="dout"),
    _row("alias_by_real.py", "double", "db=WRONG", "dout", changes="dout"),
    _row("alias_by_split.py", "halves", "db=WRONG", "dout", changes="dout"),
    _row("sorted_in_place.py", "shift", "dx=WRONG", "dout", changes="dout"),
    _row("swapped_rows_of_a_view.py", "flip", "dx=NOT_EXACT"),
    _row("shape_set.py", "rows", "dx=NOT_EXACT"),
    # arguments that are easily passed over
    _row("where_argument.py", "shift", "dbeta=NOT_EXACT"),
    _row("initial_argument.py", "shift", "dbeta=NOT_EXACT"),
    # state
    _row("default_argument_remembers.py", "scale", "dgamma=NOT_EXACT"),
    _row("global_between_passes.py", "scale", "dgamma=NOT_EXACT"),
    _row("right_the_first_time.py", "scale", "dx=NOT_EXACT"),
    _row("noise_in_backward.py", "scale", "dx=NOT_EXACT"),
    _row("forward_with_hidden_noise.py", "noisy", "dx=NOT_EXACT"),
    _row("patched_numpy.py", "softmean", "dx=NOT_EXACT"),
    _row("remembered_array.py", "shift", "db=NOT_EXACT"),
    _row("cache_emptied.py", "scale", "dgamma=WRONG", changes="x"),
    # branches
    _row("branch_on_large_values.py", "square", "dx=NOT_PROVED", at={"x": 5000.0}),
    _row("branch_on_a_sum.py", "scale", "dx=NOT_EXACT"),
    _row("array_as_condition.py", "scale", "dx=NOT_EXACT"),
    _row("clipped.py", "scale", "dx=NOT_EXACT", at={"dout": 100.0}),
    _row("swallowed_exception.py", "scale", "dgamma=EXACT dx=NOT_EXACT"),
    _row("duck_typing.py", "square", "dx=NOT_EXACT"),
    _row("duck_typing.py", "triple", "dx=NOT_EXACT"),
    # numbers that are not real numbers any more
    _row("absolute_value.py", "norm", "dx=NOT_EXACT"),
    _row("absolute_value.py", "product", "dx=NOT_EXACT"),
    _row("conjugate.py", "power", "dx=NOT_EXACT"),
    _row("conjugate.py", "length", "dx=NOT_EXACT"),
    _row("root_of_a_square.py", "identity", "dx=NOT_EXACT"),
    _row("even_power_of_a_root.py", "cube", "dx=NOT_EXACT"),
    _row("maximum_of_both_signs.py", "tent", "dx=NOT_EXACT"),
    _row("rounded.py", "square", "dx=NOT_EXACT"),
    _row("rounded.py", "half", "dx=NOT_EXACT"),
    _row("cast_to_int.py", "scale", "dx dgamma=NOT_EXACT"),
    _row("cast_to_half.py", "scale", "dgamma=NOT_EXACT"),
    _row("floor_division.py", "mean", "dx=NOT_PROVED", sizes={"N": 7}),
    _row("tiny_term.py", "scale", "dgamma=NOT_EXACT", at={"x": 1e5}),
    _row("tiny_term.py", "square", "dx=NOT_EXACT", at={"x": 1e6}),
    _row("almost_a_third.py", "third", "dx=DISPROVED"),
    _row("rounding_as_default_argument.py", "scale", "dx=NOT_EXACT"),
    _row("rounding_decorator.py", "scale", "dx dgamma=NOT_EXACT"),
    _row("rounding_by_eval.py", "scale", "dx dgamma=NOT_EXACT"),
    _row("rounding_by_text.py", "half", "dx=NOT_EXACT"),
    _row("rounding_builtin.py", "half", "dx=NOT_EXACT"),
    _row("rounding_builtin.py", "twice", "dx=NOT_EXACT"),
    _row("odd_root.py", "identity", "dx=NOT_EXACT"),
    _row("sign_times_itself.py", "identity", "dx=NOT_EXACT"),
    _row("sign_times_itself.py", "length", "dx=NOT_EXACT"),
    # right in special cases
    _row("nan_to_num_clips.py", "cube", "dx=NOT_PROVED", at={"x": 1000.0}),
    _row("floor_of_the_variance.py", "batchnorm", "out=DISPROVED dx=NOT_PROVED", "eps", at={"x": 0.1}),
    _row("every_seventh_size.py", "center", "dx=NOT_PROVED", sizes={"N": 7}),
    _row("last_row_of_a_batch.py", "mean", "dx=NOT_PROVED", sizes={"N": 9}),
    _row("mean_over_a_subset.py", "center", "dx=DISPROVED"),
    _row("sum_over_last_axis.py", "shift", "db=NOT_EXACT"),
    _row("other_eps_in_backward.py", "layernorm", "out=AGREES dbeta=PROVED dx dgamma=DISPROVED", "eps"),
    _row("right_if_n_equals_d.py", "batchnorm", f"{_OTHERS} dx=DISPROVED"),
    _row("right_up_to_three.py", "center", "dx=NOT_PROVED"),
    _row("right_up_to_sixty_four.py", "center", "dx=NOT_PROVED", sizes={"N": 70}),
    _row("right_if_symmetric.py", "quadratic_loss", "dA=EXACT dv=DISPROVED"),
    _row("right_if_gamma_is_one.py", "batchnorm", "out=AGREES dbeta=PROVED dx dgamma=DISPROVED"),
    _row("right_if_centred.py", "normalize", "dx=DISPROVED"),
    _row("right_for_ones.py", "normalize", "dx=DISPROVED"),
    # sums and shapes
    _row("sum_over_the_other_axis.py", "rowsum", "dx=NOT_EXACT"),
    _row("sum_over_the_other_axis.py", "rowsquare", "dx=NOT_EXACT"),
    _row("row_sum_by_newaxis.py", "mix", "dx=NOT_EXACT"),
    _row("not_broadcast_back.py", "total", "dx=WRONG", "shape"),
    _row("scalar_gradient.py", "shift", "dc=NOT_EXACT"),
    _row("two_roots_alike.py", "lengths", "dx=NOT_EXACT"),
    # the language
    _row("a_class_called_np.py", "shift", "db=NOT_EXACT"),
    _row("builtin_shadowed.py", "shift", "db=NOT_EXACT"),
    _row("generator_used_twice.py", "shift", "db=NOT_EXACT"),
    _row("late_binding.py", "scale", "dgamma=NOT_EXACT"),
    _row("repeated_index.py", "shift", "dc=NOT_EXACT"),
    _row("fixed_gradient_of_the_test.py", "square", "dx=NOT_EXACT"),
]


def _in(folder: str, rows: Iterable[Expectation]) -> list[Expectation]:
    return [Expectation(**{**vars(row), "file": f"{folder}/{row.file}"}) for row in rows]


EXPECTATIONS = [
    *_in("right", _RIGHT),
    *_in("wrong", _WRONG),
    *_in("traps", _TRAPS),
]
