"""Numbers without rounding, on which a user's code runs as it is, and the test of a gradient on them."""

from xhat.verify.exact.identity import ExactResult, ExactVerdict, exact_identity

__all__ = ["ExactResult", "ExactVerdict", "exact_identity"]
