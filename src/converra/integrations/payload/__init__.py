"""Provider-neutral reading of objects that belong to an SDK: fields, parts, tool calls, usage, fingerprints."""
