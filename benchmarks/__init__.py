"""Speed and memory, side by side with named peers: `python -m benchmarks`."""
