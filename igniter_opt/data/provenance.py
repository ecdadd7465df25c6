"""How measurements were taken."""

from igniter_opt.base.schema import Record


class Provenance(Record):
    """How a profile's measurements were taken."""

    driver: str | None = None
    framework: str | None = None
    precision: str | None = None
    date: str | None = None
    note: str | None = None
