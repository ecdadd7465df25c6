"""Parts of the simulation: request arrivals, traces, the queue itself, and statistics."""
