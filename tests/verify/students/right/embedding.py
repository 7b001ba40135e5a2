import numpy as np

XHAT = {"embedding": {"table": "V D", "words": "N < V", "gradients": "dtable"}}

def embedding_forward(table, words):
    return table[words], (table.shape, words)

def embedding_backward(dout, cache):
    shape, words = cache
    dtable = np.zeros(shape)
    np.add.at(dtable, words, dout)
    return dtable
