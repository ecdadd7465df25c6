"""What the guard's tests share: the launcher's stand-in site, and a plan whose models are cheap to predict."""

from tests.deploy.conftest import plan, site, stranger

__all__ = ["plan", "site", "stranger"]
