"""From a profile's measurements to the numbers of the performance model."""
