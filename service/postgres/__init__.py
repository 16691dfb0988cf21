"""Access to PostgreSQL: connections, sessions as csv_reader, and the schema."""
