"""The other frameworks compute what the textbook says, forward and backward."""

from importlib.util import find_spec

import pytest

from xhat.bench import processes
from xhat.bench.problems import NORMS

EXPECTED = {
    "torch": lambda norm, direction: True,
    "torch out=": lambda norm, direction: direction == "forward" and norm.startswith(("batch", "instance")),
    "jax": lambda norm, direction: True,
    "onnxruntime": lambda norm, direction: direction == "forward" and not norm.startswith("batch"),
}


@pytest.mark.peers
def test_every_contender_is_right(task):
    houses = [house for house in ("torch", "jax", "onnxruntime") if find_spec(house)]
    if not houses:
        pytest.skip("no framework")
    contests = list(processes.run(task(NORMS, houses=("xhat", *houses))))[1:]
    assert len(contests) == 2 * len(NORMS)
    for rows in contests:
        timed = {row.contender for row in rows if row.milliseconds > 0}
        where = rows[0].norm, rows[0].direction
        assert {name for name in timed if name in EXPECTED} == {
            name for name, expected in EXPECTED.items() if name.removesuffix(" out=") in houses and expected(*where)
        }, where
        assert max(row.ulp for row in rows if row.contender in timed and row.contender in EXPECTED) < 10
