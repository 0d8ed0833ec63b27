-- The index of the log archive. The bytes are in the archive, never in SQL.

-- One stream of bytes: (attempt, episode, stream). Its ordinal gives the order within the run.
CREATE TABLE log_stream (
    run_id     uuid NOT NULL,
    ordinal    integer NOT NULL,
    attempt    integer NOT NULL,
    episode    text NOT NULL,
    stream     text NOT NULL,
    cluster    text,
    locator    text NOT NULL,
    -- Where to go on reading from the backend (LogPosition).
    position   jsonb NOT NULL DEFAULT '{}',
    bytes      bigint NOT NULL DEFAULT 0,
    lines      bigint NOT NULL DEFAULT 0,
    -- Set last, when the stream is sealed.
    verdict    text CHECK (verdict IN ('complete', 'gap', 'truncated')),
    sha256     text,
    message    text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sealed_at  timestamptz,
    PRIMARY KEY (run_id, ordinal),
    UNIQUE (run_id, attempt, episode, stream)
);
CREATE INDEX log_stream_open ON log_stream (cluster) WHERE sealed_at IS NULL;

CREATE TABLE log_chunk (
    run_id        uuid NOT NULL,
    ordinal       integer NOT NULL,
    -- Raw byte offset within the stream.
    start         bigint NOT NULL,
    length        integer NOT NULL CHECK (length > 0),
    first_line    bigint NOT NULL,
    lines         integer NOT NULL,
    first_at      timestamptz,
    last_at       timestamptz,
    -- Key in the archive, and its size there.
    object_key    text NOT NULL,
    stored_length integer NOT NULL,
    -- Bytes are missing before this chunk; why.
    gap_before    text,
    PRIMARY KEY (run_id, ordinal, start)
);
