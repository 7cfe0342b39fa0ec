"""One process per job: the fork server, its child and the client."""
