"""One wording of what proofs are about, wherever they are told of."""

import igniter_opt as ig
from igniter_opt.cli.tables.plans import _summary
from igniter_opt.report.comparison_plots import comparison_figure
from igniter_opt.report.plots import plan_figure
from igniter_opt.slo.rules import RULES, proven_within

WORDS = "within p99's safe limits"


def _told(rule: str) -> list[str]:
    comparison = ig.compare("igniter-motivation", ["patterns"], slo_rule=rule, requests=0)
    result = comparison.results["igniter-motivation", "patterns"]
    assert result.status == "optimal"
    explanation = ig.explain(result.plan)
    titles = [axis.get_title(loc="left") for axis in plan_figure(result.plan, result.verification).axes]
    suptitle = comparison_figure(comparison)._suptitle.get_text()
    return [_summary(result.plan), explanation.origin, " ".join(titles), suptitle]


def test_every_proof_under_p99_says_what_it_is_within() -> None:
    assert all(WORDS in text for text in _told("p99")), _told("p99")
    assert not any("safe limits" in text for text in _told("half"))
    assert {rule: proven_within(rule) for rule in RULES} == {
        "half": "",
        "deadline": "",
        "p99": f" {WORDS}",
        "parvagpu": "",
    }
