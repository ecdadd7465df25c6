"""The service: solving, judging and simulating over HTTP, as jobs."""
