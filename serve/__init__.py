"""Answers queries over HTTP and Serve handles."""
