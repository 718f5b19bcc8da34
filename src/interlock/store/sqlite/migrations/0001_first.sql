-- Times are microseconds since the epoch by the store's clock. JSON columns hold canonical JSON.

CREATE TABLE leaf (
    seq   INTEGER PRIMARY KEY,  -- gap-free from 1
    at    INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    run   TEXT,
    call  TEXT,
    agent TEXT,
    body  BLOB NOT NULL         -- the exact bytes; never rewritten
) STRICT;
CREATE INDEX leaf_of_run ON leaf (run, seq) WHERE run IS NOT NULL;
CREATE INDEX leaf_of_call ON leaf (call, seq) WHERE call IS NOT NULL;

CREATE TABLE payload (
    seq    INTEGER NOT NULL REFERENCES leaf (seq),
    name   TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (seq, name)
) WITHOUT ROWID, STRICT;

CREATE TABLE run (
    id            TEXT PRIMARY KEY,
    agent         TEXT NOT NULL,
    implicit      INTEGER NOT NULL,
    opener        TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('open', 'halted', 'ended')),
    opened_at     INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    ceilings      TEXT NOT NULL,
    steps         INTEGER NOT NULL DEFAULT 0,
    max_steps     INTEGER,             -- raised when a person resumes the run
    clock_used    INTEGER NOT NULL DEFAULT 0,
    clock_since   INTEGER,             -- NULL while it stands still
    max_clock     INTEGER,             -- raised when a person resumes the run
    in_flight     INTEGER NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
    open_holds    INTEGER NOT NULL DEFAULT 0 CHECK (open_holds >= 0),
    halt_kind     TEXT CHECK (halt_kind IN ('ceiling', 'person')),
    halt_reason   TEXT,
    halted_at     INTEGER,
    notify        TEXT,
    labels        TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX run_of_agent ON run (agent, implicit, opened_at);
CREATE INDEX run_by_time ON run (opened_at);
CREATE INDEX run_not_ended ON run (opened_at) WHERE state <> 'ended';
CREATE UNIQUE INDEX implicit_run ON run (agent) WHERE implicit = 1 AND state <> 'ended';

CREATE TABLE counter (
    run      TEXT NOT NULL,
    name     TEXT NOT NULL,
    spent    INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (run, name)
) WITHOUT ROWID, STRICT;

CREATE TABLE call (
    id          TEXT PRIMARY KEY,
    run         TEXT NOT NULL,
    agent       TEXT NOT NULL,
    upstream    TEXT NOT NULL,
    tool        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    state       TEXT NOT NULL
                CHECK (state IN ('denied', 'held', 'permitted', 'succeeded', 'failed', 'unknown', 'closed')),
    code        TEXT,
    rule        TEXT NOT NULL,
    ring        TEXT NOT NULL,
    opened_at   INTEGER NOT NULL,
    ended_at    INTEGER,
    first_leaf  INTEGER NOT NULL,
    permit_leaf INTEGER,
    last_leaf   INTEGER NOT NULL,
    executor    TEXT,
    lease_until INTEGER,
    amounts     TEXT NOT NULL DEFAULT '{}',  -- what it reserved, by counter
    finding     TEXT CHECK (finding IN ('ran', 'did_not_run'))
) STRICT, WITHOUT ROWID;
CREATE INDEX call_of_run ON call (run, id);
CREATE INDEX call_permitted ON call (lease_until) WHERE state = 'permitted';
CREATE INDEX call_unknown ON call (run, digest) WHERE state = 'unknown' AND finding IS NULL;

CREATE TABLE hold (
    id           TEXT PRIMARY KEY,
    call         TEXT NOT NULL UNIQUE,
    run          TEXT NOT NULL,
    agent        TEXT NOT NULL,
    upstream     TEXT NOT NULL,
    tool         TEXT NOT NULL,
    digest       TEXT NOT NULL,
    key          TEXT NOT NULL,
    slice        TEXT NOT NULL,
    rules        TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('open', 'approved', 'denied', 'expired', 'redeemed', 'void')),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    auto_deny    INTEGER NOT NULL,
    escalated    INTEGER NOT NULL DEFAULT 0,
    decided_at   INTEGER,
    decided_by   TEXT,
    redeem_until INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_of_call ON hold (run, digest, key);
CREATE INDEX hold_open ON hold (state, expires_at) WHERE state IN ('open', 'approved');

CREATE TABLE halt (
    scope  TEXT NOT NULL CHECK (scope IN ('agent', 'all')),
    target TEXT NOT NULL,
    at     INTEGER NOT NULL,
    by     TEXT NOT NULL,
    leaf   INTEGER NOT NULL,
    PRIMARY KEY (scope, target)
) WITHOUT ROWID, STRICT;

CREATE TABLE bundle (
    digest  TEXT PRIMARY KEY,
    content BLOB NOT NULL,  -- every bundle that ever was active is kept
    first_at INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE activation (
    leaf   INTEGER PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES bundle (digest),
    at     INTEGER NOT NULL,
    by     TEXT NOT NULL
) STRICT;

-- How many calls, runs and holds are in which state, so that status and metrics never count rows.
CREATE TABLE tally (
    kind   TEXT NOT NULL,
    state  TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    PRIMARY KEY (kind, state)
) WITHOUT ROWID, STRICT;

CREATE TRIGGER call_enters_a_state AFTER INSERT ON call BEGIN
    INSERT INTO tally VALUES ('call', NEW.state, 1) ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER call_changes_state AFTER UPDATE OF state ON call WHEN NEW.state <> OLD.state BEGIN
    UPDATE tally SET number = number - 1 WHERE kind = 'call' AND state = OLD.state;
    INSERT INTO tally VALUES ('call', NEW.state, 1) ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER run_enters_a_state AFTER INSERT ON run BEGIN
    INSERT INTO tally VALUES ('run', NEW.state, 1) ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER run_changes_state AFTER UPDATE OF state ON run WHEN NEW.state <> OLD.state BEGIN
    UPDATE tally SET number = number - 1 WHERE kind = 'run' AND state = OLD.state;
    INSERT INTO tally VALUES ('run', NEW.state, 1) ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER hold_enters_a_state AFTER INSERT ON hold BEGIN
    INSERT INTO tally VALUES ('hold', NEW.state, 1) ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER hold_changes_state AFTER UPDATE OF state ON hold WHEN NEW.state <> OLD.state BEGIN
    UPDATE tally SET number = number - 1 WHERE kind = 'hold' AND state = OLD.state;
    INSERT INTO tally VALUES ('hold', NEW.state, 1) ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;
