"""A comparison as files, text and other tools' formats."""
