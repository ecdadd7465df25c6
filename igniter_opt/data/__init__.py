"""What users write and read: instances, profiles, plans, measurements, known results."""
