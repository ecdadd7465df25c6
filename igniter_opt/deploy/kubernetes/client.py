"""Requests to a cluster's API server: who we are comes from the kubeconfig, what is transient is tried again.

The package ``kubernetes`` reads kubeconfigs and has the credentials and the connections; requests are few and plain.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.base.schema import describe
from igniter_opt.deploy.kubernetes.answers import ClusterError, ServerAnswer, content_of, object_of, page_of, refusal
from igniter_opt.deploy.kubernetes.kinds import KINDS, ObjectKind
from igniter_opt.deploy.kubernetes.names import MANAGER, Object, title
from igniter_opt.deploy.kubernetes.settings import DNS_LABEL, DNS_RULE

# Not made by us, but looked at.
POD = ObjectKind("Pod", "v1", "pods")
_PAGE = 500
_CONNECT_S, _READ_S = 5.0, 60.0
# How long what is transient is tried again: a server that restarts, too many requests.
PATIENCE_S = 60.0
_TRANSIENT = {429, 500, 502, 503, 504}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

Pause = Callable[[float], None]


class WatchLostError(Exception):
    """A watch ended otherwise than by its time; what is there has to be listed anew."""


@dataclass(frozen=True)
class Applied:
    """An object that was applied.

    Attributes
    ----------
    created
        Whether this made it; None where an answer was lost, so that nobody knows.
    """

    found: Object
    created: bool | None


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

    Attributes
    ----------
    hidden
        Kinds that the cluster has and that we were not allowed to look for.
    """

    def __init__(self, host: str, pool: Any, headers: Callable[[], Mapping[str, str]], namespace: str) -> None:
        self.host = host.rstrip("/")
        self.namespace = namespace
        self.pause: Pause = time.sleep
        self.patience_s = PATIENCE_S
        self.hidden: set[str] = set()
        self._said_at: datetime | None = None
        self._pool = pool
        self._headers = headers
        self._errors: Any = load("urllib3.exceptions", "kubernetes")

    def get(self, kind: ObjectKind, name: str) -> Object | None:
        """Return an object; None where there is none."""
        what = f"get {kind.plural}"
        answer = self._request("GET", kind.path(self.namespace, name), what, absent=True)
        if answer is None:
            return None
        return {"apiVersion": kind.api_version, "kind": kind.name, **object_of(answer.content, self.host, what)}

    def now(self) -> datetime:
        """Return the time by the server's clock when it answered last, to the second; ours where it does not say it."""
        return self._said_at or datetime.now(UTC).replace(microsecond=0)

    def names(self, kind: ObjectKind) -> dict[str, Object]:
        """Return the metadata of all objects of a kind in the namespace, whoever's, by name."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
        found, _ = self._pages(kind, "", accept)
        return {entry["metadata"]["name"]: entry for entry in found}

    def objects(self, kind: ObjectKind, selector: str) -> tuple[list[Object], str]:
        """Return the objects with some labels, and the version that a watch of later changes begins with.

        An extension that the cluster lacks has none of ours. Of one that it has and that we may not look for, nobody
        knows: there are none in the answer, and it is `hidden`.
        """
        try:
            return self._pages(kind, selector, "application/json")
        except ClusterError as error:
            if not kind.extension or error.status not in (403, 404):
                raise
            if error.status == 403 and self._has(kind):
                self.hidden.add(kind.name)
            return [], ""

    def _has(self, kind: ObjectKind) -> bool:
        """Whether the cluster has a kind, as far as it tells: listing is forbidden before a kind is looked for."""
        try:
            answer = self._request("GET", f"/apis/{kind.api_version}", f"look for {kind.plural}", absent=True)
        except ClusterError:
            return True
        known = [] if answer is None else answer.content.get("resources")
        if not isinstance(known, list):
            return True
        return any(isinstance(entry, dict) and entry.get("name") == kind.plural for entry in known)

    def _pages(self, kind: ObjectKind, selector: str, accept: str) -> tuple[list[Object], str]:
        found: list[Object] = []
        position, version = "", ""
        while True:
            query = {"labelSelector": selector, "limit": str(_PAGE), "continue": position}
            what = f"list {kind.plural}"
            try:
                page = self._request("GET", kind.path(self.namespace), what, query=query, headers={"Accept": accept})
            except ClusterError as error:
                if error.status != 410 or not position:  # the rest is of a state that is forgotten
                    raise
                found, position = [], ""
                continue
            items, about = page_of({} if page is None else page.content, self.host, what)
            found += [{**entry, "apiVersion": kind.api_version, "kind": kind.name} for entry in items]
            version = version or str(about.get("resourceVersion", ""))
            position = str(about.get("continue", ""))
            if not position:
                return found, version

    def apply(self, wanted: Object, *, dry_run: bool = False, force: bool = False) -> Applied:
        """Make an object what it shall be, by server-side apply.

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
        what = f"apply {title(wanted)}"
        answer = self._request(
            "PATCH",
            path,
            what,
            query=query,
            headers={"Content-Type": "application/apply-patch+yaml"},
            body=json.dumps(wanted).encode(),
        )
        if answer is None:
            raise AssertionError
        found = object_of(answer.content, self.host, what)
        # Where it was there when we asked again, it may be the first time that made it.
        created = True if answer.status == 201 else None if answer.lost else False
        return Applied({**found, "apiVersion": wanted["apiVersion"], "kind": wanted["kind"]}, created)

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
        answer = self._pool.request(
            method,
            f"{self.host}{path}?{urlencode({name: value for name, value in query.items() if value})}",
            headers={"Accept": "application/json", "User-Agent": MANAGER, **self._headers(), **headers},
            body=body,
            timeout=timeout,
            retries=False,
            preload_content=not stream,
        )
        try:
            said = parsedate_to_datetime(answer.headers.get("Date", ""))
            self._said_at = said if said.tzinfo else said.replace(tzinfo=UTC)
        except ValueError:
            self._said_at = None
        return answer

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
    ) -> ServerAnswer | None:
        """Send a request, again and again while what is in the way is transient; None for what is `absent`."""
        patient_until = time.monotonic() + self.patience_s
        pause_s = _FIRST_PAUSE_S
        lost = False
        while True:
            wait_s = pause_s
            try:
                answer = self._send(method, path, query or {}, headers or {}, body)
            except (self._errors.HTTPError, OSError) as error:
                untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
                lost = lost or not untrusted
                if untrusted or time.monotonic() > patient_until:
                    said = f"cannot {what}: {self.host} does not answer ({explained(error)})"
                    raise ClusterError(said, lost=lost) from None
            else:
                if answer.status < 300:
                    return ServerAnswer(answer.status, content_of(answer.data, self.host, what), lost)
                if absent and answer.status == 404:
                    return None
                lost = lost or answer.status >= 500
                if answer.status not in _TRANSIENT or time.monotonic() > patient_until:
                    raise refusal(answer, what, self.namespace, lost=lost)
                asked = answer.headers.get("Retry-After", "")
                wait_s = max(pause_s, min(float(asked), 30.0)) if asked.isdigit() else pause_s
            self.pause(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def connect(kubeconfig: Path | None, context: str | None, namespace: str | None) -> Client:
    """Return a client of the cluster and namespace that the options, or else the kubeconfig, name.

    Raises
    ------
    InputError
        The package is missing, there is no such kubeconfig or context, or the namespace can be none.
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
    if not isinstance(at, str) or not re.fullmatch(DNS_LABEL.removesuffix("$"), at):
        where = "--namespace" if namespace else f"the namespace of the kubeconfig's context {chosen['name']!r}"
        raise InputError(f"{where}: {DNS_RULE}; found {describe(at)}")
    api = client.ApiClient(found)
    if not found.verify_ssl:  # the kubeconfig says so; kubectl does not warn either, and not at every request
        urllib3: Any = load("urllib3", "kubernetes")
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def headers() -> dict[str, str]:
        try:
            known = found.auth_settings().values()
        except Exception as error:  # a program that the kubeconfig names; what it says may be a secret
            raise InputError(f"cannot get the kubeconfig's credentials [{type(error).__name__}]") from None
        given = {entry["key"]: entry["value"] for entry in known if entry["in"] == "header" and entry["value"]}
        return {name: _credential(value) for name, value in given.items()}

    return Client(found.host, api.rest_client.pool_manager, headers, at)


def _credential(value: object) -> str:
    """Return what a header says who we are with, without the line end that files have; never shown, also not if bad."""
    scheme, _, rest = str(value).strip().partition(" ")
    clean = f"{scheme} {rest.strip()}".strip()
    if not (clean.isascii() and clean.isprintable()):
        raise InputError(
            "the kubeconfig's token is no token: it has characters other than printable ASCII; log in anew"
        )
    return clean
