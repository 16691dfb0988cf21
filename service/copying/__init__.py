"""From a SELECT to the bytes of a file: checked, copied, converted."""
