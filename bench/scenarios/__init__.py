"""What is done with a cache, one file each; ``conf/scenario/<name>.yaml`` names the module."""
