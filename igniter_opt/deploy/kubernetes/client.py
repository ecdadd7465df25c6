"""Requests to a cluster's API server: who we are comes from the kubeconfig, what is transient is tried again.

The package ``kubernetes`` reads kubeconfigs and has the credentials and the connections; requests are few and plain.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.deploy.kubernetes.kinds import KINDS, ObjectKind
from igniter_opt.deploy.kubernetes.names import MANAGER, Object, title

# Not made by us, but looked at.
POD = ObjectKind("Pod", "v1", "pods")
_PAGE = 500
_CONNECT_S, _READ_S = 5.0, 60.0
# How long what is transient is tried again: a server that restarts, too many requests.
PATIENCE_S = 60.0
_TRANSIENT = {429, 500, 502, 503, 504}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_MOST_SAID = 600

Pause = Callable[[float], None]


class ClusterError(InputError):
    """The API server refused something, or could not be reached.

    Attributes
    ----------
    status
        Its HTTP status; None where it did not answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class WatchLostError(Exception):
    """A watch ended otherwise than by its time; what is there has to be listed anew."""


class Client:
    """One namespace of a cluster.

    Parameters
    ----------
    host
        The server's URL.
    pool
        urllib3's pool of connections.
    headers
        Returns what says who we are; tokens expire.
    """

    def __init__(self, host: str, pool: Any, headers: Callable[[], Mapping[str, str]], namespace: str) -> None:
        self.host = host.rstrip("/")
        self.namespace = namespace
        self.pause: Pause = time.sleep
        self.patience_s = PATIENCE_S
        self._pool = pool
        self._headers = headers
        self._errors: Any = load("urllib3.exceptions", "kubernetes")

    def get(self, kind: ObjectKind, name: str) -> Object | None:
        """Return an object; None where there is none."""
        found = self._request("GET", kind.path(self.namespace, name), f"get {kind.plural}", absent=True)
        return None if found is None else {"apiVersion": kind.api_version, "kind": kind.name, **found}

    def names(self, kind: ObjectKind) -> dict[str, Object]:
        """Return the metadata of all objects of a kind in the namespace, whoever's, by name."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
        found, _ = self._pages(kind, "", accept)
        return {entry["metadata"]["name"]: entry for entry in found}

    def objects(self, kind: ObjectKind, selector: str) -> tuple[list[Object], str]:
        """Return the objects with some labels, and the version that a watch of later changes begins with.

        An extension that the cluster lacks, or that we may not look at, has none of ours.
        """
        try:
            return self._pages(kind, selector, "application/json")
        except ClusterError as error:
            if kind.extension and error.status in (403, 404):
                return [], ""
            raise

    def _pages(self, kind: ObjectKind, selector: str, accept: str) -> tuple[list[Object], str]:
        found: list[Object] = []
        position, version = "", ""
        while True:
            query = {"labelSelector": selector, "limit": str(_PAGE), "continue": position}
            try:
                page = self._request(
                    "GET", kind.path(self.namespace), f"list {kind.plural}", query=query, headers={"Accept": accept}
                )
            except ClusterError as error:
                if error.status != 410 or not position:  # the rest is of a state that is forgotten
                    raise
                found, position = [], ""
                continue
            page = cast(Object, page)
            found += [{**entry, "apiVersion": kind.api_version, "kind": kind.name} for entry in page["items"] or ()]
            version = version or page["metadata"].get("resourceVersion", "")
            position = page["metadata"].get("continue", "")
            if not position:
                return found, version

    def apply(self, wanted: Object, *, dry_run: bool = False, force: bool = False) -> Object:
        """Make an object what it shall be, by server-side apply; return it.

        Parameters
        ----------
        force
            Whether to take fields from whoever set them.

        Raises
        ------
        ClusterError
            Among others where a field is somebody else's, who is named.
        """
        kind = KINDS[wanted["kind"]]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        path = kind.path(self.namespace, wanted["metadata"]["name"])
        found = self._request(
            "PATCH",
            path,
            f"apply {title(wanted)}",
            query=query,
            headers={"Content-Type": "application/apply-patch+yaml"},
            body=json.dumps(wanted).encode(),
        )
        return {**cast(Object, found), "apiVersion": wanted["apiVersion"], "kind": wanted["kind"]}

    def delete(self, found: Object) -> None:
        """Delete an object, and what it made; one that has gone, or is another one by now, is left alone."""
        kind = KINDS[found["kind"]]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": found["metadata"]["uid"]},
        }
        path = kind.path(self.namespace, found["metadata"]["name"])
        try:
            self._request("DELETE", path, f"delete {title(found)}", body=json.dumps(body).encode(), absent=True)
        except ClusterError as error:
            if error.status != 409:
                raise

    def log(self, pod: str, lines: int) -> list[str]:
        """Return the last lines of a pod's container that ended, or else of the one that runs; none where none are."""
        for previous in ("true", "false"):
            query = {"tailLines": str(lines), "previous": previous}
            try:
                answer = self._send("GET", f"{POD.path(self.namespace, pod)}/log", query, {}, None)
            except (ClusterError, self._errors.HTTPError):
                return []
            if answer.status == 200 and answer.data:
                return list(answer.data.decode(errors="replace").splitlines())
        return []

    def watch(self, kind: ObjectKind, selector: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """Yield changes, each with ADDED, MODIFIED or DELETED, for so many seconds.

        Raises
        ------
        WatchLostError
            The connection or the server ended it, or `version` is too old.
        """
        query = {
            "watch": "true",
            "labelSelector": selector,
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        try:
            answer = self._send("GET", kind.path(self.namespace), query, {}, None, stream=True, read_s=seconds + 10.0)
            try:
                if answer.status != 200:
                    raise WatchLostError
                rest = b""
                for piece in answer.stream(amt=None):
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in filter(None, whole):
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            raise WatchLostError
                        yield event["type"], event["object"]
            finally:
                answer.release_conn()
        except (self._errors.HTTPError, OSError, ValueError, KeyError) as error:
            raise WatchLostError from error

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        stream: bool = False,
        read_s: float = _READ_S,
    ) -> Any:
        timeout = load("urllib3", "kubernetes").Timeout(connect=_CONNECT_S, read=read_s)
        return self._pool.request(
            method,
            f"{self.host}{path}?{urlencode({name: value for name, value in query.items() if value})}",
            headers={"Accept": "application/json", "User-Agent": MANAGER, **self._headers(), **headers},
            body=body,
            timeout=timeout,
            retries=False,
            preload_content=not stream,
        )

    def _request(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        absent: bool = False,
    ) -> Object | None:
        """Send a request, again and again while what is in the way is transient; None for what is `absent`."""
        patient_until = time.monotonic() + self.patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            wait_s = pause_s
            try:
                answer = self._send(method, path, query or {}, headers or {}, body)
            except (self._errors.HTTPError, OSError) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error) or time.monotonic() > patient_until:
                    raise ClusterError(f"cannot {what}: {self.host} does not answer ({explained(error)})") from None
            else:
                if answer.status < 300:
                    return cast(Object, json.loads(answer.data or b"{}"))
                if absent and answer.status == 404:
                    return None
                if answer.status not in _TRANSIENT or time.monotonic() > patient_until:
                    raise self._refusal(answer, what)
                asked = answer.headers.get("Retry-After", "")
                wait_s = max(pause_s, min(float(asked), 30.0)) if asked.isdigit() else pause_s
            self.pause(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _refusal(self, answer: Any, what: str) -> ClusterError:
        status = int(answer.status)
        try:
            said = json.loads(answer.data)
        except ValueError:
            said = {}
        if not isinstance(said, dict):
            said = {}
        message = str(said.get("message") or answer.reason)[:_MOST_SAID]
        causes = (said.get("details") or {}).get("causes") or ()
        if status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
            owners = "; ".join(f"{cause.get('field')}: {cause.get('message')}" for cause in causes)[:_MOST_SAID]
            mend = "let its owner give the field up, or run deploy with --take-over"
            return ClusterError(f"cannot {what}: fields are somebody else's: {owners}; {mend}", status)
        mend = {
            401: "; the cluster does not take the kubeconfig's credentials",
            403: "; `deploy --render DIR` writes the role that is needed to DIR/admin/rbac.yaml",
            404: f"; is there a namespace {self.namespace!r}, and does the cluster have this kind?",
        }.get(status, "")
        return ClusterError(f"cannot {what}: {message} (HTTP {status}){mend}", status)


def connect(kubeconfig: Path | None, context: str | None, namespace: str | None) -> Client:
    """Return a client of the cluster and namespace that the options, or else the kubeconfig, name.

    Raises
    ------
    InputError
        The package is missing, or there is no such kubeconfig or context.
    """
    config: Any = load("kubernetes.config", "kubernetes")
    client: Any = load("kubernetes.client", "kubernetes")
    where = None if kubeconfig is None else str(kubeconfig)
    try:
        contexts, current = config.list_kube_config_contexts(where)
        found = client.Configuration()
        config.load_kube_config(where, context=context, client_configuration=found)
    except Exception as error:
        options = "--kubeconfig and --context name others"
        raise InputError(f"no cluster: {explained(error)}; {options}") from None
    chosen = next((entry for entry in contexts if entry["name"] == context), current)
    at = namespace or (chosen.get("context") or {}).get("namespace") or "default"
    api = client.ApiClient(found)
    if not found.verify_ssl:  # the kubeconfig says so; kubectl does not warn either, and not at every request
        urllib3: Any = load("urllib3", "kubernetes")
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def headers() -> dict[str, str]:
        known = found.auth_settings().values()
        return {entry["key"]: entry["value"] for entry in known if entry["in"] == "header" and entry["value"]}

    return Client(found.host, api.rest_client.pool_manager, headers, at)
