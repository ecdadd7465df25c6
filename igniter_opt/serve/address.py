"""Where a service listens unless it is told otherwise."""

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8470
# Says the port where `--port` does not. No `NAME_PORT` of a likely NAME: Kubernetes sets these for services.
PORT_VARIABLE = "IGNITER_OPT_LISTEN_PORT"
