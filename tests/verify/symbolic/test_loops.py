"""Loops over axes of any size: proved where iterations do not see one another, else refused or right."""

import textwrap

import pytest
from tests.verify.symbolic.truth import posed, symbolic, wrong_on_floats

NORM = {"x": ("N", "D"), "gamma": ("D",), "beta": ("D",)}
X = {"x": ("N", "D")}
XW = {"x": ("N", "D"), "w": ("D",)}


def _right(text, inputs, scalars=(), labels=()):
    problem = posed(text, inputs, scalars, labels)
    assert not wrong_on_floats(problem)
    said = symbolic(problem)
    assert all(word is True for word in said.values()), said


def _sound(text, inputs, refused=None, scalars=(), labels=()):
    problem = posed(text, inputs, scalars, labels)
    wrong = wrong_on_floats(problem)
    said = symbolic(problem)
    assert wrong is not None
    for name, word in said.items():
        assert not (word is True and name in wrong), f"{name} is proved, though floats are off by {wrong[name]}"
    if refused is not None:
        assert any(isinstance(word, str) and refused in word for word in said.values()), said


BATCH_NORM = """
def forward(x, gamma, beta, eps):
    N, D = x.shape
    mean = np.zeros(D)
    var = np.zeros(D)
    for j in range(D):
        mean[j] = x[:, j].sum() / N
        var[j] = ((x[:, j] - mean[j]) ** 2).sum() / N
    ivar = 1 / np.sqrt(var + eps)
    xhat = np.zeros_like(x)
    out = np.empty_like(x)
    for i in range(N):
        xhat[i] = (x[i] - mean) * ivar
        for d in range(D):
            out[i, d] = gamma[d] * xhat[i, d] + beta[d]
    return out, (xhat, gamma, ivar)
"""

BACKWARDS = {
    "entries": """
        for i in range(N):
            for d in range(D):
                dgamma[d] += dout[i, d] * xhat[i, d]
                dbeta[d] += dout[i, d]
        for i in range(N):
            dx[i] = gamma * ivar / N * (N * dout[i] - dbeta - xhat[i] * dgamma)
    """,
    "rows": """
        for row, d in zip(xhat, dout):
            dgamma += row * d
            dbeta += d
        for i, d in enumerate(dout):
            dx[i, :] += gamma * ivar * d
            dx[i] -= gamma * ivar / N * dbeta
            dx[i] -= gamma * ivar / N * xhat[i] * dgamma
    """,
    "columns": """
        for d in range(D):
            dgamma[d] = (dout[:, d] * xhat[:, d]).sum()
            first = 0
            for n in range(N):
                first += dout[n, d]
            dbeta[d] = first
            g = dout[:, d] * gamma[d]
            dx[:, d] = ivar[d] / N * (N * g - g.sum() - xhat[:, d] * np.sum(g * xhat[:, d]))
    """,
    "rebound": """
        for i in np.arange(N):
            dgamma = dgamma + dout[i] * xhat[i]
            dbeta = dout[i] + dbeta
        for d in range(D):
            for i in range(N):
                dx[i, d] = gamma[d] * ivar[d] / N * (N * dout[i, d] - dbeta[d] - xhat[i, d] * dgamma[d])
    """,
    "lists": """
        dgamma = np.array([(dout[:, d] * xhat[:, d]).sum() for d in range(D)])
        dbeta = sum(dout[i] for i in range(N))
        dx = np.stack([gamma * ivar / N * (N * dout[i] - dbeta - xhat[i] * dgamma) for i in range(N)])
    """,
    "a helper": """
        def part(i, rows):
            return gamma * ivar / N * (N * dout[i] - dbeta - rows[i] * dgamma)
        def add(total, i):
            total += dout[i] * xhat[i]
        for i in range(N):
            add(dgamma, i)
            dbeta[:] += dout[i]
        for i in range(N):
            dx[i] = part(i, xhat)
    """,
}


def _batch_norm(style, forward=BATCH_NORM):
    body = textwrap.indent(textwrap.dedent(BACKWARDS[style]), "    ")
    start = """
def backward(dout, cache):
    xhat, gamma, ivar = cache
    N, D = dout.shape
    dgamma, dbeta, dx = np.zeros(D), np.zeros(D), np.zeros((N, D))
"""
    return f"{forward}{start}{body}\n    return dx, dgamma, dbeta\n"


@pytest.mark.parametrize("style", BACKWARDS)
def test_batch_norm_with_loops_is_proved(style):
    _right(_batch_norm(style), NORM, ["eps"])


