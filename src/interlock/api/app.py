"""The administrative application, served on the operator socket alone."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from interlock.api.administration import Administration
from interlock.api.control_routes import ControlRoutes
from interlock.api.policy_routes import PolicyRoutes
from interlock.api.record_routes import RecordRoutes
from interlock.api.requests import handle_error, problem_of
from interlock.core.errors import InterlockError, NotFound


def build_api(admin: Administration) -> Starlette:
    """Put the routes together. Who may connect was decided when the connection was accepted."""
    return Starlette(
        routes=[*PolicyRoutes(admin).routes, *RecordRoutes(admin).routes, *ControlRoutes(admin).routes],
        exception_handlers={InterlockError: handle_error, 404: _not_here},
    )


async def _not_here(request: Request, _error: Exception) -> Response:
    return problem_of(NotFound(f"There is nothing at {request.url.path}."))
