"""The Conversations API: its operations as data, and the clients that drive them."""
