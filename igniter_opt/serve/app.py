"""The service's interface: what can be asked over HTTP (FastAPI)."""

import json
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Body as InBody
from fastapi import Depends, FastAPI, Header, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

import igniter_opt
from igniter_opt.base.errors import InputError
from igniter_opt.data.instance_files import shipped_instances
from igniter_opt.data.profile import shipped_profiles
from igniter_opt.serve import examples, problems, requests, streams
from igniter_opt.serve.door import Door
from igniter_opt.serve.job import JobError, Kind, ServiceJob, State
from igniter_opt.serve.jobs import GoneError, Jobs, LostError
from igniter_opt.serve.settings import Token

_MOST_WAIT_S = 60.0
_MOST_LISTED = 1000
_STATUS_OF = {"bad-input": HTTPStatus.UNPROCESSABLE_ENTITY, "no-plan": HTTPStatus.UNPROCESSABLE_ENTITY}
_ABOUT = """
Plans, judgements and simulations as jobs: a POST makes a job, whose progress, result and end are fetched by its
identifier. Instances, plans and profiles are sent as JSON in the shape of their files; shipped ones go by name, and
nothing in a request is a path. Errors are problems as of RFC 9457.
"""


class ShownJob(BaseModel):
    """A job.

    `result` is there where a request waited for it, and there is one.
    """

    id: str
    kind: Kind
    state: State
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    progress: dict[str, Any] | None = None
    has_result: bool = False
    early: str | None = Field(None, description="Why the result is not all that was asked for.")
    error: JobError | None = None
    result: dict[str, Any] | None = None


class ShownVersion(BaseModel):
    """The service's version, and what it takes on."""

    version: str
    limits: dict[str, float]


class ShippedNames(BaseModel):
    """Names that requests may use."""

    instances: list[str]
    profiles: list[str]


class Health(BaseModel):
    """That the service is there."""

    status: str = "ok"


def _shown(job: ServiceJob, result: bytes | None = None) -> dict[str, Any]:
    found = job.record.model_dump(mode="json", exclude={"schema_"})
    return found if result is None else {**found, "result": json.loads(result)}


Identifier = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Of a job.")]
Wait = Annotated[
    float, Query(ge=0, le=_MOST_WAIT_S, description="Seconds to wait for the end, so that the result comes at once.")
]


