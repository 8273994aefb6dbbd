"""OTLP over HTTP: the bodies of `/v1/traces` and `/v1/logs` as spans, and the routes that take them."""
