"""What a Triton server needs: its files, checked inference, the server itself."""
