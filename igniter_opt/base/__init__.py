"""What knows nothing of GPUs: errors, stopping, arrays, files, compilation."""
