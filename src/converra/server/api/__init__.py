"""The endpoints of the API document, their schemas, validation and answers."""
