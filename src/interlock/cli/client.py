"""Talking to a running plane: HTTP over the operator socket, problems as errors with an exit code."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
INVALID: Final = 3
NO_PLANE: Final = 4
UNHEALTHY: Final = 5
EXIT_CODES: Final[dict[int, str]] = {
    OK: "done",
    REFUSED: "the plane refused, or what was named does not exist",
    USAGE: "the command line is wrong",
    INVALID: "settings or policy files have errors",
    NO_PLANE: "no plane answers on the operator socket",
    UNHEALTHY: "the plane is there, and `doctor` found failures",
}


class CommandFailed(Exception):
    """What a command ends with: a sentence, what to do, details, and an exit code."""

    def __init__(self, code: int, message: str, remedy: str = "", findings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy, self.findings = code, message, remedy, findings


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("operator", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class PlaneClient:
    """One plane."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, path: str, timeout: float = 60, **query: str | int | None) -> dict[str, Any]:
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        return self._request("GET", f"{path}?{asked}" if asked else path, None, timeout)

    def post(self, path: str, body: dict[str, Any], timeout: float = 120) -> dict[str, Any]:
        return self._request("POST", path, json.dumps(body).encode(), timeout)

    def _request(self, method: str, path: str, body: bytes | None, timeout: float) -> dict[str, Any]:
        connection = _UnixConnection(str(self._path), timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
        except PermissionError:
            raise CommandFailed(
                NO_PLANE,
                f"The operator socket {self._path} is closed to you.",
                "Run as the plane's user, or be named in operations.operator_uids.",
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandFailed(
                NO_PLANE,
                f"No plane answers at {self._path} ({_why(error)}).",
                "Start it with `interlock up`, or name its settings with --config.",
            ) from None
        finally:
            connection.close()
        if response.status >= 400:
            code = INVALID if answer.get("code") in ("bundle_invalid", "settings_invalid") else REFUSED
            findings = tuple(str(finding) for finding in answer.get("findings", ()))
            raise CommandFailed(code, str(answer.get("detail", "refused")), str(answer.get("remedy", "")), findings)
        return answer


def _why(error: Exception) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "it hung up: this user may not operate it"
    return error.strerror or str(error) if isinstance(error, OSError) else type(error).__name__
