from collections import namedtuple
from typing import NamedTuple
import numpy as np

Saved = namedtuple('Saved', 'xhat sigma gamma')

class LNSaved(NamedTuple):
    xhat: np.ndarray
    sigma: np.ndarray
    gamma: np.ndarray

def bn_fwd(x, gamma, beta, eps=1e-5):
    mu = x.mean(0)
    sigma = np.sqrt(((x - mu)**2).mean(0) + eps)
    xhat = (x - mu)/sigma
    return xhat*gamma + beta, Saved(xhat, sigma, gamma)

def bn_bwd(dy, s):
    g = dy*s.gamma
    dx = (g - g.mean(0) - s.xhat*(g*s.xhat).mean(0))/s.sigma
    return dx, (dy*s.xhat).sum(0), dy.sum(0)

def ln_fwd(x, gamma, beta, eps=1e-5):
    mu = x.mean(1)[:, None]
    sigma = np.sqrt(((x - mu)**2).mean(1)[:, None] + eps)
    xhat = (x - mu)/sigma
    return xhat*gamma + beta, LNSaved(xhat, sigma, gamma)

def ln_bwd(dy, s):
    xhat, sigma, gamma = s
    g = dy*gamma
    dx = (g - g.mean(1)[:, None] - xhat*(g*xhat).mean(1)[:, None])/sigma
    return dx, (dy*xhat).sum(0), dy.sum(0)
