"""The JSON Schemas of the files that people write, for editors."""

from __future__ import annotations

from interlock.core.canonical import JsonObject
from interlock.core.files.editor_schema import editor_schema
from interlock.core.policy.document import AgentFile, CatalogueFile
from interlock.settings.tree import Settings

_FILES = {
    "agent": (AgentFile, "Interlock agent file"),
    "catalogue": (CatalogueFile, "Interlock catalogue file"),
    "settings": (Settings, "Interlock settings"),
}


def editor_schemas() -> dict[str, JsonObject]:
    """Schemas by the kind of file: agent, catalogue, settings."""
    return {
        name: editor_schema(target, title=title, schema_id=f"urn:interlock:schema:{name}:1")
        for name, (target, title) in _FILES.items()
    }
