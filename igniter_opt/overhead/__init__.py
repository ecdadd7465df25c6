"""What serving adds to a profile: measured on the servers that will serve, planned with afterwards."""