@pytest.mark.parametrize("style", BACKWARDS)
@pytest.mark.parametrize(
    ("old", "new"), [("/ N * (N *", "* (N *"), ("- dbeta", "+ dbeta"), ("xhat[i]", "1"), ("xhat", "dout")]
)
def test_batch_norm_with_a_fault_in_a_loop_is_not(style, old, new):
    text = _batch_norm(style)
    start = text.index("def backward") + len("def backward(dout, cache):\n    xhat, gamma, ivar = cache\n")
    body = text[start:]
    if old not in body:
        pytest.skip("no such place")
    problem = posed(text[:start] + body.replace(old, new), NORM, ["eps"])
    wrong = wrong_on_floats(problem)
    said = symbolic(problem)
    assert wrong
    assert all((said[name] is True) == (name not in wrong) for name in said), (said, wrong)


def test_softmax_with_loops_is_proved():
    _right(
        """
        def forward(x, y):
            N, C = x.shape
            dx = np.zeros_like(x)
            loss = 0.0
            for i in range(N):
                scores = x[i]
                e = np.exp(scores - np.max(scores))
                p = e / e.sum()
                loss += -np.log(p[y[i]])
                dx[i] = p
                dx[i, y[i]] -= 1
            return loss / N, dx / N
        """,
        {"x": ("N", "C")},
        labels={"y": ("N", "C")},
    )


def test_columns_compared_with_a_label_are_proved():
    _right(
        """
        def forward(x, y):
            N, C = x.shape
            dx = np.zeros_like(x)
            total = 0
            for i in range(N):
                total -= x[i, y[i]]
                for j in range(C):
                    dx[i, j] -= (j == y[i])
            return total, dx
        """,
        {"x": ("N", "C")},
        labels={"y": ("N", "C")},
    )


LINEAR = """
def forward(x, w):
    N, D = x.shape
    out = np.zeros(N)
    for n in range(N):
        for d in range(D):
            out[n] += x[n, d] * w[d]
    return out, (x, w)

def backward(dout, cache):
    x, w = cache
    N, D = x.shape
    dx = np.zeros((N, D))
    dw = np.zeros(D)
    BODY
    return dx, dw
"""
RIGHT_LINEAR = {
    "nested the other way": """
        for d in range(D):
            for n in range(N):
                dx[n, d] = dout[n] * w[d]
                dw[d] += dout[n] * x[n, d]
    """,
    "one name for both indices": """
        for i in range(N):
            dx[i] = dout[i] * w
        for i in range(D):
            dw[i] = (dout * x[:, i]).sum()
    """,
    "rows of rows": """
        for n in range(N):
            dx[n][:] = dout[n] * w
            dw += x[n].T * dout[n]
    """,
    "a view before the loop": """
        turned = dx.T
        for n in range(N):
            turned[:, n] = dout[n] * w
            dw += dout[n] * x[n]
    """,
    "a product in place": """
        dx += 1
        for n in range(N):
            dx[n] *= dout[n] * w
            dw += dout[n] * x[n]
    """,
    "an index that is not used": """
        for n in range(N):
            for d in range(D):
                dx[n, d] = dout[n] * w[d]
            dw += (x * dout[:, None]).sum(0) / N
    """,
    "names that outlive the loop, not used": """
        for n in range(N):
            factor = dout[n]
            dx[n] = factor * w
            dw += factor * x[n]
        factor = 1
        dx = dx * factor
    """,
    "continue": """
        for n in range(N):
            dx[n] = dout[n] * w
            dw += dout[n] * x[n]
            continue
    """,
    "else": """
        for n in range(N):
            dx[n] = dout[n] * w
        else:
            dw += (dout[:, None] * x).sum(0)
    """,
    "a plain loop inside": """
        for n in range(N):
            for part in (0.25, 0.75):
                dx[n] += part * dout[n] * w
            dw += dout[n] * x[n]
    """,
    "inside a plain loop": """
        for part in [0.25, 0.75]:
            for n in range(N):
                dx[n] += part * dout[n] * w
                dw += part * dout[n] * x[n]
    """,
    "a local array": """
        for n in range(N):
            row = np.zeros(D)
            for d in range(D):
                row[d] = dout[n] * w[d]
            dx[n] = row
            dw += dout[n] * x[n]
    """,
}


@pytest.mark.parametrize("style", RIGHT_LINEAR)
def test_right_loops_are_proved(style):
    body = textwrap.indent(textwrap.dedent(RIGHT_LINEAR[style]), "    ").strip()
    _right(LINEAR.replace("BODY", body), XW)


