-- The laws of docs and design, as questions: every row is a broken law. Asked after each integration test.

-- 1 Accepted is recorded, and intent survives: a run that is not over has an intent to start, and no other has one.
SELECT 'law 1: a run that is not over has no intent' AS law, run.id::text AS detail
FROM run LEFT JOIN dispatch ON dispatch.run_id = run.id
WHERE run.finished_at IS NULL AND dispatch.run_id IS NULL

UNION ALL
SELECT 'law 8: a run that is over has an intent to start', run.id::text
FROM run JOIN dispatch ON dispatch.run_id = run.id WHERE run.finished_at IS NOT NULL

UNION ALL
SELECT 'law 8: an intent is about another attempt than its run', run.id::text
FROM run JOIN dispatch ON dispatch.run_id = run.id WHERE run.attempt <> dispatch.attempt

-- 2 One object per attempt: a UID belongs to one attempt.
UNION ALL
SELECT 'law 2: one object for two attempts', uid
FROM attempt JOIN run ON run.id = attempt.run_id
WHERE uid IS NOT NULL AND run.imported IS NULL GROUP BY uid HAVING count(*) > 1

UNION ALL
SELECT 'law 2: the run is pinned to another object than its attempt', run.id::text
FROM run JOIN attempt ON attempt.run_id = run.id AND attempt.attempt = run.attempt
WHERE run.backend ->> 'uid' IS DISTINCT FROM attempt.uid

-- 3 No invisible starts: what succeeded or ended with an exit code ran in an episode. Of what ran elsewhere we know
-- what we were told.
UNION ALL
SELECT 'law 3: it ended with an exit code and no episode is recorded', run.id::text
FROM run
WHERE (run.status = 'succeeded' OR run.failure ->> 'code' IN ('exit_code', 'oom')) AND run.imported IS NULL
    AND NOT EXISTS (SELECT 1 FROM episode WHERE episode.run_id = run.id AND episode.attempt = run.attempt)
    AND NOT EXISTS (SELECT 1 FROM run_event WHERE run_event.run_id = run.id AND run_event.data -> 'fact' -> 'ending' ->> 'verified' = 'false')

UNION ALL
SELECT 'law 3: a run is over and an episode of it is not', run.id::text || ' ' || episode.episode
FROM run JOIN episode ON episode.run_id = run.id
WHERE run.status = 'succeeded' AND episode.ended_at IS NULL AND run.imported IS NULL

-- 4 Terminal is for ever: one end, told once, unless a lost run was corrected.
UNION ALL
SELECT 'law 4: a run ended more than once', run_id::text
FROM run_event WHERE kind IN ('succeeded', 'failed', 'cancelled')
GROUP BY run_id HAVING count(*) > 1

UNION ALL
SELECT 'law 4: a run is over and its history does not say so', run.id::text
FROM run WHERE finished_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM run_event
    WHERE run_event.run_id = run.id AND run_event.kind IN ('succeeded', 'failed', 'cancelled', 'corrected'))

UNION ALL
SELECT 'law 4: the history has holes', run.id::text
FROM run JOIN (SELECT run_id, count(*) AS events, max(seq) AS last FROM run_event GROUP BY run_id) AS told
    ON told.run_id = run.id
WHERE told.events <> told.last OR told.last <> run.event_seq

-- 6 Evidence outlives objects: nothing is released before its log is sealed.
UNION ALL
SELECT 'law 6: an attempt is released and its log is not sealed', log_stream.run_id::text
FROM log_stream JOIN run ON run.id = log_stream.run_id
WHERE log_stream.sealed_at IS NULL AND run.finished_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM cleanup WHERE cleanup.run_id = log_stream.run_id AND cleanup.attempt = log_stream.attempt)

-- 7 Logs are byte-exact or labelled.
UNION ALL
SELECT 'law 7: chunks overlap or leave a hole', run_id::text || ' stream ' || ordinal || ' at ' || start
FROM (
    SELECT run_id, ordinal, start, coalesce(lag(start + length) OVER (PARTITION BY run_id, ordinal ORDER BY start), 0) AS wanted
    FROM log_chunk) AS chunk
