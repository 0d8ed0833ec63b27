-- What waits for the log archive, and what was brought there and belongs to nothing.

-- Set while the archive does not take what was read of a stream: why, since when, and when it last refused.
ALTER TABLE log_stream
    ADD COLUMN waiting_for     text CHECK (waiting_for IN ('no_space', 'denied', 'read_only', 'no_answer', 'damaged', 'refused')),
    ADD COLUMN waiting_since   timestamptz,
    ADD COLUMN waiting_seen_at timestamptz,
    ADD CONSTRAINT waiting_is_whole CHECK (num_nulls(waiting_for, waiting_since, waiting_seen_at) IN (0, 3));
CREATE INDEX log_stream_waiting ON log_stream (waiting_seen_at) WHERE waiting_for IS NOT NULL AND sealed_at IS NULL;

-- The log of a run that ended elsewhere, on its way into the archive. Its objects lie under `runs/<run>/imported/<id>/` and nowhere
-- else; the row goes in the transaction that records the run, or when they are cleared away.
CREATE TABLE import_upload (
    id           uuid PRIMARY KEY,
    run_id       uuid NOT NULL,
    began_at     timestamptz NOT NULL DEFAULT now(),
    -- Moved on while bytes come.
    touched_at   timestamptz NOT NULL DEFAULT now(),
    -- From here on its run cannot be recorded, and its objects may go at any time.
    abandoned_at timestamptz
);
CREATE INDEX import_upload_touched ON import_upload (touched_at);
