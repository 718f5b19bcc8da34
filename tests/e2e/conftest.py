"""What several end-to-end tests stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.scene import Scene, http_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A plane with the misbehaving HTTP server behind it; a module that needs other settings has a scene of its own."""
    with http_scene(tmp_path_factory.mktemp("plane")) as found:
        found.serves()
        yield found
