"""Running the service until it is told to stop."""

from collections.abc import Callable

from igniter_opt.base.files import StrPath
from igniter_opt.base.optional import load
from igniter_opt.serve.address import DEFAULT_HOST, DEFAULT_PORT
from igniter_opt.serve.kept import KeptJobs, default_folder
from igniter_opt.serve.settings import ServiceLimits, listen, read_token, url_of


def serve(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    token_file: StrPath | None = None,
    state: StrPath | None = None,
    limits: ServiceLimits | None = None,
    on_listening: Callable[[str], object] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; jobs that run then are asked to end, and what they have is kept.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes any free one. Beyond this machine's own address it takes a token.
    token_file
        A file with the token that clients must show, which only its user can read.
    state
        The folder where jobs are kept; by default in the user's state folder.
    on_listening
        Called with the service's address once it can be asked.

    Raises
    ------
    InputError
        The service cannot begin: the address, the token's file or the folder cannot be used.
    """
    for module in ("uvicorn", "fastapi"):
        load(module, "serve")
    from igniter_opt.serve.app import create_app
    from igniter_opt.serve.jobs import Jobs
    from igniter_opt.serve.server import run_server
    from igniter_opt.serve.streams import Closing

    token = None if token_file is None else read_token(token_file)
    kept = KeptJobs(state or default_folder())
    with listen(host, port, token) as opened, kept.held():
        jobs, closing = Jobs(kept, limits or ServiceLimits()), Closing()
        try:
            app = create_app(jobs, closing, token, {host, "localhost", "127.0.0.1", "[::1]", f"[{host}]"})
            run_server(app, opened, closing, lambda: None if on_listening is None else on_listening(url_of(opened)))
        finally:
            jobs.stop()
