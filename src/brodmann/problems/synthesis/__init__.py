"""Images that were never recorded."""
