"""How PostgreSQL is reached: connections, sessions of the reader, the schema."""
