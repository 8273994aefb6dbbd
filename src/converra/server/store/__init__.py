"""The local server's SQLite store: conversations, full-text search, the request log."""
