"""Every step by itself: the cheapest plan that is found, and a proven bound on what any plan of it costs.

*What is inherited.* Steps of equal rates are one question. Where an SLO rule's placements always hold at lower rates
(`slo.rule.Rule.lower_rates`), every plan of a step with rates r' holds at rates r ≤ r' (for every workload), because
replicas of r' carry r as well: they are as many, the set of configurations stays, limits rise, throughputs stay. So
OPT(r) ≤ OPT(r'), and a bound of r is one of r'. Then a step whose heuristic plan costs no more than the bound of a step
with lower rates is proven, and not solved exactly. The step with lower rates need not be one of the horizon: a few
steps that follow each other are often proven at once by the least of their rates, workload by workload. Nothing else is
inherited: under other rules each step is solved.

*Order.* All steps by heuristics first; then the least rates of a few steps in a row; then those that are not proven,
from the least demand up, some at a time, so that what the first prove spares others. What is inherited does not depend
on how many processes there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InfeasibleError, SolveInterruptedError
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.scheduling.steps import Answer, Question, StepProblem, grid_units
from igniter_opt.scheduling.worker import Workers
from igniter_opt.slo.rules import rule_of

# Questions between two looks at what has been proven meanwhile.
_AT_ONCE = 16
# Steps that are bounded at once by the least of their rates.
_IN_A_ROW = 4


@dataclass
class Step:
    """One question: rates, and what is known of it.

    Attributes
    ----------
    gpus, units
        The cheapest plan found, as a draft, and its cost in steps of the price grid; None while there is none.
    lower_units
        Proven bound.
    greedy
        The greedy's plan, if it finds one that holds.
    how
        ``exact``, ``heuristic`` or ``inherited``: where the bound comes from.
    """

    rates: tuple[float, ...]
    gpus: list[DraftGpu] | None = None
    units: int | None = None
    lower_units: int = 0
    greedy: list[DraftGpu] | None = None
    how: str = "heuristic"

    @property
    def proven(self) -> bool:
        """Whether no plan is cheaper."""
        return self.units is not None and self.units <= self.lower_units


@dataclass
class Afresh:
    """All steps by themselves.

    Attributes
    ----------
    steps
        One per different question.
    of
        Which of them a step of the horizon is, shape (steps,).
    """

    steps: list[Step]
    of: list[int]

    def at(self, step: int) -> Step:
        """Return what is known of a step of the horizon."""
        return self.steps[self.of[step]]


class Solving:
    """Solves all steps.

    Parameters
    ----------
    rates
        Shape (steps, workloads).
    name
        Names a step of the horizon for messages.
    report
        Called with what is done, in words.
    enough
        Whether time is up.
    """

    def __init__(
        self,
        common: StepProblem,
        rates: FloatArray,
        workers: Workers,
        name: Callable[[int], str],
        report: Callable[[str], object],
        enough: Callable[[], bool],
        exact_limit_s: float,
    ) -> None:
        different, of = np.unique(rates, axis=0, return_inverse=True)
        self.afresh = Afresh([Step(tuple(row.tolist())) for row in different], of.ravel().tolist())
        self.rates: FloatArray = different
        self.common, self.workers, self.name = common, workers, name
        self.report, self.enough, self.exact_limit_s = report, enough, exact_limit_s
        self.inherits = rule_of(common.instance).lower_rates == "always"

    def run(self) -> Afresh:
        """Solve all steps, as far as time allows.

        Raises
        ------
        InfeasibleError
            A step has no plan, or none is found.
        """
        steps = self.afresh.steps
        answers = self._asked("fit", range(len(steps)), "steps by heuristics")
        for step, answer in zip(steps, answers, strict=True):
            if answer is None:
                continue
            self._refuse_impossible(step, answer)
            self._take(step, answer)
            step.greedy = answer.greedy
        self._prove_in_rows()
        order = sorted(range(len(steps)), key=lambda k: (float(self.rates[k].sum()), k))
        waiting = [k for k in order if steps[k].gpus is not None or not self.enough()]
        while waiting and not self.enough():
            self._inherit()
            waiting = [k for k in waiting if not steps[k].proven]
            now, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            words = f"exact steps, {sum(step.proven for step in steps)} of {len(steps)} proven"
            for k, answer in zip(now, self._asked("exact", now, words), strict=True):
                if answer is not None:
                    self._refuse_impossible(steps[k], answer)
                    self._take(steps[k], answer, "exact")
        self._inherit()
        self._refuse_without_plan()
        return self.afresh

    def _prove_in_rows(self) -> None:
        """Bound a few steps in a row by the least of their rates."""
        if not self.inherits:
            return
        self._inherit()
        steps, rows = self.afresh.steps, self._rows()
        questions = []
        for row in rows:
            least = np.min([steps[k].rates for k in row], axis=0)
            questions.append(
                Question("exact", tuple(least.tolist()), self.exact_limit_s, tuple(steps[row[0]].gpus or ()))
            )
        for row, answer in zip(rows, self._answers(questions, "bounds for steps in a row"), strict=True):
            for k in row:
                if answer is not None and answer.lower_units > steps[k].lower_units:
                    steps[k].lower_units, steps[k].how = answer.lower_units, "inherited"

    def _rows(self) -> list[list[int]]:
        """Return steps that follow each other, cost the same and are not proven; some at a time, more than one."""
        found: list[list[int]] = [[]]
        for k in self.afresh.of:
            step = self.afresh.steps[k]
            row = found[-1]
            if step.proven or step.gpus is None:
                found.append([])
            elif row and (len(row) >= _IN_A_ROW or self.afresh.steps[row[-1]].units != step.units):
                found.append([k])
            elif k not in row:
                row.append(k)
        return [row for row in found if len(row) > 1]

    def _asked(self, kind: str, which: Sequence[int], words: str) -> list[Answer | None]:
        steps = [self.afresh.steps[k] for k in which]
        return self._answers(
            [Question(kind, step.rates, self.exact_limit_s, tuple(step.gpus or ())) for step in steps], words
        )

    def _answers(self, questions: Sequence[Question], words: str) -> list[Answer | None]:
        return self.workers.answers(
            questions, lambda done: self.report(f"{words} ({done} of {len(questions)})"), self.enough
        )

    def _take(self, step: Step, answer: Answer, how: str = "heuristic") -> None:
        if answer.lower_units > step.lower_units:
            step.lower_units, step.how = answer.lower_units, how
        if answer.gpus is not None:
            units = grid_units(self._problem, answer.gpus)
            if step.units is None or units < step.units:
                step.gpus, step.units = answer.gpus, units

    @property
    def _problem(self) -> Problem:
        if not hasattr(self, "_any"):
            self._any = self.common.problem(self.afresh.steps[0].rates)
        return self._any

    def _inherit(self) -> None:
        """Give bounds to steps whose rates are nowhere lower (see above)."""
        if not self.inherits:
            return
        steps = self.afresh.steps
        bounds = np.array([step.lower_units for step in steps])
        for k, step in enumerate(steps):
            best = int(bounds[_nowhere_above(self.rates, self.rates[k])].max())
            if best > step.lower_units:
                step.lower_units, step.how = best, "inherited"

    def _refuse_impossible(self, step: Step, answer: Answer) -> None:
        if answer.gpus is None and answer.why:
            raise InfeasibleError(f"{self._named(step)}: {answer.why}", proven=True)

    def _refuse_without_plan(self) -> None:
        for step in self.afresh.steps:
            if step.gpus is None and not self.workers.stop.is_set() and not self.enough():
                raise InfeasibleError(f"{self._named(step)}: no plan was found; none is proven not to exist")

    def _named(self, step: Step) -> str:
        number = self.afresh.steps.index(step)
        return self.name(self.afresh.of.index(number))


def _nowhere_above(rates: FloatArray, row: FloatArray) -> npt.NDArray[np.bool_]:
    return np.asarray((rates <= row).all(axis=1))


def require_some(afresh: Afresh) -> None:
    """Raise SolveInterruptedError where no step has a plan."""
    if all(step.gpus is None for step in afresh.steps):
        raise SolveInterruptedError("stopped before any step had a plan")
