"""The table of deployment backends.

To add one, write a file in this folder with a class that does what `Backend` asks for, and add its row below. Its name
is that of ``--backend`` and of state files. An option that no backend takes yet is a field of `ServerOptions` and a
parameter of the commands that start servers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import NoReturn

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load
from igniter_opt.deploy.backends import docker, process
from igniter_opt.deploy.backends.base import Backend, ServerOptions
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import HostRecord

Hosts = tuple[HostRecord, ...]


KUBERNETES = "kubernetes"


def _declared(*_: object) -> NoReturn:
    """Refuse to start servers one by one where a cluster does."""
    raise InputError(f"servers of --backend {KUBERNETES} are started by `igniter-opt deploy` only")


@dataclass(frozen=True)
class BackendKind:
    """A row of the table.

    Attributes
    ----------
    name
        As users and state files name it.
    servers
        What its servers are, in the plural.
    make
        Makes the backend for hosts with the user's options; those for looking and stopping are the defaults.
    find
        Returns the hosts and, unless servers run on their processors (the second argument), their GPUs.
    takes
        Fields of `ServerOptions` that are refused with backends that do not take them.
    needs
        Those without which it starts no server, each with an example in words.
    packages, extra
        What it imports beyond the package's own dependencies, and the extra that installs it.
    declared
        Whether its servers are declared to a cluster, which starts them and is the state: `deploy.kubernetes` has its
        own `deploy`, status and teardown, and neither `make` nor `find` is called.
    """

    name: str
    servers: str
    make: Callable[[Hosts, ServerOptions], Backend]
    find: Callable[[ServerOptions, bool], tuple[Hosts, list[Device]]]
    takes: tuple[str, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    extra: str = "deploy"
    declared: bool = False

    def backend(self, hosts: Hosts = (), options: ServerOptions | None = None) -> Backend:
        """Make the backend; raise InputError naming the extra where a package is missing."""
        for package in self.packages:
            load(package, self.extra)
        return self.make(hosts, options or ServerOptions())

    def missing(self, options: ServerOptions) -> list[str]:
        """Return what it needs to start servers and was not given."""
        return [name for name in self.needs if getattr(options, name) is None]

    def foreign(self, options: ServerOptions) -> list[str]:
        """Return what was given that other backends take and this one does not."""
        given = [entry.name for entry in fields(options) if getattr(options, entry.name)]
        return [name for name in given if takers(name) and self.name not in takers(name)]


BACKENDS = {
    kind.name: kind
    for kind in (
        BackendKind(
            name=process.ProcessBackend.name,
            servers="processes",
            make=process.make,
            find=process.find,
            packages=("psutil",),
        ),
        BackendKind(
            name=docker.DockerBackend.name,
            servers="containers",
            make=docker.make,
            find=docker.find,
            takes=("inventory", "docker_host", "image"),
            needs={"image": "such as the tritonserver image that your engines were built for"},
            packages=("docker",),
        ),
        BackendKind(
            name=KUBERNETES,
            servers="pods",
            make=_declared,
            find=_declared,
            takes=("image", "cluster", "kubeconfig", "context", "namespace"),
            needs={
                "image": "such as the tritonserver image that your engines were built for",
                "cluster": "a file that says where pods find the models",
            },
            packages=("kubernetes",),
            extra="kubernetes",
            declared=True,
        ),
    )
}
# What `deploy` takes unless told otherwise, and `rehearse` always.
DEFAULT = BACKENDS["process"]


def takers(option: str) -> list[str]:
    """Return the names of the backends that take an option which not all take."""
    return [kind.name for kind in BACKENDS.values() if option in kind.takes]