WHERE start <> wanted

UNION ALL
SELECT 'law 7: a stream counts other bytes than its chunks', log_stream.run_id::text
FROM log_stream LEFT JOIN (SELECT run_id, ordinal, sum(length) AS bytes FROM log_chunk GROUP BY run_id, ordinal) AS chunk
    ON chunk.run_id = log_stream.run_id AND chunk.ordinal = log_stream.ordinal
WHERE log_stream.bytes <> coalesce(chunk.bytes, 0)

UNION ALL
SELECT 'law 7: called complete with a gap', log_chunk.run_id::text
FROM log_chunk JOIN log_stream ON log_stream.run_id = log_chunk.run_id AND log_stream.ordinal = log_chunk.ordinal
WHERE log_chunk.gap_before IS NOT NULL AND log_stream.verdict = 'complete'

UNION ALL
SELECT 'law 7: a log is not whole and its run is not flagged', run.id::text
FROM run WHERE run.logs ->> 'verdict' <> 'complete' AND NOT 'logs_incomplete' = ANY (run.flags)

-- What ended elsewhere is marked, told so in its history, whole, and nothing of it is owed to anybody.
UNION ALL
SELECT 'imported: its history does not end with who brought it', run.id::text
FROM run WHERE imported IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM run_event
    WHERE run_event.run_id = run.id AND run_event.seq = run.event_seq AND run_event.kind = 'imported')

UNION ALL
SELECT 'imported: it is not over, or its log has no summary', run.id::text
FROM run WHERE imported IS NOT NULL AND (finished_at IS NULL OR logs IS NULL)

UNION ALL
SELECT 'imported: a cluster of ours has it', run.id::text
FROM run WHERE imported IS NOT NULL AND (cluster IS NOT NULL
    OR EXISTS (SELECT 1 FROM dispatch WHERE dispatch.run_id = run.id)
    OR EXISTS (SELECT 1 FROM cleanup WHERE cleanup.run_id = run.id))

UNION ALL
SELECT 'imported: an endpoint is told of it', run.id::text
FROM run WHERE imported IS NOT NULL AND EXISTS (
    SELECT 1 FROM webhook_delivery WHERE webhook_delivery.run_id = run.id)

UNION ALL
SELECT 'imported: the summary of its log is not that of its streams', run.id::text
FROM run LEFT JOIN (SELECT run_id, sum(bytes) AS bytes, sum(lines) AS lines FROM log_stream GROUP BY run_id) AS stream
    ON stream.run_id = run.id
WHERE imported IS NOT NULL AND ((logs ->> 'bytes')::numeric <> coalesce(stream.bytes, 0)
    OR (logs ->> 'lines')::numeric <> coalesce(stream.lines, 0))

UNION ALL
SELECT 'imported: its log lies where an upload may be removed', log_chunk.run_id::text
FROM import_upload JOIN log_chunk ON log_chunk.run_id = import_upload.run_id
    AND starts_with(log_chunk.object_key, 'runs/' || import_upload.run_id || '/imported/' || import_upload.id || '/')

-- 9 Every terminal event of what ran here reaches every subscriber, or is seen to be owed.
UNION ALL
SELECT 'law 9: an endpoint is not owed the end of a run', run.id::text || ' ' || webhook_endpoint.id
FROM run JOIN webhook_endpoint ON webhook_endpoint.project = run.project
WHERE run.finished_at IS NOT NULL AND run.imported IS NULL AND webhook_endpoint.enabled AND webhook_endpoint.removed_at IS NULL
    AND run.created_at > webhook_endpoint.created_at AND 'run.' || run.status = ANY (webhook_endpoint.events)
    AND NOT EXISTS (
        SELECT 1 FROM webhook_delivery
        WHERE webhook_delivery.run_id = run.id AND webhook_delivery.endpoint_id = webhook_endpoint.id
            AND webhook_delivery.event = 'run.' || run.status)
