"""The `simshard` command, a file a group of commands."""
