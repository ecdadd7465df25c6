"""Errors as RFC 9457 says them: JSON with a title, a status and one line of detail."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import describe
from igniter_opt.serve.jobs import BusyError, GoneError, LostError, UnkeptError, complain

MEDIA_TYPE = "application/problem+json"
# Of one request, so many of the things that are wrong are named.
_MOST_NAMED = 5
_MOST_CHARACTERS = 2000


class ProblemDetails(BaseModel):
    """What is wrong (RFC 9457)."""

    type: str = Field("about:blank", description="Says no more than the status.")
    title: str
    status: int
    detail: str


class ProblemError(Exception):
    """An error with the status that a client is told."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that says a problem."""
    found = ProblemDetails(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail[:_MOST_CHARACTERS]
    )
    content = json.dumps(found.model_dump())  # pure ASCII, whatever is quoted
    return Response(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}


class Described(FastAPI):
    """An interface whose description has the form of problems, too, which no operation returns by itself."""

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        found = super().openapi()
        found["components"]["schemas"].setdefault("ProblemDetails", ProblemDetails.model_json_schema())
        return found


def add_handlers(app: FastAPI) -> None:
    """Have all errors said as problems."""

    @app.exception_handler(ProblemError)
    async def known(_: Request, error: ProblemError) -> Response:
        return problem(error.status, str(error), error.headers)

    @app.exception_handler(InputError)
    async def not_of_the_request(_: Request, error: InputError) -> Response:
        # Of files of the service, then: what is wrong in a request is said where it is looked at (`app`).
        complain(error)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the service cannot use one of its own files")

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> Response:
        return problem(HTTPStatus.TOO_MANY_REQUESTS, str(error), {"Retry-After": str(error.retry_s)})

    @app.exception_handler(UnkeptError)
    async def unkept(_: Request, error: UnkeptError) -> Response:
        return problem(HTTPStatus.INSUFFICIENT_STORAGE, str(error))

    @app.exception_handler(GoneError)
    async def gone(_: Request, error: GoneError) -> Response:
        return problem(HTTPStatus.GONE, str(error))

    @app.exception_handler(LostError)
    async def lost(_: Request, error: LostError) -> Response:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, _in_one_line(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error ({type(error).__name__}); please report this")


def _in_one_line(errors: Sequence[Any]) -> str:
    said = []
    for entry in errors[:_MOST_NAMED]:
        where = ".".join(str(part)[:100] for part in entry["loc"])
        found = "" if entry["type"] in ("missing", "json_invalid") else f"; found {describe(entry.get('input'))}"
        said.append(f"{where}: {entry['msg']}{found}")
    more = len(errors) - _MOST_NAMED
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")
