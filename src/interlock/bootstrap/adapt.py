"""From the settings to what each adapter takes."""

from __future__ import annotations

import os
from typing import Final

from interlock.identity.secrets import SecretReference
from interlock.plane.runs import RunPolicy
from interlock.settings.load import LoadedSettings, home
from interlock.settings.tree import UpstreamSettings
from interlock.upstream.link import UpstreamConfig
from interlock.upstream.notices import NoticeTarget

_MINUTE_US: Final = 60_000_000


def run_policy(settings: LoadedSettings) -> RunPolicy:
    runs = settings.tree.runs
    return RunPolicy(
        ceilings=settings.default_ceilings,
        idle_us=runs.idle_minutes * _MINUTE_US,
        cool_down_us=runs.cool_down_minutes * _MINUTE_US,
        max_implicit_per_hour=runs.max_implicit_runs_per_hour,
        max_opened_per_hour=runs.max_opened_runs_per_hour,
    )


def upstream_configs(settings: LoadedSettings) -> dict[str, UpstreamConfig]:
    return {name: _upstream_config(settings, name, upstream) for name, upstream in settings.upstreams.items()}


def _upstream_config(settings: LoadedSettings, name: str, upstream: UpstreamSettings) -> UpstreamConfig:
    # PATH is how programs are found; everything else the process gets is written in the settings.
    environment = {"PATH": os.environ.get("PATH", os.defpath), **(upstream.env or {})}
    return UpstreamConfig(
        id=name,
        command=tuple(home(part) for part in upstream.command) if upstream.command else None,
        cwd=settings.path(upstream.cwd or "."),
        environment=environment,
        per_agent=upstream.isolation == "per-agent",
        url=upstream.url,
        networks=upstream.allow_addresses,
        protocol=upstream.protocol,
        call_timeout_s=upstream.call_timeout_seconds,
        start_timeout_s=upstream.start_timeout_seconds,
        max_bytes=upstream.max_result_bytes,
        max_in_flight=upstream.max_in_flight,
    )


def secret_references(settings: LoadedSettings) -> dict[str, tuple[SecretReference, ...]]:
    return {
        name: tuple(
            SecretReference(
                target=entry.env or entry.header or "",
                is_header=entry.header is not None,
                prefix=entry.prefix,
                variable=entry.source.env,
                file=settings.path(entry.source.file) if entry.source.file else None,
                agent=entry.agent,
                tool=entry.tool,
            )
            for entry in upstream.secrets
        )
        for name, upstream in settings.upstreams.items()
    }


def notice_targets(settings: LoadedSettings) -> dict[str, NoticeTarget]:
    return {
        name: NoticeTarget(target.type, str(settings.path(target.path)) if target.path else target.url or "")
        for name, target in (settings.tree.notify or {}).items()
    }
