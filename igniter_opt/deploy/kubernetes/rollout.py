"""Applying changes to a cluster, such that a failure undoes exactly what was done and a kill leaves nothing unknown.

Everything that is applied carries the deployment's labels, and the record of the plan is applied when all of its
servers are ready; so whatever a killed launcher left is found, and the next run goes on from there.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from igniter_opt.base.errors import DeploymentError, DeploymentInterruptedError, InputError
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.kubernetes.answers import ClusterError
from igniter_opt.deploy.kubernetes.client import Client
from igniter_opt.deploy.kubernetes.cluster_changes import ObjectChange
from igniter_opt.deploy.kubernetes.fields import owned
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import MANAGER, WORKLOAD, Object, selector, title
from igniter_opt.deploy.kubernetes.parse import parse_server
from igniter_opt.deploy.kubernetes.undoing import Sent, did_nothing, undo
from igniter_opt.deploy.kubernetes.waiting import wait_until_gone, wait_until_ready

_PAUSE_S = 0.1
# Beyond the grace that pods have.
_GONE_S = 120.0
# Objects that could not be undone, in a message.
_MOST_TOLD = 5


class Rollout:
    """One round of changes, which is undone as a whole.

    Parameters
    ----------
    deployment
        Its name.
    take_over
        Whether to take fields that others have set.
    what
        What messages call the round.
    stopped_before
        Deployments that earlier rounds removed, in this order. Where this one fails, those are there again whose
        workload has none else.
    """

    def __init__(
        self,
        client: Client,
        deployment: str,
        options: Options,
        *,
        take_over: bool = False,
        what: str = "this run",
        stopped_before: Sequence[Object] = (),
    ) -> None:
        self.client = client
        self.deployment = deployment
        self.options = options
        self.take_over = take_over
        self.what = what
        self.stopped_before = stopped_before
        self._done: list[Sent] = []
        # Whether a stop that is asked for ends nothing any more: what is undone, or what only tidies up.
        self._deaf = False
        client.pause = self._pause

    def start(self, changes: Iterable[ObjectChange], servers: Sequence[Object]) -> None:
        """Apply changes and wait until servers are ready; if anything fails, undo them.

        Parameters
        ----------
        servers
            The Deployments that must have ready pods of their spec in the end, changed or not.

        Raises
        ------
        DeploymentError, DeploymentInterruptedError, InputError
            What this round did was undone.
        """
        self._guarded(lambda: self._start(changes, servers))

    def _start(self, changes: Iterable[ObjectChange], servers: Sequence[Object]) -> None:
        for change in changes:
            self._apply(change)
        if not servers:
            return
        self.options.hook("before waiting")
        self.options.report(f"waiting for {len(servers)} server(s) to be ready")
        read = [parse_server(entry) for entry in servers]
        wait_until_ready(
            self.client,
            selector(self.deployment),
            {server.name: (server.spec, server.pods) for server in read},
            {server.name: server.placement.placement for server in read},
            self.options.ready_timeout_s,
            self._check_stop,
        )
        self.options.hook("after waiting")

    def commit(self, changes: Iterable[ObjectChange]) -> None:
        """Apply what belongs to a plan whose servers are ready, its record last; from then on nothing is undone."""

        def last() -> None:
            for change in changes:
                self._apply(change)

        self._guarded(last)
        self._done = []
        self._deaf = True

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (DeploymentError, DeploymentInterruptedError, InputError) as error:
            left = self._roll_back()
            undone = left or f"everything that {self.what} changed {self._restored()}, what ran before runs on"
            again = self._bring_back()
            head, line, log = str(error).partition("\n")
            raise type(error)(f"{head}; {undone}{again}{line}{log}") from None
        except BaseException:
            self._roll_back()
            self._bring_back()
            raise

    def _restored(self) -> str:
        if self.take_over:
            return f"has the values that it had before (fields that were taken over stay {MANAGER}'s)"
        return "is as it was before"

    def _apply(self, change: ObjectChange) -> None:
        if change.wanted is None or change.verb == "keep":
            return
        self._check_stop()
        self.options.hook(f"before applying {change.title}")
        sent = Sent(change, change.wanted, self.client.now())
        self._done.append(sent)
        try:
            applied = self.client.apply(change.wanted, force=self.take_over)
        except ClusterError as error:
            sent.refused = did_nothing(error)
            if sent.refused and not error.lost:
                self._done.pop()
            raise
        sent.uid, sent.created = applied.found["metadata"]["uid"], applied.created
        if change.live is None and sent.created is False:
            raise ClusterError(f"cannot create {change.title}: it was made since this run looked; run deploy once more")
        self.options.hook(f"after applying {change.title}")
        if change.kind == "Deployment":
            verb = "starting" if change.verb == "create" else "changing"
            self.options.report(f"{verb} {change.placement} ({change.title})")

    def remove(self, gone: Sequence[Object]) -> None:
        """Remove objects, Deployments first, and wait until their pods have gone."""
        servers = [entry for entry in gone if entry["kind"] == "Deployment"]
        for entry in servers:
            self._delete(entry)
        if servers:
            names = {entry["metadata"]["name"] for entry in servers}
            try:
                gone_in_time = wait_until_gone(self.client, selector(self.deployment), names, _GONE_S, self._check_stop)
            except DeploymentInterruptedError:  # they end without us
                gone_in_time = False
            if not gone_in_time:
                self.options.report(f"warning: pods of {len(names)} removed server(s) have not ended yet")
        for entry in gone:
            if entry["kind"] != "Deployment":
                self._delete(entry)

    def _delete(self, found: Object) -> None:
        self.options.hook(f"before removing {title(found)}")
        self.options.report(f"removing {title(found)}")
        self.client.delete(found)
        self.options.hook(f"after removing {title(found)}")

    def drain(self) -> None:
        """Let replaced servers go on for as long as was asked for, or until a stop is."""
        if self.options.drain_s:
            self.options.report(f"waiting {self.options.drain_s:g} s for clients to leave the old servers")
            deadline = time.monotonic() + self.options.drain_s
            while time.monotonic() < deadline and not self.options.stop.is_set():
                time.sleep(_PAUSE_S)

    def _roll_back(self) -> str:
        """Undo what was done, the last first; return what could not be, in words."""
        self._deaf = True
        failed = []
        if self._done:
            self.options.report(f"undoing {len(self._done)} change(s)")
        for sent in reversed(self._done):
            try:
                left = undo(self.client, self.deployment, sent, take_over=self.take_over)
            except InputError as error:
                left = str(error)
            if left:
                failed.append(f"{sent.change.title}: {left}")
        self._done = []
        if not failed:
            return ""
        more = f" (and {len(failed) - _MOST_TOLD} more)" if len(failed) > _MOST_TOLD else ""
        return (
            "not all could be undone, run `igniter-opt deploy` again with the plan that shall run:"
            f" {'; '.join(failed[:_MOST_TOLD])}{more}"
        )

    def _bring_back(self) -> str:
        """Start servers again that earlier rounds stopped, where their workload has none else; say which, if any."""
        if not self.stopped_before:
            return ""
        said = []
        try:
            there, _ = self.client.objects(KINDS["Deployment"], selector(self.deployment))
            served = {_workload(entry) for entry in there}
            for entry in reversed(self.stopped_before):
                mine = owned(entry)
                if mine is None or _workload(entry) in served:
                    continue
                placement = parse_server(entry).placement.placement
                self.options.report(f"starting {placement} again ({title(entry)})")
                self.client.apply(mine, force=True)
                served.add(_workload(entry))
                said.append(placement)
        except InputError as error:
            return f"; a workload may be without a server, run `igniter-opt deploy` again: {error}"
        return f"; started again, for their workloads had no server left: {', '.join(said)}" if said else ""

    def _pause(self, seconds: float) -> None:
        """Wait before a request is sent again; a stop that is asked for ends it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self._deaf:
                self._check_stop()
            time.sleep(min(_PAUSE_S, seconds))

    def _check_stop(self) -> None:
        if self.options.stop.is_set():
            raise DeploymentInterruptedError("interrupted")


def _workload(deployment: Object) -> str | None:
    found = (deployment["metadata"].get("labels") or {}).get(WORKLOAD)
    return None if found is None else str(found)
