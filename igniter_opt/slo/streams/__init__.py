"""The stream of requests of one replica, by kind of arrivals: what a queue needs to know of it."""
