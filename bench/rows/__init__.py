"""The row: its columns, its store, the table and the run folder."""