# Every one of these would be proved wrongly, or wrongly refuted, by a body that simply runs once. After the colon: a
# part of the reason with which it must be refused; without one, it may be decided if the decision is right.
ADVERSARIAL = {
    "a recurrence: other iterations": "for n in range(1): pass\nfor n in range(N):\n    dx[n] = dout[n] * w + dx.sum()",
    "written, then read whole: other iterations": "for n in range(N):\n    dx[n] = dout[n] * w\n    dw += dx.sum(0)",
    "read through a view: other iterations": "v = dx.T\nfor n in range(N):\n    dx[n] = dout[n] * w + v.sum()",
    "two views, two indices: ": "v = dx.T\nfor n in range(N):\n    for d in range(D):\n        dx[n, d] = v[d, n] + dout[n] * w[d]",
    "swapped buffers: holds|changes": "a, b = dx, np.ones((N, D))\nfor n in range(N):\n    a[n] = dout[n] * w\n    a, b = b, a\ndx = a",
    "swapped totals: ": "a, b = 0, 1\nfor n in range(N):\n    a, b = b + dout[n], a\ndx = dx + a",
    "an accumulator used: used in the loop": "for n in range(N):\n    dw += dout[n] * x[n]\n    dx[n] = dw",
    "an accumulator used before: used in the loop": "for n in range(N):\n    dx[n] = dw\n    dw += dout[n] * x[n]",
    "entries summed, used: uses it as well": "for n in range(N):\n    dw[:] += dout[n] * x[n]\n    dx[n] = dw",
    "entries summed, used before: uses it as well": "for n in range(N):\n    dx[n] = dw\n    dw[:] += dout[n] * x[n]",
    "entries doubled: uses it as well": "dw += 1\nfor n in range(N):\n    dw[:] += dw",
    "entries multiplied: other iterations": "dw += 1\nfor n in range(N):\n    dw[:] *= 2",
    "entries summed, used in a loop: uses it as well": "for n in range(N):\n    dw[:] += x[n]\n    for d in range(D):\n        dx[n, d] = dw[d]",
    "a total used: is used in the loop": "t = 0\nfor n in range(N):\n    t += dout[n]\n    dx[n] = t * w",
    "a total multiplied: is used in the loop": "t = 1\nfor n in range(N):\n    t = t * 2\ndx += t",
    "a total doubled: is used in the loop": "t = 1\nfor n in range(N):\n    t += t\ndx += t",
    "an array doubled: used in the loop": "dw += 1\nfor n in range(N):\n    dw += dw",
    "an array multiplied: used in the loop": "dw += 1\nfor n in range(N):\n    dw *= 2",
    "a total negated: is used in the loop": "t = 1\nfor n in range(N):\n    t = -t\ndx += t",
    "subtracted from: is used in the loop": "t = 1\nfor n in range(N):\n    t = dout[n] - t\ndx += t",
    "the number of the iteration: number of an iteration": "for n in range(N):\n    dx[n] *= n",
    "the number added: number of an iteration": "for n in range(N):\n    dw += n",
    "a branch on it: number of an iteration": "for n in range(N):\n    if n == 0:\n        dx[n] = dout[n] * w",
    "the next entry: number of an iteration": "for n in range(N):\n    dx[n] = dx[n - 1]",
    "modulo: number of an iteration": "for n in range(N):\n    dx[n % 2] += dout[n] * w",
    "an input changed: ": "for n in range(N):\n    x[n] *= 2\n    dx[n] = dout[n] * w\n    dw += dout[n] * x[n]",
    "fewer: may be none": "for n in range(N - 1):\n    dx[n] = dout[n] * w",
    "from 1 on: range": "for n in range(1, N):\n    dx[n] = dout[n] * w",
    "backwards: range": "for n in range(N - 1, -1, -1):\n    dx[n] = dout[n] * w",
    "the same name nested: ": "for n in range(N):\n    for n in range(D):\n        dw[n] += 1\n    dx[n] = dout[n] * w",
    "a list: change|append": "rows = []\nfor n in range(N):\n    rows.append(1)\ndx += len(rows)",
    "a list by its method: append": "rows = []\nadd = rows.append\nfor n in range(N):\n    add(1)\ndx += len(rows)",
    "a list through its type: append": "rows = []\nfor n in range(N):\n    list.append(rows, 1)\ndx += len(rows)",
    "a list as counter: change of a list": "c = [0]\nfor n in range(N):\n    c[0] += 1\ndx += c[0] * dout[:, None] * w",
    "a list added to: ": "c = []\nfor n in range(N):\n    c += [1]\ndx += len(c)",
    "a dictionary: change of a dict": "c = {'n': 0}\nfor n in range(N):\n    c['n'] += 1\ndx += c['n']",
    "a dictionary updated: update": "c = {'n': 0}\nfor n in range(N):\n    c.update(n=c['n'] + 1)\ndx += c['n']",
    "an attribute: change of a function": "def f(): pass\nf.n = 0\nfor n in range(N):\n    f.n += 1\ndx += f.n",
    "setattr: setattr": "def f(): pass\nf.n = 0\nfor n in range(N):\n    setattr(f, 'n', f.n + 1)\ndx += f.n",
    "an outer name: global or outer": "t = 0\ndef f():\n    nonlocal t\n    t += 1\nfor n in range(N):\n    f()\ndx += t",
    "a global name: earlier iteration": "global count\ncount = 0\nfor n in range(N):\n    count += 1\ndx += count",
    "an iterator: each iteration could": "it = iter([1, 2, 3, 4, 5])\nfor n in range(N):\n    dx[n] = next(it)",
    "an iterator hidden: next": "it = [iter([1, 2, 3, 4, 5])]\nfor n in range(N):\n    dx[n] = next(it[0])",
    "a hidden iterator looped over: a loop over": "it = [iter([1, 2])]\nfor n in range(N):\n    for k in it[0]:\n        dx[n] += k",
    "random numbers: random": "for n in range(N):\n    dx[n] = np.random.rand(D)\ndx = dx - dx[:, None].mean(0)",
    "the last one used: left": "for n in range(N):\n    t = dout[n]\ndx += t",
    "the index afterwards: left": "for n in range(N):\n    dx[n] = 0\ndx[n] = 1",
    "the row afterwards: ": "for r in dx:\n    r += 1\nr += 1",
    "the last one through a view: left|iteration": "for n in range(N):\n    r = dx[n]\nr[:] = 1",
    "the last one in a closure: ": "for n in range(N):\n    f = lambda: dout[n]\ndx += f()",
    "rows in a list, then changed: ": "rows = [dx[n] for n in range(N)]\nfor r in rows:\n    r += 1",
    "a local array, one entry: made in the same": "for n in range(N):\n    t = np.zeros(N)\n    t[n] = dout[n]\n    dx[n] = t.sum() * w + t.mean()",
    "break: break": "for n in range(N):\n    dx[n] = dout[n] * w\n    break",
    "return: return": "for n in range(N):\n    dx[n] = dout[n] * w\n    return dx, dw",
    "return inside: return": "for n in range(N):\n    while True:\n        return dx, dw",
    "first one only: earlier iteration": "first = True\nfor n in range(N):\n    if first:\n        dx[n] = dout[n] * w\n    first = False",
    "first by None: earlier iteration": "best = None\nfor n in range(N):\n    if best is None:\n        dx[n] = dout[n] * w\n    best = n",
    "the row before: earlier iteration|used in": "last = 0\nfor n in range(N):\n    dx[n] = last\n    last = dout[n]",
    "a maximum kept: is used in the loop": "best = 0\nfor n in range(N):\n    best = max(best, dout[n])\ndx += best",
    "an error that is caught: after an error": "for n in range(N):\n    try:\n        dx[n + 1] = dout[n] * w\n    except Exception:\n        dx[n] = dout[n] * w",
    "an error that is suppressed: with": "import contextlib\nwith contextlib.suppress(Exception):\n    dx[1] = 5",
    "an error lost in finally: after an error": "try:\n    dx[1] = 5\nfinally:\n    return dx, dw",
    "a text of the number: str": "for n in range(N):\n    if str(n) == '0':\n        dx[n] = 1",
    "a name in a text: number of an iteration": "for n in range(N):\n    if f'{n}' == '0':\n        dx[n] = 1",
    "a set of numbers: ": "for n in range(N):\n    s = {n}\n    dx[n] = len(s)",
    "a shorter axis: as long as the loop": "for d in range(D):\n    dx[d] = dout[d] * w",
    "zip of two lengths: equally long": "for a, b in zip(dout, w):\n    dw += a * b",
    "a row overwritten: other iterations": "for n in range(N):\n    for d in range(D):\n        dx[n] = dout[n] * w[d]",
    "scratch memory: other iterations": "t = np.zeros(D)\nfor n in range(N):\n    t[:] = dout[n] * w\n    dx[n] = t\n    dw += dout[n] * x[n]",
    "a number kept, then changed: ": "for n in range(N):\n    for d in range(D):\n        a = dx[n, d]\n        dx[n, d] = dout[n] * w[d]\n        dx[n, d] += a",
    "a number added to by name: ": "for n in range(N):\n    for d in range(D):\n        a = dx[n, d]\n        a += dout[n] * w[d]",
    "an alias of a total: uses it as well": "t = dw\nfor n in range(N):\n    t = t + dout[n] * x[n]\n    dw += 1\ndw = t",
    "an alias in place: ": "t = dw\nfor n in range(N):\n    t += dout[n] * x[n]\n    dw += 0",
    "two names, one array, read: uses it as well": "t = dw\nfor n in range(N):\n    t += dout[n] * x[n]\n    dx[n] = dw",
    "rebound, then in place: is used in": "t = dw\nfor n in range(N):\n    t = t + dout[n] * x[n]\n    t += 1\ndx += t",
    "in place, then rebound: ": "t = dw\nfor n in range(N):\n    t += dout[n] * x[n]\n    t = t + 1\ndx += t",
    "a default argument: change of a list": "def f(v, seen=[0]):\n    seen[0] += 1\n    return v * seen[0]\nfor n in range(N):\n    dx[n] = f(dout[n]) * w",
    "a generator that waits: ": "g = (dx[n].sum() for n in range(N))\ndx += 1\ndw += sum(g)",
    "a comprehension with if: ": "dw += sum([dout[n] for n in range(N) if n > 0])",
    "a list's length: list": "dx += len([dout[n] for n in range(N)])",
    "a list's first: list": "dx += [dout[n] for n in range(N)][0]",
    "a comprehension that adds to a list: append": "seen = []\nr = np.array([seen.append(1) or dout[n] for n in range(N)])\ndx += len(seen)",
    "a while loop: ": "n = 0\nwhile n < N:\n    dx[n] = dout[n] * w\n    n += 1",
    "a diagonal: ": "s = np.zeros((N, D))\nfor n in range(N):\n    s[n, n] = 1",
    "a walrus: ": "for n in range(N):\n    dx[n] = (t := dout[n]) * w\ndw += t",
    "map: map": "seen = []\nfor n in range(N):\n    list(map(seen.append, [1]))\ndx += len(seen)",
    "a method of a lambda: ": "seen = []\nadd = lambda v: seen.append(v)\nfor n in range(N):\n    add(1)\ndx += len(seen)",
    "deleted: ": "t = 0\nfor n in range(N):\n    t += dout[n]\n    del t\n    t = 1\ndx += t",
    "matched: ": "t = 0\nfor n in range(N):\n    match (1, 2):\n        case (a, t):\n            dx[n] = dout[n] * w\ndw += t",
    "unpacked with a star: ": "for n in range(N):\n    t, *r = (1, 2, dout[n])\n    dx[n] = r[0] * w + r[1] - r[1]\ndw += r[0]",
    "added to and read in an inner loop: used in the loop": "for n in range(N):\n    dw += dout[n] * x[n]\n    for d in range(D):\n        dx[n, d] = dw[d]",
    "a mask: ": "for n in range(N):\n    dx[n][dx[n] == 0] = 1",
    "out=: other iterations": "for n in range(N):\n    np.add(dw, dout[n] * x[n], out=dw)",
    "copyto: other iterations": "for n in range(N):\n    np.copyto(dw, dout[n] * x[n])",
    "fill: other iterations": "for n in range(N):\n    dw.fill(dout[n])",
    "a total of a total: ": "a = b = 0\nfor n in range(N):\n    a += dout[n]\n    b += a\ndx += b",
    "the name of another: ": "a, b = 0, 0\nfor n in range(N):\n    b = a + dout[n]\ndx += b",
    "enumerate from 1: count": "for n, r in enumerate(dx, 1):\n    r += n",
    "an entry in a tuple: ": "t = (0,)\nfor n in range(N):\n    t = (t[0] + dout[n],)\ndx += t[0]",
    "a true mark: ": "done = False\nfor n in range(N):\n    done = True\nif done:\n    dx[:] = dout[:, None] * w",
}


@pytest.mark.parametrize("case", ADVERSARIAL)
def test_adversarial_loops_are_refused_or_right(case):
    import re

    body = textwrap.indent(ADVERSARIAL[case], "    ").strip()
    problem = posed(LINEAR.replace("BODY", body), XW)
    wrong = wrong_on_floats(problem)
    said = symbolic(problem)
    assert not [name for name, word in said.items() if word is True and name in (wrong or ())], (said, wrong)
    reason = case.partition(": ")[2]
    if reason:
        assert all(isinstance(word, str) and re.search(reason, word) for word in said.values()), said
    elif wrong is not None:
        assert not [name for name, word in said.items() if word is False and name not in wrong], (said, wrong)
