"""The sending side: which conversation is next, and the requests that deliver it."""
