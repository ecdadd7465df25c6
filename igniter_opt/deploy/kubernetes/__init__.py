"""A plan on a Kubernetes cluster: its objects, and how they are applied, watched and removed."""
