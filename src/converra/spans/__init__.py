"""OpenTelemetry's GenAI spans, read as turns and recorded in conversations.

==============  ======================================================================================================
module          content
==============  ======================================================================================================
`span`          the record of one span, built from the SDK's object or by a receiver; pure
`reading`       the parts of a span that matter here: `ModelCall`, `ToolRun`; pure
`names`         session, agent, user and prompt that a span or its resource names; pure
`messages`      helpers to read messages and token usage, and the `Dialect` in which they are compared; pure
`facts`         model, token usage, finish reason, error of a call; pure
`dialects`      one module per way of writing these spans, and the table of them; pure
`bridge`        finds the conversation of each reading, waits for late spans, and records turns
==============  ======================================================================================================

To add a dialect, write `read(span) -> ModelCall | ToolRun | None` in a module of `dialects` and add a row to the table
in `dialects/__init__.py`. No module here imports the SDK.
"""
