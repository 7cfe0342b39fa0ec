"""The registered implementations, one file each."""
