"""The one place where runs, attempts, events and charges are kept: SQLite in a file by default, PostgreSQL by URL."""
