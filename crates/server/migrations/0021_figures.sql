-- Figures about runs that ended: made once from the events of a run, so that a report over a hundred thousand runs reads
-- no events. A run that was retried has another end, and its figures are made again.
CREATE INDEX runs_by_end ON runs (ended_at_ms);
CREATE TABLE run_figures (
    run         TEXT   NOT NULL PRIMARY KEY,
    ended_at_ms BIGINT NOT NULL,
    document    TEXT   NOT NULL
);
