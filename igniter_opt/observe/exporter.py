"""A plan as metrics for Prometheus: what is planned and predicted, and what its deployed servers say.

What servers say is asked at every scrape. Triton has metrics of its own; what is added here is what they lack: how long
batches took, and how long the very same batches, size by size, were predicted to take, both as sums. The rate of the
one over the rate of the other is how wrong the prediction is, over whatever time one likes.

Labels are those of the targets that `deploy --file-sd` writes, so that both can be joined.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load
from igniter_opt.data.plan import Plan, read_plan
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.endpoints import authority, serving_by_workload
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.measure.server import model_statistics
from igniter_opt.observe.families import Families, plan_metrics, server_metrics
from igniter_opt.simulation.servers import servers_of
from igniter_opt.verify import verify

if TYPE_CHECKING:
    from prometheus_client.core import Metric

DEFAULT_PORT = 9977
_PARALLEL = 16


class PlanCollector:
    """Collects the metrics of a plan and of what is deployed of it, as a collector of prometheus_client.

    Parameters
    ----------
    plan
        The plan; None for the one that is deployed, whichever that is at a scrape.
    store
        Where the deployment is kept; None where only the plan is shown.
    name
        What the label `deployment` says.

    Raises
    ------
    InputError
        There is neither plan nor deployment, or the deployed plan cannot be read.
    """

    def __init__(self, plan: Plan | None, store: Store | None, name: str) -> None:
        load("prometheus_client.core")
        self._store, self._name = store, name
        self._follows = plan is None
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(_PARALLEL)
        self._digest: str | None = None
        state = self._state()
        if plan is None:
            if state is None or state.plan_path is None:
                raise InputError(f"there is no deployment {name!r}, and no such plan file")
            plan = _deployed_plan(state)
        self._take(plan)

    def close(self) -> None:
        """End the threads that ask servers."""
        self._pool.shutdown()

    def describe(self) -> list["Metric"]:
        """Return nothing: what there is depends on the plan, and is not asked for at registration."""
        return []

    def collect(self) -> Iterator["Metric"]:
        """Return all metrics, those of servers as they are now."""
        with self._lock:  # scrapes at one time would ask every server at one time
            state = None
            with suppress(InputError):  # it cannot be read just now
                state = self._state()
            if self._follows and state is not None and state.plan_digest not in (None, self._digest):
                with suppress(InputError):  # it is being replaced, or its file is gone: what was known is shown on
                    self._take(_deployed_plan(state))
            families = Families()
            plan_metrics(families, self._plan, self._judged, self._name)
            runs = state is not None and state.plan_digest == self._digest
            if self._store is not None:
                families.add("plan_deployed", (self._name,), float(runs))
            if state is not None and runs:
                self._server_metrics(families, state)
        yield from families.found.values()

    def _take(self, plan: Plan) -> None:
        self._plan, self._digest, self._judged = plan, plan_digest(plan), verify(plan)
        try:
            self._servers = {
                (server.placement.workload, server.placement.replica): server
                for server in chain.from_iterable(servers_of(plan))
            }
        except InputError:  # a plan that cannot be served, which `plan_holds` says
            self._servers = {}

    def _state(self) -> Deployment | None:
        return None if self._store is None else self._store.load()

    def _server_metrics(self, families: Families, state: Deployment) -> None:
        records = list(chain.from_iterable(serving_by_workload(state).values()))
        urls = [f"http://{authority(state, record, record.ports.http)}" for record in records]
        statistics = self._pool.map(model_statistics, urls, [record.model for record in records])
        types = {gpu.name: gpu.type for gpu in self._plan.gpus}
        for record, found in zip(records, statistics, strict=True):
            labels = (
                self._name,
                record.placement,
                record.workload,
                record.model,
                record.gpu,
                types.get(record.gpu, ""),
            )
            families.add("server_share_ratio", labels, record.share_percent / 100.0)
            planned = self._servers.get((record.workload, record.replica)) if record.planned is None else None
            server_metrics(families, labels, found, planned)


def _deployed_plan(state: Deployment) -> Plan:
    if state.plan_path is None:
        raise InputError(f"deployment {state.name!r} does not say which plan it runs; give the plan")
    plan = read_plan(state.plan_path)
    if plan_digest(plan) != state.plan_digest:
        raise InputError(f"{state.plan_path}: is another plan than deployment {state.name!r} runs; give that one")
    return plan


def metrics_text(collector: PlanCollector) -> str:
    """Return the metrics as they are now, in Prometheus's text format."""
    client = load("prometheus_client")
    return str(client.generate_latest(_registry(collector)).decode())


@contextmanager
def serving(collector: PlanCollector, host: str, port: int) -> Iterator[int]:
    """Serve the metrics at ``/metrics`` of an address while inside; yields the port, which is any free one for 0.

    Raises
    ------
    InputError
        Nobody can listen there.
    """
    client = load("prometheus_client")
    try:
        server, thread = client.start_http_server(port, addr=host, registry=_registry(collector))
    except (OSError, UnicodeError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{host}, port {port}: cannot listen there ({why}); choose another --port or --host") from None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry(collector: PlanCollector) -> Any:
    registry = load("prometheus_client").CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry
