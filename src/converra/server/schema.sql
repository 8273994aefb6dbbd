-- Times are milliseconds since the epoch. JSON is UTF-8 text.

CREATE TABLE conversations (
    number        INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    account       TEXT NOT NULL,
    prompt_id     TEXT NOT NULL,
    status        TEXT NOT NULL,
    llm_model     TEXT,
    company_name  TEXT,
    title         TEXT,
    content       TEXT,            -- as it was sent; NULL once an append has made it the transcript of the messages
    metadata      TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    completed_at  INTEGER
);
CREATE INDEX conversations_of_account ON conversations (account, number);

CREATE TABLE messages (
    number        INTEGER PRIMARY KEY,
    conversation  INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role          TEXT NOT NULL,
    content       TEXT NOT NULL,
    rest          TEXT NOT NULL,   -- the other fields as they were sent, unknown ones included
    received_at   INTEGER NOT NULL
);
CREATE INDEX messages_of_conversation ON messages (conversation, number);

CREATE VIRTUAL TABLE message_text USING fts5 (
    content, content = 'messages', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER message_text_insert AFTER INSERT ON messages BEGIN
    INSERT INTO message_text (rowid, content) VALUES (new.number, new.content);
END;
CREATE TRIGGER message_text_delete AFTER DELETE ON messages BEGIN
    INSERT INTO message_text (message_text, rowid, content) VALUES ('delete', old.number, old.content);
END;

CREATE TABLE idempotency_keys (
    account       TEXT NOT NULL,
    key           TEXT NOT NULL,
    conversation  INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    expires_at    INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) WITHOUT ROWID;

CREATE TABLE requests (
    number        INTEGER PRIMARY KEY,
    received_at   INTEGER NOT NULL,
    account       TEXT,
    method        TEXT NOT NULL,
    path          TEXT NOT NULL,
    headers       TEXT NOT NULL,   -- without the key
    body          BLOB NOT NULL,   -- the beginning, where it is longer than the log keeps
    body_bytes    INTEGER NOT NULL,
    status        INTEGER,         -- NULL: no answer was sent
    ms            REAL,
    answer_bytes  INTEGER
);
