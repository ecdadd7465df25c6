"""The process of one job: it does the work, says how far it is, and ends when the service does."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any

from igniter_opt.base.errors import IgniterOptError, InfeasibleError, InputError, StoppedOnRequestError, explained
from igniter_opt.base.stop import StopRequest
from igniter_opt.base.text import with_nulls
from igniter_opt.serve.job import ErrorKind, Kind
from igniter_opt.serve.requests import body_of, check_body
from igniter_opt.serve.settings import ServiceLimits

# Moments that bring neither a better plan nor a better bound are told of this often.
_EVERY_S = 1.0
# So many cautions are kept of a job.
_MOST_CAUTIONS = 20
STOP = "stop"


class _Reporter:
    """Sends progress to the service: what is new at once, the rest now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last, self._told = -_EVERY_S, (None, None)

    def __call__(self, moment: dict[str, Any]) -> None:
        known = (moment.get("cost_per_hour"), moment.get("lower_bound_per_hour"))
        at = time.monotonic()
        if known == self._told and at - self._last < _EVERY_S:
            return
        self._last, self._told = at, known
        self._connection.send(("progress", with_nulls(moment)))


def main(connection: Connection, kind: Kind, request: bytes, limits: ServiceLimits) -> None:
    """Do a job and send what came of it.

    Sends ``("progress", moment)`` as often as there is something to say, and at the end ``("result", JSON text,
    whether it was ended early)`` or ``("error", kind, message)``.

    Parameters
    ----------
    connection
        To the service, which may send `STOP`; where the service is gone, the process ends.
    """
    # Ctrl-C in a terminal is for the service, which asks the jobs itself.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # What libraries make for processes of their own goes with this one, which may be killed.
    multiprocessing.set_start_method("fork", force=True)
    stop, over = StopRequest(), threading.Event()
    threading.Thread(target=_follow, args=(connection, stop, over), daemon=True).start()
    most = limits.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    last_word = _done(kind, request, limits, _Reporter(connection), stop)
    over.set()
    connection.send(last_word)


def _follow(connection: Connection, stop: StopRequest, over: threading.Event) -> None:
    """Take the service's word, and its end."""
    try:
        while connection.recv() == STOP:
            stop.set()
    except (EOFError, OSError):
        pass
    if not over.is_set():
        # Nobody is left to be told; nothing that is under way is worth waiting for.
        os._exit(1)


def _done(
    kind: Kind, request: bytes, limits: ServiceLimits, report: _Reporter, stop: StopRequest
) -> tuple[str, str | ErrorKind, str | bool]:
    try:
        with warnings.catch_warnings(record=True) as cautions:
            warnings.simplefilter("always")
            found = check_body(body_of(kind, json.loads(request)), limits)(report, stop)
        said = list(dict.fromkeys(str(caution.message) for caution in cautions if _is_ours(caution)))
        text = json.dumps(with_nulls({**found, "cautions": said[:_MOST_CAUTIONS]}), allow_nan=False)
        return "result", text, bool(found.get("interrupted", False))
    except InputError as error:
        return "error", "bad-input", str(error)
    except InfeasibleError as error:
        return "error", "no-plan", str(error)
    except StoppedOnRequestError as error:
        return "error", "stopped", str(error)
    except KeyboardInterrupt:
        return "error", "stopped", "stopped before there was anything"
    except MemoryError:
        return "error", "memory", f"it takes more memory than the {limits.memory_mib:,} MiB that a job has here"
    except IgniterOptError as error:
        return "error", "internal", str(error)
    except Exception as error:
        # A bug: whoever runs the service is told all, the client one line.
        sys.excepthook(*sys.exc_info())
        return "error", "internal", f"internal error ({explained(error)}); please report this"


def _is_ours(caution: warnings.WarningMessage) -> bool:
    from igniter_opt.base.errors import Caution

    return issubclass(caution.category, Caution)
