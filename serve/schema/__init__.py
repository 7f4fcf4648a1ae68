"""What client and server share: requests, answers, problems, keys."""
