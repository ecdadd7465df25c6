"""Tables of what changes on a cluster."""

from rich.markup import escape

from igniter_opt.cli import console
from igniter_opt.cli.tables.differences import Row, print_rows, sign
from igniter_opt.deploy.differences import Mark
from igniter_opt.deploy.kubernetes.cluster_changes import ObjectChange, Verb
from igniter_opt.deploy.kubernetes.launching import ClusterDifference
from igniter_opt.deploy.kubernetes.settings import ClusterSettings

_MARKS: dict[Verb, Mark] = {"create": "start", "update": "change", "remove": "stop", "keep": "keep"}
_WORDS: dict[Verb, tuple[str, str]] = {
    "create": ("to create", "created"),
    "update": ("to change", "changed"),
    "remove": ("to remove", "removed"),
}


def print_difference(found: ClusterDifference, *, done: bool) -> None:
    """Print a line for every object that changes and for every server that stays, steps and numbers.

    Parameters
    ----------
    done
        Whether all that has been done.
    """
    shown = [change for change in found.changes if change.verb != "keep" or change.placement]
    rows: list[Row] = [(sign(_MARKS[change.verb]), change.title, change.placement, change.why) for change in shown]
    print_rows(rows, "object", "placement", "what")
    out = console.stdout()
    for number, step in found.steps.steps:
        starts, stops = (", ".join(server.placement for server in some) for some in (step.start, step.stop))
        what = "; ".join([f"start {starts}"] * bool(starts) + [f"then stop {stops}"] * bool(stops))
        out.print(escape(f"{found.steps.words(number)}: {what or 'nothing'}"), soft_wrap=True)
    if found.steps.why_not:
        out.print(escape(found.steps.why_not), soft_wrap=True)
    numbers = _numbers(found.changes)
    said = [f"{numbers[verb]} {words[done]}" for verb, words in _WORDS.items()]
    out.print(f"objects: {', '.join(said)}, {numbers['keep']} kept")


def difference_to_dict(found: ClusterDifference, settings: ClusterSettings) -> dict[str, object]:
    """Return what changes as plain data (the form of ``deploy --backend kubernetes --json``)."""
    return {
        "deployment": settings.deployment,
        "namespace": settings.namespace,
        "plan_digest": found.planned.digest,
        "running_plan_digest": found.running,
        "changed": not found.nothing,
        "counts": _numbers(found.changes),
        "objects": [
            {"verb": change.verb, "object": change.title, "placement": change.placement or None, "why": change.why}
            for change in found.changes
        ],
        "migration": {
            "steps": [{"number": number, **step.model_dump(mode="json")} for number, step in found.steps.steps],
            "not_followed": found.steps.why_not or None,
        },
        "notes": list(found.planned.made.notes),
    }


def _numbers(changes: tuple[ObjectChange, ...]) -> dict[Verb, int]:
    verbs = [change.verb for change in changes]
    return {verb: verbs.count(verb) for verb in _MARKS}
