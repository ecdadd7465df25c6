"""From an approved plan to running Triton servers: approval, state, actions, backends."""
