"""The verdict on a plan under load: whether SLOs were kept, under which conditions, or why nobody can say.

It is made once, where requests were counted, and carried in the files; everything else only shows it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from igniter_opt.base.schema import Integer, Name, Record
from igniter_opt.base.text import counted

# The generator sends too late to judge anybody if it is this late at the judged percentile, in ms and relative to the
# SLO (or to the median latency where there is none).
LATE_MS, LATE_PART = 1.0, 0.1
_MOST_NAMED = 5
# A percentile of random latencies is guesswork with fewer requests beyond it than this.
FEWEST_BEYOND = 10


class Verdict(Record):
    """Whether the SLOs of a plan were kept.

    Attributes
    ----------
    outcome
        ``none`` where `reasons` forbid to say.
    judged
        What was compared with the SLOs, such as ``P99``.
    workloads, over
        How many were judged, and the names of those over their SLO.
    reasons
        Why there is no verdict, one sentence each.
    conditions
        In which the load was not the plan's own, or the servers not its cards.
    few
        Those judged by too few requests to be sure of (`too_few`).
    """

    outcome: Literal["holds", "violates", "none"]
    judged: str
    workloads: Integer
    over: tuple[Name, ...] = ()
    reasons: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    few: tuple[Name, ...] = ()

    @property
    def text(self) -> str:
        """The verdict in words."""
        before = f"{', '.join(self.conditions)}: " if self.conditions else ""
        if self.outcome == "none":
            return f"{before}no verdict: {'; '.join(self.reasons)}"
        within = self.workloads - len(self.over)
        text = f"{before}{self.judged} is within the SLO for {within} of {counted(self.workloads, 'workload')}"
        if self.few:
            text += (
                f", but {counted(len(self.few), 'workload')} had fewer than {FEWEST_BEYOND} requests beyond it, which"
                f" says little ({named(self.few)}); a longer --duration tells more"
            )
        return text


def judge(
    held: Mapping[str, bool],
    judged: str,
    reasons: Sequence[str] = (),
    conditions: Sequence[str] = (),
    few: Sequence[str] = (),
) -> Verdict | None:
    """Make the verdict; None where there is nothing to judge, and no reason why it could not be.

    Parameters
    ----------
    held
        Of every workload, whether it is within its SLO.
    judged, reasons, conditions, few
        As in the verdict; any reason leaves none.
    """
    if not held and not reasons:
        return None
    over = tuple(name for name, within in held.items() if not within)
    return Verdict(
        outcome="none" if reasons else "violates" if over else "holds",
        judged=judged,
        workloads=len(held),
        over=over,
        reasons=tuple(reasons),
        conditions=tuple(conditions),
        few=tuple(few),
    )


def too_few(requests: float, percentile: float) -> bool:
    """Whether too few requests lie beyond a percentile (a probability) to say much about it."""
    return percentile < 1.0 and requests * (1.0 - percentile) < FEWEST_BEYOND * (1.0 - 1e-9)


def sent_too_late(late_ms: float | None, slo_ms: float | None, p50_ms: float | None) -> bool:
    """Whether the generator, not the server, is to blame for part of the latencies."""
    reference = slo_ms if slo_ms is not None else p50_ms
    return late_ms is not None and late_ms > max(LATE_MS, LATE_PART * (0.0 if reference is None else reference))


def late_reason(late: Sequence[str], worst_ms: float, of: str = "") -> str:
    """Say that requests of some workloads were sent too late.

    Parameters
    ----------
    worst_ms
        How late at the judged percentile.
    of
        What time it is, in words with a comma behind.
    """
    return f"requests of {named(late)} were sent up to {worst_ms:.1f} ms too late ({of}at the judged percentile)"


def named(names: Sequence[str]) -> str:
    """List the first of some names, and say how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def load_conditions(
    scale: float = 1.0, *, pace: float = 1.0, cpu: bool = False, partial: str | None = None
) -> list[str]:
    """Say in which ways a load was not the plan's own on its own cards."""
    return [
        *([f"at {scale:g} times the plan's rates"] if scale != 1 else []),
        *([f"with time slowed to {pace:g}"] if pace != 1 else []),
        *(["on servers without GPUs and shares"] if cpu else []),
        *([f"until it ended early ({partial})"] if partial else []),
    ]
