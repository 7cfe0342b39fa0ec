"""One process per job: the client, the fork server and its child."""
