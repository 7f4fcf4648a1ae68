"""From a request to the bytes of its answer, without HTTP or Ray."""
