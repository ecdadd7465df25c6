"""Approval: a person looked at a verified plan, and the plan that is deployed is that one."""

import getpass
import hashlib
import json
import os
import pwd
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from igniter_opt.base.errors import InputError, RefusedError
from igniter_opt.base.files import StrPath, as_path, exists, parse_json, read_text
from igniter_opt.base.kinds import APPROVAL, write_output
from igniter_opt.base.ownership import check_private
from igniter_opt.base.schema import (
    Count,
    Integer,
    NonNegative,
    Number,
    Record,
    check_to_write,
    describe,
    matching,
    parse_record,
)
from igniter_opt.data.plan import Plan
from igniter_opt.verify import PlacementCheck, verify

APPROVAL_SCHEMA: Final = "igniter-opt/approval@1"
Digest = Annotated[str, matching(r"^sha256:[0-9a-f]{64}$", "must be 'sha256:' and 64 hexadecimal digits")]
MOST_TIGHTEST = 5


class TightPlacement(Record):
    """One of the placements with the least slack (ms) relative to its limit (ms)."""

    gpu: str
    workload: str
    replica: Integer
    latency_ms: Number
    limit_ms: Number
    slack_ms: Number


class VerificationSummary(Record):
    """What the predictor said when the plan was approved (cost in the instance's currency per hour)."""

    gpus: Integer
    placements: Integer
    cost_per_hour: NonNegative
    tightest: tuple[TightPlacement, ...]


class Approval(Record):
    """Who approved which plan, when, at which margin, and what was known about it."""

    schema_: Literal["igniter-opt/approval@1"] = Field(default=APPROVAL_SCHEMA, alias="schema")
    plan_digest: Digest
    approved_at: str
    approved_by: str
    margin: NonNegative
    servers: Count
    verification: VerificationSummary


def plan_digest(plan: Plan) -> str:
    """Digest of what a plan says: independent of layout, key order and the solver's run time.

    Two solves of the same instance give the same plan apart from ``runtime_s``, so they share approval.
    """
    data = plan.model_dump(mode="json", by_alias=True, exclude_none=True)
    del data["solver"]["runtime_s"]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def approval_path(plan: StrPath) -> Path:
    """Return where a plan's approval is kept: ``plan.approval.json`` beside ``plan.json``."""
    plan = as_path(plan)
    return plan.with_name(plan.name.removesuffix(".json") + ".approval.json")


def tightest(checks: list[PlacementCheck], count: int = MOST_TIGHTEST) -> list[PlacementCheck]:
    """Return the placements with the least slack relative to their limit, tightest first."""
    return sorted(checks, key=lambda check: check.slack_ms / check.limit_ms)[:count]


def make_approval(plan: Plan) -> Approval:
    """Verify a plan and build its approval by the current user, now.

    Raises
    ------
    RefusedError
        If the plan does not hold.
    """
    checks = _verified(plan)
    return Approval(
        plan_digest=plan_digest(plan),
        approved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        approved_by=_user(),
        margin=plan.solver.margin,
        servers=len(checks),
        verification=VerificationSummary(
            gpus=len(plan.gpus),
            placements=len(checks),
            cost_per_hour=plan.solver.cost_per_hour,
            tightest=tuple(
                TightPlacement(
                    gpu=check.gpu,
                    workload=check.workload,
                    replica=check.replica,
                    latency_ms=check.latency_ms,
                    limit_ms=check.limit_ms,
                    slack_ms=check.slack_ms,
                )
                for check in tightest(checks)
            ),
        ),
    )


def write_approval(approval: Approval, path: StrPath) -> None:
    """Write an approval file atomically; raise InputError where a link, or something else than an approval, is."""
    check_to_write(approval, Approval)
    path = as_path(path)
    if path.is_symlink():
        raise InputError(f"{path}: is a link; remove it")
    text = json.dumps(approval.model_dump(mode="json", by_alias=True), indent=1)
    write_output(path, text.encode() + b"\n", APPROVAL, follow=False)


def check_approval(plan: Plan, path: StrPath, approvers: Collection[str] = ()) -> Approval:
    """Return the approval of the plan that was read from `path`.

    Parameters
    ----------
    approvers
        Names of other users whose approval is taken, too; their files and folders are trusted as the user's own.

    Raises
    ------
    RefusedError
        If there is none, if the plan changed since, or if it no longer holds.
    InputError
        If the approval file is none, or others than the user and `approvers` could have written it.
    """
    path = as_path(path)
    file = approval_path(path)
    hint = f"look at it and run `igniter-opt approve {path}`"
    if not exists(file):
        raise RefusedError(f"{path} is not approved ({file} does not exist); {hint}")
    mend = f"{hint} where only you can write, or name the approver with --allow-approver"
    check_private(file, mend, (*_who_asked(), *map(_user_id, approvers)))
    data = parse_json(read_text(file), str(file))
    if isinstance(data, dict) and data.get("schema") != APPROVAL_SCHEMA:
        raise InputError(f"{file}: schema: must be {APPROVAL_SCHEMA!r}; {hint} to write it anew")
    approval = parse_record(Approval, data, str(file))
    if approval.plan_digest != plan_digest(plan):
        raise RefusedError(
            f"{path} is not the plan that {approval.approved_by} approved on {approval.approved_at}; {hint} again"
        )
    _verified(plan)
    return approval


def _verified(plan: Plan) -> list[PlacementCheck]:
    verification = verify(plan)
    if not verification.ok:
        first = verification.violations[0]
        raise RefusedError(
            f"the plan does not hold: {first.where}: {first.message}"
            f" ({len(verification.violations)} violation(s); `igniter-opt verify` shows all)"
        )
    return verification.placements


def _who_asked() -> tuple[int, ...]:
    """Return the user who runs this as root by sudo, and may have approved the plan before."""
    asked = os.environ.get("SUDO_UID", "")
    return (int(asked),) if os.geteuid() == 0 and asked.isascii() and asked.isdigit() else ()


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        raise InputError(f"--allow-approver: this machine knows no user {describe(name)}") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in the password database, as in many containers
        return f"uid {os.getuid()}"
