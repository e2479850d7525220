-- Whoever looks for the runs of one device in one state looks at those alone, not at all in that state.
DROP INDEX runs_by_state;
CREATE INDEX runs_by_state ON runs (state, device);
