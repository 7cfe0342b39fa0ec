"""Scenarios: what is done with a cache or a policy. ``conf/scenario/<name>.yaml`` names the module of each."""
