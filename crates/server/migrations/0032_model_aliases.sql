-- Names that vendors use for models; `alias_key` is how they are compared.
CREATE TABLE model_aliases (
    alias_key TEXT   PRIMARY KEY,
    alias     TEXT   NOT NULL,
    vendor    TEXT   NOT NULL,
    product   TEXT   NOT NULL,
    set_by    TEXT   NOT NULL,
    set_at_ms BIGINT NOT NULL
);
