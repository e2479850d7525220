-- What somebody did lately is asked for before machines begin: how many they had begin, whose account they made.
CREATE INDEX audit_by_who ON audit (who, at_ms);
CREATE INDEX audit_by_action ON audit (action, at_ms);
