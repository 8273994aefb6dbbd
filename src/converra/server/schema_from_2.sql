-- Makes a file of schema version 2 one of version 3.

ALTER TABLE requests ADD COLUMN model TEXT;
ALTER TABLE requests ADD COLUMN answer BLOB;
ALTER TABLE requests ADD COLUMN answer_type TEXT;
CREATE INDEX requests_as_lines ON requests (number, path, model, status);  -- filters read no bodies

CREATE INDEX conversations_by_update ON conversations (updated_at);
CREATE INDEX conversations_by_turns ON conversations (messages);
CREATE INDEX conversations_by_tokens ON conversations (tokens_in + tokens_out);
CREATE INDEX conversations_by_latency ON conversations (latency_ms);

DROP TABLE message_text;
CREATE VIRTUAL TABLE message_text USING fts5 (
    content, calls, content = 'messages', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2',
    prefix = '2 3 4'                    -- the word that is being typed is found without reading all that begin with it
);
INSERT INTO message_text (message_text) VALUES ('rebuild');
