"""Every layer in LAYERS keeps the contract, in every case, implementation, type and layout."""

import pkgutil

import numpy as np
import pytest
from tests.contract import contract

import xhat.layers
from xhat import kernels
from xhat.layers import LAYERS

CASES = [
    pytest.param(case, id=f"{layer.__module__.rpartition('.')[2]}-{i}: {case}")
    for layer in LAYERS
    for i, case in enumerate(contract.cases_of(layer))
]
DTYPES = [pytest.param(dtype, id=np.dtype(dtype).name) for dtype in contract.DTYPES]

each_case = pytest.mark.parametrize("case", CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_variant = pytest.mark.parametrize("variant", kernels.VARIANTS)


@each_case
def test_backward_is_the_gradient_of_forward(case):
    contract.judge_gradient(case)


@each_case
def test_numbers_worked_out_by_hand_come_out(case):
    contract.judge_example(case)


@each_dtype
@each_case
def test_implementations_agree_with_the_reference(case, dtype):
    contract.judge_agreement(case, dtype)


@each_variant
@each_dtype
@each_case
def test_layout_changes_no_bit(case, dtype, variant):
    contract.check_layouts(case, variant, dtype)


@each_variant
@each_dtype
@each_case
def test_out_is_written_or_refused(case, dtype, variant):
    contract.check_out(case, variant, dtype)


@each_variant
@each_case
def test_bad_input_and_forged_caches_are_refused(case, variant):
    contract.check_errors(case, variant)


@each_variant
@each_case
def test_extreme_numbers(case, variant):
    contract.check_extremes(case, variant)


@each_variant
@each_case
def test_empty_batch(case, variant):
    contract.check_empty(case, variant)


@each_case
def test_settings_caches_and_copies(case):
    contract.check_copies(case)


def test_every_file_in_layers_is_listed():
    files = {module.name for module in pkgutil.iter_modules(xhat.layers.__path__)} - {"losses"}
    assert files == {layer.__module__.rpartition(".")[2] for layer in LAYERS}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_has_an_example_worked_out_by_hand(layer):
    by_hand = [case for case in layer.cases() if case.y is not None]
    assert by_hand
    assert all(case.dx is not None for case in by_hand)