def create_app(jobs: Jobs, closing: streams.Closing, token: Token | None, hosts: Collection[str]) -> FastAPI:
    """Make the interface to jobs.

    Parameters
    ----------
    closing
        To be begun when the service ends.
    token, hosts
        As in `Door`.
    """
    app = problems.Described(
        title="igniter-opt",
        description=_ABOUT,
        version=igniter_opt.__version__,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # to wherever the header Host says
    )
    app.add_middleware(Door, limits=jobs.limits, token=token, hosts=hosts)
    problems.add_handlers(app)

    def known(identifier: Identifier) -> ServiceJob:
        job = jobs.get(identifier)
        if job is None:
            raise problems.ProblemError(HTTPStatus.NOT_FOUND, f"there is no job {identifier}")
        return job

    KnownJob = Annotated[ServiceJob, Depends(known)]

    async def with_result(job: ServiceJob) -> dict[str, Any]:
        """Return a job as it is shown, with its result where there is one (still; who fetches it is told)."""
        if job.ended and job.record.has_result:
            with suppress(GoneError, LostError):
                return _shown(job, await run_in_threadpool(jobs.result, job))
        return _shown(job)

    async def take_on(kind: Kind, body: requests.Body, wait: float, response: Response) -> dict[str, Any]:
        try:
            job = await run_in_threadpool(jobs.submit, kind, body)
        except InputError as error:
            raise problems.ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        if wait > 0 and await streams.ended(job, closing, wait):
            response.status_code = HTTPStatus.OK
            return await with_result(job)
        return _shown(job)

    def add(kind: Kind, body_type: type[requests.Body]) -> None:
        """Add what makes jobs of a kind."""
        example = examples.EXAMPLES[kind]

        async def make(body: Any, response: Response, wait: Wait = 0.0) -> dict[str, Any]:
            return await take_on(kind, body, wait, response)

        make.__annotations__["body"] = Annotated[body_type, InBody(openapi_examples={"small": {"value": example}})]
        app.post(
            f"/v1/{kind}",
            operation_id=kind,
            summary=(body_type.__doc__ or "").splitlines()[0],
            status_code=HTTPStatus.ACCEPTED,
            response_model=ShownJob,
            tags=["jobs"],
            responses={
                200: {"model": ShownJob, "description": "It ended within the time to wait for it."},
                **problems.responses(
                    HTTPStatus.BAD_REQUEST,
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    HTTPStatus.TOO_MANY_REQUESTS,
                ),
            },
        )(make)

    for kind, body_type in requests.BODIES.items():
        add(kind, body_type)

    unknown = problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)

    @app.get(
        "/v1/jobs",
        response_model=list[ShownJob],
        tags=["jobs"],
        responses=problems.responses(HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    def list_jobs(most: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 100) -> list[dict[str, Any]]:
        """List jobs, the latest first."""
        return [_shown(job) for job in jobs.latest(most)]

    @app.get("/v1/jobs/{identifier}", response_model=ShownJob, tags=["jobs"], responses=unknown)
    async def show_job(job: KnownJob) -> dict[str, Any]:
        """Show a job."""
        return _shown(job)

    @app.get(
        "/v1/jobs/{identifier}/result",
        tags=["jobs"],
        response_model=dict[str, Any],
        responses={
            **unknown,
            **problems.responses(HTTPStatus.CONFLICT, HTTPStatus.GONE, HTTPStatus.INTERNAL_SERVER_ERROR),
        },
    )
    def fetch_result(job: KnownJob) -> Response:
        """Fetch a job's result; 409 where there is none (yet), 422 where the request makes no sense or has no plan."""
        if job.record.has_result and job.ended:
            return Response(jobs.result(job), media_type="application/json")
        error = job.record.error
        if error is not None:
            raise problems.ProblemError(_STATUS_OF.get(error.kind, HTTPStatus.CONFLICT), error.message)
        raise problems.ProblemError(HTTPStatus.CONFLICT, f"job {job.id} has no result; it is {job.record.state}")

    @app.get("/v1/jobs/{identifier}/events", response_class=EventSourceResponse, tags=["jobs"], responses=unknown)
    async def follow_job(
        job: KnownJob, last_event_id: Annotated[str | None, Header()] = None
    ) -> AsyncIterator[ServerSentEvent]:
        """Follow a job: events `progress`, those after Last-Event-ID where it is given, and `end` with the job."""
        given = last_event_id or ""
        after = int(given[:18]) if given.isascii() and given.isdigit() else 0
        async for event in streams.events_of(job, closing, after, _shown):
            yield event

    @app.delete("/v1/jobs/{identifier}", response_model=ShownJob, tags=["jobs"], responses=unknown)
    async def end_job(
        job: KnownJob, forget: Annotated[bool, Query(description="Remove it, with its result.")] = False
    ) -> dict[str, Any]:
        """End a job, and return it with the best that it had; one that has ended is returned as it is."""
        await run_in_threadpool(jobs.cancel, job)
        over = await streams.ended(job, closing, jobs.limits.stop_s + 5.0)
        found = await with_result(job)
        if forget and over:
            await run_in_threadpool(jobs.forget, job)
        return found

    @app.get("/v1/shipped", response_model=ShippedNames, tags=["service"])
    def list_shipped() -> dict[str, list[str]]:
        """List the shipped instances and profiles, which go by their names."""
        return {"instances": shipped_instances(), "profiles": shipped_profiles()}

    @app.get("/v1/version", response_model=ShownVersion, tags=["service"])
    async def show_version() -> dict[str, Any]:
        """Show the version, and the limits of the service."""
        return {"version": igniter_opt.__version__, "limits": vars(jobs.limits)}

    @app.get("/healthz", response_model=Health, tags=["service"])
    async def show_health() -> dict[str, str]:
        """Say that the service is there."""
        return {"status": "ok"}

    return app
