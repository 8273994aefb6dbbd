"""Process-level services any layer may use: the guard, context, telemetry, jobs, workers, locks."""
