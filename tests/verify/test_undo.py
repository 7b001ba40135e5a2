import pytest

from xhat.verify.faults.signature import DICTIONARIES, faults_of, right_signature, same, signature, source_of
from xhat.verify.repair import edited
from xhat.verify.source import read
from xhat.verify.undo import undone

# Every name of the dictionary's code, and another one that people use for it.
OTHER_NAMES = {
    "xmu": "centered",
    "x_hat": "xhat",
    "ivar": "inv_std",
    "std": "sigma",
    "bn_param": "param",
    "dx_hat": "dxhat",
}


def renamed(text):
    for old, new in OTHER_NAMES.items():
        text = text.replace(old, new)
    return text


def functions(text):
    scope = {}
    exec(compile(text, "<text>", "exec"), scope)
    return scope["batchnorm_forward"], scope["batchnorm_backward"]


def is_right(text):
    found, right = signature("batch_norm", *functions(text)), right_signature("batch_norm")
    return found.keys() == right.keys() and all(same(found[name], right[name]) for name in right)


def ways(tmp_path, fault, text):
    path = tmp_path / "layers.py"
    path.write_text(text)
    source = read(path)
    function = source.functions[f"batchnorm_{fault.side}"]
    return [(edits, edited(text, edits)) for edits in undone(source, function, DICTIONARIES["batch_norm"], fault)]


@pytest.mark.parametrize(
    "key",
    ["mean_over_all", "eps_outside", "not_scaled", "beta_missing", "eps_ignored", "momentum_exchanged", "running_not_stored"],
)  # fmt: skip
def test_a_mistake_is_undone_in_other_names(tmp_path, key):
    fault = next(fault for fault in faults_of("batch_norm") if fault.key == key)
    text = renamed(source_of("batch_norm", [fault]))
    assert not is_right(text)
    assert any(is_right(after) for _, after in ways(tmp_path, fault, text))


def test_most_mistakes_of_the_backward_pass_are_undone(tmp_path):
    faults = [fault for fault in faults_of("batch_norm") if fault.side == "backward" and not fault.harmless]
    left = []
    for fault in faults:
        text = renamed(source_of("batch_norm", [fault]))
        if not any(is_right(after) for _, after in ways(tmp_path, fault, text)):
            left.append(fault.key)
    print(left)
    assert len(left) < len(faults) / 4, left


def test_only_the_function_that_is_wrong_is_edited(tmp_path):
    for fault in faults_of("batch_norm")[::9]:
        text = source_of("batch_norm", [fault])
        start = text.index(f"def batchnorm_{fault.side}")
        end = text.find("\ndef ", start + 1) if fault.side == "forward" else len(text)
        for edits, after in ways(tmp_path, fault, text):
            assert all(start <= edit.start <= edit.end <= end for edit in edits)
            compile(after, "<after>", "exec")


def test_right_code_has_nothing_to_undo_that_stays_right(tmp_path):
    text = source_of("batch_norm")
    fault = next(fault for fault in faults_of("batch_norm") if fault.key == "mean_over_all")
    assert not [after for _, after in ways(tmp_path, fault, text)]
