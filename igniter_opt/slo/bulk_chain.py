"""The chain of the queue in `queueing`, and its stationary distribution.

Notation is that of `queueing`: Poisson arrivals at a rate R, batches of up to b, busy times s_1 .. s_b.

*Chain.* Let n be the number waiting when a batch is completed, before the next dispatch. If n = 0 the server idles
until an arrival and then serves one. So with k = max(1, min(n, b)) the next such number is
``max(n - b, 0) + Poisson(R s_k)``. Rows n ≥ b are one distribution, shifted: from there the chain makes steps
Poisson(λ) - b, λ = R s_b. It has a stationary distribution π iff λ < b (negative drift on n ≥ b; the finitely many
other rows do not matter), that is, iff the utilisation R s_b / b at full batches is below 1.

*Stationary distribution.* States are taken out from above (censoring, as in Gaussian elimination without
subtractions). For the rows n ≥ b this can be done once and for all. Seen only when it reaches a new minimum, a walk
with steps Poisson(λ) - b moves down by i with a probability d_i, i = 1 .. b, and by the factorisation of Wiener and
Hopf ``1 - Σ d_i y^i = Π_j (1 - z_j y)`` over the b roots z_j of ``z^b = exp(λ (z - 1))`` in the closed unit disc (one
of them is 1). So the mass that a row has at n ≥ b moves to n - i with weights d_i, from the top down, and what is
left are b states, solved by elimination without subtractions (Grassmann, Taksar, Heyman 1985). What passed through n
on the way down gives π_n for n ≥ b. There is no truncation but that of Poisson probabilities below 1e-17. The number
of full batches in proportion, Σ_{n≥b} π_n, follows from flow balance, requests served per batch = requests arriving
per batch (not counting those that find the server free): ``Σ_{n≥1} π_n k_n = R Σ π_n s_{k_n}``.
"""

import math

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled

# Poisson probabilities and shares of time below this do not count.
NEGLIGIBLE = 1e-17


@compiled
def poisson(mean: float, size: int) -> FloatArray:
    """Probabilities of 0 .. size - 1 under a Poisson distribution."""
    found = np.zeros(size)
    if mean < 600.0:
        term = math.exp(-mean)
        for count in range(size):
            found[count] = term
            term *= mean / (count + 1)
    else:
        for count in range(size):
            found[count] = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1.0))
    return found


@compiled
def poisson_reach(mean: float) -> int:
    """Number of Poisson probabilities until they stay negligible."""
    return int(mean + 9.0 * math.sqrt(mean) + 20.0)


@compiled
def decay_root(mean: float, most: int) -> float:
    """Root z > 1 of ``z^b = exp(λ (z - 1))``: π_n falls like z^-n.

    Parameters
    ----------
    mean, most
        λ, arrivals during a full batch, and b; λ < b.
    """
    root: float = 2.0 * most / mean
    # Newton's method from the right of the root of a convex function.
    while mean * (root - 1.0) < most * math.log(root):
        root *= 2.0
    for _ in range(200):
        step = (mean * (root - 1.0) - most * math.log(root)) / (mean - most / root)
        root -= step
        if abs(step) <= 1e-14 * root:
            break
    return root


@compiled
def descents(mean: float, most: int) -> FloatArray:
    """Probabilities d_1 .. d_b of the step to a new minimum (see the module's derivation); shape (b + 1,), d_0 = 0."""
    # 1 - Σ d_i y^i, as a product over the roots; conjugate pairs make real factors.
    product = np.zeros(most + 1)
    product[0] = 1.0
    degree = 0
    pairs = (most - 1) // 2
    # Roots far apart follow each other, which keeps partial products small: steps coprime to the number of pairs.
    stride = max(1, int(0.618 * pairs))
    while stride > 1 and math.gcd(stride, max(pairs, 1)) > 1:
        stride -= 1
    for turn in range(pairs):
        number = 1 + (turn * stride) % pairs
        angle = 2.0 * math.pi * number / most
        unit = complex(math.cos(angle), math.sin(angle))
        root = 0.5 * unit
        # A contraction with factor below λ / b, finished by Newton's method.
        for _ in range(4):
            root = unit * np.exp(mean / most * (root - 1.0))
        for _ in range(50):
            image = unit * np.exp(mean / most * (root - 1.0))
            step = (root - image) / (1.0 - mean / most * image)
            root -= step
            if abs(step) < 1e-15:
                break
        linear, square = -2.0 * root.real, root.real * root.real + root.imag * root.imag
        degree += 2
        for power in range(degree, -1, -1):
            value = product[power]
            if power >= 1:
                value += linear * product[power - 1]
            if power >= 2:
                value += square * product[power - 2]
            product[power] = value
    if most % 2 == 0:
        # The one root on the negative axis.
        root_real = -0.5
        for _ in range(100):
            image_real = -math.exp(mean / most * (root_real - 1.0))
            step_real = (root_real - image_real) / (1.0 - mean / most * image_real)
            root_real -= step_real
            if abs(step_real) < 1e-15:
                break
        degree += 1
        for power in range(degree, 0, -1):
            product[power] -= root_real * product[power - 1]
    # The root 1: what is left of it are the tail sums of d, so d are their differences.
    found = np.zeros(most + 1)
    for down in range(1, most + 1):
        above = product[down] if down < most else 0.0
        found[down] = max(0.0, product[down - 1] - above)
    return found


