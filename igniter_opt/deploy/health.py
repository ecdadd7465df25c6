"""How everything that is recorded is doing right now."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.backends.base import Backend, Observation
from igniter_opt.deploy.changes import Health
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.deploy.targets import text_digest
from igniter_opt.deploy.triton.inference import WrongAnswerError, check_inference, endpoint, is_ready
from igniter_opt.deploy.triton.model_config import CONFIG_FILE
from igniter_opt.deploy.triton.samples import CHECK_FILE, Sample, read_sample

REPOSITORY = "repository"
# A server that ran well before answers its sample within this time.
_INFERENCE_TIMEOUT_S = 10.0
_PARALLEL = 8


@dataclass(frozen=True)
class Condition:
    """A recorded server's or daemon's health, with what is wrong in words."""

    health: Health
    detail: str = ""


def conditions(
    store: Store, state: Deployment, backend: Backend, observed: Mapping[str, Observation]
) -> dict[str, Condition]:
    """Return the condition of every recorded server and daemon, by token."""
    result = {}
    for daemon in state.daemons:
        works = daemon.token in observed and backend.daemon_answers(daemon)
        result[daemon.token] = Condition("ready") if works else Condition("gone", "the MPS daemon does not answer")

    def look(record: ReplicaRecord) -> Condition:
        return _condition(store, state, record, observed.get(record.token))

    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = pool.map(look, state.replicas)
    result |= {record.token: condition for record, condition in zip(state.replicas, found, strict=True)}
    return result


def _condition(store: Store, state: Deployment, record: ReplicaRecord, seen: Observation | None) -> Condition:
    # What its server started may outlive it.
    if seen is None or not seen.running or record.handle not in (None, seen.handle):
        return Condition("gone", "its server does not run")
    changed = _changed(store, record, seen)
    if changed:
        return Condition("changed", changed)
    server = endpoint(record, state.host(record.host).address)
    if not is_ready(server):
        return Condition("unready", "its server runs but is not ready")
    try:
        check(store, record, state.host(record.host).address, _INFERENCE_TIMEOUT_S)
    except (WrongAnswerError, InputError) as error:
        return Condition("unready", str(error))
    return Condition("ready")


def _changed(store: Store, record: ReplicaRecord, seen: Observation) -> str:
    if record.settings and seen.settings != record.settings:
        return "its container's limits or configuration were changed"
    path = store.server_folder(record.token) / REPOSITORY / record.model / CONFIG_FILE
    try:
        same = text_digest(path.read_text(encoding="utf-8")) == record.config_digest
    except (OSError, UnicodeDecodeError):
        same = False
    return "" if same else f"{path} was changed or removed"


def check(store: Store, record: ReplicaRecord, address: str, timeout_s: float) -> None:
    """Infer and check the values, with the sample that was given when the server was started.

    Raises
    ------
    WrongAnswerError
        If an answer is wrong.
    InputError
        If the sample does not fit the model.
    """
    path = _sample_path(store, record)
    sample = read_sample(path) if path.exists() else None
    check_inference(endpoint(record, address), sample, path, timeout_s)


def deployed_samples(store: Store, state: Deployment) -> dict[str, tuple[Sample, str]]:
    """Return the samples that deployed models came with, and where they are, by model."""
    paths = {record.model: _sample_path(store, record) for record in state.replicas}
    return {model: (read_sample(path), str(path)) for model, path in paths.items() if path.exists()}


def _sample_path(store: Store, record: ReplicaRecord) -> Path:
    return store.server_folder(record.token) / CHECK_FILE
