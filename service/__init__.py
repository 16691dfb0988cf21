"""Export PostgreSQL data as large CSV files, in the background."""

__version__ = "0.1.0"
