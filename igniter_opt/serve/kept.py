"""Jobs on disk: a folder of the service's own, in which a file is whole or not there.

A job has one file for its record and events and, once it has a result, another one for that, which is written first: a
record that says that there is a result is right.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, parse_json, read_bytes, read_text, write_bytes_atomically
from igniter_opt.base.optional import load
from igniter_opt.base.ownership import check_entries, check_private, make_private
from igniter_opt.base.schema import parse_record
from igniter_opt.serve.job import ENDED, JobEvent, JobRecord, ServiceJob, now

_LOCK = "serve.lock"
_JOB, _RESULT = ".job.json", ".result.json"
_ID = re.compile(r"[0-9a-f]{16}")
# What is left of a file that was being written when the service was killed.
_UNFINISHED = re.compile(r"\.igniter-opt-[a-z0-9_]+")
_MEND = "choose another --state"


def default_folder() -> Path:
    """Return where this user's service keeps its jobs."""
    return Path(load("platformdirs", "serve").user_state_dir("igniter-opt")) / "serve"


class KeptJobs:
    """The folder of a service.

    Parameters
    ----------
    folder
        Created where it is missing, for this user alone.
    """

    def __init__(self, folder: StrPath) -> None:
        self.folder = as_path(folder).absolute()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for as long as the service runs.

        Raises
        ------
        InputError
            Others could change what is there, another service holds it, or it is a folder with other things.
        """
        self._check_ours()
        try:
            make_private(self.folder)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be created ({error.strerror}); {_MEND}") from None
        self._check_ours()
        strange = next((entry.name for entry in self.folder.iterdir() if not _is_ours(entry.name)), None)
        if strange is not None:
            raise InputError(f"{self.folder}: holds other things than a service's jobs ({strange!r}); {_MEND}")
        path = self.folder / _LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror}); {_MEND}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{self.folder}: another service keeps its jobs here; {_MEND}") from None
            yield
        finally:
            os.close(descriptor)

    def _check_ours(self) -> None:
        if self.folder.is_symlink():
            raise InputError(f"{self.folder}: is a link, and none is followed here; {_MEND}")
        check_private(self.folder, _MEND)
        check_entries(self.folder)

    def read(self) -> list[ServiceJob]:
        """Return the jobs of earlier services, the oldest first; those that had not ended are marked as interrupted.

        Raises
        ------
        InputError
            A file is damaged; nothing is removed then.
        """
        names = sorted(entry.name for entry in self.folder.iterdir())
        jobs = [self._read(self.folder / name) for name in names if name.endswith(_JOB)]
        for job in jobs:
            if not job.ended:
                # Killed between the two files, a service leaves a result that nothing says of.
                whole = f"{job.id}{_RESULT}" in names
                job.update(state="done" if whole else "interrupted", has_result=whole, ended_at=now())
                self.write(job)
        known = {job.id for job in jobs if job.record.has_result}
        for name in names:
            unclaimed = name.endswith(_RESULT) and name.removesuffix(_RESULT) not in known
            if unclaimed or _UNFINISHED.fullmatch(name):
                (self.folder / name).unlink(missing_ok=True)
        return sorted(jobs, key=lambda job: (job.record.created_at, job.id))

    def _read(self, path: Path) -> ServiceJob:
        data = parse_json(read_text(path), str(path))
        if not isinstance(data, dict) or not isinstance(data.get("events"), list):
            raise InputError(f"{path}: is no record of a job; {_MEND}, or remove the file")
        record = parse_record(JobRecord, data.get("job"), str(path))
        if path.name != f"{record.id}{_JOB}":
            raise InputError(f"{path}: is the record of another job; {_MEND}, or remove the file")
        if record.has_result and not (self.folder / f"{record.id}{_RESULT}").is_file():
            record = record.model_copy(update={"has_result": False})
        return ServiceJob(record, events=[parse_record(JobEvent, entry, str(path)) for entry in data["events"]])

    def write(self, job: ServiceJob) -> None:
        """Write a job's record."""
        events = [event.model_dump(mode="json") for event in job.events()] if job.record.state in ENDED else []
        data = {"job": job.record.model_dump(mode="json", by_alias=True), "events": events}
        write_bytes_atomically(self.folder / f"{job.id}{_JOB}", json.dumps(data).encode(), private=True)

    def write_result(self, job: ServiceJob, content: bytes) -> None:
        """Write a job's result, before its record says that there is one."""
        write_bytes_atomically(self.folder / f"{job.id}{_RESULT}", content, private=True)

    def result(self, job: ServiceJob) -> bytes:
        """Return a job's result as it was written."""
        return read_bytes(self.folder / f"{job.id}{_RESULT}", 2**30)

    def remove(self, job: ServiceJob) -> None:
        """Remove a job, its record first."""
        for suffix in (_JOB, _RESULT):
            with suppress(FileNotFoundError):
                (self.folder / f"{job.id}{suffix}").unlink()


def _is_ours(name: str) -> bool:
    of_job = next((name.removesuffix(end) for end in (_JOB, _RESULT) if name.endswith(end)), "")
    return name == _LOCK or bool(_ID.fullmatch(of_job) or _UNFINISHED.fullmatch(name))
