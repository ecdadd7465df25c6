"""Quantities as the API server writes them: another spelling would look like a change."""


def mebibytes(count: int) -> str:
    """Render a number of MiB."""
    for unit in ("Mi", "Gi", "Ti"):
        if count % 1024 or unit == "Ti":
            return f"{count}{unit}"
        count //= 1024
    raise AssertionError


def processors(count: float) -> str:
    """Render a number of processors, in thousandths where it is not whole."""
    thousandths = max(1, round(count * 1000))
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
