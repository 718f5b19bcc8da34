"""Puts a plane together from its settings."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from interlock import __version__
from interlock.api.administration import Administration, TokenRequest
from interlock.bootstrap.adapt import notice_targets, run_policy, secret_references, upstream_configs
from interlock.bootstrap.doctor import Doctor
from interlock.bootstrap.serving import bind_tcp, bind_unix
from interlock.bootstrap.system import SystemClock, SystemEntropy
from interlock.core.canonical import JsonObject
from interlock.core.errors import BadRequest, Conflict, NotFound, StoreRefused
from interlock.core.ids import make_id
from interlock.core.lockfile import PinnedUpstream
from interlock.gateway.app import Doors, GatewayApp, RefusedTokens
from interlock.gateway.lists import ToolLists
from interlock.gateway.mcp import McpEndpoint
from interlock.gateway.metrics import PrometheusMeter
from interlock.gateway.runs_api import RunsApi
from interlock.gateway.sessions import Sessions
from interlock.gateway.tools import CallExchange
from interlock.identity.keyfiles import private_folder
from interlock.identity.sealing import AesSealer
from interlock.identity.secrets import UpstreamSecrets
from interlock.identity.tokens import TokenService
from interlock.plane.approvals import Approvals
from interlock.plane.bundles import ActivePolicy
from interlock.plane.deciding import Deciding
from interlock.plane.enforce import Enforcer, Plane
from interlock.plane.execution import Execution
from interlock.plane.flights import Flights
from interlock.plane.limits import CallLimits
from interlock.plane.records import CallRecords
from interlock.plane.refusals import RefusalTally
from interlock.plane.runs import Runs
from interlock.plane.stopping import Stopping
from interlock.settings.load import LoadedSettings, shown
from interlock.settings.policy_files import read_policy_files
from interlock.store.sqlite.reader import SqliteReader
from interlock.store.sqlite.store import SqliteStore
from interlock.upstream.notices import Notices
from interlock.upstream.pool import UpstreamPool

_log = logging.getLogger("interlock.identity")


@dataclass(slots=True)
class Listeners:
    """The sockets of a plane, bound before anything is served."""

    gateway: socket.socket
    watch: socket.socket
    operator: socket.socket

    def address(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(slots=True)
class Composed:
    """Everything that `bootstrap.process` runs."""

    settings: LoadedSettings
    listeners: Listeners
    public_url: str
    store: SqliteStore
    reader: SqliteReader
    pool: UpstreamPool
    policy: ActivePolicy
    stopping: Stopping
    execution: Execution
    flights: Flights
    exchange: CallExchange
    refusals: RefusalTally
    notices: Notices
    meter: PrometheusMeter
    gateway: GatewayApp
    administration: Administration
    executor: str
    draining: bool = False

    def not_ready(self) -> str | None:
        """Why calls would be denied right now; None if the plane is ready."""
        if self.draining:
            return "shutting down"
        if self.store.problem is not None:
            return str(self.store.problem)
        return "no policy is active" if self.policy.bundle is None else None


def hold_data_dir(settings: LoadedSettings, stack: ExitStack) -> Path:
    """Make the data folder ours alone, for as long as the process lives."""
    folder = private_folder(settings.data_dir)
    descriptor = os.open(folder / "plane.lock", os.O_RDWR | os.O_CREAT, 0o600)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StoreRefused(
            f"Another plane runs on {folder}.", remedy="Stop it first, or give this one another data_dir."
        ) from None
    return folder


def compose(settings: LoadedSettings, stack: ExitStack) -> Composed:
    """Build the plane; nothing is served or started yet.

    Raises:
        InterlockError: the data folder, a key, the database or an address cannot be used.
    """
    folder = hold_data_dir(settings, stack)
    clock, entropy, tree = SystemClock(), SystemEntropy(), settings.tree
    executor = make_id("exec", clock.now_us() // 1000, entropy.take(10))
    sealer = AesSealer(folder / "data.key", entropy)
    database = folder / "journal.db"
    if not database.exists() and (folder / "tokens.key").exists():
        raise StoreRefused(
            f"{database} is gone, and the keys beside it are those of a plane that has run.",
            remedy="Restore the journal. To begin anew, halts and all, move the whole folder away.",
        )
    store = SqliteStore(database, clock)
    stack.callback(store.close)
    reader = SqliteReader(database)
    listeners = _bind(settings, stack)
    public_url = tree.gateway.public_url or f"http://{listeners.address(listeners.gateway)}"
    tokens = TokenService(folder / "tokens.key", public_url, clock, entropy)
    secrets = UpstreamSecrets(secret_references(settings))
    policy = ActivePolicy(store, reader, sealer, lambda: read_policy_files(settings.policies), settings.notify_names)
    pool = UpstreamPool(upstream_configs(settings), policy.lock, clock, secrets.redact)
    notices = Notices(notice_targets(settings), clock)
    meter = PrometheusMeter(frozenset(settings.upstreams), reader.summary)
    flights = Flights()
    stopping = Stopping(store, reader, sealer, flights, notices, clock)
    execution = Execution(store, pool, secrets, sealer, flights, stopping, clock, meter)
    pool.on_late = execution.answered_late
    runs = Runs(store, reader, sealer, clock, entropy, run_policy(settings))
    deciding = Deciding(reader, pool, clock, runs.task)
    told = tree.notify_approvals

    def tell_approvers(event: JsonObject) -> None:
        if told is not None:
            notices.notify(told, event)

    approvals = Approvals(store, reader, sealer, policy, runs.task, tell_approvers)
    refusals = RefusalTally(store, clock)
    per_agent = tree.limits
    limits = CallLimits(per_agent.calls_per_second, per_agent.burst, per_agent.concurrent_calls, clock)
    enforcer = Enforcer(
        Plane(
            store=store,
            reader=reader,
            upstreams=pool,
            secrets=secrets,
            policy=policy,
            runs=runs,
            deciding=deciding,
            records=CallRecords(sealer, clock, entropy),
            approvals=approvals,
            stopping=stopping,
            execution=execution,
            limits=limits,
            refusals=refusals,
            clock=clock,
            entropy=entropy,
            meter=meter,
            executor=executor,
        )
    )
    exchange = CallExchange(enforcer, limits)

    def mint_for_run(identity: str, agent: str, run: str) -> tuple[str, int]:
        minted = tokens.mint("agent", identity, (agent,), run, 900)
        return minted.text, minted.expires_at

    def mint(asked: TokenRequest, by: str) -> tuple[str, str, int]:
        minted = _mint(asked, policy, reader, tokens)
        about = {"token": minted[1], "agents": ",".join(asked.agents), "opener": asked.opener or "", "by": by}
        _log.info("token minted", extra=about)
        return minted

    async def discover(upstream: str) -> tuple[PinnedUpstream, dict[str, str]]:
        _, values = secrets.profile(upstream, "", "")
        return await pool.discover(upstream, values)

    composed: Composed

    def ready() -> str | None:
        return composed.not_ready()

    max_body = tree.gateway.max_body_bytes
    gateway = GatewayApp(
        McpEndpoint(policy, ToolLists(pool), Sessions(sealer, entropy), exchange, limits, max_body),
        RunsApi(policy, runs, stopping, reader, mint_for_run),
        Doors(lambda token: tokens.verify(token, "agent"), lambda token: tokens.verify(token, "run-opener")),
        RefusedTokens(per_agent.unauthenticated_per_second, clock),
        ready,
        public_url,
        tree.gateway.allowed_origins,
        max_body,
    )
    doctor = Doctor(settings, policy, store, reader, discover)

    def status() -> JsonObject:
        return {
            "version": __version__,
            "ready": ready() is None,
            "why_not_ready": ready(),
            "gateway": public_url,
            "watch": f"http://{listeners.address(listeners.watch)}",
            "socket": str(settings.socket),
            "executor": executor,
            "bundle": policy.bundle.digest if policy.bundle else None,
            "in_flight": len(flights),
            "upstreams": pool.health(),
            **reader.summary(),
            "halts": len(reader.halts()) + len(stopping.unrecorded()),
        }

    administration = Administration(
        store=store,
        reader=reader,
        sealer=sealer,
        clock=clock,
        policy=policy,
        deciding=deciding,
        approvals=approvals,
        stopping=stopping,
        upstreams=pool,
        mint=mint,
        discover=discover,
        settings=lambda: {"file": str(settings.file), **shown(tree)},
        status=status,
        doctor=doctor.check,
    )
    composed = Composed(
        settings,
        listeners,
        public_url,
        store,
        reader,
        pool,
        policy,
        stopping,
        execution,
        flights,
        exchange,
        refusals,
        notices,
        meter,
        gateway,
        administration,
        executor,
    )
    return composed


def _bind(settings: LoadedSettings, stack: ExitStack) -> Listeners:
    tree = settings.tree
    gateway = bind_tcp(tree.gateway.listen)
    stack.callback(gateway.close)
    watch = bind_tcp(tree.operations.listen)
    stack.callback(watch.close)
    others = bool(tree.operations.operator_uids)
    if others and tree.operations.socket is None:
        # The data folder lets nobody in; named operators need a socket outside of it.
        raise BadRequest(
            "operations.operator_uids needs operations.socket: the data folder is closed to other users.",
            remedy="Set operations.socket to a path that they can reach, such as /run/interlock/operator.sock.",
        )
    operator = bind_unix(settings.socket, group_readable=others)
    stack.callback(settings.socket.unlink, missing_ok=True)
    stack.callback(operator.close)
    return Listeners(gateway, watch, operator)


def _mint(
    asked: TokenRequest, policy: ActivePolicy, reader: SqliteReader, tokens: TokenService
) -> tuple[str, str, int]:
    bundle = policy.bundle
    known = bundle.agents if bundle else {}
    for agent in asked.agents:
        if agent not in known:
            raise NotFound(f"The active policy has no agent {agent!r}.", remedy="`interlock policy show` lists them.")
    if asked.opener is not None:
        minted = tokens.mint("run-opener", asked.opener, asked.agents, None, asked.ttl_s)
        return minted.text, minted.token_id, minted.expires_at
    agent_id = asked.agents[0]
    if asked.run is not None:
        run = reader.run(asked.run)
        if run is None or run.agent != agent_id:
            raise NotFound(f"The agent {agent_id} has no run {asked.run}.")
        if run.state == "ended":
            raise Conflict(f"The run {asked.run} has ended.")
    minted = tokens.mint("agent", known[agent_id].identity, (agent_id,), asked.run, asked.ttl_s)
    return minted.text, minted.token_id, minted.expires_at
