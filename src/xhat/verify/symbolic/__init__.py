"""Proofs for all sizes: code runs on arrays of symbols.

In reading order: `algebra` is polynomials in indexed quantities and sums over them, `arrays` the symbolic arrays made
of these, `namespace` the NumPy that is modelled for them, `prove` derives the true gradient and compares.
"""

from xhat.verify.symbolic.arrays import told
from xhat.verify.symbolic.prove import Gradient, Proof, Refusal, prove

__all__ = ["Gradient", "Proof", "Refusal", "prove", "told"]
