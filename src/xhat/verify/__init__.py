"""Honesty: whether a backward pass computes the gradient of its forward pass."""

from xhat.verify.numeric import GradientCheck, GradientRow, check_network

__all__ = ["GradientCheck", "GradientRow", "check_network"]
