"""The Python side of the queue: calls of its SQL functions, and its notifications."""
