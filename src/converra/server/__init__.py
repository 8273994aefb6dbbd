"""A local copy of the Conversations API with a viewer and a stand-in model, for development and tests.

It keeps to the letter of the API document: what the document forbids is refused, with the document's error shape.
Needs the extra `server`.
"""
