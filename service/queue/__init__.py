"""The queue in PostgreSQL, as Python sees it: its calls, and what it announces."""
