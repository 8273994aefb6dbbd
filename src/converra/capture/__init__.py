"""The caller's side: from a model call to new messages of its conversation."""
