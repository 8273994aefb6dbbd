"""Process-level services any layer may use: guard, context, telemetry, lifecycle, jobs, workers, files."""
