"""Turn a SELECT into the bytes of a file: check it, copy it, convert it."""
