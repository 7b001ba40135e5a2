import numpy as np


def layer_norm_forward(input, weight, bias, eps=1e-5):
    mean = input.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(input.var(-1, keepdims=True) + eps)
    norm = (input - mean) * rstd
    return norm * weight + bias, (norm, rstd, weight)


def layer_norm_backward(grad_output, ctx):
    norm, rstd, weight = ctx
    dnorm = grad_output * weight
    grad_input = rstd * (dnorm - dnorm.mean(-1, keepdims=True) - norm * (dnorm * norm).mean(-1, keepdims=True))
    return grad_input, (grad_output * norm).sum(0), grad_output.sum(0)


def linear_forward(input, weight, bias):
    return np.matmul(input, weight.T) + bias, (input, weight)


def linear_backward(grad_output, ctx):
    input, weight = ctx
    return np.matmul(grad_output, weight), np.matmul(grad_output.T, input), grad_output.sum(0)
