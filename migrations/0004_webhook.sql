-- Webhook endpoints and the events owed to them.

CREATE TABLE webhook_endpoint (
    id                     text PRIMARY KEY,
    project                text NOT NULL REFERENCES project (name),
    url                    text NOT NULL,
    events                 text[] NOT NULL,
    description            text,
    sealed_secret          bytea NOT NULL,
    -- The secret before the last rotation, signed with as well until then.
    sealed_previous_secret bytea,
    previous_until         timestamptz,
    enabled                boolean NOT NULL DEFAULT true,
    disabled_reason        text,
    failing_since          timestamptz,
    removed_at             timestamptz,
    created_at             timestamptz NOT NULL DEFAULT now(),
    created_by             text NOT NULL
);
CREATE INDEX webhook_endpoint_of_project ON webhook_endpoint (project) WHERE removed_at IS NULL;

-- The outbox: written in the transaction of the run's state.
CREATE TABLE webhook_delivery (
    id            text PRIMARY KEY,
    endpoint_id   text NOT NULL REFERENCES webhook_endpoint (id),
    project       text NOT NULL,
    event         text NOT NULL,
    run_id        uuid,
    sequence      bigint NOT NULL,
    -- The exact bytes that are signed and sent on every try.
    body          bytea NOT NULL,
    status        text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    tries         integer NOT NULL DEFAULT 0,
    next_try_at   timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    last_status   integer,
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    delivered_at  timestamptz,
    -- A state of a run is told to an endpoint once; a replay sends the same row again.
    UNIQUE (endpoint_id, run_id, sequence)
) WITH (fillfactor = 70);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, next_try_at) WHERE status = 'pending';
CREATE INDEX webhook_delivery_of_endpoint ON webhook_delivery (endpoint_id, created_at DESC, id DESC);
CREATE INDEX webhook_delivery_arrived ON webhook_delivery (delivered_at) WHERE status = 'delivered';
CREATE INDEX webhook_delivery_of_run ON webhook_delivery (run_id) WHERE run_id IS NOT NULL;
