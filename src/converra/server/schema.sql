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
    completed_at  INTEGER,
    session_id    TEXT,            -- of the metadata
    messages      INTEGER NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    latency_ms    REAL,
    calls         INTEGER NOT NULL,
    errors        INTEGER NOT NULL,
    models        TEXT NOT NULL    -- a JSON list
);
CREATE INDEX conversations_of_account ON conversations (account, number);
CREATE INDEX conversations_of_prompt ON conversations (prompt_id, number);
CREATE INDEX conversations_of_status ON conversations (status, number);
CREATE INDEX conversations_of_session ON conversations (session_id, number) WHERE session_id IS NOT NULL;
CREATE INDEX conversations_with_errors ON conversations (number) WHERE errors > 0;
CREATE INDEX conversations_by_update ON conversations (updated_at);
CREATE INDEX conversations_by_turns ON conversations (messages);
CREATE INDEX conversations_by_tokens ON conversations (tokens_in + tokens_out);
CREATE INDEX conversations_by_latency ON conversations (latency_ms);
CREATE INDEX conversations_that_continue ON conversations (json_extract(metadata, '$.continues'))
    WHERE json_extract(metadata, '$.continues') IS NOT NULL;

CREATE TABLE conversation_models (
    model         TEXT NOT NULL,
    conversation  INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    PRIMARY KEY (model, conversation)
) WITHOUT ROWID;
CREATE INDEX models_of_conversation ON conversation_models (conversation);

CREATE TABLE messages (
    number        INTEGER PRIMARY KEY,  -- conversation << 20 | place: a hit of the search knows its conversation
    conversation  INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role          TEXT NOT NULL,
    content       TEXT NOT NULL,
    calls         TEXT NOT NULL,        -- names and arguments of its tool calls, for the search
    rest          TEXT NOT NULL,        -- the other fields as they were sent, unknown ones included
    received_at   INTEGER NOT NULL
);
CREATE INDEX messages_of_conversation ON messages (conversation, number);

CREATE VIRTUAL TABLE message_text USING fts5 (
    content, calls, content = 'messages', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2',
    prefix = '2 3 4'                    -- the word that is being typed is found without reading all that begin with it
);
CREATE TRIGGER message_text_insert AFTER INSERT ON messages BEGIN
    INSERT INTO message_text (rowid, content, calls) VALUES (new.number, new.content, new.calls);
END;
CREATE TRIGGER message_text_delete AFTER DELETE ON messages BEGIN
    INSERT INTO message_text (message_text, rowid, content, calls)
    VALUES ('delete', old.number, old.content, old.calls);
END;

CREATE TABLE idempotency_keys (
    account       TEXT NOT NULL,
    key           TEXT NOT NULL,
    conversation  INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    expires_at    INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) WITHOUT ROWID;
CREATE INDEX keys_of_conversation ON idempotency_keys (conversation);

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
    answer_bytes  INTEGER,
    digest        BLOB,            -- of all that makes two requests the same; NULL where repeating means nothing
    attempt       INTEGER NOT NULL,
    reason        TEXT,            -- why it was refused
    fault         TEXT,            -- the fault that was switched on for it
    model         TEXT,            -- that a request to the stand-in model asks for
    answer        BLOB,            -- the body, at most as much as the log keeps
    answer_type   TEXT             -- the Content-Type
);
CREATE INDEX requests_as_lines ON requests (number, path, model, status);  -- filters read no bodies
CREATE INDEX requests_of_digest ON requests (digest) WHERE digest IS NOT NULL;

CREATE TABLE model_turns (         -- what the stand-in model was asked, for conversations to find their turns in
    request       INTEGER PRIMARY KEY REFERENCES requests ON DELETE CASCADE,
    answer        BLOB NOT NULL,   -- digest of what it answered
    sent          INTEGER NOT NULL -- messages of the request
);
CREATE INDEX model_turns_of_answer ON model_turns (answer);
