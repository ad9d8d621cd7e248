-- What came back under the key of a deleted document must not show what that one said.
ALTER TABLE livedex.documents ADD COLUMN revived_seq bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN livedex.documents.revived_seq IS
    'When its key came back after a delete. What was applied before is of the deleted document and is shown to nobody.';
