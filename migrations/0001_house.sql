-- Who may do what, and which replica does it: projects, tokens, clusters, leases, idempotency.

CREATE TABLE project (
    name       text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL
);
INSERT INTO project (name, created_by) VALUES ('default', 'system');

CREATE TABLE token (
    id           text PRIMARY KEY,
    project      text NOT NULL REFERENCES project (name),
    name         text NOT NULL,
    role         text NOT NULL CHECK (role IN ('viewer', 'submitter', 'admin')),
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE UNIQUE INDEX token_live_name ON token (project, name) WHERE revoked_at IS NULL;

CREATE TABLE cluster (
    name              text PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('k8s', 'local')),
    status            text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'draining', 'removed')),
    -- UID of the namespace kube-system: a kubeconfig that leads elsewhere is refused.
    identity          text,
    sealed_kubeconfig bytea,
    context           text,
    namespace         text,
    labels            jsonb NOT NULL DEFAULT '{}',
    default_queue     text,
    queues            text[] NOT NULL DEFAULT '{}',
    version           text,
    -- Grows with each change of the connection, so that replicas rebuild their clients.
    generation        bigint NOT NULL DEFAULT 1,
    reachable         boolean NOT NULL DEFAULT false,
    message           text,
    last_seen_at      timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    created_by        text NOT NULL
);

-- Where the watch of a cluster may be resumed; written in the transaction of the batch it covers.
CREATE TABLE watch_position (
    cluster    text PRIMARY KEY REFERENCES cluster (name),
    position   text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A time-bound right to write, among replicas. The epoch fences: each write of a holder carries it.
CREATE TABLE lease (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    epoch      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE idempotency (
    project      text NOT NULL,
    principal    text NOT NULL,
    route        text NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    -- NULL while the first request is in flight.
    status       integer,
    response     bytea,
    run_id       uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, principal, route, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