@compiled
def _push_down(row: FloatArray, top: int, bottom: int, down: FloatArray) -> None:
    """Move what a row has at positions `bottom` .. `top` - 1 down by d, from the top; what passed stays there."""
    most = down.size - 1
    moved = down[:0:-1].copy()
    for position in range(top - 1, bottom - 1, -1):
        weight = row[position]
        if weight > NEGLIGIBLE:
            # A slice, for an index that may be negative would keep the loop from being vectorized.
            target = row[position - most : position]
            for at in range(most):
                target[at] += weight * moved[at]


@compiled
def stationary(rate: float, busy: FloatArray, states: int) -> FloatArray:
    """Stationary probabilities of the number waiting at completions.

    Parameters
    ----------
    rate, busy
        R per ms and s_1 .. s_b in ms, with R s_b < b.
    states
        How many states are wanted, at least b + 1.

    Returns
    -------
    FloatArray
        Shape (states + 1,): π_0 .. π_{states - 1}, then the probability of all states n ≥ b.
    """
    most = busy.size
    mean = rate * busy[most - 1]
    down = descents(mean, most)
    # The row of a state n ≥ b, position p standing for n - b + p, pushed down to positions below b.
    reach = max(poisson_reach(mean), most + 1)
    up = poisson(mean, reach)
    leaves = 0.0
    # What is left moves down by d again, which mends the rounding errors of the roots where there are many.
    for _ in range(20):
        up = poisson(mean, reach)
        _push_down(up, reach, most + 1, down)
        leaves = 0.0
        for position in range(most):
            leaves += up[position]
        change = 0.0
        for i in range(1, most + 1):
            change = max(change, abs(down[i] - up[most - i] / leaves))
            down[i] = up[most - i] / leaves
        if change < 1e-14:
            break
    # Rows 0 .. b - 1, likewise; `passed` keeps what passed through the states n ≥ b.
    widest = most + 1
    for k in range(most):
        widest = max(widest, poisson_reach(rate * busy[k]))
    passed = np.zeros((most, max(states, widest)))
    for n in range(most):
        row = poisson(rate * busy[max(n, 1) - 1], widest)
        _push_down(row, widest, most, down)
        passed[n, :widest] = row
    found = np.zeros(states + 1)
    stays = np.zeros(most)
    for n in range(most - 1, 0, -1):
        out = 0.0
        for position in range(n):
            out += passed[n, position]
        stays[n] = out
        for row_number in range(n):
            weight = passed[row_number, n] / out
            if weight > 0.0:
                target, moved = passed[row_number, :n], passed[n, :n]
                for position in range(n):
                    target[position] += weight * moved[position]
    found[0] = 1.0
    for n in range(1, most):
        value = 0.0
        for position in range(n):
            value += found[position] * passed[position, n]
        found[n] = value / stays[n]
    for position in range(most):
        weight, target, moved = found[position], found[most:states], passed[position, most:widest]
        for number in range(min(target.size, moved.size)):
            target[number] += weight * moved[number]
    for n in range(most, states):
        found[n] /= leaves
        weight, target, moved = found[n], found[n + 1 : states], up[most + 1 :]
        for number in range(min(target.size, moved.size)):
            target[number] += weight * moved[number]
    # Flow balance gives the proportion of full batches.
    surplus, total = 0.0, 0.0
    for n in range(most):
        k = max(n, 1)
        if n > 0:
            surplus -= found[n] * n
        surplus += found[n] * rate * busy[k - 1]
        total += found[n]
    found[states] = surplus / (most - mean)
    total += found[states]
    for n in range(states + 1):
        found[n] /= total
    return found
